"""A loaded profile as plain data that may be shown: secrets masked, values in the form they are written in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from holdfast.profile.hints import MASK, is_secret, without_credentials
from holdfast.profile.settings import AddonEntry, Profile
from holdfast.profile.shapes import VALUE_TYPES, fields_of


def masked(profile: Profile) -> dict[str, Any]:
    """What `GET /config` and `holdfast check` show; JSON can express all of it."""
    shown = _struct(profile)
    del shown["tests"]  # they say nothing of what the gateway does
    shown["addons"] = [_entry(entry) for entry in profile.addons]
    return shown


def _entry(entry: AddonEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "use": entry.target,
        "with": _plain(entry.settings, secret=False),
        "on_error": entry.on_error,
        "file": entry.file,
        "line": entry.line,
    }


def _struct(settings: Struct) -> dict[str, Any]:
    return {item.name: _plain(getattr(settings, item.attribute), item.secret) for item in fields_of(type(settings))}


def _plain(value: Any, secret: bool) -> Any:
    # A count or a switch is no secret, whatever its name: only texts are masked.
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, VALUE_TYPES):
        return str(value)
    if isinstance(value, int | float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Struct):
        return _struct(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, secret or is_secret(str(key))) for key, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [_plain(item, secret) for item in value]
    text = str(value)
    return MASK if secret and text else without_credentials(text)
