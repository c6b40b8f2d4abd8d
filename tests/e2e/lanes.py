"""Two gateways before one origin, one of them without the fast lane: what each is asked, byte for byte, and answers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from holdfast.testing import Answer, MisbehavingOrigin, Received
from tests.e2e.cached import cached
from tests.e2e.harness import Gateway

SOME_SECONDS = 3
"""By how much two gateways that were asked one after the other may differ in what is measured in seconds."""
PATIENCE = 10.0
_DATE = ("Date", "Sat, 01 Nov 2025 10:00:00 GMT")
_LONG = [("Cache-Control", "max-age=900000000")]
_ETAG = [("ETag", '"v1"'), ("Last-Modified", "Sat, 01 Nov 2025 09:00:00 GMT")]

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accept": {"headers": [("Vary", "Accept")]},
    "agent": {"headers": [("Vary", "User-Agent")]},
    "underscore": {"headers": [("Vary", "user_agent")]},
    "cookie": {"headers": [("Vary", "Cookie, Accept-Language, X-Forwarded-For")]},
    "encoding": {"headers": [("Vary", "Accept-Encoding"), ("Vary", "Accept-Language")]},
    "star": {"headers": [("Vary", "*")]},
    "validated": {"headers": _ETAG},
    "weak": {"headers": [("ETag", 'W/"v1"')]},
    "gone": {"status": 404},
    "moved": {"status": 301, "headers": [("Location", "/k/plain")]},
    "nothing": {"status": 204, "body": b""},
    "empty": {"body": b""},
    "large": {"headers": _ETAG, "size": 6_000},
    "huge": {"size": 300_000},
    "chunked": {"chunked": True, "size": 100},
    "sets": {"headers": [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2; Path=/")]},
    "unkept": {"headers": [("Cache-Control", "no-store")], "kept": False},
    "private": {"headers": [("Cache-Control", "private, max-age=60")], "kept": False},
    "validate": {"headers": [("Cache-Control", "max-age=0, must-revalidate"), *_ETAG], "kept": False},
    "withheld": {"headers": [("Cache-Control", 'max-age=900000000, no-cache="X-Own"'), ("X-Own", "1")], "kept": False},
    "tagged": {"headers": [("Surrogate-Key", "one two"), ("Surrogate-Control", "max-age=900000000")]},
    "aged": {"headers": [("Age", "30")]},
    "undated": {"dated": False},
    "odd": {"reason": "Quite Fine, Thanks"},
    "wordless": {"reason": ""},
    "elsewhere": {"headers": [("Cache-Status", "other; hit"), ("Via", "1.1 other"), ("X-Request-ID", "theirs")]},
    "alternative": {"headers": [("Alt-Svc", 'h3=":443"')]},
    "named": {"headers": [("Connection", "X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5")]},
    "latin": {"headers": [("X-Name", "gar\xe7on"), ("x-twice", "1"), ("X-Twice", "2")]},
}
_SEEN = ("accept", "accept-language", "accept-encoding", "user-agent", "cookie", "x-forwarded-for", "host")


def at_origin(received: Received) -> Answer:
    """A function of the target's kind; the body shows what of the request the answer may depend on."""
    kind = KINDS.get(received.target.partition("?")[0].removeprefix("/k/").rstrip("/"))
    if kind is None:
        return Answer(status=400, body=b"no such kind")
    vary = {name.strip().lower().replace("_", "-") for key, value in kind.get("headers", ()) if key == "Vary"
            for name in value.split(",")}  # fmt: skip
    seen = [f"{name}={received.header(name)}" for name in _SEEN if name in vary or name == "host"]
    body = f"{received.method} {received.target} {' '.join(seen)}\n".encode("latin-1", "replace")
    body = b"" if kind.get("body") == b"" else body + b"x" * kind.get("size", 0)
    dated = [_DATE] if kind.get("dated", True) else []
    headers = [*dated, *(_LONG if kind.get("kept", True) else []), *kind.get("headers", ())]
    status = kind.get("status", 200)
    if received.header("if-none-match") == '"v1"' and _ETAG[0] in headers:
        return Answer(status=304, headers=headers, body=b"")
    reason, chunked = kind.get("reason", "Told"), kind.get("chunked", False)
    return Answer(status=status, headers=headers, body=body, reason=reason, chunked=chunked)


@dataclass
class Pair:
    """The one with the lane and the one without."""

    with_lane: Gateway
    without: Gateway
    origin: MisbehavingOrigin
    asked: list[bytes] = field(default_factory=list)

    def both(self, data: bytes, cuts: Sequence[int] = (), *, half_close: bool = False) -> tuple[bytes, bytes]:
        """All that each answers to these bytes on a connection of their own, until it ends."""
        connections = [socket.create_connection(("127.0.0.1", each.port), PATIENCE) for each in self.gateways]
        try:
            for connection in connections:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            places = [0, *sorted({cut % len(data) for cut in cuts} - {0}), len(data)]
            for number, (start, end) in enumerate(itertools.pairwise(places)):
                if number:
                    time.sleep(0.002)  # so that they arrive one by one
                for connection in connections:
                    _send(connection, data[start:end])
            if half_close:
                for connection in connections:
                    _finish(connection)
            one, other = (_until_end(connection) for connection in connections)
        finally:
            for connection in connections:
                connection.close()
        return one, other

    @property
    def gateways(self) -> tuple[Gateway, Gateway]:
        """Both."""
        return self.with_lane, self.without


