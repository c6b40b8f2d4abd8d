"""Whether a stored response answers a request (RFC 9111, section 4): fresh, stale, after validation, or not at all.

The order: what the response forbids, then what the request asks for, then whether it is fresh, then what allows it to
be used although it is stale. When the upstream fails, what stale-if-error or the operator's grace allow goes before the
request's wishes, which are preferences (RFC 9111, section 5.2.1), but never before what the response forbids.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from holdfast.policy.caching.directives import Directives, lines_of, parse_request
from holdfast.policy.caching.freshness import Lifetime, Windows, can_be_validated, current_age, lifetime, windows
from holdfast.policy.caching.model import CacheRules, Fields, StoredResponse
from holdfast.policy.caching.targeted import Policy, policy_of

# RFC 5861, section 4: the answers in place of which a stale response may be used.
ERRORS = frozenset({500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Fresh:
    """It answers; `ttl` more seconds it will be fresh."""

    age: float
    ttl: float
    because: str  # what its lifetime comes from


@dataclass(frozen=True, slots=True)
class StaleAllowed:
    """It answers, stale for -`ttl` seconds, since the client takes it (max-stale)."""

    age: float
    ttl: float
    because: str


@dataclass(frozen=True, slots=True)
class StaleWhileRevalidate:
    """It answers at once, and is to be fetched anew in the background."""

    age: float
    ttl: float
    because: str


@dataclass(frozen=True, slots=True)
class StaleIfError:
    """It answers in place of an upstream that fails."""

    age: float
    ttl: float
    because: str


@dataclass(frozen=True, slots=True)
class Validate:
    """The upstream is to be asked whether it is still good. `fwd` is Cache-Status's word (RFC 9211, section 2.2)."""

    because: str
    fwd: str
    age: float
    ttl: float


@dataclass(frozen=True, slots=True)
class Miss:
    """The upstream is to be asked for the response: there is none, or one of no use."""

    because: str
    fwd: str


@dataclass(frozen=True, slots=True)
class Pass:
    """The cache has no part in this request."""

    because: str
    fwd: str


@dataclass(frozen=True, slots=True)
class GatewayTimeout:
    """The answer is a 504, or the error at hand: the client wants no forwarding (only-if-cached), or the response may
    not be used without asking (must-revalidate and its like) and the upstream fails."""

    because: str


type Reuse = Fresh | StaleAllowed | StaleWhileRevalidate | StaleIfError | Validate | Miss | Pass | GatewayTimeout


@dataclass(frozen=True, slots=True)
class _Moment:
    """A stored response as it is at the time of the request."""

    age: float
    ttl: float  # negative once it is stale
    policy: Policy
    life: Lifetime
    windows: Windows
    status: int

    @property
    def fresh(self) -> bool:
        return self.ttl > 0

    @property
    def stale_for(self) -> float:
        return max(0.0, -self.ttl)


@dataclass(frozen=True, slots=True)
class _Refusal:
    because: str
    fwd: str = "stale"


def decide(
    method: str,
    request: Fields,
    stored: StoredResponse | None,
    now: float,
    rules: CacheRules,
    *,
    soft: bool = False,
    failing: bool = False,
) -> Reuse:
    """`stored` is the one that Vary selects; `soft`: it was purged softly, so is not fresh; `failing`: the upstream
    has just failed, or is not asked because it keeps failing."""
    if method not in {"GET", "HEAD"}:
        return Pass("method", "method")
    asked = requested(request, rules)
    if asked.no_store and not (failing or asked.only_if_cached):
        return Pass("request-no-store", "request")
    if stored is None:
        return GatewayTimeout("only-if-cached") if asked.only_if_cached else Miss("nothing-stored", "miss")
    moment = _moment(stored, now, rules, soft=soft)
    found = _without_contact(asked, moment, soft=soft)
    if isinstance(found, StaleWhileRevalidate) and failing:
        return StaleIfError(found.age, found.ttl, found.because)  # there is no use in fetching it anew just now
    if not isinstance(found, _Refusal):
        return found
    despite = _despite_failure(asked, moment) if failing else None
    if despite is not None:
        return despite
    if asked.only_if_cached:
        return GatewayTimeout("only-if-cached")
    if failing and moment.windows.forbidden and not moment.fresh:
        return GatewayTimeout(moment.windows.forbidden)  # RFC 9111, section 5.2.2.2
    if can_be_validated(stored):
        return Validate(found.because, found.fwd, moment.age, moment.ttl)
    return Miss(found.because, found.fwd)


