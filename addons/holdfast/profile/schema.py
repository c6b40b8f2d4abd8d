"""The JSON Schema of a profile (draft 2020-12), for editors and for tools; made from the settings classes.

It takes what the loader takes: `${ENV}` references wherever a scalar stands, numbers where a text is due in a mapping
of texts, `null` behind an addon's name. msgspec makes the schemas of single values; it cannot make that of a class
whose defaults are durations or sizes, so the classes are walked here.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from holdfast.profile.settings import OnError, Profile, RouteLimitSettings, RouteUpstreamSettings
from holdfast.profile.shapes import Field, Shape, fields_of, shape_of
from holdfast.profile.values import Duration, Share, Size
from holdfast.registry import BUILT_IN, resolve, settings_class

Schema = dict[str, Any]

_VALUES: dict[Any, Schema] = {
    Duration: {
        "anyOf": [
            {"type": "string", "pattern": r"^\s*[0-9.]+(e[+-]?[0-9]+)?\s*([uU][sS]|[mM][sS]|[sSmMhHdD])?\s*$"},
            {"type": "number", "minimum": 0},
        ],
        "description": "A duration: 50ms, 5s, 2m, 1h, 1d, or a number of seconds.",
    },
    Size: {
        "anyOf": [
            {"type": "string", "pattern": r"^\s*[0-9.]+(e[+-]?[0-9]+)?\s*([kKmMgGtT][iI]?)?[bB]?\s*$"},
            {"type": "integer", "minimum": 0},
        ],
        "description": "A size: 512, 64KiB, 10MiB, 1GB.",
    },
    Share: {
        "anyOf": [
            {"type": "string", "pattern": r"^\s*[0-9.]+(e[+-]?[0-9]+)?\s*%?\s*$"},
            {"type": "number", "minimum": 0, "maximum": 1},
        ],
        "description": "A share: 20%, or a number from 0 to 1.",
    },
}
_REFERENCE: Schema = {"type": "string", "pattern": r"\$\{"}
# What is left out here is as for all routes, whatever the class says.
_AS_FOR_ALL = (RouteUpstreamSettings, RouteLimitSettings)
_ENTRY_KEYS = ["use", "with", "name", "on_error"]


def profile_schema() -> Schema:
    """The schema of the whole profile; the built-in addons are imported for it."""
    made = _Definitions()
    root = made.struct(Profile)
    definitions = made.schemas
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Holdfast profile",
        **definitions.pop(root),
        "$defs": {
            "Reference": {**_REFERENCE, "description": "A value from the environment: ${NAME} or ${NAME:-default}."},
            **{kind.__name__: schema for kind, schema in _VALUES.items()},
            **definitions,
        },
    }


class _Definitions:
    """The schemas of the settings classes, each once."""

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}
        self._names: dict[type[Struct], str] = {}

    def struct(self, cls: type[Struct], partial: bool = False) -> str:
        """The name of the class's definition. `partial`: no key is required, as another profile may have it."""
        if cls in self._names:
            return self._names[cls]
        name = cls.__name__
        if name in self._names.values():
            name = f"{cls.__module__.rpartition('.')[2]}.{name}"
        self._names[cls] = name
        fields = [item for item in fields_of(cls) if not item.internal]
        schema: Schema = {"type": "object", "properties": {item.name: self._field(cls, item) for item in fields}}
        required = [item.name for item in fields if item.required]
        if required and not partial:
            schema["required"] = required
        self.schemas[name] = {"description": _first_line(cls), **schema, "additionalProperties": False}
        return name

    def _field(self, cls: type[Struct], item: Field) -> Schema:
        if cls is Profile and item.name == "addons":
            return {"description": item.shape.description, "type": "array", "items": self._entries()}
        schema = {"description": item.shape.description, **self._of(item.shape)}
        default = plain_default(item.default)
        silent = item.required or item.default is None or default == {} or cls in _AS_FOR_ALL
        return schema if silent else {**schema, "default": default}

    def _of(self, shape: Shape, in_mapping: bool = False) -> Schema:
        choices: list[Schema] = []
        if shape.leaf is not None:
            choices += _leaf(shape.leaf, in_mapping)
        if shape.value:
            choices += [{"$ref": f"#/$defs/{shape.value.__name__}"}, _to_reference()]
        if shape.null:
            choices.append({"type": "null"})
        if shape.item:
            choices.append({"type": "array", "items": self._of(shape.item), **_lengths(shape, "Items")})
        if shape.struct:
            choices.append({"$ref": f"#/$defs/{self.struct(shape.struct)}"})
        if shape.entry:
            entry = self._of(shape.entry, in_mapping=True)
            choices.append({"type": "object", "additionalProperties": entry, **_lengths(shape, "Properties")})
        if shape.other is not None:
            choices.append({})
        return choices[0] if len(choices) == 1 else {"anyOf": choices}

    def _entries(self) -> Schema:
        """An addon entry in each of its forms; the forms exclude each other."""
        on_error = {"description": "What a failing hook means for its request.", **self._of(shape_of(OnError))}
        names = list(BUILT_IN)
        built_in = [_one_of_us(name, self._settings(name), on_error) for name in names]
        mapping_or_none = {"type": ["object", "null"]}
        using = {"use": {"type": "string"}, "with": mapping_or_none, "name": {"type": "string"}, "on_error": on_error}
        others: Schema = {
            "description": "Another package's addon by its entry point's name, or an inherited one by its own.",
            "type": "object",
            "properties": {"on_error": on_error},
            "propertyNames": {"not": {"enum": [*names, "use", "with", "name"]}},
            "additionalProperties": {"anyOf": [mapping_or_none, {"const": False}]},
            "minProperties": 1,
            "maxProperties": 2,
        }
        return {
            "oneOf": [
                {"description": "An addon without settings: " + ", ".join(names), "type": "string", "minLength": 1},
                *built_in,
                {"type": "object", "properties": using, "required": ["use"], "additionalProperties": False},
                others,
            ]
        }

    def _settings(self, name: str) -> Schema:
        cls = settings_class(resolve(name))
        return {"$ref": f"#/$defs/{self.struct(cls, partial=True)}"} if cls else {"type": "object"}