def _send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # it has answered and closed already
        connection.sendall(data)


def _finish(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def _until_end(connection: socket.socket) -> bytes:
    pieces = []
    try:
        while piece := connection.recv(1 << 18):
            pieces.append(piece)
    except ConnectionError:
        pass  # it had closed, and more came: what it had said is here all the same
    except TimeoutError:
        pieces.append(b"\r\n<no end>")
    return b"".join(pieces)


@contextlib.contextmanager
def pair(folder: Path, **settings: Any) -> Iterator[Pair]:
    """Started, with an origin in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    origin = MisbehavingOrigin(at_origin)
    asyncio.run_coroutine_threadsafe(origin.start(), loop).result(PATIENCE)
    patient = {f"upstream__{name}": "15s" for name in ("connect_timeout", "response_timeout", "read_timeout")}
    changes = {**patient, "upstream__deadline": "30s", **settings.pop("changes", {})}
    gateways = [
        Gateway(folder / name, made=cached(origin.url, fast_lane=fast, changes=changes, **settings))
        for name, fast in (("with", True), ("without", False))
    ]
    try:
        for gateway in gateways:
            asyncio.run(gateway.start())
        yield Pair(*gateways, origin)
    finally:
        for gateway in gateways:
            gateway.kill()
        asyncio.run_coroutine_threadsafe(origin.stop(), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


# -- what they say ----------------------------------------------------------------------------------------------------

_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TTL = re.compile(rb"(ttl=)(-?[0-9]+)")


def difference(one: bytes, other: bytes) -> str:
    """What two streams of answers do not say alike, apart from ids that were drawn and some seconds; empty: nothing."""
    ours, theirs = list(_parts(one)), list(_parts(other))
    for mine, yours in zip(ours, theirs, strict=False):
        if _differ(mine, yours):
            return f"{mine[:400]!r}\n  is not\n{yours[:400]!r}"
    if len(ours) != len(theirs):
        return f"{len(ours)} pieces are not {len(theirs)}: {ours[-1][:300]!r} is not {theirs[-1][:300]!r}"
    return ""


def _parts(stream: bytes) -> Iterator[bytes]:
    """Line by line: where a body ends is said in the header, and compared there."""
    yield from stream.split(b"\r\n")


def _differ(one: bytes, other: bytes) -> bool:
    if one == other:
        return False
    name, _, value = one.partition(b": ")
    their_name, _, their_value = other.partition(b": ")
    if name != their_name:
        return True
    match name.lower():
        case b"x-request-id":
            return not (_UUID.fullmatch(value) and _UUID.fullmatch(their_value))
        case b"age":
            return abs(int(value) - int(their_value)) > SOME_SECONDS
        case b"date":
            seconds = [parsedate_to_datetime(each.decode()).timestamp() for each in (value, their_value)]
            return abs(seconds[0] - seconds[1]) > SOME_SECONDS
        case b"alt-svc":  # mitmproxy puts its own port there
            return re.sub(rb"[0-9]+", b"", value) != re.sub(rb"[0-9]+", b"", their_value)
        case b"cache-status":
            mine, yours = (_TTL.findall(each) for each in (value, their_value))
            same = _TTL.sub(rb"\1", value) == _TTL.sub(rb"\1", their_value) and len(mine) == len(yours)
            close = (abs(int(a[1]) - int(b[1])) <= SOME_SECONDS for a, b in zip(mine, yours, strict=False))
            return not (same and all(close))
        case _:
            return True


_COUNTERS = ("holdfast_requests_total", "holdfast_cache_requests_total", "holdfast_request_duration_seconds_count")


def counted(gateway: Gateway) -> dict[tuple[str, ...], float]:
    """What became of its requests, as its metrics have it."""
    samples = asyncio.run(gateway.metrics())
    return {key: value for key, value in samples.items() if key[0] in _COUNTERS}


def logged(gateway: Gateway, sent: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """The access log without times, and of the ids only those that were sent."""
    lines = [json.loads(line) for line in gateway.log_file.read_text().splitlines() if '"holdfast.access"' in line]
    for line in lines:
        assert isinstance(line.pop("duration_ms"), float) and line.pop("time")
        line["request_id"] = line["request_id"] if line["request_id"] in sent else "drawn"
    return lines


def hits(gateway: Gateway) -> float:
    """How many answers the lane has given."""
    return asyncio.run(gateway.metrics()).get(("holdfast_fast_lane_hits_total",), 0.0)
