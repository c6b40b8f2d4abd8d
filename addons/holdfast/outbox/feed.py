"""One outbox as the relay sees it: which record comes next, which are on their way, which are to be marked as sent."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from concurrent.futures import Future
from typing import NamedTuple

from holdfast.brokers.base import Message
from holdfast.errors import CaptureRefused, StoreUnavailable
from holdfast.outbox.queries import DamagedOutbox, Queries
from holdfast.outbox.record import CaptureRow, LedgerRow, capture_intact, ledger_intact, message_headers
from holdfast.outbox.store import Outbox

log = logging.getLogger(__name__)
_ROWS_AT_ONCE = 256  # of the ledger
_BYTES_AT_ONCE = 1 << 20  # of values: larger ones are read one by one
_MARKS_AT_ONCE = 1000


class Outgoing(NamedTuple):
    """A record that is to be sent: its number, what it counts for in the bounds, and what is published."""

    seq: int
    size: int
    message: Message


class Feed:
    """Hands records out in the order of storing, each once, until `rewind` begins again with the oldest unsent."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self._queries = Queries(outbox.path)
        self.in_flight: dict[int, tuple[int, int]] = {}  # seq -> bytes, revision of the row
        self.in_flight_bytes = 0
        self._rows: deque[LedgerRow] = deque()
        self._ahead: dict[int, CaptureRow] = {}  # of the first of these rows, not checked yet
        self._one_by_one = 0  # up to this number, where they could not be read together
        self._next: Outgoing | None = None
        self._cursor = 0
        self._suspects: set[int] = set()
        self._delivered: set[int] = set()
        self._marking: set[int] = set()
        self._marks: Future[int] | None = None
        self._given_up: dict[int, int] = {}  # seq -> revision of the row: one that is queued again has another

    def close(self) -> None:
        """Stop reading; the outbox itself stays open."""
        self._queries.close()

    # --- handing out ---

    def peek(self) -> Outgoing | None:
        """The next record. StoreUnavailable if the outbox cannot be read."""
        while self._next is None:
            if not self._rows and not self._read_rows():
                return None
            row = self._rows[0]
            if not self._is_settled(row):
                self._next = self._read(row)
            if self._next is None and self._rows:
                self._pass(row[0])
        return self._next

    def take(self, record: Outgoing) -> None:
        """The record that `peek` gave is on its way."""
        self.in_flight[record.seq] = record.size, self._rows[0][11]
        self.in_flight_bytes += record.size
        self._pass(record.seq)

    def _pass(self, seq: int) -> None:
        self._rows.popleft()
        self._cursor = seq
        self._next = None

    def _is_settled(self, row: LedgerRow) -> bool:
        seq = row[0]
        on_its_way = seq in self.in_flight or seq in self._delivered or seq in self._marking
        return on_its_way or self._given_up.get(seq) == row[11]

    def _read_rows(self) -> bool:
        try:
            rows = self._queries.pending(self._cursor, _ROWS_AT_ONCE)
            if not rows and self._cursor and not self.in_flight and not self.unmarked():
                self._cursor = 0  # somebody may have had an older record sent again
                rows = self._queries.pending(0, _ROWS_AT_ONCE)
        except DamagedOutbox:
            self.outbox.salvage()
            raise
        self._rows.extend(rows)
        return bool(rows)

    def _read(self, row: LedgerRow) -> Outgoing | None:
        capture = self._read_ahead(row)
        if capture and ledger_intact(row) and capture_intact(capture):
            return Outgoing(row[0], row[10], Message(capture[3], capture[11], message_headers(capture[9])))
        return self._read_alone(row)

    def _read_ahead(self, row: LedgerRow) -> CaptureRow | None:
        """The row of `captures`, read together with those of the next records; None where that did not work."""
        if row[0] not in self._ahead and row[0] > self._one_by_one:
            last, size = row[0], 0
            for each in self._rows:
                size += each[10]
                if size > _BYTES_AT_ONCE:
                    break
                last = each[0]
            try:
                self._ahead = {each[0]: each for each in self._queries.pending_captures(row[0], last)}
            except StoreUnavailable:
                self._ahead, self._one_by_one = {}, last
        return self._ahead.pop(row[0], None)

    def _read_alone(self, row: LedgerRow) -> Outgoing | None:
        try:
            record = self._queries.capture(row[0])
        except DamagedOutbox:
            if self._queries.is_pending(row[0]):  # else somebody has discarded it, and it is gone
                self._salvage(row)
            return None
        if record is None:
            self._put_aside(row[0], row[11], "the record is damaged on disk", damaged=True)
            return None
        if not ledger_intact(row):
            log.warning("outbox row was damaged, repaired from its capture", extra={"id": record.id})
            self.outbox.repair(record)
        return Outgoing(record.seq, record.size, Message(record.key, record.value, record.headers))

    def _salvage(self, row: LedgerRow) -> None:
        """Have the file begun anew, after which the row is there or known to be lost; at once only now and then."""
        try:
            self.outbox.salvage()
        except CaptureRefused:
            self._put_aside(row[0], row[11], "the record is damaged on disk", damaged=True)
        else:
            self._rows.clear()
            self._ahead.clear()
            self._cursor = row[0] - 1

    # --- outcomes ---

    def delivered(self, seq: int) -> None:
        """The broker has it for good."""
        self._resolve(seq)
        self._delivered.add(seq)

    def suspect(self, seq: int) -> None:
        """It was refused, but maybe only for what it travelled with."""
        self._suspects.add(seq)

    def give_up(self, seq: int, reason: str) -> None:
        """The broker will never take it: put it into quarantine, or at least aside for as long as this process runs."""
        _, revision = self._resolve(seq)
        self._put_aside(seq, revision, reason)

    def _put_aside(self, seq: int, revision: int, reason: str, *, damaged: bool = False) -> None:
        self._given_up[seq] = revision
        log.warning("capture quarantined", extra={"seq": seq, "reason": reason})
        with contextlib.suppress(CaptureRefused):  # the outbox is closed, and the next start finds it out again
            self.outbox.quarantine([seq], damaged=damaged)

    def _resolve(self, seq: int) -> tuple[int, int]:
        size, revision = self.in_flight.pop(seq, (0, 0))
        self.in_flight_bytes -= size
        self._suspects.discard(seq)
        return size, revision

    def needs_solitude(self) -> bool:
        """Whether records are to be published one at a time, to tell the refused one from its companions."""
        if self._suspects and (record := self.peek()) and record.seq > max(self._suspects) and not self.in_flight:
            self._suspects.clear()  # somebody discarded the last of them
        return bool(self._suspects)

    def rewind(self) -> None:
        """Forget what is on its way and begin again with the oldest record that is not sent."""
        self.in_flight.clear()
        self.in_flight_bytes = 0
        self._rows.clear()
        self._ahead.clear()
        self._one_by_one = 0
        self._next = None
        self._cursor = 0

    # --- marking ---

    def unmarked(self) -> int:
        """How many records are delivered and not marked as sent yet."""
        return len(self._delivered) + len(self._marking)

    def is_done(self) -> bool:
        """Whether nothing is left to send and everything sent is marked."""
        return not self.in_flight and not self.unmarked() and self.peek() is None

    def write_marks(self) -> None:
        """Have what was delivered marked as sent. StoreUnavailable if the last time failed; it is then tried again."""
        if self._marks and self._marks.done():
            self._finish_marks(self._marks)
        if self._delivered and not self._marks:
            self._marking = set(sorted(self._delivered)[:_MARKS_AT_ONCE])
            self._delivered -= self._marking
            try:
                self._marks = self.outbox.mark_sent(sorted(self._marking))
            except CaptureRefused as error:
                self._unmark()
                raise StoreUnavailable("sent records cannot be marked: the outbox is closed") from error

    def _finish_marks(self, marks: Future[int]) -> None:
        self._marks = None
        error = marks.exception()
        if error is None:
            # Rows that were read before the marks were written still call them pending.
            self._rows = deque(row for row in self._rows if row[0] not in self._marking)
            self._marking = set()
        else:
            self._unmark()
            raise StoreUnavailable(f"sent records cannot be marked: {error}") from error

    def _unmark(self) -> None:
        self._delivered |= self._marking
        self._marking = set()

    def wait_for_marks(self, timeout: float) -> None:
        """Write all marks before the end; those that fail are sent once more by the next start."""
        try:
            while self.unmarked():
                self.write_marks()
                if self._marks:
                    self._marks.exception(timeout)
                    self.write_marks()
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("sent captures are not marked and will be sent again", extra={"reason": str(error)})
