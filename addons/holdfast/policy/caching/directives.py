"""What Cache-Control says (RFC 9111, section 5.2).

Restrictions are read generously and permissions strictly. A directive that is misspelt around its name (`max-age =60`,
`private; max-age=60`, an argument where none is defined) still forbids what it forbids, but allows nothing; freshness
that cannot be read makes a response stale (RFC 9111, section 4.2.1). Of several values the most restrictive counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from holdfast.policy.caching.model import Fields

# RFC 9111, section 1.2.2: a number too large to be held is this one, "infinity" for all purposes of a cache.
LONGEST = 2**31
ANY_STALENESS = math.inf  # `max-stale` without a value

Qualified = bool | frozenset[str]  # not said, said, or said of some fields only (lower case)

_IS_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_WORD = re.compile(r"[0-9A-Za-z-]+")
# A name, and after "=" a quoted-string or anything up to the next comma. An unclosed quote ends at the next comma too,
# so that a "no-store" behind it is not swallowed.
_ITEM = re.compile(
    r'(?P<name>[^=,]*)(?:(?P<is>=)(?:"(?P<quoted>(?:[^"\\]|\\.)*)")?(?P<rest>[^,]*))?(?:,|\Z)',
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_KNOWN = frozenset(
    {"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error", "min-fresh", "max-stale", "no-transform"}
    | {"no-store", "no-cache", "private", "public", "must-revalidate", "proxy-revalidate", "must-understand"}
    | {"immutable", "only-if-cached"}
)


@dataclass(frozen=True, slots=True)
class Item:
    """One directive as it was written. `sound` is False where it departs from the grammar."""

    name: str  # lower case
    value: str | None = None  # None: there was no argument
    sound: bool = True


@dataclass(frozen=True, slots=True)
class Directives:
    """What was said, by a response or by a request; seconds. None and False: it was not said."""

    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    min_fresh: int | None = None
    max_stale: float | None = None  # ANY_STALENESS where no limit was given
    no_store: bool = False
    no_cache: Qualified = False
    private: Qualified = False
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    immutable: bool = False
    no_transform: bool = False
    only_if_cached: bool = False
    unparsed: tuple[str, ...] = ()  # what was not understood, as `name` or `name=value`, for a diagnosis

    @property
    def empty(self) -> bool:
        """Whether nothing that is understood was said."""
        return all(getattr(self, name) == default for name, default in _SILENCE)

    @property
    def withheld(self) -> frozenset[str]:
        """The fields that must not be stored (`private`) or not be reused without validation (`no-cache`)."""
        qualified = (kind for kind in (self.private, self.no_cache) if isinstance(kind, frozenset))
        return frozenset[str]().union(*qualified)


_SHORT = 256
"""Bytes up to which a field is remembered: what clients send must not fill the memory."""
_SILENCE = tuple((name, getattr(Directives(), name)) for name in Directives.__slots__ if name != "unparsed")


def lines_of(fields: Fields, name: bytes) -> list[bytes]:
    """The values of every field line of that name, which is given in lower case."""
    return [value for field, value in fields if field.lower() == name]


def has_any(fields: Fields, names: frozenset[bytes]) -> bool:
    """Whether there is a field of one of these names, which are given in lower case."""
    for name, _ in fields:  # noqa: SIM110  # asked of every request: a loop is quicker than a generator
        if name.lower() in names:
            return True
    return False


def parse(lines: Iterable[bytes]) -> Directives:
    """Of a response (RFC 9111, section 5.2.2)."""
    return _parsed(tuple(lines), 0)


def parse_request(lines: Iterable[bytes]) -> Directives:
    """Of a request (RFC 9111, section 5.2.1), where a number that cannot be read is as good as absent."""
    return _parsed(tuple(lines), None)


def _parsed(lines: tuple[bytes, ...], unreadable: int | None) -> Directives:
    # An application has a handful of these fields, and each is asked for several times a request.
    return (_remembered if sum(map(len, lines)) <= _SHORT else _remembered.__wrapped__)(lines, unreadable)


@lru_cache(maxsize=512)
def _remembered(lines: tuple[bytes, ...], unreadable: int | None) -> Directives:
    return read((item for line in lines for item in items(line.decode("latin-1"))), unreadable=unreadable)


def items(line: str) -> Iterator[Item]:
    """The directives of one field line, unknown ones included. Never raises."""
    for match in _ITEM.finditer(line):
        # White space belongs around a comma, not around a "=" (RFC 9110, section 5.6.6).
        name = match["name"].lstrip(" \t") if match["is"] else match["name"].strip(" \t")
        argument = _argument(match) if match["is"] else None
        if _IS_TOKEN.fullmatch(name) and (argument is not None or not match["is"]):
            yield Item(name.lower(), argument)
        else:
            yield from _salvaged(match[0].strip(", \t"))


def read(found: Iterable[Item], *, unreadable: int | None = 0) -> Directives:
    """`unreadable` is what a lifetime counts as whose number cannot be read."""
    said: dict[str, list[Item]] = {}
    for item in found:
        said.setdefault(item.name, []).append(item)
    return Directives(
        max_age=_seconds(said, "max-age", unreadable=unreadable),
        s_maxage=_seconds(said, "s-maxage", unreadable=unreadable),
        stale_while_revalidate=_seconds(said, "stale-while-revalidate"),
        stale_if_error=_seconds(said, "stale-if-error"),
        min_fresh=_seconds(said, "min-fresh", strictest=max),
        max_stale=_staleness(said),
        no_store="no-store" in said,
        no_cache=_qualified(said, "no-cache"),
        private=_qualified(said, "private"),
        public=_plainly(said, "public"),
        must_revalidate="must-revalidate" in said,
        proxy_revalidate="proxy-revalidate" in said,
        must_understand=_plainly(said, "must-understand"),
        immutable=_plainly(said, "immutable"),
        no_transform="no-transform" in said,
        only_if_cached="only-if-cached" in said,
        unparsed=_unparsed(said),
    )


def delta_seconds(text: str) -> int | None:
    """RFC 9111, section 1.2.2: digits only; too many of them are LONGEST."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0")
    return min(LONGEST, int(digits or "0")) if len(digits) <= 10 else LONGEST