def good_for(stored: StoredResponse, decision: Fresh | StaleWhileRevalidate, now: float, rules: CacheRules) -> float:
    """For how many seconds a request without wishes of its own is answered so, if nothing happens meanwhile."""
    if isinstance(decision, Fresh):
        return decision.ttl
    policy = policy_of(stored.headers, rules)
    return windows(policy, lifetime(stored, policy, rules), rules).while_revalidate + decision.ttl


def requested(request: Fields, rules: CacheRules) -> Directives:
    """The request's directives; Pragma only without Cache-Control (RFC 9111, section 5.4)."""
    lines = lines_of(request, b"cache-control")
    asked = parse_request(lines)
    if not rules.obey_requests:
        return Directives(only_if_cached=asked.only_if_cached)
    pragma = parse_request(lines_of(request, b"pragma")) if not lines else Directives()
    return replace(asked, no_cache=True) if pragma.no_cache else asked


def _moment(stored: StoredResponse, now: float, rules: CacheRules, *, soft: bool) -> _Moment:
    policy = policy_of(stored.headers, rules)
    life = lifetime(stored, policy, rules)
    age = current_age(stored, now)
    ttl = life.seconds - age
    return _Moment(
        age=age,
        ttl=min(0.0, ttl) if soft else ttl,
        policy=policy,
        life=life,
        windows=windows(policy, life, rules),
        status=stored.status,
    )


def _without_contact(
    asked: Directives, moment: _Moment, *, soft: bool
) -> Fresh | StaleAllowed | StaleWhileRevalidate | _Refusal:
    """RFC 9111, section 4: what may be sent without asking the upstream."""
    if moment.policy.directives.no_cache is True:  # section 5.2.2.4
        return _Refusal("no-cache")
    wish = _wish_unmet(asked, moment)
    if wish:
        return _Refusal(wish, "request")
    if moment.fresh:
        return Fresh(moment.age, moment.ttl, moment.life.because)
    return _stale(asked, moment, "soft-purge" if soft else "stale")


def _wish_unmet(asked: Directives, moment: _Moment) -> str | None:
    """RFC 9111, sections 5.2.1.1, 5.2.1.3 and 5.2.1.4."""
    if asked.no_cache:
        return "request-no-cache"
    # RFC 8246, section 2.1: a reload of what is fresh and immutable is not a reason to ask.
    immutable = moment.fresh and moment.policy.directives.immutable
    if asked.max_age is not None and not immutable and (moment.age > asked.max_age or asked.max_age == 0):
        return "request-max-age"
    if asked.min_fresh is not None and moment.ttl < asked.min_fresh:
        return "request-min-fresh"
    return None


def _stale(asked: Directives, moment: _Moment, because: str) -> StaleAllowed | StaleWhileRevalidate | _Refusal:
    """RFC 9111, section 4.2.4: who allows the use of what is stale, the client or the origin."""
    allowed = moment.windows
    if asked.max_stale is not None and moment.stale_for <= asked.max_stale and not allowed.forbidden:
        return StaleAllowed(moment.age, moment.ttl, "max-stale")
    if asked.max_age is not None:  # section 5.2.1.1: without max-stale, nothing stale is wanted
        return _Refusal("request-max-age", "request")
    if 0 < allowed.while_revalidate >= moment.stale_for:
        return StaleWhileRevalidate(moment.age, moment.ttl, allowed.while_revalidate_because)
    return _Refusal(allowed.forbidden or because)


def _despite_failure(asked: Directives, moment: _Moment) -> StaleIfError | None:
    """RFC 5861, section 4. A stored error is not better than the one at hand."""
    allowed = moment.windows
    if moment.status in ERRORS:
        return None
    choices = [
        (allowed.if_error, allowed.if_error_because),
        (allowed.while_revalidate, allowed.while_revalidate_because),
        (float(asked.stale_if_error or 0) if not allowed.forbidden else 0.0, "request-stale-if-error"),
    ]
    for seconds, because in choices:
        if 0 < seconds >= moment.stale_for:
            return StaleIfError(moment.age, moment.ttl, because)
    return None
