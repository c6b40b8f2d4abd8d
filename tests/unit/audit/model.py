"""What an audit is expected to do, told as simply as can be: lists that are searched from end to end."""

from __future__ import annotations

from dataclasses import dataclass, field

from holdfast.audit import Arrival, DeadLetter, Outcome, Record, Standing, State


@dataclass
class Capture:
    """One capture; `letter` is its message, `attempts` all that were logged, `settlings` how often it was settled."""

    id: str
    key: str
    redrive: int
    due: float
    state: State = "open"
    reason: str = ""
    owner: str = ""
    until: float = 0.0
    counted: int = 0
    place: str = ""
    letter: DeadLetter | None = None
    attempts: int = 0
    settled: float | None = None


@dataclass
class Model:
    """All captures in the order of their arrival."""

    now: float
    captures: list[Capture] = field(default_factory=list)
    callbacks: set[tuple[str, int]] = field(default_factory=set)  # id and redrive

    def find(self, name: str) -> Capture | None:
        return next((one for one in self.captures if one.id == name), None)

    def arrive(self, arrivals: list[Arrival], owner: str, seconds: float) -> list[Standing]:
        for arrival in arrivals:
            known = self.find(arrival.id)
            if known is None:
                self.captures.append(Capture(arrival.id, arrival.key, arrival.redrive, self.now))
            elif arrival.redrive > known.redrive:
                if known.state != "open":
                    self._open(known)
                known.redrive = arrival.redrive
        told = {one.id: one for one in self.claim([one.id for one in arrivals], owner, seconds)}
        return [told[one.id] for one in arrivals]

    def claim(self, names: list[str], owner: str, seconds: float) -> list[Standing]:
        found = [self.find(name) for name in dict.fromkeys(names)]
        return [self._claim(one, owner, seconds) for one in found if one]

    def _claim(self, one: Capture, owner: str, seconds: float) -> Standing:
        told = {"attempts": one.counted, "due": one.due, "redrive": one.redrive}
        if one.state != "open":
            return Standing(one.id, one.state, **told)  # type: ignore[arg-type]
        lane = [other for other in self.captures if other.key == one.key and other.state == "open"]
        busy = [other for other in lane if other.until > self.now]
        front = lane[0] if lane[0] is not one else (busy or [one])[0]
        if front is not one:
            told |= {"behind": front.id, "behind_place": front.place}  # type: ignore[dict-item]
        elif busy and one.owner != owner:
            told["busy_until"] = one.until
        else:
            one.owner, one.until = owner, self.now + seconds
            told["claimed"] = True
        return Standing(one.id, "open", **told)  # type: ignore[arg-type]

    def release(self, owner: str) -> int:
        mine = [one for one in self.captures if one.state == "open" and one.owner == owner and one.until > self.now]
        for one in self.captures:
            if one.owner == owner:
                one.until = 0.0
        return len(mine)

    def record(self, records: list[Record], owner: str) -> list[bool]:
        return [self._record(record, owner) for record in records]

    def _record(self, record: Record, owner: str) -> bool:
        one = self.find(record.id)
        if one is None:
            return False
        one.attempts += record.attempt is not None
        if one.state != "open" or one.owner not in ("", owner):
            return False
        one.counted += record.attempt is not None and record.counts
        if record.outcome:
            self._settle(one, record.outcome, record.reason)
            if record.outcome in ("dead", "parked") and record.value:
                one.letter = DeadLetter(one.id, one.key, record.value, record.headers)
            if record.callback:
                self.callbacks.add((one.id, one.redrive))
        else:
            one.reason, one.due, one.place = record.reason, record.due, record.place
            one.until = 0.0 if record.release else one.until
        return True

    def _settle(self, one: Capture, outcome: Outcome, reason: str) -> None:
        one.state, one.reason, one.place, one.owner, one.until, one.settled = outcome, reason, "", "", 0.0, self.now
        if outcome in ("delivered", "discarded"):
            one.letter = None

    def _open(self, one: Capture) -> None:
        one.state, one.reason, one.counted, one.due, one.place, one.settled = "open", "", 0, self.now, "", None

    def reopen(self, names: list[str]) -> dict[str, int]:
        told = {}
        for name in names:
            one = self.find(name)
            if one and one.state != "open":
                self._open(one)
                one.redrive += 1
                told[name] = one.redrive
        return told

    def settle(self, names: list[str], outcome: Outcome, reason: str) -> int:
        count = 0
        for name in dict.fromkeys(names):
            one = self.find(name)
            if one and (one.state == "open" or (one.state in ("dead", "parked") and outcome == "discarded")):
                self._settle(one, outcome, reason)
                count += 1
        return count

    def prune(self, before: float, outcomes: list[Outcome]) -> int:
        gone = [one for one in self.captures if one.state in outcomes and one.settled and one.settled < before]
        self.captures = [one for one in self.captures if one not in gone]
        return len(gone)
