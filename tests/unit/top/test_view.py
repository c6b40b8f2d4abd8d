"""The view on terminals of any size."""

from __future__ import annotations

import io
import re
import unicodedata
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from holdfast.top.frame import (
    CacheRow,
    CaptureRow,
    Figure,
    Frame,
    GatewayRow,
    Latency,
    OutboxRow,
    ReplayRow,
    Requests,
    RouteRow,
    ServerRow,
)
from holdfast.top.sections import Section, plain
from holdfast.top.view import allot, view

SIZES = [(60, 15), (72, 20), (80, 24), (100, 30), (119, 40), (120, 24), (160, 45), (240, 70)]


def figures(**rates: float) -> tuple[Figure, ...]:
    return tuple(Figure(name=n, rate=r, minute=r * 60, total=r * 600, line=(r,) * 60) for n, r in rates.items())


def capture(number: int, **changes: Any) -> CaptureRow:
    row = CaptureRow(
        id=str(number), captured=1000.0, state="pending", route="users", method="POST", path="/api/users", error="reset"
    )
    return msgspec.structs.replace(row, **changes)


def full(**changes: Any) -> Frame:
    """A frame with everything in it."""
    made = Frame(
        at=1000.0,
        interval=1.0,
        gateway=GatewayRow(
            address="127.0.0.1:9900", status="degraded", profile="p.yaml", version="0.1.0", uptime_seconds=11520.0,
            cpu=0.4, memory_bytes=1e8, troubles=("kafka: no broker",),
        ),
        requests=Requests(
            rate=41.2,
            line=(None,) * 30 + (41.0,) * 30,
            latency=Latency(p50=0.003, p95=0.041, p99=1.2),
            fates=figures(ok=38.0, retried=0.0, captured=2.0, failed=0.04),
            routes=tuple(RouteRow(route=f"route{n}", rate=1.0, minute=60, failed=0.1, p95=0.2) for n in range(12)),
        ),
        servers=(
            ServerRow(server="http://127.0.0.1:1", state="open", by_hand=True, failures=3, last_error="reset"),
            *(ServerRow(server=f"http://127.0.0.1:{n}", state="ok", rate=9.0) for n in range(2, 9)),
        ),
        outbox=OutboxRow(
            waiting=12, bytes=5000, oldest_seconds=134, max_bytes=6000, refused=figures(outbox_full=0.1),
            published=figures(published=1.0)[0], errors=figures(errors=0.2)[0], broker="failing",
        ),
        replay=ReplayRow(
            paused=True, now=5, later=2, oldest_seconds=30, lag=12, outcomes=figures(delivered=1.0),
            attempts=figures(connection_refused=0.5), states={"open": 7},
        ),
        cache=CacheRow(hit_rate=0.92, results=figures(hit=38.0, miss=3.0), entries=1234, bytes=1e6, store_up=False),
        captures=(capture(0, attempts=3), *(capture(n) for n in range(1, 100))),
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def drawn(frame: Frame, width: int = 80, height: int = 24, *, keys: bool = True, colour: bool = False) -> list[str]:
    """The lines of the view, as a terminal of this size gets them."""
    file = io.StringIO()
    system = "truecolor" if colour else None
    console = Console(file=file, width=width, height=height, color_system=system, force_terminal=colour, markup=False)
    console.print(view(frame, width, height, keys=keys))
    return file.getvalue().split("\n")[:-1]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_it_fills_the_terminal_and_no_more(size: tuple[int, int]) -> None:
    """Not a line too many, none too wide: either would make the screen scroll."""
    lines = drawn(full(), *size)
    assert len(lines) == size[1]
    assert max(map(cell_len, lines)) <= size[0]
    assert lines[-1].startswith("q quits")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_every_part_is_there_at_every_size(size: tuple[int, int]) -> None:
    """What is asked for first: rates by fate, open circuits, the outbox, replays, hits, and a capture."""
    text = "\n".join(drawn(full(), *size))
    for needed in ("requests  41.2/s", "captured", "1 of 8 open", "12 waiting", "2m14s", "lag 12", "92%", "store down"):
        assert needed in text, needed
    assert "/api" in text


@pytest.mark.parametrize("height", [1, 2, 3, 5, 8, 14])
@pytest.mark.parametrize("width", [1, 20, 59, 130])
def test_a_tiny_terminal_is_no_reason_to_end(width: int, height: int) -> None:
    """Less is shown."""
    lines = drawn(full(), width, height)
    assert len(lines) <= max(height, 1)


def test_with_room_there_are_rows_for_fates_routes_and_servers() -> None:
    """The most useful first."""
    text = "\n".join(drawn(full(), 160, 60))
    for needed in (
        "fate",
        "the last minute",
        "route11",
        "http://127.0.0.1:8",
        "connection_refused",
        "opened by a person",
        "outbox_full 60",
        "pending ×3",
        "connection_refused 0.50",
        "open 7",
    ):
        assert needed in text, needed


def test_a_gateway_that_is_away_is_said_to_be() -> None:
    """In words, and why, and for how long; what is below is old."""
    gateway = GatewayRow(address="127.0.0.1:9900", status="away", away="Connection refused", away_seconds=75.0)
    text = "\n".join(drawn(full(gateway=gateway)))
    assert "! Connection refused, for 1m15s now: trying again; below is what was last read" in text


def test_before_anything_was_read_there_is_only_the_head() -> None:
    """Nothing is made up."""
    gateway = GatewayRow(address="127.0.0.1:9900", status="away", away="asking", away_seconds=0.0)
    lines = drawn(Frame(at=1000.0, interval=1.0, gateway=gateway))
    assert [line for line in lines[2:-1] if line.strip()] == []


EVIL = "/\x1b[2J\x1b]0;x\x07\r\n\x9b31m\u202e[red]x[/red]:smile:\u200b日本語"


@pytest.mark.parametrize("size", [(60, 15), (160, 45)], ids=str)
def test_nothing_from_a_client_reaches_the_terminal_as_a_command(size: tuple[int, int]) -> None:
    """Escape sequences, C1 controls, bidirectional overrides, and the markup of the library that draws."""
    names = ("route", "method", "path", "error", "state")
    rows = tuple(capture(1, **{name: EVIL}) for name in names)
    server = ServerRow(server=EVIL, state=EVIL, last_error=EVIL, failures=1, detail=EVIL, rate=1.0)
    gateway = GatewayRow(address=EVIL, status=EVIL, away=EVIL, profile=EVIL, version=EVIL, troubles=(EVIL,))
    evil = (Figure(name=EVIL, rate=1.0, minute=1, total=1.0, line=(1.0,)),)
    frame = full(
        gateway=gateway,
        servers=(server,),
        captures=rows,
        requests=Requests(rate=1.0, fates=evil, routes=(RouteRow(route=EVIL, minute=1, failed=1.0),)),
        outbox=OutboxRow(refused=evil, published=evil[0], errors=evil[0], broker=EVIL),
        replay=ReplayRow(outcomes=evil, attempts=evil, states={EVIL: 1}),
        cache=CacheRow(results=evil),
    )
    text = "\n".join(drawn(frame, *size))
    assert {c for c in text if unicodedata.category(c) in ("Cc", "Cf")} <= {"\n"}
    assert "[red]x" in "".join(text.split()) or size[0] == 60
    coloured = "\n".join(drawn(frame, *size, colour=True))
    assert set(re.findall(r"\x1b[^m]*m", coloured)) == set(re.findall(r"\x1b\[[\d;]*m", coloured))
    assert "\x1b[2J" not in coloured


def test_states_can_be_told_without_colours() -> None:
    """NO_COLOR, or eyes that see few: the word is there."""
    text = "\n".join(drawn(full(), 100, 40))
    assert "\x1b" not in text
    assert "open" in text
    assert "degraded" in text


def test_without_the_metrics_addon_that_is_said() -> None:
    """Rather than an empty part."""
    assert "the profile has no `metrics` addon" in "\n".join(drawn(full(requests=None)))


def sections(*sizes: tuple[int, int, bool]) -> list[Section]:
    return [Section("x", plain(""), plain, least, most, whole) for least, most, whole in sizes]


@pytest.mark.parametrize(
    ("lines", "rows"),
    [
        (0, []),
        (2, [0, 0]),  # titles before rows, the first sections before the last
        (3, [0, 0, 0]),
        (5, [1, 1, 0]),
        (8, [1, 2, 2]),
        (13, [1, 4, 5]),  # what is shown whole waits until the others have some
        (14, [5, 3, 3]),
        (99, [5, 4, 9]),
    ],
)
def test_lines_are_shared_out(lines: int, rows: list[int]) -> None:
    """Never more than there are, never more than a section has use for."""
    parts = sections((1, 5, True), (1, 4, False), (1, 9, False))
    assert allot(parts, lines) == rows
    assert len(rows) + sum(rows) <= lines
