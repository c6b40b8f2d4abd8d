"""curl: a captured request as a command that can be pasted; tests/e2e/test_curl.py compares what arrives by it."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.policy.envelope import CapturedRequest, encode_body
from holdfast.policy.redaction import MASK
from holdfast.policy.replaying.curl import LONGEST_ARGUMENT, curl_command, quoted

BASE = "http://127.0.0.1:8080"


def captured(body: bytes = b"", **changes: Any) -> CapturedRequest:
    """A POST, or whatever differs."""
    text, encoding = encode_body(body)
    held = {
        "id": "0199e0c2-7c1e-7d3a-9c55-0d1f5a2b6c7d",
        "timestamp": 1.0,
        "method": "POST",
        "uri": "/api/users",
        "path": "/api/users",
        "query_string": "",
        "headers": {"content-type": "application/json"},
        "remote_addr": "127.0.0.1",
        "backend_url": "http://127.0.0.1:1",
        "error": "connection_refused",
        "error_reason": "",
        "request_id": "",
        "route": "users",
        "body": text,
        "body_encoding": encoding,
    }
    return CapturedRequest(**{**held, **changes})


def as_bash_reads(words: str) -> list[bytes]:
    """Of a line, the arguments."""
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {words}"], capture_output=True, check=True)
    return done.stdout.split(b"\0")[:-1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=60).map(lambda raw: raw.replace(b"\0", b"")), min_size=1, max_size=20))
def test_bash_reads_a_quoted_word_as_the_bytes_that_were_quoted(words: list[bytes]) -> None:
    """Whatever a client has sent: nothing of it is a command, an expansion or another word."""
    line = " ".join(map(quoted, words))
    assert line.isascii()
    assert line.isprintable()
    assert as_bash_reads(line) == words


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.text(max_size=30), st.lists(st.text(max_size=20), max_size=3))
def test_the_command_is_printable_ascii_whatever_is_in_the_record(body: bytes, value: str, redacted: list[str]) -> None:
    """No control sequence reaches the terminal, in no comment either."""
    record = captured(body, headers={"x-odd": value, "x-\x1b": "1"}, redacted=tuple(redacted))
    for line in curl_command(record, BASE).split("\n"):
        assert line.isascii()
        assert line.isprintable()


def test_what_was_redacted_is_a_comment_and_never_sent() -> None:
    """The mask would be a wrong password."""
    record = captured(
        headers={"authorization": MASK, "accept": "*/*"},
        uri=f"/x?token={MASK}",
        redacted=("header:authorization", "query:token", "response.header:set-cookie"),
    )
    comments = [line for line in curl_command(record, BASE).split("\n") if line.startswith("#")]
    assert comments == [
        "# redacted: add  -H 'authorization: ...'",
        f"# redacted: query:token, in whose place {MASK} is sent",
    ]
    assert "authorization" not in curl_command(record, BASE).split("\n", 2)[2]


@pytest.mark.parametrize(
    "body", [b"\x00\x01", b"\xff\xfe", b"x" * (LONGEST_ARGUMENT + 1), b"\x1b[31m", "\u202e".encode()]
)
def test_a_body_that_is_no_plain_text_is_piped_in(body: bytes) -> None:
    """No argument can hold it, or no terminal should."""
    command = curl_command(captured(body), BASE)
    assert command.startswith("printf %s ")
    assert command.endswith("--data-binary @-")


def test_a_text_is_readable_in_the_command() -> None:
    """JSON over several lines is what most bodies are."""
    assert """--data-raw $'{\\n  "it\\'s": 1}'""" in curl_command(captured(b'{\n  "it\'s": 1}'), BASE)


@pytest.mark.parametrize(
    "target", ["/a/../b", "/./a", "/a/..", "/[1-9]", "/{a,b}", "/caf\xe9", "*", "/a?b=[]", "/..%2f/.."]
)
def test_a_target_that_curl_would_change_is_given_apart(target: str) -> None:
    """curl expands brackets and takes dot segments out."""
    method = "OPTIONS" if target == "*" else "GET"
    assert "--request-target " in curl_command(captured(uri=target, method=method), BASE)


@pytest.mark.parametrize("changes", [{"method": "GET\r\nX: y"}, {"uri": "/a b"}, {"uri": "http://other/"}])
def test_what_is_no_request_is_no_command(changes: dict[str, str]) -> None:
    """A record may have been changed on its way."""
    with pytest.raises(ValueError, match="can be sent"):
        curl_command(captured(**changes), BASE)


def test_a_field_that_cannot_be_sent_is_told_and_left_out() -> None:
    """A line end in a value would be another field."""
    command = curl_command(captured(headers={"x-bad": "a\r\nInjected: yes"}), BASE)
    assert "Injected" not in command
    assert "# left out: the header field x-bad, which cannot be sent" in command
