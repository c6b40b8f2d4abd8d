"""The captured request: what is written can be read, and what cannot be read is named."""

from __future__ import annotations

import json
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import PoisonRecord
from holdfast.policy.envelope import (
    AttemptRecord,
    CapturedRequest,
    UpstreamAnswer,
    encode_body,
    from_json,
    header_map,
    message_headers,
    to_json,
    wire_text,
)

ID = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
fixed = settings(derandomize=True, deadline=None)
FIELDS = st.lists(st.tuples(st.binary(min_size=1, max_size=8), st.binary(max_size=20)), max_size=6)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
OPTIONAL_TEXT = st.none() | st.text(max_size=10)


def record(**changes: Any) -> CapturedRequest:
    """A plain record, with changes."""
    plain = CapturedRequest(
        id=ID,
        timestamp=1700000000.5,
        method="POST",
        uri="/api/users?x=1",
        path="/api/users",
        query_string="x=1",
        headers={"content-type": "application/json", "set-cookie": ("a", "b")},
        body='{"name": "\u00fc"}',
        remote_addr="192.0.2.7",
        backend_url="http://127.0.0.1:3000",
        error="connection_refused",
        error_reason="connection refused",
        request_id="r-1",
        route="users",
        attempts=(AttemptRecord(server="http://127.0.0.1:3000", error="connection_refused", duration_ms=1.5),),
        duration_ms=2.25,
        response=UpstreamAnswer(status=503, headers={"retry-after": "1"}, body="busy"),
        idempotency_key="k",
    )
    return replace(plain, **changes)


@st.composite
def records(draw: st.DrawFn) -> CapturedRequest:
    """Records as the gateway makes them, from arbitrary bytes."""
    body, encoding = encode_body(draw(st.binary()), "")
    answer, answer_encoding = encode_body(draw(st.binary()), "")
    attempt = st.builds(
        AttemptRecord, server=st.text(), error=OPTIONAL_TEXT, status=st.none() | st.integers(), duration_ms=FINITE
    )
    return record(
        timestamp=draw(FINITE),
        method=draw(st.text(max_size=8)),
        uri=wire_text(draw(st.binary())),
        headers=header_map(draw(FIELDS)),
        body=body,
        body_encoding=encoding,
        body_truncated=draw(st.booleans()),
        error_reason=draw(st.text(alphabet=st.characters())),
        attempts=tuple(draw(st.lists(attempt, max_size=3))),
        response=draw(st.none() | st.just(UpstreamAnswer(status=500, body=answer, body_encoding=answer_encoding))),
        redacted=tuple(draw(st.lists(st.text(), max_size=3))),
        sealed=draw(st.none() | st.just({"kid": "k", "nonce": "n", "ciphertext": "c"})),
        idempotency_key=draw(OPTIONAL_TEXT),
    )


def edited(*path: str | int, value: object) -> bytes:
    """The plain record as JSON with one value replaced."""
    document = json.loads(to_json(record()))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(document).encode()


@fixed
@given(records())
def test_what_is_written_is_read_back_the_same(captured: CapturedRequest) -> None:
    """Promise 1 rests on it: whatever the bytes were."""
    again = from_json(to_json(captured))
    assert again == captured
    assert again.body_bytes() == captured.body_bytes()


def test_the_names_of_the_contract_are_on_the_wire() -> None:
    """Consumers in other languages know them by name."""
    written = to_json(record())
    assert set(json.loads(written)) == {
        *("timestamp", "method", "uri", "path", "query_string", "headers", "body", "remote_addr", "backend_url"),
        *("error_reason", "id", "schema", "request_id", "route", "error", "attempts", "duration_ms", "body_encoding"),
        *("body_truncated", "response", "redacted", "sealed", "idempotency_key"),
    }
    assert "\u00fc".encode() in written, "UTF-8 as it is, not escaped"
    assert b'": ' not in written.replace(rb"\": ", b""), "compact"
    assert json.loads(written)["headers"]["set-cookie"] == ["a", "b"]


def test_half_a_surrogate_pair_does_not_lose_the_capture() -> None:
    """An error text can hold one, where a file name or a target was not UTF-8."""
    captured = record(error_reason="no such file: \udcff")
    assert from_json(to_json(captured)) == captured


def test_a_number_that_json_lacks_is_refused_when_writing() -> None:
    """NaN in a message would break every other reader."""
    with pytest.raises(ValueError, match="finite"):
        to_json(record(duration_ms=float("nan")))
    with pytest.raises(ValueError, match="finite"):
        to_json(record(attempts=(AttemptRecord(server="http://127.0.0.1:3000", duration_ms=float("inf")),)))


