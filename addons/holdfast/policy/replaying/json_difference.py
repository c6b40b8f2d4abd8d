"""Where two JSON values differ: the paths, written so that `policy/json_paths.py` reads them back.

Members are matched by name, elements by index. Numbers are compared by value, whatever their length: 1 and 1.0 are the
same. A value that is a mark of redaction is the same as any other, and as none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import NoReturn

from holdfast.policy.json_paths import JsonPath, mask_json
from holdfast.policy.redaction import MASK
from holdfast.policy.replaying.likeness import Likeness, side_by_side

_PLAIN_NAME = re.compile(r"[^\W\d][\w-]*")


class _Absent:
    """Stands for a member or an element that the other side has and this one has not."""


_ABSENT = _Absent()


def read_json(text: str, ignored: Sequence[JsonPath] = ()) -> object:
    """The value, with a mark of redaction at ignored paths, and numbers as Decimal. ValueError if it is not JSON."""
    text = text.removeprefix("\ufeff")
    if ignored:
        text, _ = mask_json(text, ignored)
    try:
        return json.loads(text, parse_int=Decimal, parse_float=Decimal, parse_constant=_refuse)
    except (RecursionError, ArithmeticError) as exc:
        raise ValueError("the JSON is nested too deeply, or has a number out of all bounds") from exc


def json_differences(one: object, other: object, likeness: Likeness) -> Iterator[tuple[str, str, str]]:
    """(path, what is there in the one, what is there in the other), in the order of the texts."""
    waiting: list[tuple[str, object, object]] = [("$", one, other)]  # not by recursion: bodies are strangers' work
    while waiting:
        path, left, right = waiting.pop()
        if MASK in (left, right):
            continue
        if isinstance(left, dict) and isinstance(right, dict):
            names = dict.fromkeys((*left, *right))
            members = [(path + _step(name), left.get(name, _ABSENT), right.get(name, _ABSENT)) for name in names]
            waiting += reversed(members)
        elif isinstance(left, list) and isinstance(right, list):
            pairs = enumerate(zip_longest(left, right, fillvalue=_ABSENT))
            waiting += reversed([(f"{path}[{index}]", *pair) for index, pair in pairs])
        elif isinstance(left, str) and isinstance(right, str):
            if not likeness.same(left, right):
                a, b = side_by_side(likeness.plain(left), likeness.plain(right))
                yield path, f'"{a}"', f'"{b}"'
        elif type(left) is not type(right) or left != right:
            yield path, _shown(left), _shown(right)


def _step(name: str) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return f".{name}"
    quote = '"' if "'" in name else "'"
    return f"[{quote}{name}{quote}]"


def _shown(value: object) -> str:
    if isinstance(value, _Absent):
        return "nothing"
    if isinstance(value, Mapping):
        return f"an object of {len(value)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return f'"{side_by_side(value, "")[0]}"'
    return side_by_side(str(value) if isinstance(value, Decimal) else json.dumps(value), "")[0]


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
