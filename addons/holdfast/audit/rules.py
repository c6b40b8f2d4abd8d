"""What arriving, claiming, recording, settling and reopening mean, whatever the store: pure, on rows that are given.

A store reads the rows that a call is about (and, where claims are decided, of each of their keys the oldest that is
open and what is claimed), lets a `Book` decide, and writes down what the book has noted; all in one transaction, in
which nobody else touches these keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from holdfast.audit import Arrival, DeadLetter, Outcome, Record, Standing
from holdfast.audit.rows import Held, LogLine, queued

_GIVEN_UP = ("dead", "parked")
_LARGEST = 1 << 30  # of statuses and counts
_LATEST = 1e12  # of times, and of durations in milliseconds
_NOT_YET = 1 << 62  # the place in the order of what has none yet: behind everything that is stored


class Book:
    """One call's view of the captures that it is about, and what it changes. `now` in epoch seconds.

    `new`: to be inserted, in this order. `changed`: to be updated. `log`: to be appended. `processed` and `letters`:
    the row that is to be there by the id of the capture, None where none is to be. `callbacks`: rows to be queued, each
    unless it is there.
    """

    def __init__(self, now: float, rows: Iterable[Held]) -> None:
        self.now = now
        self.rows = {row.id: row for row in rows}
        self.new: dict[str, tuple[Arrival, Held]] = {}
        self.changed: dict[str, Held] = {}
        self.log: list[LogLine] = []
        self.processed: dict[str, Held | None] = {}
        self.letters: dict[str, DeadLetter | None] = {}
        self.callbacks: list[tuple[Any, ...]] = []

    # --- the calls of the Protocol ---

    def arrive(self, arrivals: Sequence[Arrival], owner: str, seconds: float) -> list[Standing]:
        """Register and claim; the rows of every key that is named must be here."""
        for arrival in arrivals:
            self._register(arrival)
        standings = {one.id: one for one in self.claim([arrival.id for arrival in arrivals], owner, seconds)}
        return [standings[arrival.id] for arrival in arrivals]

    def claim(self, ids: Sequence[str], owner: str, seconds: float) -> list[Standing]:
        """Claim what nothing goes before. ValueError without an owner: whoever has none could not be told apart."""
        if not owner:
            raise ValueError("a claim needs the name of its owner")
        heads, busy = self._lanes()
        standings = []
        for row in (self.rows[each] for each in dict.fromkeys(ids) if each in self.rows):
            head = heads.get(row.key, row)
            front = busy.get(row.key, row) if head is row else head
            standings.append(self._claim(row, front, owner, self.now + seconds))
        return standings

    def record(self, records: Sequence[Record], owner: str) -> list[bool]:
        """Apply what the owner says, in its order."""
        for each in records:
            check(each.id, (each.due,))
            if each.attempt:
                check(each.id, (each.attempt.at, each.attempt.duration_ms), (each.attempt.status,))
        return [self._record(self.rows[each.id], each, owner) if each.id in self.rows else False for each in records]

    def release(self, owner: str) -> int:
        """Give back the claims among the rows; how many have not run out."""
        claimed = [row for row in self.rows.values() if row.state == "open" and row.owner == owner and row.claim_until]
        count = sum(map(self._is_busy, claimed))
        for row in claimed:
            self._change(row).claim_until = 0.0
        return count

    def reopen(self, ids: Sequence[str]) -> dict[str, int]:
        """Open settled captures anew."""
        settled = [row for each in dict.fromkeys(ids) if (row := self.rows.get(each)) and row.state != "open"]
        for row in settled:
            self._reopen(row, row.redrive + 1)
        return {row.id: row.redrive for row in settled}

    def settle(self, ids: Sequence[str], outcome: Outcome, reason: str) -> int:
        """Settle what may be."""
        count = 0
        for each in dict.fromkeys(ids):
            row = self.rows.get(each)
            if row and (row.state == "open" or (row.state in _GIVEN_UP and outcome == "discarded")):
                self._settle(row, outcome, reason, "")
                count += 1
        return count

    # --- steps ---

    def _register(self, arrival: Arrival) -> None:
        row = self.rows.get(arrival.id)
        check(arrival.id, (arrival.captured,), (arrival.status, arrival.redrive))
        if row is None:
            row = Held(
                *(_NOT_YET + len(self.new), arrival.id, arrival.key, arrival.status),
                redrive=arrival.redrive,
                due=self.now,
            )
            self.rows[row.id] = row
            self.new[row.id] = arrival, row
            self.log.append(LogLine(row.id, self.now, "arrived", error=arrival.error, status=arrival.status))
        elif arrival.redrive > row.redrive:
            if row.state != "open":
                self._reopen(row, arrival.redrive)
            else:  # it has not been sent yet, and one sending is enough for both: the second must not open it again
                self._change(row).redrive = arrival.redrive

    def _lanes(self) -> tuple[dict[str, Held], dict[str, Held]]:
        """By key: the oldest that is open, and the one that is claimed. They differ where an older one was reopened.

        That one waits then for what is under way, and the younger one's claim is not renewed.
        """
        heads: dict[str, Held] = {}
        busy: dict[str, Held] = {}
        for row in self.rows.values():
            if row.state != "open":
                continue
            if row.key not in heads or row.seq < heads[row.key].seq:
                heads[row.key] = row
            if self._is_busy(row):
                busy[row.key] = row
        return heads, busy

    def _is_busy(self, row: Held) -> bool:
        return row.claim_until > self.now

    def _claim(self, row: Held, front: Held, owner: str, until: float) -> Standing:
        if row.state != "open":
            return _standing(row)
        if front is not row:
            return _standing(row, front=front)
        if row.owner != owner and self._is_busy(row):
            return _standing(row, busy_until=row.claim_until)
        self._change(row)
        row.owner, row.claim_until = owner, until
        return _standing(row, claimed=True)

    def _record(self, row: Held, record: Record, owner: str) -> bool:
        # `owner` stays where a claim was given back or has run out: it is the last who had it, and its word counts
        # until somebody else has taken it. What nobody has had yet, anybody may put at another place.
        effective = row.state == "open" and row.owner in ("", owner)
        if record.attempt:
            self.log.append(LogLine(row.id, record.attempt.at, "attempt", owner, record.attempt, effective=effective))
        if not effective:
            if record.outcome or not record.attempt:
                late = LogLine(row.id, self.now, "late", owner, None, record.outcome or "", record.reason, False)
                self.log.append(late)
            return False
        self._change(row)
        if record.attempt:
            row.attempts += record.counts
            row.last_status, row.last_error = record.attempt.status, record.attempt.error
        if record.outcome:
            self._settle(row, record.outcome, record.reason, owner)
            if record.outcome in _GIVEN_UP and (record.value or record.headers):
                self.letters[row.id] = DeadLetter(row.id, row.key, record.value, record.headers)
            if record.callback:
                self.callbacks.append(queued(row, record.callback, self.now))
        else:
            row.reason, row.due, row.place = record.reason, record.due, record.place
            if record.release:
                row.claim_until = 0.0
        return True

    def _settle(self, row: Held, outcome: Outcome, reason: str, owner: str) -> None:
        self._change(row)
        row.state, row.reason, row.place, row.settled_at = outcome, reason, "", self.now
        row.owner, row.claim_until = "", 0.0
        self.processed[row.id] = row
        if outcome not in _GIVEN_UP:
            self.letters[row.id] = None
        self.log.append(LogLine(row.id, self.now, "settled", owner, None, outcome, reason))

    def _reopen(self, row: Held, redrive: int) -> None:
        self.log.append(LogLine(row.id, self.now, "reopened", "", None, row.state, row.reason))
        self._change(row)
        row.state, row.reason, row.settled_at, row.redrive = "open", "", None, redrive
        row.attempts, row.due, row.place = 0, self.now, ""
        self.processed[row.id] = None

    def _change(self, row: Held) -> Held:
        if row.id not in self.new:
            self.changed[row.id] = row
        return row


def check(name: str | int, times: Iterable[float], numbers: Iterable[int | None] = ()) -> None:
    """ValueError for what one store or the other could not hold: messages may say anything, and NaN is no time."""
    if not all(abs(time) < _LATEST for time in times) or not all(abs(number or 0) < _LARGEST for number in numbers):
        raise ValueError(f"a number of {name!r} cannot be stored")


def _standing(row: Held, *, claimed: bool = False, front: Held | None = None, busy_until: float = 0.0) -> Standing:
    behind, place = (front.id, front.place) if front else ("", "")
    return Standing(row.id, row.state, claimed, behind, place, busy_until, row.attempts, row.due, row.redrive)
