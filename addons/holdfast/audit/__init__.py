"""What became of every captured request: a Protocol, and what implements it (SQLite, PostgreSQL).

What is true at every moment, whatever crashes:

1. A capture is *open* from its arrival until it is *settled*, and is settled once: `processed_events` has one row for
   it then, which only a person's redrive takes away again (and `audit_log` keeps what was there).
2. At most one owner works on a capture: whoever has claimed it, until the claim runs out. What an owner says after its
   claim has run out and somebody else has taken it is logged, and changes nothing.
3. Captures of one key are claimed in the order of their arrival: while an older one is open, a younger one is not
   claimed. Arrival is the order in which `arrive` has named them.
4. An outcome that was returned from `record` is on the disk, and so is its callback: both are, or neither.

    sqlite      a file of this machine, for one replayer (the default)
    postgres    shared by replayers on any number of machines
    opening     one of them, from a profile's URL
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypedDict, get_args

from holdfast.policy.wire import HeaderMap

Outcome = Literal["delivered", "dead", "parked", "discarded"]
"""How a capture was settled. `dead`: given up by the rules; `parked`: it failed again after a redrive."""
State = Literal["open", "delivered", "dead", "parked", "discarded"]
STATES: tuple[State, ...] = get_args(State)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A capture as it reaches the replayer. `captured` in epoch seconds; `redrive` counts how often a person has had
    it sent again: an arrival with a higher number than is known opens a settled capture anew.
    """

    id: str
    key: str
    route: str
    method: str
    path: str
    error: str
    captured: float
    status: int | None = None  # of the upstream's last answer, when it was captured
    traceparent: str = ""
    redrive: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a capture that has arrived, or is to be claimed.

    `claimed`: it is the caller's now, to be sent once `due` has come. Otherwise one of these holds: `state` is settled;
    `behind` names the oldest open capture of its key that goes before it; `busy_until` is when another owner's claim
    runs out. Times in epoch seconds.
    """

    id: str
    state: State
    claimed: bool = False
    behind: str = ""
    behind_place: str = ""  # the `place` of that one
    busy_until: float = 0.0
    attempts: int = 0  # replays so far
    due: float = 0.0
    redrive: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLog:
    """One replay. `error` is an RFC 9209 token or None; the header is redacted, the body bounded; epoch seconds."""

    at: float
    server: str
    error: str | None = None
    status: int | None = None
    duration_ms: float = 0.0
    headers: HeaderMap = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    body_truncated: bool = False
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What an owner has to say of a capture: an attempt, a new state, or both.

    With `outcome` it is settled, for this `reason`; without, it stays open and is due at `due` (epoch seconds), at
    `place` (the retry topic that holds it; empty: where it is). `value` and `headers` are the broker's message, kept
    with what is dead or parked, so that it can be sent again; `release` gives the claim back. `callback` is a URL and
    the document that is to be posted there: it is queued if the outcome takes effect, and only then.
    """

    id: str
    attempt: AttemptLog | None = None
    counts: bool = True  # whether the attempt is one of those that are bounded
    outcome: Outcome | None = None
    reason: str = ""
    due: float = 0.0
    place: str = ""
    release: bool = True
    value: bytes = field(default=b"", repr=False)
    headers: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    callback: tuple[str, bytes] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A capture as lists and pages show it. Times in epoch seconds; `settled` is None while it is open."""

    id: str
    key: str
    route: str
    method: str
    path: str
    error: str
    captured: float
    arrived: float
    status: int | None
    state: State
    reason: str
    attempts: int
    due: float
    place: str
    owner: str
    settled: float | None
    redrive: int
    last_status: int | None  # of the last replay's answer
    last_error: str | None
    traceparent: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The message of a capture that was given up."""

    id: str
    key: str
    value: bytes = field(repr=False)
    headers: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class AuditStats:
    """Figures. `oldest_open` is when the oldest open capture was captured (epoch seconds), None without one."""

    by_state: dict[State, int]
    due: int  # open, and due now
    waiting: int  # open, and due later
    oldest_open: float | None
    callbacks: int = 0  # to be posted, now or later; those that were given up are not among them


def outcome_id(capture_id: str, redrive: int) -> str:
    """The same for an outcome however often it is sent, and another one once a person has had it sent again."""
    return f"{capture_id}-{redrive}"


