"""Redaction: nothing that the rules name is left in the record, and all of it can be put back."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import PoisonRecord
from holdfast.policy.envelope import CapturedRequest, UpstreamAnswer, encode_body, from_json, to_json
from holdfast.policy.redaction import RedactionRules, mask_body, mask_query, mask_url, redact, restore

fixed = settings(derandomize=True, deadline=None)
RULES = RedactionRules(json_paths=("$..password", "$.items[*].pin"))
SECRET = "hunter2"
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


def record(raw: bytes = b"", /, **changes: Any) -> CapturedRequest:
    """A record with nothing in it that is secret."""
    text, encoding = encode_body(raw)
    plain = CapturedRequest(
        id="017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        timestamp=1.0,
        method="POST",
        uri="/login",
        path="/login",
        query_string="",
        headers={},
        body=text,
        body_encoding=encoding,
        remote_addr="192.0.2.7",
        backend_url="http://127.0.0.1:3000",
        error="connection_refused",
        error_reason="refused",
        request_id="r",
        route="login",
    )
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"headers": {"authorization": f"Bearer {SECRET}"}}, ["header:authorization"]),
        ({"headers": {"cookie": f"a={SECRET}", "x-api-key": SECRET}}, ["header:cookie", "header:x-api-key"]),
        ({"headers": {"authorization": (SECRET, SECRET)}}, ["header:authorization"]),
        ({"headers": {"referer": f"https://a.test/?x=1&token={SECRET}"}}, ["header:referer:token"]),
        ({"headers": {"referer": f"https://u:{SECRET}@a.test/"}}, ["header:referer:userinfo"]),
        ({"headers": {"referer": ("/", f"/?sig={SECRET}")}}, ["header:referer:sig"]),
        ({"uri": f"/a?token={SECRET}", "query_string": f"token={SECRET}"}, ["query:token"]),
        ({"uri": f"/a#access_token={SECRET}"}, ["query:access_token"]),
        ({"uri": f"http://user:{SECRET}@host/a"}, ["uri:userinfo"]),
        ({"backend_url": f"http://user:{SECRET}@host:1"}, ["backend_url:userinfo"]),
        ({"headers": JSON, "body": '{"user": {"password": "hunter2"}}'}, ["body:$..password"]),
        ({"headers": JSON, "body": '{"items": [{"pin": "hunter2"}]}'}, ["body:$.items[*].pin"]),
        ({"headers": JSON, "body": '{"password": "hunter2"'}, ["body"]),
        ({"headers": {}, "body": '{"password": "hunter2"}'}, ["body:$..password"]),
        ({"headers": FORM, "body": "password=hunter2"}, ["body"]),
        ({"response": UpstreamAnswer(status=500, headers={"set-cookie": (SECRET,)})}, ["response.header:set-cookie"]),
        (
            {"response": UpstreamAnswer(status=302, headers={"location": f"/#id_token={SECRET}"})},
            ["response.header:location:id_token"],
        ),
        (
            {"response": UpstreamAnswer(status=500, headers=JSON, body='{"password": "hunter2"}')},
            ["response.body:$..password"],
        ),
        ({"response": UpstreamAnswer(status=500, body="password: hunter2")}, ["response.body"]),
    ],
)
def test_what_the_rules_name_is_gone_and_comes_back(changes: dict[str, Any], names: list[str]) -> None:
    """Taken out everywhere, named in `redacted`, restored exactly."""
    captured = record(**changes)
    redacted = redact(captured, RULES)
    assert redacted.names == tuple(names) == redacted.record.redacted
    assert SECRET.encode() not in to_json(redacted.record)
    assert SECRET not in repr(redacted.names)
    # Through JSON, as it goes through the seal.
    assert restore(from_json(to_json(redacted.record)), json.loads(json.dumps(redacted.secrets))) == captured


def test_a_record_without_secrets_stays_as_it_is() -> None:
    """Nothing to seal, nothing named."""
    captured = record(b'{"name" : 1.0}', headers={**JSON, "referer": "https://a.test/?q=a;b"}, query_string="a=1&b")
    assert redact(captured, RULES) == (captured, {}, ())


def test_masked_fields_show_that_they_were_there() -> None:
    """The mask stands where the value stood, other fields and their order stay."""
    headers = {"accept": "*/*", "authorization": "Basic x", "x-a": "1"}
    masked = redact(record(headers=headers, uri="/?a=1&token=x&b=2", query_string="a=1&token=x&b=2"), RULES).record
    assert list(masked.headers.items()) == [("accept", "*/*"), ("authorization", "[redacted]"), ("x-a", "1")]
    assert (masked.uri, masked.query_string) == ("/?a=1&token=[redacted]&b=2", "a=1&token=[redacted]&b=2")


def test_redacting_twice_changes_nothing_more() -> None:
    """A record may pass a gateway that redacts again; the names it already has are kept."""
    once = redact(record(headers={"cookie": "a"}, uri="/?sig=1", query_string="sig=1"), RULES).record
    assert redact(once, RULES).record == once
    assert redact(once, RedactionRules(headers=frozenset(), query=frozenset())).record == once


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ""),
        ("a=1&b=2", "a=1&b=2"),
        ("token", "token"),
        ("token=", "token=[redacted]"),
        ("TOKEN=x", "TOKEN=[redacted]"),
        ("%74oken=x", "%74oken=[redacted]"),
        ("+token=x", "+token=[redacted]"),
        ("token=a&token=b", "token=[redacted]&token=[redacted]"),
        ("token=a=b;c", "token=[redacted]"),
        ("a=1;token=b;c", "a=1;token=[redacted]"),
        ("a;b;token=b", "a;b;token=[redacted]"),
        ("user[password]=x", "user[password]=[redacted]"),
        ("user%5Bpassword%5D=x", "user%5Bpassword%5D=[redacted]"),
        ("login.password=x", "login.password=[redacted]"),
        ("token[]=x", "token[]=[redacted]"),
        ("mytoken=x", "mytoken=x"),
        ("&&=x&=", "&&=x&="),
        ("%=x&%zz=\udcff", "%=x&%zz=\udcff"),
    ],
)
def test_parameters_are_found_however_an_origin_reads_them(query: str, expected: str) -> None:
    """Encoded names, repeated ones, nested ones, semicolons: where readers differ, more is masked."""
    assert mask_query(query, RULES)[0] == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", ""),
        ("/a", "/a"),
        ("*", "*"),
        ("/a?", "/a?"),
        ("/a@b:c", "/a@b:c"),
        ("//a@b/c", "//a@b/c"),
        ("http://u@h/", "http://h/"),
        ("HTTPS://u:p@ss@h:1/?a#b", "HTTPS://h:1/?a#b"),
        ("http://h/a@b?c=@", "http://h/a@b?c=@"),
        ("http://h?token=x#token=y", "http://h?token=[redacted]#token=[redacted]"),
        ("/a?b?token=x", "/a?b?token=x"),
        ("/a?b=1&?token=x", "/a?b=1&?token=x"),
        ("0; url=/a?token=x", "0; url=/a?token=[redacted]"),
    ],
)
def test_urls_lose_their_user_and_their_named_parameters(url: str, expected: str) -> None:
    """RFC 3986; userinfo is cut out, because a parser takes brackets there for an IPv6 address."""
    assert mask_url(url, RULES)[0] == expected


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"", JSON, b""),
        (b'{"a": 1.0}', JSON, b'{"a": 1.0}'),
        (b'{"password":1}', {"content-type": "application/vnd.api+json; charset=utf-8"}, b'{"password":"[redacted]"}'),
        (b'{"password":1}', {"content-type": "text/plain"}, b'{"password":"[redacted]"}'),
        (b'{"password":1}', {"content-type": "application/json; charset=utf-7"}, b"[redacted]"),
        ('{"password":1}'.encode("utf-16"), JSON, b"[redacted]"),
        (gzip.compress(b'{"password":1}', mtime=0), {**JSON, "content-encoding": "gzip"}, b"[redacted]"),
        (b'{"password":1}\n{"password":2}', {"content-type": "application/x-ndjson"}, b"[redacted]"),
        (b"\x89PNG", {"content-type": "image/png"}, b"[redacted]"),
        (b"{}", {"content-type": ("text/plain", "application/json;charset=utf-16")}, b"[redacted]"),
    ],
)
def test_a_body_in_which_the_paths_cannot_be_looked_up_is_masked_whole(
    body: bytes, headers: dict[str, Any], expected: bytes
) -> None:
    """Whoever configures JSON paths says that bodies hold secrets: when in doubt, out."""
    assert mask_body(body, headers, RULES)[0] == expected


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"\x89PNG", {"content-type": "image/png"}, b"\x89PNG"),
        (b"cut {", {"content-type": "text/plain"}, b"cut {"),
        (b'{"cut": ', JSON, b"[redacted]"),
        (b'{"cut": ', {"content-type": ("text/plain", "application/json")}, b"[redacted]"),
        (b'{"password":1}', {"content-type": "text/plain"}, b'{"password":"[redacted]"}'),
        (b"user[password]=x&a=%ff\xff", FORM, b"user[password]=[redacted]&a=%ff\xff"),
    ],
)
def test_other_bodies_can_be_let_through(body: bytes, headers: dict[str, Any], expected: bytes) -> None:
    """`other_bodies="keep"`: uploads keep their bodies, what claims to be JSON is still masked whole."""
    rules = RedactionRules(json_paths=("$..password",), other_bodies="keep")
    assert mask_body(body, headers, rules)[0] == expected


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b'{"password":1', JSON, b'{"password":1'),
        (b"password=x&b=1", FORM, b"password=[redacted]&b=1"),
        (b"password=x", {"content-type": "Application/X-WWW-Form-URLEncoded; charset=utf-8"}, b"password=[redacted]"),
        (b"\x1f\x8b", {**FORM, "content-encoding": "gzip"}, b"[redacted]"),
        (b"password=x", {"content-type": "text/plain"}, b"password=x"),
    ],
)
def test_without_json_paths_only_forms_are_looked_into(body: bytes, headers: dict[str, Any], expected: bytes) -> None:
    """A login form is a query string in another place."""
    assert mask_body(body, headers, RedactionRules())[0] == expected


def test_rules_take_names_in_any_case_and_refuse_bad_paths() -> None:
    """A rule that never matches would be a leak."""
    rules = RedactionRules(headers=frozenset({"X-Mine"}), query=frozenset({"Code"}))
    redacted = redact(record(headers={"x-mine": SECRET, "cookie": "a"}, uri="/?code=1"), rules)
    assert redacted.names == ("header:x-mine", "query:code")
    with pytest.raises(ValueError, match="is no JSON path"):
        RedactionRules(json_paths=("password",))


def test_a_long_hostile_query_takes_no_long_time() -> None:
    """A capture is made on the event loop; half a million separators are read once."""
    query = ";" * 250_000 + "&" * 250_000
    assert mask_query(query, RULES) == (query, [])


@fixed
@given(
    st.binary(max_size=60) | st.sampled_from([b'{"password": 1e400, "a": [1]}', b"password=1&x=2"]),
    st.sampled_from([JSON, FORM, {}, {"content-type": "text/plain; charset=latin-1", "cookie": ("a", "b")}]),
    st.text(alphabet="token=&;?#[]%5B/:@ah", max_size=40),
    st.booleans(),
)
def test_whatever_was_taken_can_be_put_back(body: bytes, headers: dict[str, Any], target: str, answered: bool) -> None:
    """A sealed record replays as the request that was sent."""
    text, encoding = encode_body(body, str(headers.get("content-type", "")))
    answer = UpstreamAnswer(status=500, headers=headers, body=text, body_encoding=encoding) if answered else None
    captured = record(
        headers=headers, body=text, body_encoding=encoding, uri=target, query_string=target, response=answer
    )
    redacted = redact(captured, RULES)
    assert bool(redacted.names) >= bool(redacted.secrets)
    assert restore(redacted.record, redacted.secrets) == captured


@pytest.mark.parametrize(
    "secrets", [{"headers": []}, {"body": 1}, {"uri": None}, {"response": "x"}, {"response": {"headers": 1}}]
)
def test_secrets_of_another_making_are_poison(secrets: dict[str, object]) -> None:
    """They decrypted, but no version of redaction wrote them."""
    with pytest.raises(PoisonRecord, match=r"sealed .*: expected"):
        restore(record(response=UpstreamAnswer(status=500)), secrets)
