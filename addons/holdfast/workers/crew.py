"""The parent's workers: forked, and started again when they end.

They are forked from a parent that has imported everything and started nothing: no thread, no event loop, no connection.
So a worker is there at once, and shares with the others what none of them changes.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from holdfast.policy.restarts import failures_after, pause_before
from holdfast.workers.line import Line

logger = logging.getLogger(__name__)
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker is born with: its number, from 1 on, of so many; its line; the admin listener's sockets."""

    number: int
    count: int
    line: socket.socket
    admin: Sequence[socket.socket]


@dataclass(slots=True, eq=False)
class Member:
    """One worker, over all its lives. Times in seconds of the monotonic clock."""

    number: int
    state: Literal["ended", "starting", "serving"] = "ended"
    pid: int = 0
    line: Line | None = None
    began: float = 0.0
    since: float = 0.0  # epoch seconds
    heard: float = 0.0  # when it last said anything
    listens: bool = False  # to its line
    failures: int = 0
    starts: int = 0
    due: float = 0.0  # when it is started, if it has ended


class Crew:
    """`work` is what a worker does; it returns its exit status."""

    def __init__(self, count: int, admin: Sequence[socket.socket], work: Callable[[Place], int]) -> None:
        self.members = [Member(number) for number in range(1, count + 1)]
        self._admin = admin
        self._work = work

    def alive(self) -> list[Member]:
        """Those that have not ended."""
        return [each for each in self.members if each.state != "ended"]

    def serving(self) -> list[Member]:
        """Those that clients can reach."""
        return [each for each in self.members if each.state == "serving"]

    def start(self, member: Member) -> None:
        """Fork it."""
        ours, theirs = socket.socketpair()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # or both would write it
        # What comes meanwhile is for us; the child must not take it for its own.
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            pid = os.fork()
            if not pid:
                ours.close()
                self._live(Place(member.number, len(self.members), theirs, self._admin))
        except OSError:  # the machine has no more processes, or memory, to give
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
            theirs.close()
        now = time.monotonic()
        member.pid, member.line, member.state, member.listens = pid, Line(ours), "starting", False
        member.began, member.since, member.heard, member.starts = now, time.time(), now, member.starts + 1

    def signal(self, number: signal.Signals) -> None:
        """To each that lives; a reload only to those that know what it means."""
        for each in self.alive():
            if number != signal.SIGHUP or each.listens:
                os.kill(each.pid, number)

    def ended(self) -> Iterator[tuple[Member, int, bool]]:
        """Those that have ended since, with their exit status (negative for a signal), and whether they had served."""
        for each in self.alive():
            pid, status = os.waitpid(each.pid, os.WNOHANG)
            if pid:
                served, each.state, each.listens = each.state == "serving", "ended", False
                if each.line:
                    each.line.close()
                each.line = None
                yield each, os.waitstatus_to_exitcode(status), served

    def again(self, member: Member, now: float) -> float:
        """Have it started again, and say in how many seconds."""
        member.failures = failures_after(member.failures, now - member.began)
        pause = pause_before(member.failures, others_serve=bool(self.serving()))
        member.due = now + pause
        return pause

    def close_admin(self) -> None:
        """Accept no calls any more, where no worker does."""
        for each in self._admin:
            each.close()

    def _live(self, place: Place) -> NoReturn:
        """The child: it never returns into the parent's loop, whatever happens."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in HANDLED:
                signal.signal(number, signal.SIG_DFL)
            # Until it can do something with it, and the parent has an eye on the terminal.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            for each in self.members:
                if each.line:
                    each.line.close()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
            status = self._work(place)
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:  # noqa: BLE001 - there is nobody above
            traceback.print_exc()
        finally:
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(status)
