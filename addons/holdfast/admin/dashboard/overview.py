"""`/`: how the gateway is, and what it has been doing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.admin.dashboard.captures import listing_of
from holdfast.admin.dashboard.chart import Strip, chart_of, in_words, strip_of
from holdfast.admin.dashboard.html_page import HtmlPage
from holdfast.admin.faults import faults_now
from holdfast.gateway import Gateway
from holdfast.policy.fate import LOST
from holdfast.policy.minutes import RouteHour, by_route
from holdfast.top.frame import Frame, OutboxRow, Seen
from holdfast.top.history import History
from holdfast.top.model import frame_of
from holdfast.top.scrape import parse_scrape
from holdfast.workers.whole import figures

FEW = 10  # captures: the newest, all others have a page of their own
FULL = 0.8  # of a bound, from where on it is a warning


@dataclass(frozen=True, slots=True)
class RouteLine:
    """One route: the hour, the same as a strip, and its requests of the last whole minute."""

    hour: RouteHour
    strip: Strip
    minute: int


class Overview(HtmlPage):
    """All of it on one page; `?route=` chooses one, `?refresh=off` keeps it as it is."""

    async def get(self) -> None:
        """As it is now."""
        looking = self.look()
        if looking is None:
            return
        gateway, now = self.gateway, self.gateway.wall_clock()
        _, health = await gateway.health()
        text, hour = await figures(gateway)
        frame = frame_now(gateway, health, text.decode(), now)
        chart = chart_of(hour, looking.route)
        self.show(
            "overview.html",
            title=f"{gateway.role.capitalize()} {frame.gateway.address}",
            refreshes=True,
            frame=frame,
            profile=health["profile"],
            faults=gateway.refused,
            on_purpose=await on_purpose(gateway),
            uptime=frame.gateway.uptime_seconds,
            chart=chart,
            lost=chart.share(*LOST),
            cached=chart.share("hit", "stale"),
            whole_minute=sum(chart.columns[-2].counts),
            routes=routes_of(hour),
            in_words=in_words,
            has_outbox=frame.outbox is not None and gateway.role == "gateway",
            fill=fill_of(frame.outbox) if frame.outbox else 0.0,
            FULL=FULL,
            listing=await listing_of(gateway, looking, FEW),
        )


def frame_now(gateway: Gateway, health: dict[str, Any], scrape: str, now: float) -> Frame:
    """What `holdfast top` would show, as far as one reading tells: totals, and no rates; nothing of the profile."""
    history = History(())
    history.add(parse_scrape(scrape, time.monotonic()))
    profile = gateway.profile
    listen = profile.listen if gateway.role == "gateway" else profile.admin.listen
    return frame_of(
        history,
        Seen(health={name: part for name, part in health.items() if name != "profile"}),
        address=listen or "",
        at=now,
        interval=0.0,
    )


async def on_purpose(gateway: Gateway) -> list[dict[str, Any]]:
    """The rules of the addon `faults` that may still act: whoever has forgotten one sees it here."""
    found = await faults_now(gateway)
    return [rule for rule in found["rules"] if not rule["over"]] if found else []


def routes_of(hour: Sequence[Any]) -> list[RouteLine]:
    """Those that lose requests first, then the busiest."""
    return [
        RouteLine(
            each, strip_of(each.fates.items()), sum(n for (own, _), n in hour[-2].counts.items() if own == each.route)
        )
        for each in by_route(tuple(hour))
    ]


def fill_of(outbox: OutboxRow) -> float:
    """How full it is: the nearer of the two bounds."""
    bounds = ((outbox.bytes, outbox.max_bytes), (outbox.records, outbox.max_records))
    return max((held / most for held, most in bounds if most), default=0.0)
