"""`profiles/README.md`: every key with its type, default and meaning, written from the settings classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args, get_origin

from msgspec import Struct

from holdfast.profile.cases import (
    CapturedSettings,
    CaseSettings,
    ExpectSettings,
    MatchSettings,
    ReceivedSettings,
    ReplySettings,
    RequestSettings,
)
from holdfast.profile.leaves import bare, members, written
from holdfast.profile.settings import AddonEntry, Profile
from holdfast.profile.shapes import Field, Shape, fields_of
from holdfast.profile.shipped import shipped_profiles
from holdfast.profile.values import Duration, Share, Size
from holdfast.registry import BUILT_IN, resolve, settings_class

_VALUES = {Duration: "duration", Size: "size", Share: "share"}
_LEAVES = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_OPERATORS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
_NUMBERS = {"gt", "ge", "lt", "le"}

_HEAD = """\
# Profiles

A profile is one YAML file that says what the gateway does. This page is generated from the code
(`python -m holdfast.profile.describe > profiles/README.md`); do not edit it.

`holdfast check PROFILE` names every fault of a profile with its line. `holdfast check --schema` prints the JSON Schema
of all that follows; with it an editor completes keys and marks mistakes as you type.
"""

_WRITING = """\
## How values are written

| kind | examples | unit of a bare number |
|---|---|---|
| duration | `50ms`, `5s`, `2m`, `1h`, `1d` | seconds |
| size | `512`, `64KiB`, `10MiB`, `1GB` (KiB = 1024, KB = 1000) | bytes |
| share | `20%`, `0.2` | from 0 to 1 |

- `${NAME}` anywhere in a value is replaced by an environment variable, and a missing variable is a fault.
  `${NAME:-default}` falls back if the variable is missing or empty. `$${` stands for a plain `${`.
- Where a setting takes a text, the value is taken as it is written: `no`, `502` and `1.10` need no quotes.
  Nothing, `~` and `null` are null.
- Anchors, aliases and merge keys (`<<`) work; unknown keys, duplicate keys and YAML tags are faults.
"""

_EXTENDING = """\
## Building on another profile

`extends:` names a shipped profile or a file beside this one. Mappings are merged key by key and the later value wins;
lists are replaced as a whole; `addons` are merged by name:

- an entry of an inherited name keeps its place, and its settings are merged into the inherited ones;
- `- NAME: false` takes an inherited addon away;
- any other entry is added at the end.
"""

_ENTRIES = """\
## Addons

`addons` is a list, and its order is the order in which they are loaded. An entry has one of these forms:

```yaml
addons:
  - metrics                          # by name, with its defaults
  - router: {routes: []}             # by name, with settings
    on_error: closed
  - use: mypackage.addons:Banner     # any mitmproxy addon class, by its dotted path or its package's entry point
    with: {text: hello}              # keyword arguments, or what its `Settings` class takes
    name: greeting                   # if two entries would have the same name; here it would be Banner
```

`on_error` says what happens when a hook of this addon raises: `open` (the default) lets the request go on without it,
`closed` fails the request. Packages announce addons by the entry-point group `holdfast.addons`.
"""


_TESTS = """\
## Tests

`tests` is a list of what the profile promises, and `holdfast check PROFILE --test` keeps it to its word: a request,
what the servers do, and what must come of it (see [the page about tests](../docs/profile-tests.md)).

