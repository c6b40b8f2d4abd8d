"""The tree a profile is worked on as: YAML's node graph without aliases, merge keys, tags and duplicate keys.

Every node knows the file and line of its key (or of itself, in a list). References to the environment are already
filled in, but one that failed only becomes a fault if its scalar is still part of the profile in the end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import yaml
from yaml.resolver import Resolver

from holdfast.errors import Fault
from holdfast.profile.compose import ROOT, shown
from holdfast.profile.interpolate import has_reference, interpolate

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]

_CORE_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")}
# What PyYAML finds in a plain scalar by itself and a profile reads as text or number by its own rules.
_IMPLICIT_TAGS = _CORE_TAGS | {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value", "tag:yaml.org,2002:merge"}
_MERGE = "tag:yaml.org,2002:merge"
_STR = "tag:yaml.org,2002:str"
_INT = re.compile(r"[-+]?[0-9]{1,40}")
_OTHER_INT = re.compile(r"0x[0-9a-fA-F]{1,32}|0o[0-7]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,400}|[0-9]{1,400}(\.[0-9]{0,400})?)([eE][-+]?[0-9]{1,4})?")
_RESOLVER = Resolver()
_NULLS = ("", "~", "null")
_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Where:
    """The file and the 1-based line that a fault names."""

    file: str
    line: int

    def fault(self, path: str, message: str) -> Fault:
        return Fault(self.file, self.line, path or ROOT, message)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text; `plain` if it was written without quotes, so that it may mean a number, a boolean or null."""

    where: Where
    text: str
    plain: bool
    source: str = ""  # as written, if references were filled in
    problem: str = ""  # why a reference could not be filled in

    def value(self) -> bool | int | float | str | None:
        """What the scalar means where nothing is known about the type that is wanted."""
        return _resolve(self.text) if self.plain else self.text

    def is_null(self) -> bool:
        return self.plain and self.text.lower() in _NULLS


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    where: Where
    items: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping; its keys are always texts."""

    where: Where
    entries: Mapping[str, Node] = field(default_factory=dict)


Node = Scalar | Sequence | Table


class TreeBuilder:
    """Turns PyYAML nodes of one file into the tree, and collects what is wrong with them."""

    def __init__(self, file: str, env: Mapping[str, str]) -> None:
        self.file = file
        self.env = env
        self.faults: list[Fault] = []

    def build(self, node: yaml.Node, path: str = "", where: Where | None = None) -> Node:
        where = where or self._where(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path, where)
        if node.tag not in _CORE_TAGS:
            self._fault(where, path, f"the tag {shown(node.tag)!r} means nothing in a profile: leave it out")
        if isinstance(node, yaml.SequenceNode):
            return Sequence(where, tuple(self.build(item, f"{path}[{i}]") for i, item in enumerate(node.value)))
        assert isinstance(node, yaml.MappingNode)
        return self._table(node, path, where)

    def _scalar(self, node: yaml.ScalarNode, path: str, where: Where) -> Scalar:
        if node.tag not in _IMPLICIT_TAGS:
            self._fault(where, path, f"the tag {shown(node.tag)!r} means nothing in a profile: leave it out")
        text = shown(node.value)
        plain = not node.style and not _tagged_text(node)
        if not has_reference(text):
            return Scalar(where, text, plain)
        try:
            return Scalar(where, interpolate(text, self.env), plain, source=text)
        except ValueError as error:
            return Scalar(where, text, plain, source=text, problem=str(error))

    def _table(self, node: yaml.MappingNode, path: str, where: Where) -> Table:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, at = self._key(key_node, path), self._where(key_node)
            if key is None:
                continue
            if key in lines:
                self._fault(at, join(path, key), f"the key {key!r} is given twice, first on line {lines[key]}")
                continue
            lines[key] = at.line
            if key_node.tag == _MERGE:
                merged = self._merged(value_node, path, at)
            else:
                own[key] = self.build(value_node, join(path, key), at)
        return Table(where, merged | own)

    def _key(self, node: yaml.Node, path: str) -> str | None:
        if isinstance(node, yaml.ScalarNode):
            return shown(node.value)
        self._fault(self._where(node), path, "a list or a mapping cannot be a key")
        return None

    def _merged(self, node: yaml.Node, path: str, at: Where) -> dict[str, Node]:
        """The keys that `<<` brings in; of several mappings the earlier wins."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Node] = {}
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                self._fault(at, join(path, "<<"), "expected a mapping, or a list of mappings, to merge in")
                continue
            merged = dict(self._table(source, path, at).entries) | merged
        return merged

    def _where(self, node: yaml.Node) -> Where:
        return Where(self.file, node.start_mark.line + 1)

    def _fault(self, where: Where, path: str, message: str) -> None:
        self.faults.append(where.fault(path, message))


def from_plain(value: object, where: Where) -> Node:
    """Python values from the command line as nodes; texts count as quoted, so that only the setting's type matters."""
    if isinstance(value, Mapping):
        return Table(where, {str(key): from_plain(item, where) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return Sequence(where, tuple(from_plain(item, where) for item in value))
    if value is None:
        return Scalar(where, "null", plain=True)
    if isinstance(value, bool):
        return Scalar(where, str(value).lower(), plain=True)
    return Scalar(where, str(value), plain=isinstance(value, int | float))


def to_plain(node: Node) -> Plain:
    """The tree as plain Python data."""
    if isinstance(node, Table):
        return {key: to_plain(item) for key, item in node.entries.items()}
    if isinstance(node, Sequence):
        return [to_plain(item) for item in node.items]
    return node.value()


def problems(node: Node, path: str) -> Iterator[Fault]:
    """The references in a subtree that could not be filled in."""
    if isinstance(node, Scalar):
        if node.problem:
            yield node.where.fault(path, node.problem)
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from problems(item, f"{path}[{index}]")
    else:
        for key, item in node.entries.items():
            yield from problems(item, join(path, key))


def moved(node: Node, where: Where) -> Node:
    """The same node, standing elsewhere."""
    return replace(node, where=where)


def join(path: str, key: str) -> str:
    """A dotted path one key longer."""
    return f"{path}.{key}" if path else key


def _tagged_text(node: yaml.ScalarNode) -> bool:
    """Whether the scalar says `!!str`: it has the tag although PyYAML would have taken it for something else."""
    guess: str = _RESOLVER.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
    return node.tag == _STR and guess != _STR


def _resolve(text: str) -> bool | int | float | str | None:
    lowered = text.lower()
    if lowered in _NULLS:
        return None
    if lowered in _BOOLS:
        return _BOOLS[lowered]
    if _INT.fullmatch(text):
        return int(text)
    if _OTHER_INT.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text