def field_names(text: str) -> frozenset[str]:
    """RFC 9111, section 5.2.2.4: the fields that a qualified directive names; none where they cannot be told."""
    names = [name.lower() for name in re.split(r"[\s,]+", text) if name]
    return frozenset(names) if all(_IS_TOKEN.fullmatch(name) and "'" not in name for name in names) else frozenset()


def _argument(match: re.Match[str]) -> str | None:
    """A token or a quoted-string; None for anything else."""
    rest = match["rest"].rstrip(" \t")
    if match["quoted"] is not None:
        return None if rest else _ESCAPED.sub(r"\1", match["quoted"])
    return rest if _IS_TOKEN.fullmatch(rest) else None


def _salvaged(text: str) -> Iterator[Item]:
    """What a malformed piece forbids: each directive it mentions, without its argument; or the piece as unknown."""
    mentioned = [word for word in _WORD.findall(text.lower()) if word in _KNOWN]
    for name in mentioned or ([text] if text else []):
        yield Item(name, sound=False)


def _seconds(
    said: dict[str, list[Item]],
    name: str,
    *,
    unreadable: int | None = None,
    strictest: Callable[[Iterable[int]], int] = min,
) -> int | None:
    values = (delta_seconds(item.value or "") for item in said.get(name, ()))
    readable = [value if value is not None else unreadable for value in values]
    known = [value for value in readable if value is not None]
    return strictest(known) if known else None


def _staleness(said: dict[str, list[Item]]) -> float | None:
    """RFC 9111, section 5.2.1.2: without a value, the client takes a response of any staleness."""
    numbers = [
        ANY_STALENESS if item.value is None and item.sound else delta_seconds(item.value or "")
        for item in said.get("max-stale", ())
    ]
    return min((number for number in numbers if number is not None), default=None)


def _qualified(said: dict[str, list[Item]], name: str) -> Qualified:
    """RFC 9111, sections 5.2.2.4 and 5.2.2.7; the unqualified form wins, being the stricter."""
    names = [field_names(item.value or "") for item in said.get(name, ())]
    if not names:
        return False
    return frozenset[str]().union(*names) if all(names) else True


def _plainly(said: dict[str, list[Item]], name: str) -> bool:
    """A permission, which counts only where it is written as it is defined: without an argument."""
    return any(item.sound and item.value is None for item in said.get(name, ()))


def _unparsed(said: dict[str, list[Item]]) -> tuple[str, ...]:
    odd = (item for name in said for item in said[name] if not item.sound or name not in _KNOWN)
    return tuple((item.name if item.value is None else f"{item.name}={item.value}")[:64] for item in odd)[:16]