```yaml
tests:
  - name: a GET is tried again
    request: GET /api/users
    upstream: [reset, 200]
    expect: {status: 200, fate: retried}
```
"""

# Parts of tests that come again and again: each has a table of its own, under this name.
_TABLES: dict[type[Struct], str] = {
    CaseSettings: "test",
    RequestSettings: "request",
    ReplySettings: "reply",
    ExpectSettings: "expectation",
    ReceivedSettings: "received",
    CapturedSettings: "record",
    MatchSettings: "match",
}


def reference_markdown() -> str:
    """The whole page."""
    parts = [_HEAD, _shipped(), _WRITING, _EXTENDING, "## Keys\n\n" + _table(Profile), _ENTRIES]
    parts += [_addon(name) for name in BUILT_IN]
    parts += [_TESTS, *(_part(name, cls) for cls, name in _TABLES.items())]
    return "\n".join(parts)


def _shipped() -> str:
    lines = [f"| [`{name}`]({name}.yaml) | {_cell(story)} |" for name, story in shipped_profiles()]
    return "\n".join(["## Shipped profiles", "", "| name | story |", "|---|---|", *lines, ""])


def _addon(name: str) -> str:
    cls = settings_class(resolve(name))
    if cls is None:
        return f"### `{name}`\n\nNo settings.\n"
    return f"### `{name}`\n\n{(cls.__doc__ or '').strip()}\n\n{_table(cls)}"


def _part(name: str, cls: type[Struct]) -> str:
    return f"### {name}\n\n{(cls.__doc__ or '').strip()}\n\n{_table(cls)}"


def _table(cls: type[Struct]) -> str:
    rows = [f"| `{path}` | {kind} | {default} | {_cell(text)} |" for path, kind, default, text in _rows(cls, "", ())]
    if not rows:
        return "No settings.\n"
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def _rows(cls: type[Struct], prefix: str, above: tuple[type, ...]) -> Iterator[tuple[str, str, str, str]]:
    for item in fields_of(cls):
        path = prefix + item.name
        if item.internal:
            continue
        inner, mark = _inner(item.shape)
        if item.shape.struct is None or item.required or item.default is None:
            yield path, _kind(item.shape), _default(item), _meaning(item)
        else:
            yield path, "section", "", item.shape.description
        # Where a part of the class itself comes again, per route, the text says so.
        if inner not in (None, AddonEntry, *_TABLES, *above) and not issubclass(cls, inner or cls):
            assert inner is not None
            yield from _rows(inner, f"{path}{mark}.", (*above, cls))


def _meaning(item: Field) -> str:
    return f"{item.shape.description} A change needs a restart." if item.restart else item.shape.description


def _inner(shape: Shape) -> tuple[type[Struct] | None, str]:
    """The settings class inside, and how its keys are reached from here."""
    if shape.struct:
        return shape.struct, ""
    if shape.item and shape.item.struct:
        return shape.item.struct, "[]"
    return (shape.entry.struct, ".NAME") if shape.entry and shape.entry.struct else (None, "")


def _default(item: Field) -> str:
    if item.required:
        return "required"
    return f"`{_cell(written(item.default))}`"


def _kind(shape: Shape) -> str:
    parts = [_leaf_kind(leaf) for leaf in members(shape.leaf)]
    if shape.value:
        parts.append(_VALUES[shape.value] + _bounds(shape))
    if shape.item:
        parts.append("list of addons" if shape.item.struct is AddonEntry else f"list of {_kind(shape.item)}")
    if shape.struct:
        parts.append(f"[{_TABLES[shape.struct]}](#{_TABLES[shape.struct]})" if shape.struct in _TABLES else "mapping")
    if shape.entry:
        parts.append(f"names, each with {_kind(shape.entry)}")
    if shape.other is not None:
        parts.append("anything")
    if shape.null:
        parts.append("`null`")
    return " or ".join(parts)


def _leaf_kind(leaf: object) -> str:
    if get_origin(leaf) is Literal:
        values = [f"`{value}`" for value in get_args(leaf)]
        return values[0] if len(values) == 1 else "one of " + ", ".join(values)
    kind, shape = bare(leaf)
    return _LEAVES[kind] + _bounds(shape)


def _bounds(shape: Shape) -> str:
    bounds = {name: shape.value(bound) if shape.value else bound for name, bound in shape.bounds().items()}
    return " " + ", ".join(f"{_OPERATORS[name]} {bound}" for name, bound in bounds.items()) if bounds else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
