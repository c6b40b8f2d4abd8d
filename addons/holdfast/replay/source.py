"""Where captures come from and where they go: what a topic of Kafka and an outbox of this machine have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from holdfast.audit import Arrival

Headers = tuple[tuple[str, bytes], ...]


@dataclass(slots=True, eq=False)
class Taken:
    """A message that the replayer holds. It stays where it came from until `settle`, `hand_on` or `bury` has returned.

    `arrival` is None for a message that names no capture; `poison` says what is wrong with it then. `due`: not to be
    sent before (epoch seconds). `place` is the topic of retries that it came from, empty for a first arrival.
    `is_lost` is set by the source when it is somebody else's from now on (a rebalance): what is on its way to the
    upstream is finished, nothing new is begun.
    """

    arrival: Arrival | None
    size: int  # bytes of its value
    poison: str = ""
    due: float = 0.0
    place: str = ""
    is_lost: bool = False
    position: object = field(default=None, repr=False)  # the source's own


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """Whether captures come in; `lag` is how many are known to wait there, None where that is not known."""

    ok: bool
    detail: str
    lag: int | None = None
    oldest: float | None = None  # epoch seconds of the oldest that waits, where known


class Source(Protocol):
    """All methods belong to one event loop and are bounded in time; BrokerUnavailable and StoreUnavailable mean: try
    again, nothing has changed.
    """

    places: tuple[tuple[str, float], ...]
    """Topics of retries with their delay in seconds, shortest first. Empty: what waits, waits here."""

    async def start(self, woken: Callable[[], None]) -> None:
        """Begin; `woken` is called, from any thread, when there may be something to take."""

    async def stop(self) -> None:
        """Let go of everything; what was not settled is given again by the next start."""

    async def take(self, most: int) -> list[Taken]:
        """Up to so many messages, at once, without waiting; those of one key in their order."""

    def set_aside(self, taken: Taken) -> None:
        """Too many of its key are held: it is given again after `ask_again`. Only where there are no `places`."""

    def ask_again(self, key: str) -> None:
        """There is room for more of this key."""

    async def wanted(self, ids: Sequence[str]) -> dict[str, Literal["discarded", "dead"]]:
        """Younger ones wait for these: those that are here are given next. By id: which never will be, and why.

        `discarded`: somebody has given it up where it was kept; `dead`: its record is damaged there.
        """

    async def value(self, taken: Taken) -> tuple[bytes, Headers] | None:
        """The message: its value and its header. None if it is not there any more: somebody has discarded it."""

    async def settle(self, taken: Sequence[Taken]) -> None:
        """They are delivered, or nobody's concern any more. On return it is noted, or will be in their order."""

    async def bury(self, taken: Taken, reason: str, headers: Headers) -> None:
        """It is dead: kept where dead letters are, with these header fields besides, and settled."""

    async def hand_on(self, taken: Taken, place: str, due: float, headers: Headers) -> None:
        """Put it behind everything in that topic of retries, durably, and settle it here."""

    async def health(self) -> SourceHealth:
        """As it is now."""
