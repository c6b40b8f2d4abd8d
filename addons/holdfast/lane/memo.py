"""A response that has gone out, ready to go out again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mitmproxy.http import Response
from mitmproxy.net.http.http1 import assemble_response_head

from holdfast.gateway import Hit

JOINED = 4 * 1024  # bytes: a body up to this is written with its header, a larger one is the store's
MOST = 4096  # headers known by heart
ROOM = 8 * 1024 * 1024  # bytes that they and what is remembered by them may take
_BESIDE = 1024  # bytes of one memo beside its header and its body: objects, closures, its place

type Count = Callable[[Sequence[float]], None]
type Tell = Callable[[str, float], None]


class Memo:
    """What is sent for a hit. Each of `counts` is called with the seconds that answers took, `tell` with one's id too.

    `took` are the seconds of those that have not been counted yet.
    If it `is_long` the hit's body follows the header that `header` gives, else it comes with it. `size` is in bytes.
    """

    __slots__ = (
        *("_age", "_before", "_behind", "_lines", "_places", "_short", "_ttl"),
        *("counts", "hit", "is_long", "size", "tell", "took"),
    )

    def __init__(
        self,
        hit: Hit,
        lines: list[bytes],
        places: tuple[int, int | None, int],
        body: bytes,
        counts: Sequence[Count],
        tell: Tell | None,
    ) -> None:
        self.hit, self.counts, self.tell = hit, tuple(counts), tell
        self.took: list[float] = []
        self.is_long = len(body) > JOINED
        self._short = b"" if self.is_long else body
        self._lines, self._places = lines, places
        self.size = 2 * (sum(map(len, lines)) + len(self._short)) + _BESIDE
        self._before = self._behind = b""
        self._age = self._ttl = -1

    def header(self, request_id: bytes, now: float) -> bytes:
        """At this moment, in epoch seconds. It is put together anew when its age or its lifetime shows otherwise."""
        age, ttl = self.hit.age(now), self.hit.ttl(now)
        if age != self._age or ttl != self._ttl:
            self._write(age, ttl)
        return self._before + request_id + self._behind

    def count(self) -> None:
        """Those that have not been counted yet."""
        took, self.took = self.took, []
        self.hit.again(len(took))
        for count in self.counts:
            count(took)

    def _write(self, age: int, ttl: int) -> None:
        self._age, self._ttl = age, ttl
        lines, (own, aged, status) = self._lines, self._places
        lines[status] = b"Cache-Status: " + self.hit.cache_status(ttl).encode("ascii")
        if aged is not None:
            lines[aged] = b"Age: %d" % age
        name = lines[own].partition(b":")[0]
        self._before = b"\r\n".join([*lines[:own], name + b": "])
        self._behind = b"\r\n".join([b"", *lines[own + 1 :]]) + self._short


class Memos:
    """By header, bounded in number and bytes: the one that was there first goes first."""

    __slots__ = ("_known", "_size", "get")

    def __init__(self) -> None:
        self._known: dict[bytes, Memo] = {}
        self._size = 0
        self.get: Callable[[bytes], Memo | None] = self._known.get

    @property
    def size(self) -> int:
        """In bytes."""
        return self._size

    def put(self, head: bytes, memo: Memo) -> None:
        """In place of what was remembered by this header."""
        self.drop(head)
        self._known[head] = memo
        self._size += len(head) + memo.size
        while len(self._known) > MOST or self._size > ROOM:
            self.drop(next(iter(self._known)))

    def drop(self, head: bytes) -> None:
        """If it is there."""
        memo = self._known.pop(head, None)
        if memo:
            self._size -= len(head) + memo.size

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()
        self._size = 0


def memo_of(hit: Hit, response: Response, counts: Sequence[Count], tell: Tell | None) -> Memo | None:
    """Of a response as it goes out. None where what changes from one to the next cannot be told from the rest."""
    lines = assemble_response_head(response).split(b"\r\n")
    names = [name.lower() for name, _ in response.headers.fields]
    body = response.raw_content
    if len(lines) != len(names) + 3 or body is None or (len(body) > JOINED and body is not hit.body):
        return None  # a part of a long one is nobody's but ours
    ids, ages = _places(names, b"x-request-id"), _places(names, b"age")
    statuses = [at for at in _places(names, b"cache-status") if lines[at] == _status_line(hit)]
    if len(ids) != 1 or len(ages) > 1 or len(statuses) != 1 or b"alt-svc" in names or b"connection" in names:
        return None  # mitmproxy writes Alt-Svc for each of its ports
    return Memo(hit, lines, (ids[0], ages[0] if ages else None, statuses[0]), body, counts, tell)


def _places(names: list[bytes], name: bytes) -> list[int]:
    """Behind the status line."""
    return [index for index, each in enumerate(names, 1) if each == name]


def _status_line(hit: Hit) -> bytes:
    return b"Cache-Status: " + hit.cache_status(hit.ttl(hit.since)).encode("ascii")
