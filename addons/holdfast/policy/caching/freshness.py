"""How long a response may be used, and how old it is (RFC 9111, section 4.2), in seconds.

Every duration names what decided it, by one of these words: `s-maxage`, `max-age`, `expires`, `heuristic`, `default`,
`none` for a lifetime; `stale-while-revalidate`, `stale-if-error`, `grace` for the use of what is stale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from holdfast.policy.caching import dates
from holdfast.policy.caching.directives import delta_seconds, lines_of
from holdfast.policy.caching.model import CacheRules, Fields, StoredResponse
from holdfast.policy.caching.targeted import Policy

# RFC 9110, section 15.1: the statuses that may be stored although nothing is said about it.
HEURISTICALLY_CACHEABLE = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
EXPLICIT = frozenset({"s-maxage", "max-age", "expires"})


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The response is fresh while its age is less than `seconds`."""

    seconds: float
    because: str

    @property
    def explicit(self) -> bool:
        """Whether the origin said it (RFC 9111, section 4.2.1), rather than a guess or the operator."""
        return self.because in EXPLICIT


@dataclass(frozen=True, slots=True)
class Windows:
    """For how long beyond its lifetime a response may be used; 0: not at all.

    `forbidden` is the directive that rules out what the origin did not allow itself, be it allowed by the client's
    max-stale or by the operator's grace.
    """

    while_revalidate: float = 0.0
    if_error: float = 0.0
    while_revalidate_because: str = "none"
    if_error_because: str = "none"
    forbidden: str | None = None

    @property
    def longest(self) -> float:
        """How long anything may be done with what is stale."""
        return max(self.while_revalidate, self.if_error)

    @property
    def longest_because(self) -> str:
        """What allows the longest of them."""
        return self.if_error_because if self.if_error >= self.while_revalidate else self.while_revalidate_because


def lifetime(stored: StoredResponse, policy: Policy, rules: CacheRules) -> Lifetime:
    """RFC 9111, section 4.2.1: s-maxage, max-age, Expires, a guess; bounded so that no stay exceeds `max_lifetime`."""
    found = _declared(stored, policy) or _assumed(stored, policy, rules)
    return Lifetime(min(found.seconds, initial_age(stored) + rules.max_lifetime), found.because)


def windows(policy: Policy, life: Lifetime, rules: CacheRules) -> Windows:
    """RFC 9111, section 4.2.4, and RFC 5861.

    must-revalidate, proxy-revalidate and no-cache forbid all use of what is stale. s-maxage forbids it too (section
    5.2.2.10), but only what the origin did not itself allow by RFC 5861 beside it. What never was fresh, as with
    max-age=0, is to be validated each time: grace covers only that this fails.
    """
    said = policy.directives
    for forbidding, word in (
        (said.no_cache is True, "no-cache"),
        (said.must_revalidate, "must-revalidate"),
        (said.proxy_revalidate, "proxy-revalidate"),
    ):
        if forbidding:
            return Windows(forbidden=word)
    shared = said.s_maxage is not None
    revalidate, error = said.stale_while_revalidate, said.stale_if_error
    grace = rules.grace if life.seconds > 0 and not shared else 0.0
    error_grace = rules.grace if rules.grace_on_error is None else rules.grace_on_error
    return Windows(
        while_revalidate=grace if revalidate is None else revalidate,
        if_error=(0.0 if shared else error_grace) if error is None else error,
        while_revalidate_because="grace" if revalidate is None else "stale-while-revalidate",
        if_error_because="grace" if error is None else "stale-if-error",
        forbidden="s-maxage" if shared else None,
    )


def initial_age(stored: StoredResponse) -> float:
    """RFC 9111, section 4.2.3: the age at `response_time`, from Date and from Age, whichever is older."""
    date = date_of(stored.headers, stored.response_time)
    # A date is in whole seconds: the fraction of the clock is not the response's age.
    apparent = math.floor(stored.response_time) - date if date is not None else 0
    delay = max(0.0, stored.response_time - stored.request_time)
    return max(0.0, apparent, age_field(stored.headers) + delay)


