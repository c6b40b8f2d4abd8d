"""What is held of Kafka's messages, between the thread that reads them and the event loop that takes them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from holdfast.replay.kafka.messages import RawHeaders
from holdfast.replay.kafka.offsets import Offsets
from holdfast.replay.source import Taken


@dataclass(slots=True, eq=False)
class Share:
    """A partition for as long as it is ours. What is assigned anew is a new share.

    All but `is_lost` and what the buffer does with `offsets` and `held` belongs to the thread that reads.
    """

    topic: str
    partition: int
    delay: float | None = None  # seconds; of a topic of retries
    offsets: Offsets = field(default_factory=Offsets)
    held: dict[int, Taken] = field(default_factory=dict)  # by offset
    began: int | None = None  # the group's offset when it was asked for; -1: it had none
    is_lost: bool = False
    is_paused: bool = False
    waits_for: int = -1  # the offset of the message that is not due; it is read again then
    waits_until: float = 0.0  # epoch seconds
    waiting_since: float = 0.0  # when that one was captured
    sought: int = -1  # its offset, if it was passed over and has been sought anew

    @property
    def key(self) -> tuple[str, int]:
        return self.topic, self.partition

    @property
    def low(self) -> int | None:
        """The first offset that is not settled, as far as we know; -1: the partition's first."""
        return self.began if self.offsets.low is None else self.offsets.low

    @property
    def is_retry(self) -> bool:
        return self.delay is not None


@dataclass(frozen=True, slots=True, eq=False)
class Position:
    """Where a message is, and all of it. `weight`: bytes that it holds."""

    share: Share
    offset: int
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: RawHeaders = field(repr=False)
    weight: int


class Gate:
    """Shuts when it holds as much as it may, and opens again at half of that."""

    def __init__(self, messages: int, size: int) -> None:
        self._most = max(1, messages), max(1, size)
        self._held = 0, 0
        self.is_shut = False

    @property
    def held(self) -> tuple[int, int]:
        """Messages, bytes."""
        return self._held

    def move(self, messages: int, size: int) -> None:
        """So many more (or less) are held."""
        self._held = self._held[0] + messages, self._held[1] + size
        level = max(self._held[0] / self._most[0], self._held[1] / self._most[1])
        self.is_shut = level >= 1 or (self.is_shut and level > 0.5)


class Buffer:
    """Messages that were read: not yet taken, or taken and not settled. For any thread."""

    def __init__(self, messages: int, size: int) -> None:
        self._lock = threading.Condition()
        self._ready: deque[Taken] = deque()
        self._gate = Gate(messages, size)
        self._opened = threading.Event()

    @property
    def is_shut(self) -> bool:
        """Whether there is no room for more."""
        return self._gate.is_shut

    def wait(self, timeout: float) -> None:
        """For room, or `wake`; for one thread."""
        if self._opened.wait(timeout):
            self._opened.clear()

    def wake(self) -> None:
        """End a wait."""
        self._opened.set()

    def held(self) -> tuple[int, int]:
        """Messages, bytes."""
        with self._lock:
            return self._gate.held

    def add(self, taken: Taken, position: Position) -> None:
        """One was read. ValueError if it comes before one that was."""
        share = position.share
        with self._lock:
            share.offsets.give(position.offset)
            share.held[position.offset] = taken
            self._gate.move(1, position.weight)
            self._ready.append(taken)

    def take(self, most: int) -> list[Taken]:
        """The next ones, oldest first; each once."""
        with self._lock:
            return [self._ready.popleft() for _ in range(min(most, len(self._ready)))]

    def settle(self, positions: Iterable[Position]) -> None:
        """Those of shares that are lost, and those settled before, are passed over."""
        with self._lock:
            for each in positions:
                if not each.share.is_lost and each.share.offsets.settle(each.offset):
                    del each.share.held[each.offset]
                    self._leave(each)
            self._lock.notify_all()

    def recall(self, shares: Sequence[Share], timeout: float) -> None:
        """They are to be given back: none of them is taken any more, and those that were have so long to be settled."""
        with self._lock:
            kept = deque[Taken]()
            for taken in self._ready:
                at = taken.position
                if isinstance(at, Position) and at.share in shares:
                    del at.share.held[at.offset]  # its offset stays open: whoever is next begins with it
                    self._leave(at)
                else:
                    kept.append(taken)
            self._ready = kept
            self._lock.wait_for(lambda: not any(share.held for share in shares), timeout)

    def lose(self, shares: Sequence[Share]) -> None:
        """Somebody else's from now on."""
        with self._lock:
            for share in shares:
                share.is_lost = True
                for taken in share.held.values():
                    taken.is_lost = True
                    if isinstance(taken.position, Position):
                        self._leave(taken.position)
                share.held.clear()
            self._ready = deque(taken for taken in self._ready if not taken.is_lost)

    def in_lock[T](self, action: Callable[[], T]) -> T:
        """Something with the offsets of shares."""
        with self._lock:
            return action()

    def _leave(self, position: Position) -> None:
        was_shut = self._gate.is_shut
        self._gate.move(-1, -position.weight)
        if was_shut and not self._gate.is_shut:
            self._opened.set()
