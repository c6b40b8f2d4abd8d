"""Which field governs a response: a targeted one (RFC 9213, section 2.2), or Cache-Control and Expires.

The operator's list gives the targeted fields in their order. The first that is present and valid replaces Cache-Control
and Expires as a whole. All of them are Dictionaries (RFC 9651) but `Surrogate-Control`, the older field of the Edge
Architecture (W3C Note, 2001): comma-separated directives which a `;device` may address to one surrogate, with
`max-age=60+30` for 60 fresh seconds and 30 more in which the stale response may be used while it is fetched anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import http_sf

from holdfast.policy.caching.directives import Directives, Item, items, lines_of, parse, read
from holdfast.policy.caching.model import CacheRules, Fields

SURROGATE_CONTROL = "Surrogate-Control"
# For us alone, so that it ends here; CDN-Cache-Control goes on, since there may be another CDN (RFC 9213, section 3.1).
STRIPPED = frozenset({b"surrogate-control"})

_NUMBERS = frozenset({"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"})
_FIELD_LISTS = frozenset({"private", "no-cache"})
_PIECE = re.compile(r'(?:[^,"]|"[^"]*"|")+')
_WINDOW = re.compile(r"(\d+)\+(\d+)", re.ASCII)


@dataclass(slots=True)  # one for each request, and a frozen one takes three times as long to make
class Policy:
    """The directives that govern a response. Expires counts only beside Cache-Control."""

    directives: Directives
    source: str = "Cache-Control"
    expires: bool = True


def policy_of(fields: Fields, rules: CacheRules) -> Policy:
    """RFC 9213, section 2.2: the first valid and non-empty field of the target list, else Cache-Control."""
    for name in rules.targeted:
        lines = lines_of(fields, name.lower().encode("latin-1"))
        if not lines:
            continue
        surrogate = name.lower() == SURROGATE_CONTROL.lower()
        directives = surrogate_control(lines, rules.surrogate) if surrogate else targeted(lines)
        if directives is not None:
            return Policy(directives, name, expires=False)
    return Policy(parse(lines_of(fields, b"cache-control")))


def targeted(lines: Iterable[bytes]) -> Directives | None:
    """RFC 9213, section 2.1: None if the field is empty or not a Dictionary. Parameters are ignored."""
    try:
        members = http_sf.parse(b", ".join(line for line in lines if line.strip(b" \t")), tltype="dictionary")
    except (http_sf.StructuredFieldError, ValueError, OverflowError):
        return None
    if not isinstance(members, dict) or not members:
        return None
    return read(item for name, member in members.items() if (item := _item(name, _bare(member))) is not None)


def surrogate_control(lines: Iterable[bytes], device: str) -> Directives | None:
    """Edge Architecture, section 2.4: what is addressed to `device` goes before what is addressed to everyone.

    None if nothing in it is about storing or freshness, as in `content="ESI/1.0"`.
    """
    everyone: list[Item] = []
    ours: list[Item] = []
    for line in lines:
        for text, devices in _addressed(line.decode("latin-1")):
            if not devices or device.lower() in devices:
                (ours if devices else everyone).extend(_with_window(items(text)))
    named = {item.name for item in ours}
    directives = read([*ours, *(item for item in everyone if item.name not in named)])
    return None if directives.empty else directives


def _bare(member: object) -> object:
    """An item without its parameters."""
    return member[0] if isinstance(member, tuple) else member


def _item(name: str, value: object) -> Item | None:
    """RFC 9213, section 2.1: values are not coerced; one of a wrong type restricts, but permits nothing."""
    if value is True:
        return Item(name)
    if value is False:
        return None
    if name in _NUMBERS:
        return Item(name, str(value)) if isinstance(value, int) else Item(name, sound=False)
    if name in _FIELD_LISTS and isinstance(value, str | http_sf.Token):
        return Item(name, str(value))
    return Item(name, sound=False)


def _addressed(line: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Each directive with the devices it is addressed to; none: to every surrogate."""
    for piece in _PIECE.findall(line):
        text, *devices = piece.split(";")
        yield text, frozenset(name.strip().lower() for name in devices if name.strip())


def _with_window(found: Iterable[Item]) -> Iterator[Item]:
    for item in found:
        window = _WINDOW.fullmatch(item.value or "") if item.name == "max-age" else None
        if window is None:
            yield item
            continue
        yield Item("max-age", window[1])
        yield Item("stale-while-revalidate", window[2])
        yield Item("stale-if-error", window[2])
