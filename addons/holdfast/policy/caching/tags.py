"""Surrogate keys: the names under which responses are purged together.

They come from the response (`Surrogate-Key`, `Cache-Tag`, `xkey`, `Cache-Groups`) and from the route (`user-{id}`). All
share one namespace, in which case counts: a tag is the same wherever it came from, and purging it purges them all.

`Cache-Groups` gives a second tag besides, which names the origin too. It is what `Cache-Group-Invalidation` purges: by
RFC 9875, section 2.1, an origin speaks for its own groups only. It has a tab in it, which no other tag can have, and
does not count against the limits.

A tag that is refused is a fault, not an omission: a response without it would survive the purge that is meant for it.
Whoever stores a response looks at `faults` first, and had better not store it if there are any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from holdfast.policy.caching.directives import has_any
from holdfast.policy.caching.invalidation import is_safe
from holdfast.policy.caching.model import Fields

FOR_CACHES = frozenset({b"surrogate-key", b"cache-tag", b"xkey"})
"""What is not passed on to clients. Cache-Groups is: their caches can use it."""

_GROUPS = b"cache-groups"
_INVALIDATION = b"cache-group-invalidation"
_FIELDS = FOR_CACHES | {_GROUPS, _INVALIDATION}
_SCOPE = "\t"
_SHOWN = 64
_TAG = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_STRING = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
_BARE = rf"{_STRING}|-?[0-9]{{1,15}}(?:\.[0-9]{{1,3}})?|\?[01]|:[A-Za-z0-9+/=]*:|@-?[0-9]{{1,15}}|[A-Za-z*][^\s,;=\"]*"
_MEMBER = re.compile(rf"({_STRING})(?:;[ ]*[a-z*][a-z0-9_.*-]*(?:=(?:{_BARE}))?)*")
_COMMA = re.compile(r"[ \t]*,[ \t]*")


@dataclass(frozen=True, slots=True)
class TagLimits:
    """For one response. Values of RFC 9875, section 2, at least: 32 groups of 32 characters."""

    count: int = 1000
    length: int = 1024
    total: int = 16 * 1024  # characters of all tags


@dataclass(frozen=True, slots=True)
class TagFault:
    """A tag, or a field, that could not be used. `reason`: characters, length, count, total, syntax, parameter."""

    source: str  # the field, in lower case, or the pattern
    reason: str
    shown: str  # the beginning of what was refused


@dataclass(frozen=True, slots=True)
class Tags:
    """Each tag once, in the order of its first appearance; and what was refused."""

    tags: tuple[str, ...] = ()
    faults: tuple[TagFault, ...] = ()


def response_tags(response: Fields, origin: str, limits: TagLimits) -> Tags:
    """From the header; `origin` as `https://host`, see `invalidation.origin`."""
    found = _named(response)
    faults = []
    groups, fault = _string_list(response, _GROUPS)
    faults += [fault] if fault else []
    found += [("cache-groups", tag) for tag in groups]
    plain = _checked(found, limits)
    usable = set(plain.tags)
    scoped = tuple(group_tag(origin, each) for each in dict.fromkeys(groups) if each in usable)
    return Tags(plain.tags + scoped, (*faults, *plain.faults))


def names_tags(response: Fields) -> bool:
    """Whether any of its fields says anything of tags; most responses have none."""
    return has_any(response, _FIELDS)


def tags_named(fields: Fields) -> list[str]:
    """By `Surrogate-Key`, `Cache-Tag` and `xkey`, each once: what a purge by header means. None is refused."""
    return list(dict.fromkeys(tag for _, tag in _named(fields)))


def route_tags(patterns: Iterable[str], parameters: Mapping[str, str], limits: TagLimits) -> Tags:
    """`user-{id}` filled in with what the route found, as it stands in the URL: percent-encoding untouched."""
    found: list[tuple[str, str]] = []
    faults = []
    for pattern in patterns:
        missing = [name for name in _PLACE.findall(pattern) if name not in parameters]
        if missing:
            faults.append(TagFault(pattern, "parameter", missing[0]))
        else:
            found.append((pattern, _PLACE.sub(lambda place: parameters[place[1]], pattern)))
    checked = _checked(found, limits)
    return Tags(checked.tags, (*faults, *checked.faults))


def check_pattern(pattern: str) -> frozenset[str]:
    """The parameters it needs. ValueError says what is wrong with it."""
    rest = _PLACE.sub("x", pattern)
    if "{" in rest or "}" in rest:
        raise ValueError(f"{pattern!r} is no tag: a place for a parameter is a name in braces, as in user-{{id}}")
    if not _TAG.fullmatch(rest):
        raise ValueError(f"{pattern!r} is no tag: use visible ASCII characters, and spaces only between them")
    return frozenset(_PLACE.findall(pattern))


def merged(parts: Iterable[Tags], limits: TagLimits) -> Tags:
    """Tags from several sources as those of one response; the limits hold for the whole."""
    parts = list(parts)
    tags = list(dict.fromkeys(tag for part in parts for tag in part.tags))
    checked = _checked([("all", tag) for tag in tags if _SCOPE not in tag], limits)
    scoped = tuple(tag for tag in tags if _SCOPE in tag)
    return Tags(checked.tags + scoped, (*(fault for part in parts for fault in part.faults), *checked.faults))


def group_tag(origin: str, group: str) -> str:
    """The tag for a member of Cache-Groups from this origin."""
    return f"{origin}{_SCOPE}{group}"


def tags_invalidated(method: str, response: Fields, origin: str) -> Tags:
    """What the answer to an unsafe request purges: the groups of `Cache-Group-Invalidation` (RFC 9875, section 3; no
    cascades), and the tags it carries itself, since what it changed is what they name. A safe method purges nothing,
    and `*` is nobody's tag: an origin does not purge everything.
    """
    if is_safe(method):
        return Tags()
    groups, fault = _string_list(response, _INVALIDATION)
    tags = (
        *(group_tag(origin, each) for each in dict.fromkeys(groups)),
        *(tag for tag in tags_named(response) if tag != "*"),
    )
    return Tags(tags, (fault,) if fault else ())


def _named(fields: Fields) -> list[tuple[str, str]]:
    """(field, tag) for each tag, in order."""
    found: list[tuple[str, str]] = []
    for name, value in fields:
        source, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if source == "surrogate-key":
            found += [(source, tag) for tag in text.split()]
        elif source == "cache-tag":
            found += [(source, tag) for tag in map(str.strip, text.split(",")) if tag]
        elif source == "xkey":
            found += [(source, tag) for tag in text.replace(",", " ").split()]
    return found


def _checked(found: Iterable[tuple[str, str]], limits: TagLimits) -> Tags:
    tags: dict[str, None] = {}
    faults = []
    total = 0
    for source, tag in found:
        if tag in tags:
            continue
        reason = _refusal(tag, len(tags), total, limits)
        if reason:
            faults.append(TagFault(source, reason, tag[:_SHOWN]))
        else:
            tags[tag] = None
            total += len(tag)
        if reason in ("count", "total"):
            break  # one fault says it; the rest is refused too
    return Tags(tuple(tags), tuple(faults))


def _refusal(tag: str, count: int, total: int, limits: TagLimits) -> str | None:
    if not _TAG.fullmatch(tag):
        return "characters"
    if len(tag) > limits.length:
        return "length"
    if count >= limits.count:
        return "count"
    return "total" if total + len(tag) > limits.total else None


def _string_list(response: Fields, wanted: bytes) -> tuple[list[str], TagFault | None]:
    """A structured List of Strings (RFC 9651, section 3.1), its parameters ignored; all of it or nothing."""
    lines = [value.decode("latin-1").strip(" ") for name, value in response if name.lower() == wanted]
    text = ", ".join(line for line in lines if line)
    members: list[str] = []
    position = 0
    while text:
        found = _MEMBER.match(text, position)
        if not found:
            return [], TagFault(wanted.decode(), "syntax", text[position : position + _SHOWN])
        members.append(re.sub(r"\\(.)", r"\1", found[1][1:-1]))
        if found.end() == len(text):
            break
        comma = _COMMA.match(text, found.end())
        if not comma:
            return [], TagFault(wanted.decode(), "syntax", text[found.end() : found.end() + _SHOWN])
        position = comma.end()
    return members, None
