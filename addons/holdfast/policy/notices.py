"""What people are told of: that a route has begun to fail, that it has recovered, and that captures were given up.

A route is quiet, failing, or failing and announced:

- The first failure of a quiet route is announced at once; those that follow are only counted.
- It has recovered when it has answered well so many times in a row, or a replay on it was delivered. That is announced
  if the failure was.
- A route that fails again soon after its recovery flaps: it is announced no sooner than `every` after the last time.
- Dead letters of a route are announced at once, and then together, at most once in `every`.
- No more than `per_minute` notices are given in any minute, whatever happens. What is held back is counted, which the
  next notice says, and told later if it is still true then.

Times are seconds of a monotonic clock, passed in. Nothing here waits: while `waits` says so, `due` is to be called now
and then, such as once a second.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Literal

NoticeType = Literal["failing", "dead_letter", "recovered"]
Gone = Literal["delivered", "dead", "parked", "discarded"]
TYPES: tuple[NoticeType, ...] = ("failing", "dead_letter", "recovered")
LATEST = 10  # ids in a notice
_MOST_OPEN = 10_000  # ids of one route; with more it is not known how many are left
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class NoticeRules:
    """`every` and `quiet` in seconds. `routes`: only these; None: all."""

    types: frozenset[NoticeType] = frozenset(TYPES)
    routes: frozenset[str] | None = None
    every: float = 300.0
    quiet: float = 60.0
    per_minute: int = 10
    good_answers: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A request that failed, or a capture that was given up.

    `fate` is captured, failed, dead or parked; `error` an RFC 9209 token or the like, `reason` the same for people.
    Of replays: `attempts` is how many there were, `status` and `last_error` what came of the last one.
    """

    fate: str
    error: str = ""
    reason: str = ""
    capture_id: str = ""
    traceparent: str = ""
    attempts: int | None = None
    status: int | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What is told. `since` is when the first of it happened; the counts are of everything since then.

    `trouble` is the latest dead letter, else the first failure; its fate is `ok` or `delivered` where the route has
    recovered. `unsettled` is how many of the captured requests are waiting still, None where nobody tells; `suppressed`
    how many notices were held back since the last one.
    """

    type: NoticeType
    route: str
    at: float
    since: float
    trouble: Trouble
    capture_ids: tuple[str, ...] = ()
    captured: int = 0
    failed: int = 0
    dead: int = 0
    unsettled: int | None = None
    suppressed: int = 0


@dataclass(slots=True)
class _Episode:
    """From the first failure of a route to its recovery. `recovered` is by what, until that is told."""

    since: float
    first: Trouble
    not_before: float
    latest: deque[str] = field(default_factory=lambda: deque(maxlen=LATEST))
    open: set[str] = field(default_factory=set)
    overflown: bool = False
    captured: int = 0
    failed: int = 0
    good: int = 0
    announced: bool = False
    recovered: str = ""
    held: bool = False

    def note(self, trouble: Trouble) -> None:
        """Another failure: whatever was good before was no recovery."""
        self.recovered, self.good = "", 0
        if not trouble.capture_id:
            self.failed += 1
            return
        self.captured += 1
        self.latest.append(trouble.capture_id)
        if len(self.open) < _MOST_OPEN:
            self.open.add(trouble.capture_id)
        else:
            self.overflown = True


@dataclass(slots=True)
class _Dead:
    """Captures of a route that were given up, and not told yet."""

    told: float = float("-inf")
    since: float = 0.0
    count: int = 0
    last: Trouble | None = None
    latest: deque[str] = field(default_factory=lambda: deque(maxlen=LATEST))
    held: bool = False

    def note(self, trouble: Trouble, now: float) -> None:
        """Another one."""
        self.since = self.since if self.count else now
        self.count += 1
        self.last = trouble
        self.latest.append(trouble.capture_id)


@dataclass(slots=True)
class _Route:
    episode: _Episode | None = None
    recovered: float = float("-inf")
    announced: float = float("-inf")
    dead: _Dead = field(default_factory=_Dead)


@dataclass(slots=True)
class Notices:
    """What is known of the routes that something was the matter with. Its methods return what is to be told now."""

    rules: NoticeRules
    suppressed: dict[NoticeType, int] = field(default_factory=lambda: dict.fromkeys(TYPES, 0))  # ever
    _routes: dict[str, _Route] = field(default_factory=dict)
    _waiting: set[str] = field(default_factory=set)  # routes with something to tell later
    _given: deque[float] = field(default_factory=deque)  # when; those of the last minute
    _unsaid: int = 0  # suppressed since the last notice
    _hears: bool = False  # somebody tells of outcomes

    # -- what happens -----------------------------------------------------------------------------------------------

    def failed(self, route: str, trouble: Trouble, now: float) -> list[Notice]:
        """A request has failed, captured or not."""
        if not self._is_ours(route):
            return []
        known = self._routes.setdefault(route, _Route())
        if known.episode is None:
            flaps = now - known.recovered < self.rules.quiet
            known.episode = _Episode(now, trouble, known.announced + self.rules.every if flaps else now)
        known.episode.note(trouble)
        return self._look(route, now)

    def stumbled(self, route: str) -> None:
        """The upstream failed, but no request did: the answers before were no recovery."""
        known = self._routes.get(route)
        if known and known.episode and not known.episode.recovered:
            known.episode.good = 0

    def answered(self, route: str, now: float) -> list[Notice]:
        """The upstream has answered well."""
        known = self._routes.get(route)
        if known is None or known.episode is None or known.episode.recovered:
            return []
        known.episode.good += 1
        if known.episode.good < self.rules.good_answers:
            return []
        known.episode.recovered = "ok"
        return self._look(route, now)

    def settled(self, route: str, outcome: Gone, trouble: Trouble, now: float) -> list[Notice]:
        """A capture of this route has reached its end."""
        self._hears = True
        gave_up = outcome in ("dead", "parked")
        if not self._is_ours(route) or not (gave_up or route in self._routes):
            return []
        known = self._routes.setdefault(route, _Route())
        if gave_up:
            known.dead.note(trouble, now)
        if known.episode:
            known.episode.open.discard(trouble.capture_id)
            if outcome == "delivered":
                known.episode.recovered = outcome
        return self._look(route, now)

    # -- what is told -----------------------------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether there is something that may have to be told later."""
        return bool(self._waiting)

    def due(self, now: float) -> list[Notice]:
        """What has waited, and may be told by now."""
        return [notice for route in sorted(self._waiting) for notice in self._look(route, now)]

    def follow(self, rules: NoticeRules) -> None:
        """Changed rules: they hold for what comes, and for what waits."""
        self.rules = rules
        for name in [name for name in self._routes if not self._is_ours(name)]:
            del self._routes[name]
            self._waiting.discard(name)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _is_ours(self, route: str) -> bool:
        return self.rules.routes is None or route in self.rules.routes

    def _look(self, name: str, now: float) -> list[Notice]:
        route = self._routes[name]
        told = [*self._of_failure(name, route, now), *self._of_recovery(name, route, now)]
        told += self._of_dead(name, route.dead, now)
        episode = route.episode
        if (episode and (episode.recovered or not episode.announced)) or self._wants_dead(route.dead):
            self._waiting.add(name)
        else:
            self._waiting.discard(name)
        return told

    def _of_failure(self, name: str, route: _Route, now: float) -> list[Notice]:
        episode = route.episode
        if episode is None or episode.announced or episode.recovered:
            return []
        wanted = "failing" in self.rules.types
        if wanted and now >= episode.not_before and not self._may_tell(now):
            episode.not_before = now + self.rules.every  # the next free places are for recoveries
        if now < episode.not_before:
            if wanted and not episode.held:
                self._suppress("failing")
                episode.held = True
            return []
        told = [self._notice("failing", name, episode, now)] if wanted else []
        episode.announced, episode.held, route.announced = True, False, now
        return told

    def _of_recovery(self, name: str, route: _Route, now: float) -> list[Notice]:
        episode = route.episode
        if episode is None or not episode.recovered:
            return []
        told = []
        if episode.announced and "recovered" in self.rules.types:
            if not self._may_tell(now):
                if not episode.held:
                    self._suppress("recovered")
                    episode.held = True
                return []
            told = [self._notice("recovered", name, episode, now)]
        route.episode, route.recovered = None, now
        return told

    def _wants_dead(self, dead: _Dead) -> bool:
        return dead.count > 0 and "dead_letter" in self.rules.types

    def _of_dead(self, name: str, dead: _Dead, now: float) -> list[Notice]:
        if not self._wants_dead(dead) or now < dead.told + self.rules.every or dead.last is None:
            return []
        if not self._may_tell(now):
            if not dead.held:
                self._suppress("dead_letter")
                dead.held = True
            return []
        ids, count, trouble, since = tuple(dead.latest), dead.count, dead.last, dead.since
        self._routes[name].dead = _Dead(told=now)
        return [self._told("dead_letter", name, now, since=since, trouble=trouble, capture_ids=ids, dead=count)]

    def _notice(self, type_: NoticeType, name: str, episode: _Episode, now: float) -> Notice:
        trouble = replace(episode.first, fate=episode.recovered) if episode.recovered else episode.first
        return self._told(
            type_,
            name,
            now,
            since=episode.since,
            trouble=trouble,
            capture_ids=tuple(episode.latest),
            captured=episode.captured,
            failed=episode.failed,
            unsettled=len(episode.open) if self._hears and not episode.overflown else None,
        )

    # -- the rate ---------------------------------------------------------------------------------------------------

    def _may_tell(self, now: float) -> bool:
        while self._given and self._given[0] <= now - _MINUTE:
            self._given.popleft()
        return len(self._given) < self.rules.per_minute

    def _told(self, type_: NoticeType, route: str, now: float, **more: Any) -> Notice:
        self._given.append(now)
        suppressed, self._unsaid = self._unsaid, 0
        return Notice(type=type_, route=route, at=now, suppressed=suppressed, **more)

    def _suppress(self, type_: NoticeType) -> None:
        """Counted once for each notice that is held back, however often it is looked at."""
        self._unsaid += 1
        self.suppressed[type_] += 1
