"""The walk: a tree held against a settings class. Finds every fault, not only the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from holdfast.errors import Fault
from holdfast.profile.hints import found, is_secret, unknown_key, without_credentials
from holdfast.profile.leaves import convert_leaf, expectation
from holdfast.profile.nodes import Node, Scalar, Sequence, Table, Where, join, problems, to_plain
from holdfast.profile.shapes import Field, Shape, fields_of

BAD = object()  # what a walk gives back where it has found a fault


class Check:
    """One check of one profile; `faults` is what it has found so far."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, where: Where, path: str, message: str) -> object:
        self.faults.append(where.fault(path, message))
        return BAD

    def struct(self, table: Table, cls: type[Struct], path: str, given: Mapping[str, Any] | None = None) -> Any:
        """The settings of this class, or BAD. `given` are values that come from elsewhere than the table."""
        fields = [item for item in fields_of(cls) if not item.internal]
        names = [item.name for item in fields]
        for key, node in table.entries.items():
            if key not in names:
                self.fault(node.where, join(path, key), unknown_key(names, key))
        values = dict(given or {})
        for item in fields:
            if item.name not in values:
                values[item.name] = self._field(item, table, path)
        if any(value is BAD for value in values.values()):
            return BAD
        return self._made(table, cls, path, values)

    def node(self, node: Node, shape: Shape, path: str, example: object = None, secret: bool = False) -> Any:
        """The value of any shape, or BAD."""
        if isinstance(node, Scalar) and (shape.leaf is not None or shape.value or shape.null):
            try:
                return convert_leaf(node, shape, None if secret else example, secret)
            except ValueError as error:
                return self.fault(node.where, path, str(error))
        if isinstance(node, Table) and shape.struct:
            return self.struct(node, shape.struct, path)
        if isinstance(node, Table) and shape.entry:
            return self._mapping(node, shape, shape.entry, path, secret)
        if isinstance(node, Sequence) and shape.item:
            return self._list(node, shape, shape.item, path, secret)
        if shape.other is not None:
            return self._other(node, shape, path)
        if isinstance(node, Scalar) and node.problem:
            return self.fault(node.where, path, node.problem)
        return self.fault(node.where, path, f"expected {self._wanted(shape, example)}; found {found(node, secret)}")

    def _field(self, item: Field, table: Table, path: str) -> Any:
        node = table.entries.get(item.name)
        at = join(path, item.name)
        if node is not None:
            return self.node(node, item.shape, at, item.default, item.secret)
        if item.required:
            return self.fault(table.where, at, f"is missing: it wants {expectation(item.shape)}")
        return item.default

    def _made(self, table: Table, cls: type[Struct], path: str, values: Mapping[str, Any]) -> Any:
        try:
            return cls(**{item.attribute: values[item.name] for item in fields_of(cls)})
        except ValueError as error:
            return self.fault(table.where, path, without_credentials(str(error)))

    def _list(self, node: Sequence, shape: Shape, item: Shape, path: str, secret: bool) -> Any:
        values = [self.node(child, item, f"{path}[{i}]", secret=secret) for i, child in enumerate(node.items)]
        if any(value is BAD for value in values):
            return BAD
        return self._of_length(node, shape, path, shape.container(values))

    def _mapping(self, node: Table, shape: Shape, entry: Shape, path: str, secret: bool) -> Any:
        values = {
            key: self.node(child, entry, join(path, key), secret=secret or is_secret(key))
            for key, child in node.entries.items()
        }
        if any(value is BAD for value in values.values()):
            return BAD
        return self._of_length(node, shape, path, values)

    def _of_length(self, node: Node, shape: Shape, path: str, values: Any) -> Any:
        least, most = shape.bound("min_length"), shape.bound("max_length")
        if least is not None and len(values) < least:
            return self.fault(node.where, path, f"expected at least {least} {_entries(least)}; found {len(values)}")
        if most is not None and len(values) > most:
            return self.fault(node.where, path, f"expected at most {most} {_entries(most)}; found {len(values)}")
        return values

    def _other(self, node: Node, shape: Shape, path: str) -> Any:
        unfilled = list(problems(node, path))
        if unfilled:
            self.faults.extend(unfilled)
            return BAD
        try:
            return msgspec.convert(to_plain(node), shape.other, strict=False, dec_hook=_made_by_type)
        except (msgspec.ValidationError, ValueError, TypeError) as error:
            return self.fault(node.where, path, without_credentials(str(error)))

    def _wanted(self, shape: Shape, example: object) -> str:
        if not shape.struct or shape.leaf is not None or shape.item:
            return expectation(shape, None if isinstance(example, Struct) else example)
        names = ", ".join(item.name for item in fields_of(shape.struct))
        return f"a mapping with the keys {names}"


def _entries(count: int) -> str:
    return "entry" if count == 1 else "entries"


def _made_by_type(kind: type[Any], value: Any) -> Any:
    return kind(value)
