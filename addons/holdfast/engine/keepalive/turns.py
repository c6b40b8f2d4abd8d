"""The connections to one server: which are idle, how many are in use, and who waits since no more may be."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mitmproxy.utils import asyncio_utils

from holdfast.engine.commands import GetUpstream
from holdfast.policy.idle import Idle, IdleRules

if TYPE_CHECKING:
    from holdfast.engine.keepalive.line import Line
    from holdfast.engine.keepalive.sharing import Share


class Place:
    """`taken` counts connections of HTTP/1, idle or not, and those that are being opened."""

    __slots__ = ("__weakref__", "_rules", "idle", "taken", "waiting")

    def __init__(self, rules: IdleRules) -> None:
        self._rules = rules
        self.idle: Idle[Line] = Idle(rules)
        self.taken = 0
        self.waiting: deque[tuple[Share, GetUpstream]] = deque()

    @property
    def full(self) -> bool:
        """Whether no more may be in use."""
        return self._rules.active is not None and self.taken - len(self.idle) >= self._rules.active

    def must_wait(self, share: Share, wanted: GetUpstream) -> bool:
        """Whether others are first; it is told when its turn has come (`TurnCame`)."""
        if not self.full and (wanted.turn or not self.waiting):
            share.waiting.pop(wanted, None)
            return False
        if wanted.turn:
            self.waiting.appendleft((share, wanted))
        else:
            self.waiting.append((share, wanted))
        share.waiting[wanted] = self
        return True

    def forget(self, share: Share, wanted: GetUpstream) -> None:
        """It waits no more."""
        if (share, wanted) in self.waiting:
            self.waiting.remove((share, wanted))

    def wake(self) -> None:
        """One connection less is in use: whoever has waited longest may go on."""
        if self.waiting and not self.full:
            share, wanted = self.waiting.popleft()
            wanted.turn = True
            asyncio_utils.create_task(share.go_on(wanted, self), name="turn at a server", keep_ref=True)


class Slot:
    """Counts as one connection from when it is made until it is given back, or forgotten by all."""

    __slots__ = ("_place",)

    def __init__(self, place: Place) -> None:
        self._place: Place | None = place
        place.taken += 1

    def back(self) -> None:
        """Once."""
        place, self._place = self._place, None
        if place:
            place.taken -= 1
            place.wake()

    __del__ = back  # of a task that was cancelled before it had begun
