"""A `Filter` as conditions of SQL, for whichever store: both know the same columns, each writes its own marks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.audit import Filter
from holdfast.audit.rows import lane, stored

LAST_STATUS = "coalesce(last_status, status)"


def conditions(where: Filter, mark: str, one_of: str, many: Callable[[list[str]], Any]) -> tuple[str, list[Any]]:
    """The text behind WHERE, `mark` for each value, and the values.

    `one_of` is how this store asks for one of many, with the mark in it, and `many` how it takes them.
    """
    parts: list[str] = ["true"]
    values: list[Any] = []
    key = where.get("key")
    for column, chosen in (("id", where.get("ids")), ("state", where.get("states"))):
        if chosen is not None:
            parts.append(f"{column} {one_of}")
            values.append(many([stored(each) for each in chosen]))
    if key is not None:
        parts.append(f"lane = {mark} AND key = {mark}")
        values += [lane(key), stored(key)]
    for name in ("route", "error"):
        if (text := where.get(name)) is not None:
            parts.append(f"{name} = {mark}")
            values.append(stored(str(text)))
    plain = ((where.get("state"), "state ="), (where.get("status"), f"{LAST_STATUS} ="))
    times = ((where.get("since"), "captured >="), (where.get("until"), "captured <"))
    for value, condition in (*plain, *times):
        if value is not None:
            parts.append(f"{condition} {mark}")
            values.append(value)
    return " AND ".join(parts), values
