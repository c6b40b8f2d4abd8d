"""policy.replaying.requests: from a captured request to the one that is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.policy.envelope import CapturedRequest, encode_body, from_json, header_map, to_json
from holdfast.policy.redaction import RedactionRules, redact, restore
from holdfast.policy.replaying.requests import ReplayRequest, RequestRules, Unsendable, replay_request

fixed = settings(derandomize=True, deadline=None)
ID = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
TRACE, SPAN, NEW = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
MASK = "[redacted]"
KEEP = RequestRules()
TOKENS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=8)
VALUES = st.binary(max_size=12).map(lambda raw: bytes(b for b in raw if b == 9 or (b >= 0x20 and b != 0x7F)))


def record(*headers: tuple[str, str], body: bytes = b"", **changes: Any) -> CapturedRequest:
    """A POST of this body with these fields, read back from its JSON as the replayer gets it."""
    text, encoding = encode_body(body)
    plain = CapturedRequest(
        id=ID,
        timestamp=1.0,
        method="POST",
        uri="/orders",
        path="/orders",
        query_string="",
        headers=header_map((name.encode(), value.encode("latin-1")) for name, value in headers),
        body=text,
        body_encoding=encoding,
        remote_addr="192.0.2.7",
        backend_url="http://127.0.0.1:3000",
        error="connection_refused",
        error_reason="refused",
        request_id="",
        route="orders",
    )
    return from_json(to_json(replace(plain, **changes)))


def made(captured: CapturedRequest, rules: RequestRules = KEEP, number: int = 1) -> ReplayRequest:
    """The request, where one can be made."""
    request = replay_request(captured, rules, number=number, parent_id=NEW)
    assert isinstance(request, ReplayRequest)
    return request


def sent(captured: CapturedRequest, rules: RequestRules = KEEP) -> list[tuple[str, str]]:
    """Its fields, without the two that every replay has."""
    fields = [(name.decode(), value.decode("latin-1")) for name, value in made(captured, rules).headers]
    return [each for each in fields if not each[0].startswith("holdfast-")]


def test_method_target_and_body_are_those_of_the_capture() -> None:
    """Byte for byte, whatever bytes they were."""
    target = '/a%2fb/\xe4?q=|{}"&x'
    request = made(record(method="M-SEARCH", uri=target, body=b"\x00\xff\r\n"))
    assert (request.method, request.target, request.body) == ("M-SEARCH", target, b"\x00\xff\r\n")


@pytest.mark.parametrize(
    "name",
    [
        *("connection", "keep-alive", "proxy-connection", "upgrade", "te", "trailer", "transfer-encoding"),
        *("content-length", "expect", "host"),
    ],
)
def test_what_belonged_to_the_connection_is_not_sent(name: str) -> None:
    """RFC 9110, section 7.6.1, and what whoever sends it writes anew: framing and Host."""
    assert sent(record((name, "trailers"), ("a", "1"))) == [("a", "1")]


def test_fields_that_connection_names_are_not_sent() -> None:
    """RFC 9110, section 7.6.1: intermediaries remove them, in whatever case they are named."""
    assert sent(record(("Connection", "close, X-Hop"), ("x-hop", "1"), ("X-End", "2"))) == [("x-end", "2")]


@pytest.mark.parametrize(
    ("content_type", "te", "kept"),
    [
        ("application/grpc+proto", "trailers", True),
        ("application/grpc", "gzip", False),
        ("text/plain", "trailers", False),
    ],
)
def test_te_is_kept_for_grpc_alone(content_type: str, te: str, kept: bool) -> None:
    """The protocol "gRPC over HTTP2": servers look for it to detect proxies that lose trailers."""
    assert (("te", te) in sent(record(("content-type", content_type), ("te", te)))) is kept


@pytest.mark.parametrize(
    "field",
    [
        ("if-match", '"x"'),
        ("if-none-match", "*"),
        ("if-unmodified-since", "x"),
        ("range", "bytes=0-1"),
        ("x-a", "\xff"),
    ],
)
def test_everything_else_is_kept(field: tuple[str, str]) -> None:
    """Conditional requests above all: without If-Match a replay would overwrite what has changed meanwhile."""
    assert sent(record(field)) == [field]


@fixed
@given(st.lists(st.tuples(TOKENS.map(lambda name: f"x-{name}".encode()), VALUES), max_size=8), st.binary(max_size=40))
def test_the_fields_come_back_byte_for_byte(fields: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Repeated ones in their order; only the order between names is lost in a record."""
    captured = record(body=body, headers=header_map(fields))
    request = made(captured)
    assert request.body == body
    kept = [each for each in request.headers if not each[0].startswith(b"holdfast-")]
    for name in dict(fields):
        assert [value for each, value in kept if each == name] == [value for each, value in fields if each == name]
    assert len(kept) == len(fields)
    assert [name for name, _ in kept] == sorted((name for name, _ in fields), key=list(dict(fields)).index)