@dataclass(frozen=True, slots=True)
class Callback:
    """One outcome to be posted. `id` is the queue's, `event_id` the receiver's; `tries` how many have failed so far.

    `event_id` is the id of the capture and its `redrive`, with a `-` between: the same each time this one is posted.
    """

    id: int
    event_id: str
    url: str
    document: bytes = field(repr=False)
    tries: int = 0


class Filter(TypedDict, total=False):
    """What a list or a redrive may choose by; all that are given must hold. Times in epoch seconds."""

    ids: Sequence[str] | None
    route: str | None
    state: State | None
    states: Sequence[State] | None  # one of these
    error: str | None  # why it was captured
    status: int | None  # the last answer's, of a replay or else when it was captured
    since: float | None  # captured at or after
    until: float | None  # captured before
    key: str | None


class CallbackQueue(Protocol):
    """Outcomes that are to be posted, on the disk. StoreUnavailable and ValueError as those of `Audit`.

    Any number may take from it at once. Whoever has not said what became of a callback before its lease ends has lost
    it: somebody else posts it again. What is said too late counts as well, and does no more harm than that.
    """

    async def due(self, now: float, limit: int, lease_seconds: float) -> Sequence[Callback]:
        """Take up to `limit` that are due at `now` (epoch seconds), those first that have been due for longest.

        Nobody else gets them before the lease ends.
        """

    async def done(self, ids: Sequence[int]) -> None:
        """They have been taken by their receivers: forget them."""

    async def later(self, id: int, due: float, error: str) -> None:  # noqa: A002 - the word of the whole house
        """One more try has failed; the next is due at `due` (epoch seconds). Ends the lease."""

    async def given_up(self, id: int, error: str) -> None:  # noqa: A002
        """It is not tried again, and is kept for as long as its capture."""


class Audit(Protocol):
    """All of it bounded in time; StoreUnavailable where the store cannot be asked, and nothing has changed then.

    Except where an outage comes in the middle of a commit and it cannot be found out what became of it: that is said.
    ValueError, and nothing has changed, for a number that no time, status or count can be: one of them refuses the
    whole call, with everything else that is in it.
    """

    @property
    def callbacks(self) -> CallbackQueue:
        """What `record` has queued. Always the same one; it can be used while the audit is open."""

    async def open(self) -> None:
        """Connect, and bring the tables to the newest form. StoreUnavailable, with what to do about it."""

    async def close(self) -> None:
        """Let go of everything. May be called twice."""

    async def arrive(self, arrivals: Sequence[Arrival], owner: str, seconds: float) -> list[Standing]:
        """Register what is new, in this order, and claim for `seconds` what nothing goes before; one standing each.

        An id that is named twice, or is known already, stands as it does: nothing is registered twice.
        """

    async def claim(self, ids: Sequence[str], owner: str, seconds: float) -> list[Standing]:
        """Claim what has arrived before; one standing for each id that is known. A claim of one's own is renewed."""

    async def release(self, owner: str) -> int:
        """Give back all of an owner's claims; how many. What was claimed is open, and due when it was."""

    async def record(self, records: Sequence[Record], owner: str) -> list[bool]:
        """Write down attempts and outcomes in one transaction; whether each has taken effect (see 2. above)."""

    async def reopen(self, ids: Sequence[str]) -> dict[str, int]:
        """Have settled captures sent again: they are open and due now, their `redrive` one higher; by id, that number.

        Their attempts stay in the log, and count anew.
        """

    async def settle(self, ids: Sequence[str], outcome: Outcome, reason: str) -> int:
        """Settle open captures, or change dead and parked ones to discarded, whoever has claimed them; how many."""

    async def known(self, ids: Sequence[str]) -> set[str]:
        """Which of these (up to 1,000) have ever arrived, open or settled; what was pruned is not known any more."""

    async def entry(self, capture_id: str) -> Entry | None:
        """One capture."""

    async def entries(self, where: Filter, *, limit: int = 100, newest_first: bool = True) -> list[Entry]:
        """Captures by the time they were captured."""

    async def attempts(self, capture_id: str) -> list[AttemptLog]:
        """The replays of one capture, oldest first."""

    async def dead_letters(self, ids: Sequence[str]) -> list[DeadLetter]:
        """The messages of those that are dead or parked (or reopened, not settled again), in the order of arrival."""

    async def stats(self, now: float) -> AuditStats:
        """Figures."""

    async def prune(self, before: float, outcomes: Sequence[Outcome]) -> int:
        """Forget what was settled so before this time, attempts, messages and given-up callbacks with it; how many.

        Callbacks that wait are posted all the same.
        """
