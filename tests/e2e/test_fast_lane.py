"""The fast lane says what the ordinary way would: generated requests go down both, and everything is compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tests.e2e.lanes import KINDS, Pair, counted, difference, hits, logged, pair

pytestmark = pytest.mark.any_engine  # the two ways are compared here
EXAMPLES = 100
TIMES = 4  # each is asked: filled, answered the ordinary way and learned, then answered by the lane
_AGENTS = ("curl/8.0", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101", "")
_VALUES = {
    "Accept": ("*/*", "text/html,application/xml;q=0.9", "application/json"),
    "Accept-Language": ("de,en;q=0.5", "DE, en;q=0.50"),
    "Accept-Encoding": ("gzip, br", "br,gzip", "identity"),
    "User-Agent": _AGENTS,
    "Cookie": ("a=1", "a=2; b=3", "gar\xe7on=1"),
    "X-Request-ID": ("known-1", "known.2~", "not good", "", '"quoted"', " spaced", "x" * 129),
    "X-Forwarded-For": ("192.0.2.1", "192.0.2.2, 10.0.0.1"),
    "X-Forwarded-Proto": ("https", "http"),
    "X-Forwarded-Host": ("gateway.test", "evil.test"),
    "X-Real-IP": ("192.0.2.9",),
    "X_Forwarded_For": ("192.0.2.3",),
    "User_Agent": ("other/1.0",),
    "X_Request_ID": ("known-1",),
    "traceparent": ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "rubbish"),
    "tracestate": ("a=b",),
    "Referer": ("http://elsewhere.test/",),
    "Priority": ("u=1, i",),
    "Cache-Control": ("no-cache", "max-age=0", "max-age=100000000", "only-if-cached", "no-store", "min-fresh=5"),
    "Pragma": ("no-cache",),
    "If-None-Match": ('"v1"', 'W/"v1"', '"v2"', "*"),
    "If-Modified-Since": ("Sat, 01 Nov 2025 09:00:00 GMT", "Sat, 01 Nov 2025 08:00:00 GMT", "yesterday"),
    "If-Match": ('"v1"',),
    "Range": ("bytes=0-9", "bytes=-5", "bytes=5-", "bytes=0-1,4-5", "bytes=900000-", "lines=1"),
    "If-Range": ('"v1"', '"v2"'),
    "Connection": ("keep-alive", "Keep-Alive", "close", "Close, X-A", "upgrade", "TE"),
    "Keep-Alive": ("timeout=5",),
    "Proxy-Connection": ("close",),
    "TE": ("trailers",),
    "Upgrade": ("h2c", "websocket"),
    "Expect": ("100-continue", "something"),
    "Content-Length": ("0",),
    "Authorization": ("Basic eDp5",),
    "X-Other": ("1", "2", "tab\there"),
}
_HOSTS = (*["gateway.test"] * 24, "other.test", "GATEWAY.test", "gateway.test:80", None)
_SENT = frozenset(_VALUES["X-Request-ID"])


@dataclass(frozen=True)
class Script:
    """What one client sends on one connection, and at which places it takes breath, each time that it does."""

    requests: tuple[bytes, ...]
    cuts: tuple[tuple[int, ...], ...]
    half_close: bool

    @property
    def data(self) -> bytes:
        """The last one ends the connection, so that all answers are whole then."""
        last = b"GET /k/plain HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n"
        return b"".join([*self.requests, b"" if self.half_close else last])


def _field(name: str) -> st.SearchStrategy[bytes]:
    """Written in one of the ways that there are to write it, most of them allowed."""
    spellings = st.sampled_from([name] * 6 + [name.lower(), name.upper()])
    gaps = st.sampled_from([": "] * 12 + [":", ":  ", ":\t"])
    ends = st.sampled_from(["\r\n"] * 90 + [" \r\n", "\t\r\n", "\r\n folded\r\n", "\n", "\r\r\n", "\x00\r\n"])
    parts = st.tuples(spellings, gaps, st.sampled_from(_VALUES[name]), ends)
    return parts.map(lambda found: "".join(found).encode("latin-1"))


def _fields() -> st.SearchStrategy[list[bytes]]:
    usual = ("Accept", "Accept-Language", "User-Agent", "Cookie", "X-Forwarded-For", "X-Request-ID")
    telling = ("If-None-Match", "Range", "Accept-Encoding", "Cache-Control", "X-Forwarded-Proto")
    return st.lists(st.sampled_from([*sorted(_VALUES), *usual * 10, *telling * 5]).flatmap(_field), max_size=4)


@st.composite
def requests(draw: st.DrawFn, kind: str) -> bytes:
    """One request, most likely for this kind; most of them are such as browsers send."""
    method = draw(st.sampled_from(["GET"] * 40 + ["HEAD"] * 8 + ["POST", "OPTIONS", "get", "PURGE"]))
    target = "/k/" + draw(st.sampled_from([kind] * 60 + sorted(KINDS)))
    target += draw(st.sampled_from([""] * 40 + ["?a=1", "?a=1&a=2", "/", ";x", "/../plain", "#x", "%2f"]))
    host = draw(st.sampled_from(_HOSTS))
    target = draw(st.sampled_from([""] * 16 + ["http://gateway.test", "https://gateway.test"])) + target
    version = draw(st.sampled_from(["HTTP/1.1"] * 40 + ["HTTP/1.0", "http/1.1"]))
    fields = draw(_fields())
    if host is not None:
        fields.insert(draw(st.integers(0, len(fields))), b"Host: " + host.encode() + b"\r\n")
    before = draw(st.sampled_from([b""] * 24 + [b"\r\n", b"\r\n\r\n"]))
    body = b"hello" if method == "POST" else b""
    if body:
        fields.append(b"Content-Length: 5\r\n")
    return before + f"{method} {target} {version}\r\n".encode() + b"".join(fields) + b"\r\n" + body


_CUTS = st.one_of(*[st.just(())] * 3, st.lists(st.integers(1, 100_000), max_size=3).map(tuple))


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """Requests of one client, most of them for the same: what tells them apart must not be overlooked."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    return Script(
        tuple(draw(st.lists(requests(kind), min_size=1, max_size=5))),
        draw(st.tuples(*[_CUTS] * TIMES)),
        draw(st.sampled_from([False] * 5 + [True])),
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Started once."""
    with pair(tmp_path_factory.mktemp("lanes")) as found:
        yield found


def test_the_fast_lane_answers_as_the_ordinary_way_does(two: Pair, seed: int) -> None:
    """Answers, order, connections, metrics and access log are the same, but for ids that are drawn and the seconds."""
    sent, faults = 0, list[str]()

    @hypothesis.seed(seed)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @hypothesis.given(scripts())
    def compare(script: Script) -> None:
        nonlocal sent
        for cuts in script.cuts if not faults else ():  # what comes after a fault is another world
            answers = two.both(script.data, cuts, half_close=script.half_close)
            sent += len(re.findall(rb"(?m)^HTTP/1", answers[0]))
            if found := difference(*answers):
                faults.append(f"HOLDFAST_TEST_SEED={seed} {script} {cuts}\n{found}\n{answers}")

    compare()
    assert not faults, faults[0]
    assert counted(two.with_lane) == counted(two.without)
    ours, theirs = (logged(each, _SENT) for each in two.gateways)
    for mine, yours in zip(ours, theirs, strict=True):
        assert mine == yours
    fast = hits(two.with_lane)
    print(f"seed {seed}: {sent} answers, {fast:.0f} of them by the lane")
    assert hits(two.without) == 0
    assert fast > sent / 20