# -- redaction ------------------------------------------------------------------------------------------------------


def masked(captured: CapturedRequest, *json_paths: str) -> CapturedRequest:
    """As it is stored where there is no key to seal with."""
    return redact(captured, RedactionRules(json_paths=json_paths)).record


@pytest.mark.parametrize(
    "field",
    [
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
        ("referer", "https://a.test/?token=x"),
        ("referer", "https://user:pw@a.test/"),
    ],
)
def test_a_field_that_was_masked_is_left_out(field: tuple[str, str]) -> None:
    """Of a URL that has lost a part of itself, too: nothing is sent as if it was what the client sent."""
    assert sent(masked(record(field, ("a", "1")))) == [("a", "1")]


def test_a_mark_is_left_out_even_if_nothing_names_it() -> None:
    """A record that was redacted twice and opened once; the values beside it stay."""
    assert sent(record(("x-key", MASK), ("x-set", "1"), ("x-set", MASK), ("x-set", "2"))) == [
        ("x-set", "1"),
        ("x-set", "2"),
    ]


def test_attached_fields_take_the_place_of_masked_ones() -> None:
    """And of those alone: a request without credentials does not gain any."""
    rules = RequestRules(
        attach=(("Authorization", "Bearer replayer"), ("X-Api-Key", "k"), ("Authorization", "Basic y"))
    )
    assert sent(masked(record(("authorization", "Bearer x"), ("a", "1"))), rules) == [
        ("authorization", "Bearer replayer"),
        ("authorization", "Basic y"),
        ("a", "1"),
    ]
    assert sent(record(("a", "1")), rules) == [("a", "1")]
    assert sent(record(("x-api-key", "old"), ("x-api-key", MASK)), rules) == [("x-api-key", "k")]
    assert sent(record(("authorization", "Bearer x")), rules) == [("authorization", "Bearer x")]


def test_what_was_restored_is_sent_as_it_was() -> None:
    """A sealed record that was opened holds the original, and names nothing as redacted."""
    plain = record(
        ("authorization", "Bearer x"), ("content-type", "application/json"), body=b'{"pin": 1}', uri="/a?token=x"
    )
    hidden = redact(plain, RedactionRules(json_paths=("$.pin",)))
    assert replay_request(hidden.record, KEEP, number=1, parent_id=NEW) == Unsendable("redacted")
    assert made(restore(hidden.record, hidden.secrets)) == made(plain)


@pytest.mark.parametrize(
    "captured",
    [
        masked(record(uri="/a?token=x", query_string="token=x")),
        masked(record(("content-type", "application/json"), body=b'{"pin": 1}'), "$.pin"),
        masked(record(("content-type", "application/x-www-form-urlencoded"), body=b"password=x")),
        masked(record(("content-type", "text/plain"), body=b"x"), "$.pin"),
        record(redacted=("something-new",)),
    ],
)
def test_a_request_with_a_mask_in_its_target_or_body_is_not_sent(captured: CapturedRequest) -> None:
    """It would be another request; so would one of which nobody knows what was masked."""
    assert replay_request(captured, KEEP, number=1, parent_id=NEW) == Unsendable("redacted")


def test_marks_in_what_is_not_sent_are_no_obstacle() -> None:
    """The answer that was captured, and the address of the backend."""
    captured = record(redacted=("response.body", "response.header:set-cookie", "backend_url:userinfo"))
    assert made(captured).target == "/orders"


def test_a_text_that_only_looks_like_a_mark_is_sent() -> None:
    """What was masked is what `redacted` names: a client may send these characters in its body."""
    assert made(record(body=b"[redacted]", uri="/a?token=[redacted]")).body == b"[redacted]"


# -- what cannot be sent --------------------------------------------------------------------------------------------


def test_half_a_body_is_not_sent() -> None:
    """`body_truncated`."""
    captured = record(body=b"half", body_truncated=True)
    assert replay_request(captured, KEEP, number=1, parent_id=NEW) == Unsendable("truncated")


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"uri": uri}
            for uri in ("", "a", "http://a.test/", "/a b", "/a\r\nX: y", "/a\x7f", "/a#b", "/\u20ac", "*", "//\0")
        ),
        *({"method": method} for method in ("", "GE T", "GET\r\n", "CONNECT", "connect", "GÉT")),
        {"method": "POST", "uri": "*"},
        {"method": "options", "uri": "*"},
        *({"headers": {"x-a": value}} for value in ("a\r\nx: y", "a\nb", "a\0", "\x7f", ("ok", "\x01"))),
        *({"headers": {name: "1"}} for name in ("", "x a", "x:a", ":path", "x\r\n", "\u20ac")),
        {"request_id": "a\r\nx: y"},
    ],
)
def test_what_would_be_read_in_another_way_is_not_sent(changes: dict[str, Any]) -> None:
    """RFC 9112, sections 3 and 5: a record may have been changed on its way to the replayer."""
    assert replay_request(record(**changes), KEEP, number=1, parent_id=NEW) == Unsendable("malformed")


