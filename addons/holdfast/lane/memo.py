"""A response that has gone out, ready to go out again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mitmproxy.http import Response
from mitmproxy.net.http.http1 import assemble_response_head

from holdfast.gateway import Hit

JOINED = 4 * 1024  # bytes: a body up to this is written with its header, a larger one is not copied

type Count = Callable[[float], None]
type Tell = Callable[[str, float], None]


class Memo:
    """What is sent for a hit. Each of `counts` is called with the seconds that an answer took, `tell` with its id too.

    `body` is what follows the header that `header` gives; empty where the header comes with it.
    """

    __slots__ = ("_age", "_before", "_behind", "_lines", "_places", "_short", "_ttl", "body", "counts", "hit", "tell")

    def __init__(
        self,
        hit: Hit,
        lines: list[bytes],
        places: tuple[int, int | None, int],
        body: bytes,
        counts: Sequence[Count],
        tell: Tell | None,
    ) -> None:
        is_short = len(body) <= JOINED
        self.hit, self.counts, self.tell = hit, tuple(counts), tell
        self.body = b"" if is_short else body
        self._short = body if is_short else b""
        self._lines, self._places = lines, places
        self._before = self._behind = b""
        self._age = self._ttl = -1

    def header(self, request_id: bytes, now: float) -> bytes:
        """At this moment, in epoch seconds. It is put together anew when its age or its lifetime shows otherwise."""
        age, ttl = self.hit.age(now), self.hit.ttl(now)
        if age != self._age or ttl != self._ttl:
            self._write(age, ttl)
        return self._before + request_id + self._behind

    def _write(self, age: int, ttl: int) -> None:
        self._age, self._ttl = age, ttl
        lines, (own, aged, status) = self._lines, self._places
        lines[status] = b"Cache-Status: " + self.hit.cache_status(ttl).encode("ascii")
        if aged is not None:
            lines[aged] = b"Age: %d" % age
        name = lines[own].partition(b":")[0]
        self._before = b"\r\n".join([*lines[:own], name + b": "])
        self._behind = b"\r\n".join([b"", *lines[own + 1 :]]) + self._short


def memo_of(hit: Hit, response: Response, counts: Sequence[Count], tell: Tell | None) -> Memo | None:
    """Of a response as it goes out. None where what changes from one to the next cannot be told from the rest."""
    lines = assemble_response_head(response).split(b"\r\n")
    names = [name.lower() for name, _ in response.headers.fields]
    if len(lines) != len(names) + 3 or response.raw_content is None:
        return None
    ids, ages = _places(names, b"x-request-id"), _places(names, b"age")
    statuses = [at for at in _places(names, b"cache-status") if lines[at] == _status_line(hit)]
    if len(ids) != 1 or len(ages) > 1 or len(statuses) != 1 or b"alt-svc" in names or b"connection" in names:
        return None  # mitmproxy writes Alt-Svc for each of its ports
    return Memo(hit, lines, (ids[0], ages[0] if ages else None, statuses[0]), response.raw_content, counts, tell)


def _places(names: list[bytes], name: bytes) -> list[int]:
    """Behind the status line."""
    return [index for index, each in enumerate(names, 1) if each == name]


def _status_line(hit: Hit) -> bytes:
    return b"Cache-Status: " + hit.cache_status(hit.ttl(hit.since)).encode("ascii")
