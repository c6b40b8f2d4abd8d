"""capture_text: a capture as people read it, whatever is in it."""

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.policy.capture_text import LARGEST, capture_text, looks_like_one

RECORD: dict[str, Any] = {
    "id": "0199e0c2-7c1e-7d3a-9c55-0d1f5a2b6c7d",
    "schema": 1,
    "timestamp": 1795277551.4,
    "method": "POST",
    "uri": "/api/users?x=1",
    "headers": {"content-type": "application/json", "accept": ["a", "b"]},
    "body": '{"name":"Grace"}',
    "body_encoding": "utf-8",
    "remote_addr": "10.0.0.9",
    "backend_url": "http://127.0.0.1:3000",
    "error": "connection_refused",
    "error_reason": "the upstream refused the connection",
    "request_id": "r-1",
    "route": "users",
    "attempts": [{"server": "http://a:1", "error": "http_502", "status": 502, "duration_ms": 0.4}],
    "duration_ms": 12.5,
    "response": {"status": 502, "headers": {"server": "x"}, "body": "bad", "body_encoding": "utf-8"},
    "redacted": ["header:authorization"],
}
REPLAY = {"at": 1.0, "server": "http://b:2", "error": None, "status": 201, "duration_ms": 3, "answer": {"status": 201}}
WHOLE = {"id": RECORD["id"], "captured": 1.0, "state": "delivered", "request": RECORD, "replays": [REPLAY], "key": "/k"}


def told(document: object) -> str:
    return capture_text(json.dumps(document).encode())


@pytest.mark.parametrize(
    "line",
    [
        "Capture 0199e0c2-7c1e-7d3a-9c55-0d1f5a2b6c7d",
        "  when        2026-11-21 16:12:31.400 UTC",
        "  from        10.0.0.9",
        "  request     POST /api/users?x=1",
        "  why         connection_refused: the upstream refused the connection",
        "  redacted    header:authorization (masked)",
        "  1  http://a:1  502     http_502  0.4",
        "  accept: a",
        "  accept: b",
        '    "name": "Grace"',
        "  status 502",
        "  bad",
    ],
)
def test_the_envelope_is_told_line_by_line(line: str) -> None:
    """Who, when, why, the attempts as a table, the request as text, the last answer."""
    assert line in told(RECORD).splitlines()


def test_the_page_of_a_capture_tells_what_became_of_it() -> None:
    """As GET /captures/ID has it: the state and the replays beside the envelope."""
    text = told(WHOLE)
    assert "  state       delivered" in text
    assert "  1  http://b:2  201            3" in text
    assert "What the last replay was answered\n  status 201" in text
    assert "not kept here any more" in told(WHOLE | {"request": None})


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        (
            {"topic": "t", "offset": 7, "key": "/k", "value": RECORD, "headers": {"holdfast-id": "x"}},
            "offset              7",
        ),
        ({"value": json.dumps(RECORD), "headers": [["holdfast-id", "x"]]}, "header holdfast-id  x"),
        ({"value": base64.b64encode(json.dumps(RECORD).encode()).decode()}, "Kafka message"),
        ({"payload": json.dumps(RECORD), "headers": ["holdfast-id", "x"]}, "header holdfast-id  x"),
        ({"value": RECORD, "headers": [{"key": "holdfast-id", "value": "x"}]}, "header holdfast-id  x"),
    ],
    ids=["object", "text", "base64", "kcat", "pairs"],
)
def test_a_message_of_kafka_is_told_with_its_headers(message: dict[str, Any], needed: str) -> None:
    """However the tool that has read it writes it down."""
    data = json.dumps([message, {"value": "other"}]).encode()
    text = capture_text(data)
    assert looks_like_one(data)
    assert needed in text
    assert "POST /api/users?x=1" in text
    assert "(a message that holds no capture)" in text


def test_of_many_messages_the_first_are_shown() -> None:
    """A list, or one a line as `holdfast captures export` writes them."""
    for data in (json.dumps([RECORD] * 30), "\n".join([json.dumps(RECORD)] * 30) + "\n1\n" * 500_000):
        text = capture_text(data.encode())
        assert text.count("Capture 0199e0c2") == 20
        assert re.search(r"\.\.\. and \d+ more\n$", text)


def test_what_is_no_text_is_shown_in_hexadecimal() -> None:
    """The beginning of it, and how much there is."""
    body = base64.b64encode(bytes(range(256)) * 4).decode()
    text = told(RECORD | {"body": body, "body_encoding": "base64"})
    assert "  000010  10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f  ................" in text
    assert "... 1024 bytes in all" in text
    assert "héllo" in told(RECORD | {"body": base64.b64encode("héllo".encode()).decode(), "body_encoding": "base64"})


def test_what_it_makes_is_bounded_and_in_printable_lines() -> None:
    """A large or hostile record neither floods nor steers a terminal."""
    many = [{"server": "\x1b[2J" * 1000, "status": [1] * 100}] * 200
    text = told(RECORD | {"body": "x" * 1_000_000, "attempts": many, "headers": {f"h{n}": "\n" for n in range(9000)}})
    assert len(text) < 250_000
    assert all(line.isprintable() for line in text.splitlines())
    with pytest.raises(ValueError, match="too many"):
        capture_text(b"[" + b" " * LARGEST)
    assert not looks_like_one(b"{" + b" " * LARGEST + b'"error_reason"')


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b'{"request": 1}', b"\xff", b"[" * 100_000, b'{"a":' * 9999]
)
def test_what_is_no_capture_is_refused(data: bytes) -> None:
    """By ValueError, and nothing else."""
    with pytest.raises(ValueError, match=r"."):
        capture_text(data)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted([*RECORD, "body_truncated", "sealed"])), ANY), ANY)
@example({}, "\t")
def test_whatever_is_in_a_record_it_is_shown(changes: dict[str, Any], around: Any) -> None:
    """Damaged, of a newer schema, or made up: what there is, in printable lines."""
    for document in (RECORD | changes, WHOLE | {"request": RECORD | changes, "replays": around, "state": around}):
        assert all(line.isprintable() for line in told(document).split("\n"))


@given(st.binary() | st.text().map(str.encode) | ANY.map(lambda each: json.dumps(each).encode()))
def test_rubbish_is_refused(data: bytes) -> None:
    """Nothing but ValueError, and never taken for one at first sight."""
    assert not looks_like_one(data)
    with pytest.raises(ValueError, match=r"."):
        capture_text(data)