def test_a_body_that_is_not_of_its_encoding_is_not_sent() -> None:
    """A record that did not come by `from_json`."""
    captured = replace(record(), body="%", body_encoding="base64")
    assert replay_request(captured, KEEP, number=1, parent_id=NEW) == Unsendable("malformed")


def test_an_asterisk_is_a_target_of_options() -> None:
    """RFC 9112, section 3.2.4."""
    assert made(record(method="OPTIONS", uri="*")).target == "*"


# -- what a replay has of its own -----------------------------------------------------------------------------------


def test_a_replay_says_that_it_is_one() -> None:
    """Its number, and the capture it was made of; once, even if the captured request was a replay itself."""
    before = record(("Holdfast-Replay", "9"), ("Holdfast-Replay", "8"), ("Holdfast-Capture-Id", "other"))
    assert made(before, number=3).headers == ((b"holdfast-replay", b"3"), (b"holdfast-capture-id", ID.encode()))


@pytest.mark.parametrize(("flags", "written"), [("00", "00"), ("01", "01"), ("03", "03"), ("ff", "03")])
def test_the_trace_goes_on_under_a_new_parent(flags: str, written: str) -> None:
    """W3C Trace Context, section 3.2.2: trace id and sampled flag stay, unknown flags are not passed on."""
    headers = (("traceparent", f"00-{TRACE}-{SPAN}-{flags}"), ("tracestate", "a=1"), ("x", "y"))
    assert sent(record(*headers)) == [("traceparent", f"00-{TRACE}-{NEW}-{written}"), ("tracestate", "a=1"), ("x", "y")]


@pytest.mark.parametrize("values", [("nonsense",), (f"00-{TRACE}-{SPAN}-01",) * 2, ()])
def test_without_one_valid_parent_there_is_no_trace(values: tuple[str, ...]) -> None:
    """W3C Trace Context, section 3.3: then `tracestate` has no meaning."""
    headers = [("traceparent", value) for value in values]
    assert sent(record(*headers, ("tracestate", "a=1"), ("x", "y"))) == [("x", "y")]


@pytest.mark.parametrize("parent_id", ["", "0" * 16, SPAN.upper(), SPAN + "0"])
def test_a_parent_id_that_is_none_is_a_mistake_of_the_caller(parent_id: str) -> None:
    """W3C Trace Context, section 3.2.2.4: 16 hexadecimal digits, not all zero."""
    with pytest.raises(ValueError, match="16 hexadecimal digits"):
        replay_request(record(), KEEP, number=1, parent_id=parent_id)


def test_the_request_id_is_the_captured_one() -> None:
    """From the field, or else from the record."""
    assert sent(record(("x-request-id", "r1"), request_id="r2")) == [("x-request-id", "r1")]
    assert sent(record(request_id="r2")) == [("x-request-id", "r2")]


@pytest.mark.parametrize(
    ("setting", "method", "minted"),
    [
        ("keep", "POST", []),
        ("quoted", "POST", [("idempotency-key", f'"{ID}"')]),
        ("plain", "POST", [("idempotency-key", ID)]),
        ("quoted", "PATCH", [("idempotency-key", f'"{ID}"')]),
        ("quoted", "PUT", []),
        ("plain", "GET", []),
    ],
)
def test_a_key_is_minted_where_the_rules_say_so(setting: Any, method: str, minted: list[tuple[str, str]]) -> None:
    """draft-ietf-httpapi-idempotency-key-header, section 2.1: a string, for methods that are not idempotent anyway."""
    assert sent(record(method=method), RequestRules(idempotency_key=setting)) == minted


@pytest.mark.parametrize("setting", ["keep", "quoted", "plain"])
def test_the_clients_own_key_is_kept(setting: Any) -> None:
    """By it the upstream knows the request that it may have served already."""
    assert sent(record(("idempotency-key", "k 1")), RequestRules(idempotency_key=setting)) == [
        ("idempotency-key", "k 1")
    ]


@pytest.mark.parametrize(
    "attached",
    [("", "x"), ("a b", "x"), ("Host", "x"), ("content-length", "1"), ("TE", "x"), ("a", "x\r\nb: y"), ("a", "\0")],
)
def test_a_field_that_cannot_be_attached_is_refused(attached: tuple[str, str]) -> None:
    """The message says what to write, and never quotes the value."""
    with pytest.raises(ValueError, match="write") as refused:
        RequestRules(attach=(attached,))
    assert attached[1] == "x" or attached[1] not in str(refused.value)
