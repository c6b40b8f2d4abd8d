"""Conditional requests in both directions, and what the answers to them change (RFC 9111, section 4.3).

Towards the origin: `conditional_request`, then for a 304 `identified` and `freshened`; for the answer to a HEAD
`head_effect`. Towards the client: `for_the_origin`, `not_modified` with `not_modified_fields`, and `head_fields`. What
`for_this_client_only` finds in a 304 goes to the client that caused it, and is not kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from holdfast.policy.caching import dates
from holdfast.policy.caching.directives import has_any
from holdfast.policy.caching.model import Fields, StoredResponse
from holdfast.policy.caching.vary import FORWARDED, selecting_values, vary_names
from holdfast.policy.hop_by_hop import end_to_end

HeadEffect = Literal["update", "stale", "none"]

_CONDITIONS = frozenset({b"if-none-match", b"if-modified-since"})
_RANGES = frozenset({b"range", b"if-range"})
_ORIGIN_ONLY = frozenset({b"if-match", b"if-unmodified-since"})
_PERSONAL = frozenset({b"set-cookie", b"set-cookie2"})
# RFC 9111, section 3.2: what is not updated. The body is kept as it came, so that its length, its coding and its
# position are those of the first response, whatever a 304 says of them.
_NOT_UPDATED = _PERSONAL | frozenset(
    {
        *(b"content-length", b"content-encoding", b"content-range", b"transfer-encoding", b"te", b"trailer"),
        *(b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization"),  # section 3.1
    }
)
# They say when the first response was made: kept beside the times of the second, they would make it old.
_OF_ITS_TIME = frozenset({b"age", b"date"})
# RFC 9110, section 15.4.5: a 304 says nothing about a content it has not.
_OF_THE_CONTENT = frozenset(
    {
        *(b"content-type", b"content-length", b"content-encoding", b"content-language", b"content-range"),
        *(b"content-md5", b"content-digest", b"repr-digest", b"digest", b"accept-ranges", b"transfer-encoding"),
    }
)
_ENTITY_TAG = re.compile(rb'(?:W/)?"[^"]*"|[^\s,]+')
_STRONG_TAG = re.compile(rb'"[^"]*"')


# -- towards the origin -----------------------------------------------------------------------------------------------


def conditional_request(request: Fields, stored: StoredResponse) -> Fields | None:
    """The request's fields, asking whether `stored` is still good; None if it has nothing to ask with.

    The client's own conditions give way: they are answered from what comes back, by `not_modified`. So does Range:
    what comes instead of a 304 is to be stored whole (RFC 9111, section 4.3.1).
    """
    tag, modified = _first(stored.headers, b"etag"), _first(stored.headers, b"last-modified")
    asked = [(b"If-None-Match", tag)] if tag else []
    if modified and dates.parse(modified, stored.response_time) is not None:
        asked.append((b"If-Modified-Since", modified))
    if not asked:
        return None
    return [*_without(request, _CONDITIONS | _RANGES), *asked]


def unconditional_request(request: Fields) -> Fields:
    """The request's fields for a response that can be stored whole: what a 304 that fits nothing is followed by."""
    return _without(request, _CONDITIONS | _RANGES)


def identified(candidates: Sequence[StoredResponse], response: Fields) -> list[StoredResponse]:
    """Those of the stored responses that could have answered the request which its 304 updates; perhaps none.

    RFC 9111, section 4.3.4, with one addition: a 304 that names no validator, in answer to a request about one
    response only, can mean no other.
    """
    tag, modified = _first(response, b"etag"), _first(response, b"last-modified")
    if tag and _STRONG_TAG.fullmatch(tag):
        return [each for each in candidates if _first(each.headers, b"etag") == tag]
    if tag:
        fitting = [each for each in candidates if _weakly(_first(each.headers, b"etag")) == _weakly(tag)]
    elif modified:
        fitting = [each for each in candidates if _same_date(each, modified)]
    else:
        fitting = list(candidates) if len(candidates) == 1 else []
    return [max(fitting, key=lambda each: each.response_time)] if fitting else []


def freshened(
    stored: StoredResponse,
    response: Fields,
    *,
    request: Fields,
    request_time: float,
    response_time: float,
    withheld: Iterable[str] = (),
) -> StoredResponse:
    """`stored` as a 304 (or the response to a HEAD) leaves it (RFC 9111, section 3.2).

    `request` are the fields of the request it answers, in case Vary has changed; `withheld` the fields (lower case)
    that its `private=` and `no-cache=` name. Tags, the purge clock and a missing Date are the caller's to renew.
    """
    excluded = _NOT_UPDATED | {name.lower().encode("latin-1") for name in withheld}
    news = [(name, value) for name, value in end_to_end(response) if name.lower() not in excluded]
    replaced = {name.lower() for name, _ in news} | _OF_ITS_TIME
    headers = (*_without(stored.headers, replaced), *news)
    return replace(
        stored,
        headers=headers,
        selecting=_selecting(stored, headers, request),
        request_time=request_time,
        response_time=response_time,
    )


