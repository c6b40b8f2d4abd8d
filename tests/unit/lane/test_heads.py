"""heads: what a request is remembered by, and which requests are none to be remembered."""

from __future__ import annotations

import pytest

from holdfast.lane.heads import essence, is_repeatable

BEGIN = b"GET /a HTTP/1.1\r\nHost: site.test\r\n"


def head(*lines: bytes) -> bytes:
    """A header with these fields behind its Host."""
    return BEGIN + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@pytest.mark.parametrize(
    "line",
    [b"Cookie: a=1", b"cookie:a", b"USER-AGENT: x", b"X-Forwarded-For: 192.0.2.1", b"Accept: */*", b"Referer:"],
)
def test_what_says_nothing_about_the_answer_is_left_out(line: bytes) -> None:
    """However its name is written; the store compares what Vary names."""
    assert essence(head(line)) == (head(), b"")
    assert essence(head(b"X-A: 1", line, line, b"X-B: 2")) == (head(b"X-A: 1", b"X-B: 2"), b"")


@pytest.mark.parametrize(
    "line",
    [
        b"Cookie: gar\xe7on",
        b"Cookie: a\x00b",
        b"Cookie: a\nX-Evil: 1",
        b"Cookie: a\rb",
        b"Cookie:\ta",
        b"Cookie : a",
        b" Cookie: a",
        b"X-Cookie: a",
        b"Cookie-X: a",
        b"X_Forwarded_For: 192.0.2.1",
        b"User_Agent: x",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: evil.test",
        b"Authorization: x",
        b"Range: bytes=0-1",
        b"If-None-Match: *",
        b"Accept-Encoding: gzip",
    ],
)
def test_what_may_matter_or_is_written_oddly_stays(line: bytes) -> None:
    """Then the header is like nothing but itself, and the ordinary way judges it."""
    found = essence(head(line))
    assert found == (head(line), b"")


def test_a_header_cannot_be_made_to_look_like_another_by_what_is_left_out() -> None:
    """What is left out is a whole line between two others: nothing before the first line, nothing in the middle."""
    for forged in (
        b"\r\nCookie: a\r\n" + head(),
        b"Cookie: a\r\n" + head(),
        head(b"X-A: 1\r\nCookie: a\r\n\r\nGET /b HTTP/1.1"),
        BEGIN[:-2] + b"\nCookie: a\r\n\r\n",
        head().replace(b"GET", b"GET\r\nCookie: a\r\n"),
    ):
        found = essence(forged)
        assert found is None or found[0] != head()


@pytest.mark.parametrize(
    ("lines", "given"),
    [
        ([b"X-Request-ID: abc-1"], b"abc-1"),
        ([b"x-request-id:A.b_c~2"], b"A.b_c~2"),
        ([b"X-Request-ID: " + b"x" * 128], b"x" * 128),
        ([b"X-Request-ID: " + b"x" * 129], None),
        ([b"X-Request-ID:"], None),
        ([b"X-Request-ID:  two"], None),
        ([b"X-Request-ID: two "], None),
        ([b"X-Request-ID: a b"], None),
        ([b'X-Request-ID: "a"'], None),
        ([b"X-Request-ID: a\nforged"], None),
        ([b"X-Request-ID: a", b"X-Request-ID: a"], None),
        ([b"X-Request-ID: gar\xe7on"], None),
    ],
)
def test_an_id_is_taken_over_where_a_log_can_show_it_as_it_is(lines: list[bytes], given: bytes | None) -> None:
    """Everything else about ids is the intake's."""
    found = essence(head(*lines))
    assert found == (None if given is None else (head(), given))


@pytest.mark.parametrize(
    ("line", "repeatable"),
    [
        (b"X-A: 1", True),
        (b"Connection: keep-alive", True),
        (b"connection:Keep-Alive \t", True),
        (b"If-None-Match: *", True),
        (b"Connection: close", False),
        (b"Connection: keep-alive, close", False),
        (b"Connection:", False),
        (b"Expect: 100-continue", False),
        (b"content-length: 0", False),
        (b"Transfer-Encoding: chunked", False),
        (b"Upgrade: h2c", False),
        (b"CACHE-CONTROL: max-age=5", False),
        (b"Pragma:no-cache", False),
    ],
)
def test_a_request_with_a_body_a_wish_or_an_end_is_not_repeated(line: bytes, repeatable: bool) -> None:
    """By the bytes: the gateway takes Expect off, and what belongs to the connection."""
    assert is_repeatable(head(line)) is repeatable