def plain_default(value: Any) -> Any:
    """A default as JSON; an empty mapping for what has defaults of its own."""
    if isinstance(value, Struct):
        return {}
    if isinstance(value, Duration | Size | Share):
        return str(value)
    return msgspec.to_builtins(value, enc_hook=str)


def _one_of_us(name: str, settings: Schema, on_error: Schema) -> Schema:
    # `false` takes an inherited addon away, null is the same as no settings.
    properties = {name: {"anyOf": [settings, {"type": "null"}, {"const": False}]}, "on_error": on_error}
    return {"type": "object", "properties": properties, "required": [name], "additionalProperties": False}


def _leaf(leaf: Any, in_mapping: bool) -> list[Schema]:
    schema = msgspec.json.schema(leaf)
    schema.pop("description", None)
    if in_mapping and schema.get("type") == "string":
        return [{**schema, "type": ["string", "number", "boolean"]}]
    if schema == {"type": "string"}:
        return [schema]
    # `on: [502]` is as good as `on: ["502"]`, and the other way round.
    if "enum" in schema:
        texts = [str(value) for value in schema["enum"]]
        numbers = [int(text) for text in texts if text.isdigit()]
        schema = {"enum": [*texts, *numbers]}
    return [schema, _to_reference()]


def _to_reference() -> Schema:
    return {"$ref": "#/$defs/Reference"}


def _lengths(shape: Shape, of: str) -> Schema:
    bounds = {f"min{of}": shape.bound("min_length"), f"max{of}": shape.bound("max_length")}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]
