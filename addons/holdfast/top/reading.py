"""Asks the control surface of a running gateway, page by page, beside the view.

Each page has a thread of its own: /health may wait seconds for a server that is gone, and nobody should wait for that
who wants to see rates. Nothing here waits for longer than `PATIENCE`; who looks at what was read never waits at all.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.client import HTTPException, HTTPResponse
from typing import Any, Self
from urllib.error import HTTPError

from holdfast.commands.control import Surface, direct
from holdfast.top.frame import Frame, Seen
from holdfast.top.history import History
from holdfast.top.model import GROUPS, frame_of
from holdfast.top.scrape import Scrape, parse_scrape

PATIENCE = 5.0  # seconds for one answer
LARGEST = 64 << 20  # bytes of one answer
CAPTURES = 100  # the newest: more than a terminal has lines


class Refused(Exception):
    """The gateway is there and does not want to be asked: waiting will not help."""


class Away(Exception):
    """No answer, or none that can be read, in words."""


@dataclass(frozen=True, slots=True)
class Page[T]:
    """The last answer and when it came; when it was last tried, and why there was none. Monotonic seconds."""

    document: T | None = None
    at: float | None = None
    tried: float = 0.0
    fault: str = ""
    refused: bool = False
    asked: int = 0  # how often an answer came, or a fault


def ask(surface: Surface, path: str, patience: float = PATIENCE) -> tuple[int, bytes]:
    """(status, body) of one GET. Away if there is no whole answer in time, Refused for 401 and 403."""
    deadline = time.monotonic() + patience
    try:
        try:
            answer: HTTPResponse | HTTPError = direct().open(surface.request("GET", path), timeout=patience)
        except HTTPError as error:
            answer = error
        with answer:
            body = bytearray()
            while chunk := answer.read1(1 << 16):
                body += chunk
                if time.monotonic() > deadline:
                    raise TimeoutError
                if len(body) > LARGEST:
                    raise Away(f"{path} is larger than {LARGEST >> 20} MiB")
            status = answer.status or 0
    except TimeoutError:
        raise Away(f"no answer within {patience:g} s") from None
    except (OSError, HTTPException) as e:
        reason = getattr(e, "reason", e)
        if isinstance(reason, TimeoutError):
            raise Away(f"no answer within {patience:g} s") from None
        raise Away(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__) from None
    if status in (401, 403):
        raise Refused(_detail(bytes(body)) or f"{path} was answered {status}")
    return status, bytes(body)


class Watch:
    """Within it the three pages are read at every interval. Leaving it does not wait for what is on its way."""

    def __init__(self, surface: Surface, interval: float, *, patience: float = PATIENCE) -> None:
        self.address = surface.base.removeprefix("http://")
        self._surface = surface
        self._interval = interval
        self._patience = patience
        self._history = History(GROUPS)
        self._begun = self._back = time.monotonic()  # `_back`: when /metrics could be had again
        self._left = threading.Event()
        self._news = threading.Condition()
        self._metrics: Page[Scrape] = Page()
        self._health: Page[dict[str, Any]] = Page()
        self._captures: Page[list[dict[str, Any]]] = Page()
        self._scrapes: deque[Scrape] = deque(maxlen=1000)  # not yet in the history

    def __enter__(self) -> Self:
        for follow in (self._follow_metrics, self._follow_health, self._follow_captures):
            threading.Thread(target=self._every_interval, args=(follow,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()

    def wait(self, readings: int) -> None:
        """Until each page was tried, /metrics so often, or until patience ends: for each reading once."""
        longest = readings * self._patience + (readings - 1) * self._interval
        with self._news:
            self._news.wait_for(lambda: self._has(readings), timeout=longest)

    def _has(self, readings: int) -> bool:
        return self._metrics.asked >= readings and self._health.asked > 0 and self._captures.asked > 0

    @property
    def news(self) -> int:
        """Changes with every try at /metrics, and once for each of the other pages: their news can wait for it."""
        return self._metrics.asked + bool(self._health.asked) + bool(self._captures.asked)

    @property
    def is_refused(self) -> bool:
        """Whether it has never wanted to be asked: it will not by being asked again."""
        return self._metrics.refused and self._metrics.at is None

    @property
    def fault(self) -> str:
        """Why /metrics could not be had the last time."""
        return self._metrics.fault

    def frame(self) -> Frame:
        """What is known now. Called by one thread only."""
        metrics, health, captures = self._metrics, self._health, self._captures
        now = time.monotonic()
        while self._scrapes:
            self._history.add(self._scrapes.popleft())
        away, since = self._away(metrics, now)
        pages = (("/health", health), ("/captures", captures))
        # What could not be had while the gateway was away says nothing about now.
        notes = tuple(f"{name}: {page.fault}" for name, page in pages if page.fault and page.tried > self._back)
        seen = Seen(
            health=None if health.fault else health.document,
            captures=captures.document,
            away=away,
            away_seconds=now - since,
            notes=notes,
        )
        return frame_of(self._history, seen, address=self.address, at=time.time(), interval=self._interval)

    def _away(self, metrics: Page[Scrape], now: float) -> tuple[str, float]:
        """Why there are no figures, and since when; empty where they are of now."""
        last = self._begun if metrics.at is None else metrics.at
        if metrics.fault:
            return metrics.fault, last
        if now - last > self._interval + self._patience:
            return "no answer", last
        return ("", now) if metrics.at is not None else ("asking", last)

    # -- the threads ------------------------------------------------------------------------------------------------

    def _every_interval(self, follow: Callable[[], None]) -> None:
        due = time.monotonic()
        while not self._left.is_set():
            follow()
            with self._news:
                self._news.notify_all()
            due = max(due + self._interval, time.monotonic())  # what took too long is not made up for
            self._left.wait(max(0.0, due - time.monotonic()))

    def _follow_metrics(self) -> None:
        before, self._metrics = self._metrics, self._asked(self._metrics, "/metrics", _scrape)
        if self._metrics.document and not self._metrics.fault:
            self._scrapes.append(self._metrics.document)
            self._back = time.monotonic() if before.fault else self._back

    def _follow_health(self) -> None:
        self._health = self._asked(self._health, "/health", _health)

    def _follow_captures(self) -> None:
        self._captures = self._asked(self._captures, f"/captures?limit={CAPTURES}", _captures)

    def _asked[T](self, page: Page[T], path: str, read: Callable[[int, bytes], T | None]) -> Page[T]:
        try:
            document = read(*ask(self._surface, path, self._patience))
        except (Away, Refused, ValueError) as e:
            return replace(
                page, tried=time.monotonic(), fault=str(e), refused=isinstance(e, Refused), asked=page.asked + 1
            )
        now = time.monotonic()
        return Page(document, now, now, asked=page.asked + 1)


def _scrape(status: int, body: bytes) -> Scrape:
    if status != 200:
        raise Away(f"/metrics was answered {status}: {_detail(body) or 'is this a gateway?'}")
    return parse_scrape(body.decode("utf-8", "replace"), time.monotonic())


def _health(status: int, body: bytes) -> dict[str, Any]:
    """Answered 503 too, when all is lost."""
    found = _json(body)
    if status not in (200, 503) or "gateway" not in found:
        raise Away(f"answered {status}")
    return found


def _captures(status: int, body: bytes) -> list[dict[str, Any]] | None:
    """None where the profile has no outbox."""
    if status == 404:
        return None
    found = _json(body).get("captures")
    if status != 200 or not isinstance(found, list):
        raise Away(f"answered {status}")
    return [each for each in found if isinstance(each, dict)]


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _detail(body: bytes) -> str:
    return str(_json(body).get("detail") or "")
