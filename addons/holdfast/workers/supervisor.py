"""The parent's loop: starts workers, passes on signals and what they ask each other, and ends when they have.

A worker that ends is started again. One that ends before it has served, while no other serves, ends the gateway with
its exit status: it has said why. A signal to stop goes to all of them; those that take longer than they may are killed.
"""

from __future__ import annotations

import contextlib
import logging
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator

from holdfast.live import has_terminal
from holdfast.workers.crew import HANDLED, Crew, Member
from holdfast.workers.questions import Questions
from holdfast.workers.wire import Ask, Hello, Lead, Message, Reply, Serving, TookOver

logger = logging.getLogger(__name__)
FORGIVEN = 15.0  # seconds that a worker may take for its end, beside twice the grace for requests
TURN = 1.0


class Supervisor:
    """`renew` reads the profile anew, from which workers are started; `grace` is what requests have at a stop."""

    def __init__(self, crew: Crew, renew: Callable[[], None], grace: Callable[[], float]) -> None:
        self._crew = crew
        self._renew = renew
        self._grace = grace
        self._questions = Questions(crew)
        self._lead: Member | None = None
        self._stopping = 0.0  # until when they have time
        self._stale = False
        self._status = 0
        self._terminal = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and has_terminal()

    def run(self) -> int:
        """The exit status."""
        with _signals() as wake:
            self._crew.start(self._crew.members[0])  # alone: what would end them all is said once
            while self._crew.alive() or not self._stopping:
                try:
                    self._turn(wake)
                except Exception:  # whatever it is, the workers serve, and need somebody who looks after them
                    logger.exception("the parent of the workers goes on")
                    time.sleep(TURN)
        return self._status

    def _turn(self, wake: socket.socket) -> None:
        self._listen(wake)
        for member, status, served in self._crew.ended():
            self._ended(member, status, served=served)
        self._look_after()

    # -- what comes -------------------------------------------------------------------------------------------------

    def _listen(self, wake: socket.socket) -> None:
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        lines = {each.line.fileno(): each for each in self._crew.alive() if each.line}
        for number, member in lines.items():
            more = member.line is not None and member.line.has_more
            poll.register(number, select.POLLIN | (select.POLLOUT if more else 0))
        ready = poll.poll(self._questions.wait(self._wait()) * 1000)
        # Whatever else is ready: Ctrl-C reaches the workers too, and they may have ended before we had our turn.
        with contextlib.suppress(BlockingIOError):
            for each in wake.recv(4096):
                self._signalled(signal.Signals(each))
        for number, what in ready:
            if number in lines:
                self._read(lines[number], what)

    def _read(self, member: Member, what: int) -> None:
        line = member.line
        assert line
        if what & select.POLLOUT:
            line.flush()
        if what & ~select.POLLOUT:
            try:
                for message in line.receive():
                    self._heard(member, message)
            except EOFError:
                line.close()
                member.line, member.listens = None, False  # its end follows

    def _heard(self, member: Member, message: Message) -> None:
        member.heard = time.monotonic()
        match message:
            case Hello():
                member.listens = True
                if self._lead is None:
                    self._appoint(member)
            case Serving():
                member.state = "serving"
                logger.info("worker serves", extra={"worker": member.number, "pid": member.pid})
            case TookOver():
                self._stale = True
            case Ask():
                self._questions.asked(member, message)
            case Reply():
                self._questions.replied(member, message)

    def _signalled(self, number: signal.Signals) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP and self._terminal and not has_terminal():
            logger.info("the terminal is gone: stopping")
            self._stop()
        elif number == signal.SIGHUP:
            self._crew.signal(signal.SIGHUP)

    # -- what is to be done -----------------------------------------------------------------------------------------

    def _wait(self) -> float:
        """Seconds until something is due."""
        now = time.monotonic()
        dues: list[float] = [
            each.due - now for each in self._crew.members if each.state == "ended" and self._may_start(each)
        ]
        if self._stopping:
            dues.append(self._stopping - now)
        return max(0.0, min([TURN, *dues]))

    def _may_start(self, member: Member) -> bool:
        """Those beside the first begin once it serves."""
        return not self._stopping and (member.starts > 0 or bool(self._crew.serving()))

    def _look_after(self) -> None:
        now = time.monotonic()
        if self._stale:
            self._stale = False
            self._renew()
        for each in self._crew.members:
            if each.state == "ended" and each.due <= now and self._may_start(each):
                self._crew.start(each)
        self._questions.look_after()
        if self._stopping and now > self._stopping and self._crew.alive():
            numbers = [each.number for each in self._crew.alive()]
            logger.warning("workers take too long to end and are killed", extra={"workers": numbers})
            self._status, self._stopping = 1, now + FORGIVEN
            self._crew.signal(signal.SIGKILL)

    def _ended(self, member: Member, status: int, *, served: bool) -> None:
        self._questions.ended(member)
        if self._lead is member:
            self._lead = None
            candidates = [each for each in [*self._crew.serving(), *self._crew.alive()] if each.listens]
            if candidates and not self._stopping:
                self._appoint(candidates[0])
        how = f"signal {-status}" if status < 0 else f"status {status}"
        told = {"worker": member.number, "pid": member.pid, "how": how}
        if self._stopping:
            if status and not (status == -signal.SIGTERM and not served):
                self._status = self._status or 1
        elif not served and not self._crew.serving():
            if status < 0:
                logger.error("worker ended before it served: stopping", extra=told)
            self._status = status if status >= 0 else 1
            self._stop()
        else:
            pause = self._crew.again(member, time.monotonic())
            logger.warning("worker ended, another takes its place", extra={**told, "in_s": pause})

    def _appoint(self, member: Member) -> None:
        self._lead = member
        assert member.line
        member.line.send(Lead())

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = time.monotonic() + 2 * self._grace() + FORGIVEN
            self._crew.close_admin()
        self._crew.signal(signal.SIGTERM)


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket from which the numbers of signals can be read."""
    wake, written = socket.socketpair()
    for each in (wake, written):
        each.setblocking(False)
    for number in HANDLED:
        signal.signal(number, lambda *_: None)
        signal.siginterrupt(number, False)
    signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    try:
        yield wake
    finally:
        signal.set_wakeup_fd(-1)
