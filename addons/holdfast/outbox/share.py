"""How much of the interpreter the relay takes: all it can use while nobody else needs it, little beside live traffic.

The relay and the event loop share one interpreter, which runs one thread at a time. A backlog that is published as fast
as possible would take half of a busy gateway's throughput, while nobody waits for the backlog.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

_LEAST = 0.025  # of the interpreter's time; with what the other threads do for it, below a tenth
_KEEPING_UP = 0.25  # the same while more is captured than is published
_BUSY = 0.3  # a loop that works for so much of the time gets its way; below that the relay takes what is left
_LOOK_EVERY = 0.05  # seconds
_LONGEST = 0.5  # that a rest lasts, in seconds; a piece of work should be paid for by less

Seconds = Callable[[], float]


class Share:
    """Says after each piece of work how long to rest.

    `traffic` returns how much processor time live traffic has wanted so far, `own` how much the thread that asks has
    used; `backlog` how many records are to be sent.
    """

    def __init__(
        self,
        traffic: Seconds,
        backlog: Callable[[], int],
        own: Seconds = time.thread_time,
        clock: Seconds = time.monotonic,
    ) -> None:
        self._traffic = traffic
        self._backlog = backlog
        self._own = own
        self._clock = clock
        self._share = 1.0
        self._looked = (clock(), traffic(), backlog())
        self._used: float | None = None
        self._paid_at = 0.0  # when what was done so far will have been no more than the share

    @property
    def is_tight(self) -> bool:
        """Whether live traffic is under way: pieces of work should be small."""
        return self._share < 1.0

    def rest(self) -> float:
        """How many seconds to leave to others, for what was done since the last time."""
        now, used = self._clock(), self._own()
        self._look(now)
        worked, self._used = used - (used if self._used is None else self._used), used
        if not self.is_tight:
            self._paid_at = now
            return 0.0
        self._paid_at = max(self._paid_at, now - worked) + worked / self._share
        return min(_LONGEST, max(0.0, self._paid_at - now))

    def _look(self, now: float) -> None:
        then, before, backlog = self._looked
        if now - then < _LOOK_EVERY:
            return
        try:
            used = self._traffic()
        except OSError:  # the thread has ended, and with it all traffic
            used = before
        busy = max(0.0, used - before) / (now - then)
        self._looked = now, used, self._backlog()
        least = _KEEPING_UP if self._looked[2] > backlog else _LEAST
        self._share = 1.0 if busy < _BUSY / 10 else max(least, 1.0 - busy / _BUSY)


def beside_this_thread(backlog: Callable[[], int]) -> Share | None:
    """A share beside the event loop of the calling thread; None where nothing is known of a thread's time (macOS)."""
    with contextlib.suppress(OSError):
        # Linux: the time on a processor and the time waiting for one, in nanoseconds. Where other processes leave it
        # little, a loop that has much to do looks idle by the first alone.
        return Share(_Wanted(Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")), backlog)
    if not hasattr(time, "pthread_getcpuclockid"):
        return None
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return Share(lambda: time.clock_gettime(clock), backlog)


class _Wanted:
    """How much processor time a thread has had or waited for. OSError if it cannot be known."""

    def __init__(self, stat: Path) -> None:
        self._file = stat.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)
        self()

    def __call__(self) -> float:
        had, waited, _ = os.pread(self._file.fileno(), 100, 0).split()
        return (int(had) + int(waited)) / 1e9