def current_age(stored: StoredResponse, now: float) -> float:
    """RFC 9111, section 4.2.3; never negative, even if the clock was set back."""
    return initial_age(stored) + max(0.0, now - stored.response_time)


def age_field(fields: Fields) -> int:
    """RFC 9111, section 5.1: the first of several values counts, and what is no number is ignored."""
    lines = lines_of(fields, b"age")
    first = lines[0].decode("latin-1").split(",")[0].strip(" \t") if lines else ""
    return delta_seconds(first) or 0


def date_of(fields: Fields, now: float) -> int | None:
    """The Date field (RFC 9110, section 6.6.1); None if it is absent or invalid."""
    lines = lines_of(fields, b"date")
    return dates.parse(lines[0], now) if lines else None


def with_date(fields: Fields, received: float) -> tuple[tuple[bytes, bytes], ...]:
    """RFC 9110, section 6.6.1: what came without Date is stored with the time at which it was received."""
    if lines_of(fields, b"date"):
        return tuple(fields)
    return (*fields, (b"Date", dates.written(received)))


def last_modified(fields: Fields, now: float) -> int | None:
    """The Last-Modified field (RFC 9110, section 8.8.2); None if it is absent or invalid."""
    lines = lines_of(fields, b"last-modified")
    return dates.parse(lines[0], now) if lines else None


def can_be_validated(stored: StoredResponse) -> bool:
    """RFC 9111, section 4.3.1: whether there is an entity tag or a date to ask with."""
    tag = any(value.strip() for value in lines_of(stored.headers, b"etag"))
    return tag or last_modified(stored.headers, stored.response_time) is not None


def may_be_assumed(status: int, policy: Policy) -> bool:
    """RFC 9111, section 4.2.2: where a lifetime may be guessed."""
    return status in HEURISTICALLY_CACHEABLE or policy.directives.public


def keep_for(stored: StoredResponse, policy: Policy, rules: CacheRules) -> float:
    """For how long from `response_time` the response can be of use at all: fresh, stale, or to be validated."""
    life = lifetime(stored, policy, rules)
    beyond = windows(policy, life, rules).longest
    if can_be_validated(stored):
        beyond = max(beyond, rules.validate_for)
    elif policy.directives.no_cache is True:
        return 0.0  # it must be validated each time, and cannot be
    return min(rules.max_lifetime, max(0.0, life.seconds - initial_age(stored) + beyond))


def _declared(stored: StoredResponse, policy: Policy) -> Lifetime | None:
    """What the origin says; what cannot be read means stale (RFC 9111, section 4.2.1)."""
    said = policy.directives
    if said.s_maxage is not None:
        return Lifetime(said.s_maxage, "s-maxage")
    if said.max_age is not None:
        return Lifetime(said.max_age, "max-age")
    lines = lines_of(stored.headers, b"expires") if policy.expires else []
    if not lines:
        return None
    # RFC 9111, section 5.3: an invalid date, "0" above all, is one in the past. Of several, the earliest counts.
    moments = [dates.parse(line, stored.response_time) for line in lines]
    date = date_of(stored.headers, stored.response_time)
    origin = date if date is not None else math.floor(stored.response_time)
    return Lifetime(max(0, min(0 if moment is None else moment - origin for moment in moments)), "expires")


def _assumed(stored: StoredResponse, policy: Policy, rules: CacheRules) -> Lifetime:
    """RFC 9111, section 4.2.2: a share of the time since the last change; or the operator's default."""
    if not may_be_assumed(stored.status, policy):
        return Lifetime(0.0, "none")
    changed = last_modified(stored.headers, stored.response_time)
    if changed is not None:
        date = date_of(stored.headers, stored.response_time)
        since = (date if date is not None else math.floor(stored.response_time)) - changed
        return Lifetime(min(rules.heuristic_max, max(0.0, since * rules.heuristic_share)), "heuristic")
    if rules.default_lifetime is not None and not can_be_validated(stored):
        return Lifetime(rules.default_lifetime, "default")
    return Lifetime(0.0, "none")