def test_what_only_one_of_two_encoders_takes_is_written_all_the_same() -> None:
    """A status beyond 64 bits, a mapping that is no dictionary."""
    odd = record(response=UpstreamAnswer(status=1 << 70, headers=MappingProxyType({"a": "b"})))
    assert from_json(to_json(odd)) == odd


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON in UTF-8"),
        (to_json(record())[:-1], "cut short"),
        (json.dumps({"schema": 1}).encode("utf-16"), "not JSON in UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "a list, not an object"),
        (b"{}", "schema: is missing"),
        (edited("schema", value=2), "schema: 2 is newer than 1, .* upgrade"),
        (edited("schema", value=0), "no schema 0"),
        (edited("schema", value="1"), "schema: expected a whole number, found text"),
        (edited("schema", value=True), "schema: expected a whole number, found true or false"),
        (b'{"schema":1}', "id: is missing"),
        (edited("id", value="1"), "id: is not a UUID"),
        (edited("timestamp", value="now"), "timestamp: expected a number, found text"),
        (edited("timestamp", value=float("nan")), "timestamp: is not a finite number"),
        (edited("timestamp", value=10**400), "timestamp: is not a finite number"),
        (edited("timestamp", value=True), "timestamp: expected a number"),
        (edited("method", value=None), "method: expected text, found null"),
        (edited("headers", value=[]), "headers: expected an object, found a list"),
        (edited("headers", "X-A", value=""), "headers: a name is not in lower case"),
        (edited("headers", "x-a", value=1), r"headers\.x-a: expected text, found a number"),
        (edited("headers", "x-a", value=["a", {}]), r"headers\.x-a\[1\]: expected text, found an object"),
        (edited("body_encoding", value="gzip"), "body_encoding: is neither"),
        (edited("body_encoding", value="base64"), "body: is not base64"),
        (edited("body", value="\ud800"), "body: is not utf-8"),
        (edited("body_truncated", value=0), "body_truncated: expected true or false"),
        (edited("attempts", value={}), "attempts: expected a list"),
        (edited("attempts", 0, value=1), r"attempts\[0\]: expected an object"),
        (edited("attempts", 0, "status", value=200.0), r"attempts\[0\]\.status: expected a whole number"),
        (edited("response", value=""), "response: expected an object, found text"),
        (edited("response", value={}), r"response\.status: is missing"),
        (edited("response", "body", value=1), r"response\.body: expected text"),
        (edited("response", value={"status": 1, "body": "?", "body_encoding": "base64"}), r"response\.body: is not"),
        (edited("redacted", value="x"), "redacted: expected a list"),
        (edited("sealed", value={"kid": 1}), r"sealed\.kid: expected text"),
        (edited("sealed", value="x"), "sealed: expected an object"),
        (edited("idempotency_key", value=5), "idempotency_key: expected text"),
    ],
)
def test_a_wrong_record_is_poison_and_its_fault_is_named(data: bytes, message: str) -> None:
    """The consumer quarantines it; the message is what somebody will look at."""
    with pytest.raises(PoisonRecord, match=message):
        from_json(data)


def test_a_complaint_does_not_quote_what_may_be_secret() -> None:
    """PoisonRecord goes to the log."""
    with pytest.raises(PoisonRecord) as caught:
        from_json(edited("id", value="hunter2"))
    assert "hunter2" not in str(caught.value)


def test_what_a_later_version_added_is_ignored() -> None:
    """Only a new schema number means that old fields changed."""
    assert from_json(edited("added_later", value={"a": [1]})) == record()


def test_fields_that_may_be_missing_get_their_defaults() -> None:
    """A record of the ten original fields and the few that name it is enough."""
    document = json.loads(to_json(record()))
    for name in ("attempts", "duration_ms", "body_encoding", "body_truncated", "response", "redacted", "sealed"):
        del document[name]
    del document["idempotency_key"]
    read = from_json(json.dumps(document).encode())
    assert (read.attempts, read.body_encoding, read.response, read.sealed) == ((), "utf-8", None, None)


def test_a_whole_number_will_do_for_a_time() -> None:
    """Other JSON writers leave `.0` out."""
    read = from_json(edited("timestamp", value=1700000000))
    assert read.timestamp == 1700000000.0
    assert isinstance(read.timestamp, float)


def test_secrets_do_not_show_when_a_record_is_logged() -> None:
    """`repr` leaves out fields, bodies, queries and what is sealed."""
    text = repr(record(query_string="hunter2", headers={"a": "hunter2"}, body="hunter2", sealed={"kid": "hunter2"}))
    assert "hunter2" not in text
    assert ID in text


@pytest.mark.parametrize(
    ("traceparent", "passed"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        (None, False),
        ("", False),
        ("00-xyz", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n", False),
        ("0" * 100_000, False),
    ],
)
def test_the_message_headers_name_the_record(traceparent: str | None, passed: bool) -> None:
    """A consumer routes by them without parsing the value; a broken traceparent is not passed on."""
    expected = [("holdfast-id", ID.encode()), ("holdfast-schema", b"1"), ("content-type", b"application/json")]
    if passed and traceparent:
        expected.append(("traceparent", traceparent.encode()))
    assert message_headers(record(), traceparent) == tuple(expected)
