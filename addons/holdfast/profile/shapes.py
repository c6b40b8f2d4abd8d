"""What a type annotation asks of a YAML node: the one place that takes `typing` and msgspec annotations apart.

A `Shape` sorts the members of a (union) type by the kind of node that can satisfy them, so that the check, the
JSON Schema and the reference need not look at annotations again.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAliasType, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from holdfast.profile.hints import is_secret
from holdfast.profile.values import Duration, Share, Size

VALUE_TYPES: tuple[type[Duration] | type[Size] | type[Share], ...] = (Duration, Size, Share)
_SEQUENCES: dict[Any, Any] = {tuple: tuple, list: list, set: set, frozenset: frozenset, Sequence: tuple}
_MAPPINGS = (dict, Mapping)
_BOUNDS = ("ge", "gt", "le", "lt")


@dataclass(slots=True)
class Shape:
    """One type, by the nodes it takes. A scalar: `null`, `leaf`, `value`; a list: `item`; a mapping: `struct`, `entry`.

    `other` holds a type that only msgspec itself understands; it takes any node.
    """

    null: bool = False
    leaf: Any = None  # an annotation for msgspec.convert, its bounds included
    value: type[Duration] | type[Size] | type[Share] | None = None
    item: Shape | None = None
    container: Any = tuple  # what a list is made into
    struct: type[Struct] | None = None
    entry: Shape | None = None  # of a mapping from text to anything of this shape
    other: Any = None
    metas: list[Meta] = field(default_factory=list)

    @property
    def takes_text(self) -> bool:
        """Whether any text at all is a value of this type."""
        return _is_text(self.leaf)

    def bound(self, name: str) -> Any:
        """The innermost `ge`, `gt`, `le`, `lt`, `min_length` or `max_length` that is given, or None."""
        return next((found for meta in self.metas if (found := _of(meta, name)) is not None), None)

    def bounds(self) -> dict[str, Any]:
        """The numeric bounds that are given."""
        return {name: value for name in _BOUNDS if (value := self.bound(name)) is not None}

    @property
    def rules(self) -> list[Any]:
        """Functions that raise ValueError for a value that will not do."""
        return [meta.extra["rule"] for meta in self.metas if meta.extra and "rule" in meta.extra]

    @property
    def secret(self) -> bool:
        """Whether values are never shown."""
        return any(meta.extra and meta.extra.get("secret") for meta in self.metas)

    @property
    def description(self) -> str:
        """What the setting means; the outermost wins, a type's own description is the fallback."""
        return next((meta.description for meta in reversed(self.metas) if meta.description), "")


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a settings class."""

    name: str
    attribute: str  # of the class, where it differs from the key
    shape: Shape
    required: bool
    default: Any

    @property
    def secret(self) -> bool:
        """Whether its value is never shown. A secret named just `key` must say so itself: others order by theirs."""
        return self.shape.secret or (is_secret(self.name) and self.name != "key")

    @property
    def internal(self) -> bool:
        """Whether the loader fills it in, so that it is no key of a profile."""
        return any(meta.extra and meta.extra.get("internal") for meta in self.shape.metas)

    @property
    def restart(self) -> bool:
        """Whether it cannot be changed while the gateway runs."""
        return any(meta.extra and meta.extra.get("restart") for meta in self.shape.metas)


def fields_of(struct: type[Struct]) -> tuple[Field, ...]:
    """The keys of a settings class in the order they are written down."""
    return tuple(
        Field(item.encode_name, item.name, shape, item.required, _default(item)) for item, shape in _shapes(struct)
    )


@functools.cache
def _shapes(struct: type[Struct]) -> tuple[tuple[msgspec.structs.FieldInfo, Shape], ...]:
    """Evaluating annotations is most of the work that a small profile takes, and each class is asked for again."""
    return tuple((item, shape_of(item.type)) for item in msgspec.structs.fields(struct))


def shape_of(annotation: Any) -> Shape:
    """Takes an annotation apart."""
    shape = Shape()
    _add(shape, annotation, [])
    return shape


def _default(item: msgspec.structs.FieldInfo) -> Any:
    if item.default_factory is not msgspec.NODEFAULT:
        return item.default_factory()
    return None if item.default is msgspec.NODEFAULT else item.default


def _add(shape: Shape, annotation: Any, outer: list[Meta]) -> None:
    """Adds one member of a union to the shape; `outer` are the metas around it, innermost first."""
    if isinstance(annotation, TypeAliasType):
        return _add(shape, annotation.__value__, outer)
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *extra = get_args(annotation)
        return _add(shape, inner, [meta for meta in extra if isinstance(meta, Meta)] + outer)
    if origin in (Union, types.UnionType):
        for member in get_args(annotation):
            _add(shape, member, outer)
        return None
    shape.metas.extend(meta for meta in outer if meta not in shape.metas)
    _place(shape, annotation, outer)
    return None


def _place(shape: Shape, annotation: Any, metas: list[Meta]) -> None:
    origin = get_origin(annotation) or annotation
    args = get_args(annotation)
    if annotation in (None, type(None)):
        shape.null = True
    elif annotation in VALUE_TYPES:
        shape.value = annotation
    elif annotation in (str, int, float, bool) or origin is Literal:
        leaf = Annotated[annotation, *metas] if metas and origin is not Literal else annotation
        shape.leaf = leaf if shape.leaf is None else Union[shape.leaf, leaf]  # noqa: UP007 (types made at run time)
    elif isinstance(annotation, type) and issubclass(annotation, Struct) and shape.struct is None:
        shape.struct = annotation
    elif origin in _SEQUENCES and (len(args) < 2 or args[1] is ...) and shape.item is None:
        shape.item, shape.container = shape_of(args[0] if args else Any), _SEQUENCES[origin]
    elif origin in _MAPPINGS and (not args or _is_text(args[0])) and shape.entry is None:
        shape.entry = shape_of(args[1] if args else Any)
    else:
        shape.other = annotation if shape.other is None else Union[shape.other, annotation]  # noqa: UP007


def _is_text(annotation: Any) -> bool:
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        return any(_is_text(member) for member in get_args(annotation) if not isinstance(member, Meta))
    return annotation is str


def _of(meta: Meta, name: str) -> Any:
    value = getattr(meta, name, None)
    return value if value is not None else (meta.extra or {}).get(name)
