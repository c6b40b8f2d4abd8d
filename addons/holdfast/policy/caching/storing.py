"""Whether a response may be kept by a shared cache (RFC 9111, section 3).

The verdict names the directive, field or property that decided. A response is kept only if it can ever be of use: while
fresh, in one of the windows for stale ones, or by being validated.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urljoin

from holdfast.policy.caching.directives import lines_of, parse_request
from holdfast.policy.caching.freshness import (
    Lifetime,
    can_be_validated,
    initial_age,
    keep_for,
    lifetime,
    may_be_assumed,
    windows,
)
from holdfast.policy.caching.model import CacheRules, Fields, StoredResponse
from holdfast.policy.caching.targeted import Policy, policy_of

# The final statuses registered with IANA whose caching has no rules beyond the general ones; must-understand allows
# these only (RFC 9111, section 5.2.2.3). 206 and 304 do have rules of their own.
UNDERSTOOD = frozenset(
    {200, 201, 202, 203, 204, 205, 207, 208, 226, 300, 301, 302, 303, 305, 307, 308}
    | {*range(400, 418), *range(421, 427), 428, 429, 431, 451, *range(500, 509), 510, 511}
)
# Partial content is not combined, and a 304 only freshens what is stored.
NEVER_STORED = frozenset({206, 304})


@dataclass(frozen=True, slots=True)
class Stored:
    """It may be kept for `keep_for` seconds from its arrival, without the fields `withheld` (lower case).

    `because` is what its lifetime comes from, or `validator`, or the directive that allows its use while stale.
    """

    because: str
    keep_for: float
    withheld: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class NotStored:
    """It must not be kept, or is of no use.

    `because` is one of method, request-no-store, status, must-understand, no-store, private, authorization, vary,
    not-cacheable, set-cookie, max-body, no-use.
    """

    because: str


_NO_USE = NotStored("no-use")


def may_store(
    method: str,
    request: Fields,
    response: StoredResponse,
    rules: CacheRules,
    *,
    length: int | None = None,
    target: str | None = None,
) -> Stored | NotStored:
    """`response` may be without its body as yet; `length` is that of the body, if it is known.

    With the URI that was asked for as `target`, the answer to a POST may be kept, to answer GET; without it, never.
    """
    policy = policy_of(response.headers, rules)
    life = lifetime(response, policy, rules)
    refusal = (
        _refused_by_method(method, response, life, target)
        or _refused_by_request(request, policy)
        or _refused_by_response(response.status, response.headers, policy)
        or _refused_by_rules(response, policy, life, rules, length)
    )
    if refusal:
        return NotStored(refusal)
    useful = keep_for(response, policy, rules)
    return Stored(_reason(response, policy, life, rules), useful, policy.directives.withheld) if useful else _NO_USE


def refused_at_sight(method: str, request: Fields, status: int, headers: Fields, rules: CacheRules) -> str | None:
    """Why `may_store` would refuse the response with this header, where the messages alone forbid it; None: ask it.

    Most of what is not stored says so, and needs no lifetime for it.
    """
    if method != "GET":
        return None
    policy = policy_of(headers, rules)
    return _refused_by_request(request, policy) or _refused_by_response(status, headers, policy)


def _reason(response: StoredResponse, policy: Policy, life: Lifetime, rules: CacheRules) -> str:
    if life.seconds > initial_age(response):
        return life.because
    return "validator" if can_be_validated(response) else windows(policy, life, rules).longest_because


def _refused_by_method(method: str, response: StoredResponse, life: Lifetime, target: str | None) -> str | None:
    """RFC 9110, section 9.3.3: a POST's response is the resource's if it says so, and says for how long."""
    if method == "GET":
        return None
    if method == "POST" and target is not None and life.explicit:
        locations = lines_of(response.headers, b"content-location")
        return None if len(locations) == 1 and _is_same(target, locations[0]) else "method"
    return "method"


def _is_same(target: str, location: bytes) -> bool:
    try:
        return urljoin(target, location.decode("latin-1").strip()) == target
    except ValueError:
        return False


def _refused_by_request(request: Fields, policy: Policy) -> str | None:
    if parse_request(lines_of(request, b"cache-control")).no_store:  # RFC 9111, section 5.2.1.5
        return "request-no-store"
    said = policy.directives
    shared = said.must_revalidate or said.public or said.s_maxage is not None
    if lines_of(request, b"authorization") and not shared:  # RFC 9111, section 3.5
        return "authorization"
    return None


def _refused_by_response(status: int, headers: Fields, policy: Policy) -> str | None:
    said = policy.directives
    if status < 200 or status in NEVER_STORED:
        return "status"
    if said.must_understand and status not in UNDERSTOOD:
        return "must-understand"
    if said.no_store and not said.must_understand:  # RFC 9111, section 5.2.2.3: must-understand overrides it
        return "no-store"
    if said.private is True:
        return "private"
    if any(b"*" in [name.strip() for name in line.split(b",")] for line in lines_of(headers, b"vary")):
        return "vary"  # RFC 9111, section 4.1: it would never match
    return None


def _refused_by_rules(
    response: StoredResponse, policy: Policy, life: Lifetime, rules: CacheRules, length: int | None
) -> str | None:
    said = policy.directives
    if not (life.explicit or may_be_assumed(response.status, policy)):  # RFC 9111, section 3, the last condition
        return "not-cacheable"
    # RFC 9111, section 7.3, lets Set-Cookie be stored; it is only not guessed that everyone may have the cookie.
    addressed = said.public or said.s_maxage is not None or not policy.expires
    shared = addressed or (rules.share_cookies and life.explicit)
    if lines_of(response.headers, b"set-cookie") and not shared and "set-cookie" not in said.withheld:
        return "set-cookie"
    return "max-body" if max(length or 0, len(response.body)) > rules.max_body else None
