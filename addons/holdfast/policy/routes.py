"""Which route a request belongs to: a short, bounded name that metrics, logs and rules can use in place of the URL.

A route is matched against the raw path: without the query, percent-encoding untouched, dots and double slashes as they
are, because that is what the origin will see. `/api/users/a%2Fb` therefore has the single parameter `a%2Fb`, and
`//api/users` is not `/api/users`. A route is a label, never an access rule.

Templates compile to expressions that match in linear time. A `pattern` is the operator's own regular expression, and
one such as `(a+)+$` can take exponential time on a hostile path; `PATH_MAX` bounds the path, not the expression. Write
`[^/]+` for a segment, anchor both ends, and do not nest repetitions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

PATH_MAX = 8192  # a longer path has no route: matching a part of it would be a lie
PARAM_MAX = 1024  # a longer value is left out: cut short, it would name something else
PARAMS_MAX = 16

_NAME = re.compile(r"[a-z0-9_.-]{1,64}")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")
_HOST = re.compile(r"(?:\*\.)?[^\s/*:?#@]+|(?=.*:.*:)[0-9a-f:.]+", re.IGNORECASE)
_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\*?)\}")
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Route:
    """A compiled route. No methods: any method; no host: any host."""

    name: str
    expression: re.Pattern[str]
    methods: frozenset[str] = frozenset()
    host: str | None = None

    def accepts(self, method: str, host: str) -> bool:
        return (not self.methods or method in self.methods) and (self.host is None or _same_host(self.host, host))


@dataclass(frozen=True, slots=True)
class Match:
    """The label, and the named parts of the path that gave it. `matched` is False for the default label."""

    label: str
    params: Mapping[str, str]
    matched: bool = True


def compile_route(
    name: str,
    *,
    pattern: str | None = None,
    path: str | None = None,
    methods: Iterable[str] = (),
    host: str | None = None,
) -> Route:
    """A route from a regular expression (`re.search` semantics) or a template. ValueError says what to change."""
    check_name(name)
    if (pattern is None) == (path is None):
        raise ValueError(f"route {name}: give either a pattern or a path")
    expression = _compile(name, pattern if pattern is not None else _expression(name, path or ""))
    for method in (methods := tuple(methods)):
        if not _METHOD.fullmatch(method):
            raise ValueError(f"route {name}: {method!r} is no HTTP method")
    if host is not None and not _HOST.fullmatch(host):
        raise ValueError(f"route {name}: {host!r} is no host: write it like api.example.com or *.example.com")
    return Route(name, expression, frozenset(each.upper() for each in methods), host and host.lower().rstrip("."))


def check_name(name: str) -> str:
    """The name itself; ValueError for one that is not fit to be a label."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no route name: use 1 to 64 of a-z, 0-9, `_`, `.`, `-`")
    return name


def _compile(name: str, pattern: str) -> re.Pattern[str]:
    try:
        expression = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as exc:
        raise ValueError(f"route {name}: {pattern!r} is no regular expression: {exc}") from exc
    if len(expression.groupindex) > PARAMS_MAX:
        raise ValueError(f"route {name}: more than {PARAMS_MAX} named parts")
    return expression


def _expression(name: str, template: str) -> str:
    """`/api/users/{id}` and `/files/{rest*}` as expressions. One place in a segment keeps the matching linear."""
    if not template.startswith("/"):
        raise ValueError(f"route {name}: the path {template!r} does not begin with a slash")
    segments = template[1:].split("/")
    parts = [_segment(name, each, last=index == len(segments)) for index, each in enumerate(segments, 1)]
    return r"\A/" + "/".join(parts) + r"\Z"


def _segment(name: str, segment: str, *, last: bool) -> str:
    places = list(_PLACE.finditer(segment))
    literal = _PLACE.sub("", segment)
    if len(places) > 1 or "{" in literal or "}" in literal:
        raise ValueError(f"route {name}: {segment!r} is no segment: one {{name}} in each, or use a pattern")
    if not places:
        return re.escape(segment)
    place = places[0]
    if place[2] and (not last or place[0] != segment):
        raise ValueError(f"route {name}: {place[0]} must be the whole of the last segment")
    inner = f"(?P<{place[1]}>{'.*' if place[2] else '[^/]+'})"
    return re.escape(segment[: place.start()]) + inner + re.escape(segment[place.end() :])


class RouteTable:
    """The routes in their order; the first that matches wins."""

    def __init__(self, routes: Sequence[Route], default: str) -> None:
        self._routes = tuple(routes)
        self._default = Match(check_name(default), _NONE, matched=False)
        names = [each.name for each in self._routes]
        twice = sorted({each for each in names if names.count(each) > 1})
        if twice:
            raise ValueError(f"more than one route is named {', '.join(twice)}")

    def match(self, method: str, host: str, path: str) -> Match:
        """The first route for a method (upper case), a host (with or without port) and a path (without its query)."""
        if len(path) > PATH_MAX:
            return self._default
        for route in self._routes:
            if route.accepts(method, host) and (found := route.expression.search(path)):
                return Match(route.name, _params(found))
        return self._default


def _params(found: re.Match[str]) -> Mapping[str, str]:
    return {name: value for name, value in found.groupdict().items() if value is not None and len(value) <= PARAM_MAX}


def _same_host(wanted: str, authority: str) -> bool:
    """`*.example.com` stands for any name below it, not for example.com itself. Ports and a final dot do not count."""
    host = _host_of(authority)
    return host.endswith(wanted[1:]) and len(host) >= len(wanted) if wanted.startswith("*.") else host == wanted


def _host_of(authority: str) -> str:
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower().rstrip(".")
