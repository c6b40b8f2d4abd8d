"""A scalar made into the value that its setting wants, or a sentence that says what to write instead."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from holdfast.profile.hints import either_of, found
from holdfast.profile.nodes import Scalar
from holdfast.profile.shapes import Shape
from holdfast.profile.values import Duration, Share, Size

_VALUES = {Duration: ("a duration", "5s"), Size: ("a size", "10MiB"), Share: ("a share", "20%")}
_SIGNS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "gt": ("more than", lambda value, bound: value > bound),
    "ge": ("at least", lambda value, bound: value >= bound),
    "lt": ("less than", lambda value, bound: value < bound),
    "le": ("at most", lambda value, bound: value <= bound),
}


def convert_leaf(scalar: Scalar, shape: Shape, example: object, secret: bool) -> Any:
    """The value; ValueError says what was expected and what was found. `example` is a value that would do."""
    if scalar.problem:
        raise ValueError(scalar.problem)
    what = found(scalar, secret)
    if scalar.is_null() and (shape.null or not (scalar.source and shape.takes_text)):
        if shape.null:
            return None
        raise ValueError(f"expected {expectation(shape, example)}; found {what}")
    value = _converted(scalar, shape, example, what)
    for rule in shape.rules:
        try:
            rule(value)
        except ValueError as error:
            raise ValueError(f"{what} {error}") from error
    return value


def expectation(shape: Shape, example: object = None) -> str:
    """What a setting takes, in words."""
    parts = [_leaf_words(member) for member in members(shape.leaf)]
    if shape.value:
        name, sample = _VALUES[shape.value]
        parts.append(f"{name}{_bound_words(shape)}, such as {sample}")
    if shape.item:
        parts.append(f"a list, such as {_sample(example)}" if example else "a list, such as [a, b]")
    if shape.struct or shape.entry:
        parts.append("a mapping")
    if shape.null:
        parts.append("null")
    words = " or ".join(parts) or "another value"
    return f"{words}, for example {_sample(example)}" if _wants_example(shape, example) else words


def written(value: object) -> str:
    """A value as it would be written in a profile."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, tuple | list | set | frozenset):
        return f"[{', '.join(written(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {written(item)}' for key, item in value.items())}}}"
    return str(value) if value != "" else '""'


def _converted(scalar: Scalar, shape: Shape, example: object, what: str) -> Any:
    wanted = f"expected {expectation(shape, example)}; found {what}"
    if shape.leaf is not None:
        for attempt in _attempts(scalar):
            try:
                return msgspec.convert(attempt[0], shape.leaf, strict=attempt[1])
            except msgspec.ValidationError:
                continue
        if shape.value is None:
            raise ValueError(_with_hint(wanted, scalar, shape))
    if shape.value is None:
        raise ValueError(wanted)
    raw = scalar.value()
    try:
        value = shape.value(raw if isinstance(raw, int | float) and not isinstance(raw, bool) else scalar.text)
    except ValueError as error:
        # The type's own sentence repeats the text, which a variable may have brought in.
        raise ValueError(wanted if scalar.source or shape.leaf is not None else str(error)) from error
    for name, bound in shape.bounds().items():
        if not _SIGNS[name][1](value, bound):
            raise ValueError(wanted)
    return value


def _attempts(scalar: Scalar) -> Iterator[tuple[object, bool]]:
    """What the scalar may stand for, the most literal reading first: `502` is a number, but a text where one is due."""
    value = scalar.value()
    yield value, True
    yield scalar.text, True
    yield value, False
    yield scalar.text, False


def _with_hint(message: str, scalar: Scalar, shape: Shape) -> str:
    choices = [str(value) for leaf in members(shape.leaf) if _is_choice(leaf) for value in get_args(leaf)]
    # A near miss of a number is not a slip of the pen.
    wordy = choices and not scalar.source and not scalar.text.isdigit()
    hint = either_of(scalar.text, choices) if wordy else ""
    return f"{message}: {hint}" if hint else message


def members(leaf: Any) -> tuple[Any, ...]:
    """The members of a leaf annotation, which may be a union."""
    if leaf is None:
        return ()
    return get_args(leaf) if get_origin(leaf) in (Union, types.UnionType) else (leaf,)


def bare(leaf: Any) -> tuple[Any, Shape]:
    """The type of a leaf that is no choice, and a shape that knows only its bounds."""
    if get_origin(leaf) is not Annotated:
        return leaf, Shape()
    kind, *metas = get_args(leaf)
    return kind, Shape(metas=[item for item in metas if isinstance(item, msgspec.Meta)])


def _is_choice(leaf: Any) -> bool:
    return get_origin(leaf) is Literal


def _leaf_words(leaf: Any) -> str:
    if _is_choice(leaf):
        values = [str(value) for value in get_args(leaf)]
        return values[0] if len(values) == 1 else f"one of {', '.join(values)}"
    kind, bounds = bare(leaf)
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind]
    return words + _bound_words(bounds) + _text_words(bounds)


def _bound_words(shape: Shape) -> str:
    bounds = {name: shape.value(bound) if shape.value else bound for name, bound in shape.bounds().items()}
    if set(bounds) == {"ge", "le"}:
        return f" from {bounds['ge']} to {bounds['le']}"
    parts = [f"{_SIGNS[name][0]} {bound}" for name, bound in bounds.items()]
    return f" of {' and '.join(parts)}" if parts else ""


def _text_words(shape: Shape) -> str:
    parts = []
    for name, word in (("min_length", "at least"), ("max_length", "at most")):
        if shape.bound(name) is not None:
            parts.append(f" of {word} {shape.bound(name)} characters")
    pattern = next((meta.pattern for meta in shape.metas if meta.pattern), None)
    return "".join(parts) + (f" that matches {pattern}" if pattern else "")


def _wants_example(shape: Shape, example: object) -> bool:
    kind = members(shape.leaf)
    plain = len(kind) == 1 and not _is_choice(kind[0]) and not shape.item and kind[0] is not bool
    return plain and example not in (None, "") and not isinstance(example, bool)


def _sample(example: object) -> str:
    text = written(example)
    return text if len(text) <= 80 else text[:77] + "..."
