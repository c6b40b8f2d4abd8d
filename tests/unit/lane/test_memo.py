"""memo: a response that has gone out goes out again with what has changed since, and nothing is kept for ever."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from mitmproxy.http import Headers, Response

from holdfast.lane import memo as memo_module
from holdfast.lane.memo import JOINED, Memo, Memos, memo_of


@dataclass
class OneHit:
    """A hit that was ten seconds old and had fifty left at the second 1000."""

    body: bytes = b"one"
    since: float = 1000.0
    selecting: tuple[tuple[str, str | None], ...] = ()
    told: list[str] = field(default_factory=list)

    def holds(self, now: float) -> bool:
        """It does."""
        return True

    def age(self, now: float) -> int:
        """Grows."""
        return int(10 + now - self.since)

    def ttl(self, now: float) -> int:
        """Shrinks."""
        return int(50 - (now - self.since))

    def cache_status(self, ttl: int) -> str:
        """Like the cache's."""
        return f"holdfast;hit;ttl={ttl}"

    def again(self, times: int) -> None:
        """Counted."""
        self.told += ["again"] * times


def response(body: bytes = b"one", *fields: tuple[bytes, bytes], reason: bytes = b"Told") -> Response:
    """As it goes out of the chain."""
    named = [(b"Age", b"10"), (b"Cache-Status", b"holdfast;hit;ttl=50"), (b"X-Request-ID", b"first")]
    headers = Headers([(b"ETag", b'"a"'), *named, *fields])
    return Response(b"HTTP/1.1", 200, reason, headers, body, None, 0, 0)


def made(answer: Response, hit: OneHit | None = None) -> Memo | None:
    """Of this response."""
    return memo_of(hit or OneHit(), answer, [], None)


def test_only_the_id_the_age_and_the_lifetime_are_written_anew() -> None:
    """All else is the bytes of the first."""
    memo = made(response(b"one", (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2")))
    assert memo
    first = memo.header(b"second", 1000.0)
    assert first == (
        b'HTTP/1.1 200 Told\r\nETag: "a"\r\nAge: 10\r\nCache-Status: holdfast;hit;ttl=50\r\nX-Request-ID: second\r\n'
        b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\none"
    )
    later = memo.header(b"third", 1003.5)
    assert later == first.replace(b"Age: 10", b"Age: 13").replace(b"ttl=50", b"ttl=46").replace(b"second", b"third")
    assert memo.header(b"second", 1000.0) == first


def test_a_long_body_is_the_stores() -> None:
    """A memo does not keep alive what the store has let go, and a part of something long would be kept by it alone."""
    body = b"x" * (JOINED + 1)
    memo = made(response(body), OneHit(body=body))
    assert memo and memo.is_long and memo.header(b"a", 1000.0).endswith(b"\r\n\r\n")
    assert memo.size < JOINED
    assert made(response(bytes(JOINED + 1)), OneHit(body=body)) is None
    short = made(response(b"x" * JOINED), OneHit(body=body))
    assert short and not short.is_long and short.header(b"a", 1000.0).endswith(b"\r\n\r\n" + b"x" * JOINED)


@pytest.mark.parametrize(
    "answer",
    [
        response(b"one", (b"x-request-id", b"another")),
        response(b"one", (b"age", b"11")),
        response(b"one", (b"Cache-Status", b"holdfast;hit;ttl=50")),
        response(b"one", (b"Alt-Svc", b'h3=":443"')),
        response(b"one", (b"Connection", b"close")),
        response(b"one", (b"X-A", b"1\r\nX-B: 2")),
        response(b"one", reason=b"a\r\nb"),
    ],
)
def test_what_cannot_be_told_apart_is_not_remembered(answer: Response) -> None:
    """It goes the ordinary way."""
    assert made(answer) is None


def test_a_line_of_another_cache_is_left_as_it_is() -> None:
    """Only our member changes."""
    memo = made(response(b"one", (b"Cache-Status", b"other;hit;ttl=50")))
    assert memo and memo.header(b"a", 1001.0).count(b"ttl=50") == 1


def test_what_is_remembered_is_bounded_in_number_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends another header each time finds the end of it; the first to come goes first."""
    memo = made(response())
    assert memo
    monkeypatch.setattr(memo_module, "MOST", 3)
    few = Memos()
    for number in range(5):
        few.put(b"%d" % number, memo)
    assert [few.get(b"%d" % number) is not None for number in range(5)] == [False, False, True, True, True]
    few.put(b"4", memo)
    assert few.size == 3 * (1 + memo.size)
    few.drop(b"4")
    few.drop(b"nobody")
    assert few.size == 2 * (1 + memo.size) and few.get(b"4") is None
    few.clear()
    assert few.size == 0 and few.get(b"2") is None
    monkeypatch.setattr(memo_module, "ROOM", 2 * (1000 + memo.size))
    for number in range(3):
        few.put(b"%1000d" % number, memo)
    assert few.get(b"%1000d" % 0) is None and few.get(b"%1000d" % 2) is memo
