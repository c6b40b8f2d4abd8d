"""Which of several stored responses is meant: what Vary names, compared between two requests (RFC 9111, section 4.1).

Values are made alike only where that cannot change what an origin answers:

- the lines of a field are joined and the spaces around commas dropped, but not inside quotes, and not in fields that
  are no lists (a cookie, a date);
- `Accept-Encoding` also loses its order and spelling: whoever gets a coding has said that it takes it;
- `Accept-Language` also loses its case and the spelling of weights, but not its order: RFC 9110, section 12.5.4, notes
  that origins take the first for the preferred one.

What an origin is told about its own URL by a proxy in front (`X-Forwarded-Proto` and its like) selects too, without
being named. Otherwise whoever sends such a field could have the redirect it provokes stored for everyone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from holdfast.policy.caching import dates
from holdfast.policy.caching.key import HOST_OVERRIDES, URL_OVERRIDES, canonical
from holdfast.policy.caching.model import Fields, StoredResponse

NAMES_MAX = 32
FORWARDED = ":forwarded"
"""The name under which all fields about the URL are selected by; no field can have it."""

Selecting = tuple[tuple[str, str | None], ...]

_SCHEME_FIELDS = frozenset(
    {
        *("x-forwarded-proto", "x-forwarded-protocol", "x-forwarded-scheme", "x-forwarded-ssl", "x-forwarded-port"),
        *("x-forwarded-prefix", "x-url-scheme", "x-scheme", "front-end-https"),
    }
)
_ABOUT_THE_URL = _SCHEME_FIELDS | HOST_OVERRIDES | URL_OVERRIDES
_FORWARDED_PAIR = re.compile(r'(?:^|[;,])[ \t]*(host|proto)[ \t]*=[ \t]*("[^"]*"|[^;,]*)', re.IGNORECASE)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_WEIGHT = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_NO_LISTS = frozenset(
    {
        *("authorization", "cookie", "date", "from", "host", "if-modified-since", "if-range", "if-unmodified-since"),
        *("origin", "proxy-authorization", "referer", "user-agent"),
    }
)


def vary_names(response: Fields) -> tuple[str, ...] | None:
    """In lower case and order, each once. None if no request can match: `*`, what is no list of names, too many."""
    members = {
        member.strip(" \t").lower()
        for name, value in response
        if name.lower() == b"vary"
        for member in value.decode("latin-1").split(",")
    } - {""}
    if "*" in members or len(members) > NAMES_MAX or not all(map(_TOKEN.fullmatch, members)):
        return None
    return tuple(sorted(members))


def selecting_values(names: Iterable[str], request: Fields) -> Selecting:
    """What is kept with a response, and compared with later requests. None: the request has no such field."""
    by_name: dict[str, list[tuple[str, str]]] = {}
    for name, value in request:
        by_name.setdefault(canonical(name), []).append((name.decode("latin-1").lower(), value.decode("latin-1")))
    values = tuple((name, _value(name, by_name.get(name.replace("_", "-"), []))) for name in names)
    told = _told(by_name)
    return (*values, (FORWARDED, told)) if told else values


def selecting_fields(selecting: Selecting, request: Fields) -> Fields:
    """Those of the request's fields that have selected: a request with no others selects the same."""
    names = {name.replace("_", "-") for name, _ in selecting}
    if FORWARDED in names:
        names |= _ABOUT_THE_URL | {"forwarded"}
    return [(name, value) for name, value in request if canonical(name) in names]


def matches(stored: StoredResponse, request: Fields) -> bool:
    """Whether the request could have been the one that the response was stored for."""
    names = vary_names(stored.headers)
    return names is not None and selecting_values(names, request) == stored.selecting


def choose(variants: Iterable[StoredResponse], request: Fields) -> StoredResponse | None:
    """The one to use among those stored for a URL.

    Of several that match, one with Vary goes before one without, which some origins forget in their default response;
    then the most recent by Date (RFC 9111, section 4.1).
    """
    return max((each for each in variants if matches(each, request)), key=_rank, default=None)


def _rank(stored: StoredResponse) -> tuple[bool, float, float]:
    dated = [value for name, value in stored.headers if name.lower() == b"date"]
    date = dates.parse(dated[0], stored.response_time) if dated else None
    return bool(vary_names(stored.headers)), stored.response_time if date is None else date, stored.response_time


def _told(by_name: dict[str, list[tuple[str, str]]]) -> str | None:
    """All that claims to say how the URL was written for the client; None if nothing does."""
    claims = [f"{name}:{value}" for each in sorted(_ABOUT_THE_URL & by_name.keys()) for name, value in by_name[each]]
    for _, value in by_name.get("forwarded", ()):  # RFC 7239: `for` and `by` are not about the URL
        claims += [f"{found[1].lower()}={found[2]}" for found in _FORWARDED_PAIR.finditer(value)]
    return "\n".join(claims) or None


def _value(name: str, lines: list[tuple[str, str]]) -> str | None:
    if not lines:
        return None
    if any(each != name for each, _ in lines):
        # `Accept_Language` beside `Accept-Language`: one field to some origins, two to others. Like nothing but itself.
        return "\n".join(f"{each}:{value}" for each, value in lines)
    values = [value.strip(" \t") for _, value in lines]
    if name == "cookie":
        return "; ".join(values)  # RFC 9113, section 8.2.3
    if name in _NO_LISTS:
        return ", ".join(values)
    members = [member for value in values for member in _members(value)]
    if name == "accept-encoding":
        return ",".join(_codings(members))
    if name == "accept-language":
        return ",".join(_weighted(member) for member in members if member)
    return ",".join(members)


def _members(value: str) -> list[str]:
    """The parts between commas that are outside quotes (RFC 9110, sections 5.6.1 and 5.6.4)."""
    if '"' not in value:
        return [member.strip(" \t") for member in value.split(",")]
    members, start, quoted, escaped = [], 0, False, False
    for index, char in enumerate(value):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = quoted
        elif char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            members.append(value[start:index].strip(" \t"))
            start = index + 1
    return [*members, value[start:].strip(" \t")]


def _codings(members: list[str]) -> list[str]:
    """RFC 9110, section 12.5.3; the order means nothing, and `x-gzip` is gzip (section 8.4.1.3)."""
    weighted = [_weighted(member) for member in members if member]
    return sorted({each[2:] if each.partition(";")[0] == "x-gzip" else each for each in weighted})


def _weighted(member: str) -> str:
    """`de;q=0.5` for `DE ; q=0.500`; a weight of one goes without saying (RFC 9110, section 12.4.2)."""
    name, _, parameter = member.lower().partition(";")
    name, parameter = name.strip(" \t"), parameter.strip(" \t")
    found = _WEIGHT.fullmatch(parameter)
    if not found:
        return f"{name};{parameter}" if parameter else name
    weight = found[1].rstrip("0").rstrip(".") if "." in found[1] else found[1]
    return name if weight == "1" else f"{name};q={weight}"
