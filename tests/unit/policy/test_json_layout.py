"""policy.json_layout: a member a line, and nothing changed that counts."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.policy.json_layout import indented

fixed = settings(derandomize=True, deadline=None)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def without_spaces(text: str) -> str:
    """JSON without the white space between its pieces."""
    parts, last = list[str](), 0
    for found in STRING.finditer(text):
        parts += [re.sub(r"\s+", "", text[last : found.start()]), found[0]]
        last = found.end()
    return "".join(parts) + re.sub(r"\s+", "", text[last:])


@fixed
@given(values, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_laid_out_json_is_what_json_dumps_makes_and_no_character_is_lost(
    value: object, indent: int | str | None, ascii_only: bool
) -> None:
    """Whatever the layout was before."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    found = indented(text, 100_000)
    assert found == json.dumps(value, indent=2, ensure_ascii=ascii_only)
    assert without_spaces(found) == without_spaces(text)


@pytest.mark.parametrize("text", ["1.10", "1e400", "123456789012345678901234567890", '"\\u00e9\\/"', '{"a":1,"a":2}'])
def test_numbers_and_names_stay_as_they_were_written(text: str) -> None:
    """What is read and written again would not be the same."""
    assert without_spaces(indented(text, 1000) or "") == text


@pytest.mark.parametrize("text", ["", "{", "[1,]", "NaN", "{'a': 1}", "[" * 100_000, "1 2", "nul"])
def test_what_is_no_json_is_told(text: str) -> None:
    """Also what only Python takes for it."""
    assert indented(text, 1000) is None


def test_what_would_grow_too_large_stays_as_it_is() -> None:
    """Deep nesting: a small body could fill a disk."""
    text = " " + "[" * 200 + ",".join("1" * 500) + "]" * 200
    assert indented(text, 10_000) == text.strip()