def for_this_client_only(response: Fields) -> Fields:
    """What a 304 brings that is not for whoever asks next: cookies, added to the answer and not to what is stored."""
    return [(name, value) for name, value in response if name.lower() in _PERSONAL]


def head_effect(stored: StoredResponse, status: int, response: Fields) -> HeadEffect:
    """What the answer to a HEAD means for a stored GET that could have answered it (RFC 9111, section 4.3.5).

    `update` it by `freshened`, take it for `stale`, or nothing: a status other than 200 does not speak of it.
    """
    if status != 200:
        return "none"
    lengths = _lines(response, b"content-length")
    same = stored.status == 200 and all(each == b"%d" % len(stored.body) for each in lengths)
    for name in (b"etag", b"last-modified"):
        received = _lines(response, name)
        same = same and (not received or received == _lines(stored.headers, name))
    return "update" if same else "stale"


# -- towards the client -----------------------------------------------------------------------------------------------


def for_the_origin(request: Fields) -> bool:
    """Whether there is a condition that a cache must not evaluate: If-Match, If-Unmodified-Since (section 4.3.2)."""
    return has_any(request, _ORIGIN_ONLY)


def not_modified(request: Fields, stored: StoredResponse) -> bool:
    """Whether the client has what is stored, and is answered 304 (RFC 9111, section 4.3.2).

    RFC 9110, section 13.2.2: If-Modified-Since counts only without If-None-Match; before any Range.
    """
    if stored.status != 200:
        return False  # RFC 9110, section 13.2.1: a condition is evaluated where the answer would be a success
    tags = _lines(request, b"if-none-match")
    return _has_tag(tags, stored) if tags else _unmodified_since(_lines(request, b"if-modified-since"), stored)


def not_modified_fields(stored: StoredResponse) -> Fields:
    """What a 304 carries: all but what describes the content (RFC 9110, section 15.4.5).

    Last-Modified only where there is no ETag. Age is the caller's, as with any answer.
    """
    dropped = _OF_THE_CONTENT | ({b"last-modified"} if _first(stored.headers, b"etag") else frozenset())
    return _without(stored.headers, dropped)


def head_fields(stored: StoredResponse) -> Fields:
    """The header of a stored GET as the answer to a HEAD: with the length of what a GET gets (RFC 9110, 9.3.2)."""
    kept = _without(stored.headers, frozenset({b"content-length", b"transfer-encoding"}))
    return [*kept, (b"Content-Length", str(len(stored.body)).encode())]


def strongly_modified(stored: StoredResponse) -> bytes | None:
    """Last-Modified, if it is a strong validator: at least a second older than Date (RFC 9110, section 8.8.2.2)."""
    modified, date = _first(stored.headers, b"last-modified"), _first(stored.headers, b"date")
    then = dates.parse(modified or b"", stored.response_time)
    now = dates.parse(date or b"", stored.response_time)
    return modified if then is not None and now is not None and now - then >= 1 else None


# -- parts ------------------------------------------------------------------------------------------------------------


def _has_tag(lines: list[bytes], stored: StoredResponse) -> bool:
    """RFC 9110, section 13.1.2: weak comparison. What is no entity tag is compared as it is, here and there."""
    tag = _weakly(_first(stored.headers, b"etag"))
    members = [_weakly(member) for line in lines for member in _ENTITY_TAG.findall(line)]
    return b"*" in members or (tag is not None and tag in members)


def _unmodified_since(lines: list[bytes], stored: StoredResponse) -> bool:
    """RFC 9110, section 13.1.3: one valid date; RFC 9111, section 4.3.2: Date stands in for Last-Modified."""
    since = dates.parse(lines[0], stored.response_time) if len(lines) == 1 else None
    if since is None:
        return False
    for name in (b"last-modified", b"date"):
        changed = dates.parse(_first(stored.headers, name) or b"", stored.response_time)
        if changed is not None:
            return changed <= since
    return stored.response_time <= since


def _selecting(stored: StoredResponse, headers: Fields, request: Fields) -> tuple[tuple[str, str | None], ...]:
    names = vary_names(headers)
    if names is None or names == tuple(name for name, _ in stored.selecting if name != FORWARDED):
        return stored.selecting  # with `Vary: *`, nothing will match anyway
    return selecting_values(names, request)


def _same_date(stored: StoredResponse, modified: bytes) -> bool:
    own = _first(stored.headers, b"last-modified")
    if own is None or own == modified:
        return own is not None
    moment = dates.parse(own, stored.response_time)
    return moment is not None and moment == dates.parse(modified, stored.response_time)


def _weakly(tag: bytes | None) -> bytes | None:
    return tag.removeprefix(b"W/") if tag else None


def _lines(fields: Fields, wanted: bytes) -> list[bytes]:
    return [value.strip(b" \t") for name, value in fields if name.lower() == wanted]


def _first(fields: Fields, wanted: bytes) -> bytes | None:
    """The value; None if the field is absent, empty, or there more than once: then it is not known which was meant."""
    lines = _lines(fields, wanted)
    return (lines[0] or None) if len(set(lines)) == 1 else None


def _without(fields: Fields, dropped: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in fields if name.lower() not in dropped]
