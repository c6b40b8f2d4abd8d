"""`${NAME}` and `${NAME:-default}` in a profile's scalars; `$${` stands for a plain `${`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\}|\$\{")


def interpolate(text: str, env: Mapping[str, str]) -> str:
    """The text with its references filled in, in one pass: what a variable holds is taken as it is.

    As in a shell, the default of `${NAME:-default}` also serves when the variable is empty.
    Raises ValueError for a variable that is missing, or a reference that is not of these two forms.
    """
    return _TOKEN.sub(lambda match: _value(match, env), text)


def has_reference(text: str) -> bool:
    """Whether `interpolate` has anything to do here."""
    return "${" in text


def _value(match: re.Match[str], env: Mapping[str, str]) -> str:
    if match[0] == "$${":
        return "${"
    name, default = match["name"], match["default"]
    if name is None:
        raise ValueError("holds a ${ that is no reference: write ${NAME}, ${NAME:-default}, or $${ for the text ${")
    value = env.get(name)
    if default is not None:
        return value or default
    if value is None:
        raise ValueError(f"the environment variable {name} is not set: set it, or write ${{{name}:-default}}")
    return value
