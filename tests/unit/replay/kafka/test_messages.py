"""What a message of Kafka says: a capture, or why not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.errors import PoisonRecord
from holdfast.policy.uuid7 import uuid7
from holdfast.replay.kafka.messages import due_header, due_of, plain, read_arrival, text_header, with_changes

ID = uuid7(1_700_000_000_000, b"0123456789")
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def value(**changes: Any) -> bytes:
    """A capture as JSON; a change to None leaves the field out."""
    record = {
        "id": ID,
        "schema": 1,
        "timestamp": 1_700_000_000.25,
        "method": "POST",
        "uri": "/api/users/7?x=1",
        "path": "/api/users/7",
        "query_string": "x=1",
        "headers": {"host": "a"},
        "body": "secret-body",
        "remote_addr": "127.0.0.1",
        "backend_url": "http://127.0.0.1:1",
        "error": "connection_refused",
        "error_reason": "refused",
        "request_id": "r-1",
        "route": "user",
    }
    return json.dumps({name: each for name, each in (record | changes).items() if each is not None}).encode()


def test_a_capture_is_read() -> None:
    """Everything that an arrival has."""
    headers = [("holdfast-id", ID.encode()), ("traceparent", TRACE), ("holdfast-redrive", b"3")]
    found = read_arrival(b"the key", value(response={"status": 503}), headers)
    assert (found.id, found.key, found.route, found.method, found.path) == (
        ID,
        "the key",
        "user",
        "POST",
        "/api/users/7",
    )
    assert (found.error, found.captured, found.status) == ("connection_refused", 1_700_000_000.25, 503)
    assert (found.traceparent, found.redrive) == (TRACE.decode(), 3)


def test_without_header_fields_a_capture_is_one_too() -> None:
    """Somebody else may have published it; without a key the path orders it."""
    found = read_arrival(None, value(), [])
    assert (found.key, found.status, found.traceparent, found.redrive) == ("/api/users/7", None, "", 0)


@pytest.mark.parametrize(
    ("message", "headers", "reason"),
    [
        (None, [], "not JSON"),
        (b"", [], "not JSON"),
        (b"\xff\xfe", [], "not JSON"),
        (b"[" * 100_000, [], "not JSON"),
        (b"[]", [], "a list, not an object"),
        (value(schema=99), [], "schema: 99 is newer"),
        (value(path=None), [], "path: is missing"),
        (value(timestamp="1"), [], "timestamp: expected a number"),
        (value(), [("holdfast-id", b"another")], "holdfast-id is not the id"),
        (value(), [("holdfast-id", None)], "holdfast-id is not the id"),
        (value(), [("holdfast-id", ID.encode()), ("holdfast-id", b"another")], "holdfast-id is not the id"),
        (value(), [("holdfast-redrive", b"-1")], "holdfast-redrive is not a number"),
        (value(), [("holdfast-redrive", b"1" * 10)], "holdfast-redrive is not a number"),
    ],
)
def test_what_is_no_capture_is_poison(
    message: bytes | None, headers: list[tuple[str, bytes | None]], reason: str
) -> None:
    """With the reason, and without a word of the contents."""
    with pytest.raises(PoisonRecord, match=reason) as raised:
        read_arrival(b"k", message, headers)
    assert "secret-body" not in str(raised.value)


def test_a_failure_that_nobody_thought_of_is_poison_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message must not stop a replayer."""

    def fails(_: bytes) -> None:
        raise ZeroDivisionError("secret-body")

    monkeypatch.setattr("holdfast.replay.kafka.messages.from_json", fails)
    with pytest.raises(PoisonRecord, match=r"cannot be read: ZeroDivisionError$"):
        read_arrival(None, b"{}", [])


@pytest.mark.parametrize("odd", [b"nonsense", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01", b"\xff", None])
def test_a_traceparent_that_is_none_is_left_out(odd: bytes | None) -> None:
    """W3C Trace Context, section 3.2.2."""
    assert read_arrival(None, value(), [("traceparent", odd)]).traceparent == ""


def test_text_that_a_store_refuses_is_written_out() -> None:
    """JSON may bring NUL and halves of surrogate pairs, and a key may be any bytes."""
    found = read_arrival(b"\xff\x00k", value(route="a\ud800b", method="\x00"), [])
    assert (found.key, found.route, found.method) == ("\\xff\\0k", "a\\ud800b", "\\0")
    assert plain("ü€😀") == "ü€😀"


@pytest.mark.parametrize(
    ("text", "due"),
    [
        (b"1700000000", 1_700_000_000.0),
        (b"1700000000.125", 1_700_000_000.125),
        (b"0", 0.0),
        (b"", 0.0),
        (None, 0.0),
        (b"-5", 0.0),
        (b"nan", 0.0),
        (b"inf", 0.0),
        (b"1e9", 0.0),
        (b" 5", 0.0),
        (b"\xd9\xa1", 0.0),
        (b"9" * 13, 0.0),
    ],
)
def test_when_it_is_due_is_read_strictly(text: bytes | None, due: float) -> None:
    """What cannot be understood is due now: it must not stop a partition."""
    assert due_of([("holdfast-due", text)]) == due


def test_the_last_due_counts_and_none_is_now() -> None:
    """As it is replaced with every retry, there should be one."""
    assert due_of([]) == 0.0
    assert due_of([("holdfast-due", b"1"), ("a", b""), ("holdfast-due", b"2")]) == 2.0
    assert due_of([due_header(1_700_000_000.1239)]) == 1_700_000_000.124
    assert due_of([due_header(-1.0)]) == 0.0


def test_header_fields_are_kept_but_those_given_anew() -> None:
    """In their order, repeated ones and nulls too."""
    kept = [("a", b"1"), ("b", None), ("a", b"2"), ("c", b"3")]
    assert with_changes(kept, []) == kept
    assert with_changes(kept, [("a", b"new"), ("d", b"4")]) == [("b", None), ("c", b"3"), ("a", b"new"), ("d", b"4")]


def test_a_header_takes_any_text() -> None:
    """A reason may quote a name that is no UTF-8."""
    assert text_header("r", "ü\ud800") == ("r", "ü\\ud800".encode())
