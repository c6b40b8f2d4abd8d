"""JSON paths: what they say, and that masking edits nothing but what they point at."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.policy.json_paths import Step, mask_json, parse_path

fixed = settings(derandomize=True, deadline=None)
X = '"[redacted]"'
KEYS = st.sampled_from(["a", "b", "Password", "c d", "\u00fc"])
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=25,
)


def masked(text: str, *paths: str) -> str:
    """The masked text alone."""
    return mask_json(text, [parse_path(each) for each in paths])[0]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("$", ()),
        ("$.user.pass-word", (Step("user"), Step("pass-word"))),
        ("$['a.b'][\"C'\"]", (Step("a.b"), Step("c'"))),
        ("$.items[*].token", (Step("items"), Step(None), Step("token"))),
        ("$.a.*", (Step("a"), Step(None))),
        ("$[0][12]", (Step(0), Step(12))),
        ("$..password", (Step("password", deep=True),)),
        ("$..['x y']", (Step("x y", deep=True),)),
    ],
)
def test_a_path_is_read_step_by_step(text: str, steps: tuple[Step, ...]) -> None:
    """The syntax in the module's docstring."""
    path = parse_path(text)
    assert (path.text, path.steps) == (text, steps)


@pytest.mark.parametrize(
    "text",
    ["", "user", ".user", "$user", "$.", "$..", "$...a", "$.a.", "$.[0]", "$[", "$[]", "$[-1]", "$['']", "$.a b", " $"],
)
def test_a_path_that_is_none_is_refused_with_an_example(text: str) -> None:
    """A path that is quietly ignored would be a leak."""
    with pytest.raises(ValueError, match=r"is no JSON path: write it like \$\.user"):
        parse_path(text)


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ('{"a": {"b": 1}}', "$.a.b", '{"a": {"b": %s}}'),
        ('{"a": {"b": 1}}', "$.a", '{"a": %s}'),
        ('{"a": {"b": 1}}', "$.b", None),
        ('{"a":[{"t":1},{"t":[2,{}]}, 3]}', "$.a[*].t", '{"a":[{"t":%s},{"t":%s}, 3]}'),
        ('{"a":[1 , 2,3]}', "$.a[1]", '{"a":[1 , %s,3]}'),
        ("[0,1,2,[0,1]]", "$..[1]", "[0,%s,2,[0,%s]]"),
        ('[{"p":1},[{"p":2}],{"q":{"p":null}}]', "$..p", '[{"p":%s},[{"p":%s}],{"q":{"p":%s}}]'),
        ('{"p":{"p":1},"q":2}', "$..p", '{"p":%s,"q":2}'),
        ('{"PassWord":"x"}', "$.password", '{"PassWord":%s}'),
        ('{"pass\\u0077ord":"x"}', "$.password", '{"pass\\u0077ord":%s}'),
        ('{"p":1,"p":"two"}', "$.p", '{"p":%s,"p":%s}'),
        ('{"p":"}\\",{"}', "$.p", '{"p":%s}'),
        ('\ufeff {"p":1}\r\n', "$.p", '\ufeff {"p":%s}\r\n'),
        ('{"n":1.0E+2,"big":123456789012345678901234567890.10,"p":1}', "$.p", None),
        (" [1, 2] ", "$", " %s "),
        ('"text"', "$.p", None),
        ("{}", "$..p", None),
        ("[ ]", "$[*]", None),
        ('{"a":{},"b":[]}', "$.*", '{"a":%s,"b":%s}'),
        ('{"a":"line\nbreak","p":1}', "$.p", '{"a":"line\nbreak","p":%s}'),
    ],
)
def test_a_path_masks_what_it_points_at(text: str, path: str, expected: str | None) -> None:
    """Everything else keeps its characters: spaces, numbers, escapes, names that occur twice."""
    wanted = text if expected is None else expected.replace("%s", X)
    if '"big"' in text:
        wanted = text.replace('"p":1', '"p":' + X)
    assert masked(text, path) == wanted


def test_the_paths_that_hit_are_named_as_they_were_written() -> None:
    """They become `body:...` in the record's `redacted`; a value behind a masked one is not looked at."""
    paths = [parse_path(each) for each in ("$..a", "$.A", "$.b", "$.a.c")]
    assert mask_json('{"a": {"c": 1}}', paths) == ('{"a": ' + X + "}", ("$..a", "$.A"))


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,}', "[1,]", "[1 2]", "{a:1}", '{"a":1}x', "{}{}", "a=1", "'a'",
     '{"p":"unfinished', '{"p":1} // comment', '{"a" 1}', "[" * 100_000, '{"p":' * 5_000],
)  # fmt: skip
def test_what_is_not_json_is_refused(text: str) -> None:
    """The caller masks such a body whole; nesting that would exhaust the stack is among it."""
    with pytest.raises(ValueError, match=r"."):
        masked(text, "$..p")


def test_a_number_too_long_for_python_is_skipped_all_the_same() -> None:
    """Python refuses to read integers of more than 4300 digits."""
    text = '{"n": ' + "9" * 5000 + ', "p": 1}'
    assert masked(text, "$.p") == text[: text.index("1}")] + X + "}"


def reference(tree: Any, key: str) -> Any:
    """`$..key` on parsed JSON, the obvious way."""
    if isinstance(tree, dict):
        return {name: "[redacted]" if name.casefold() == key else reference(each, key) for name, each in tree.items()}
    return [reference(each, key) for each in tree] if isinstance(tree, list) else tree


@fixed
@given(TREES, st.sampled_from(["a", "password", "\u00fc"]), st.sampled_from([None, 2]), st.booleans())
def test_masking_any_tree_is_what_it_should_be(tree: Any, key: str, indent: int | None, ascii_only: bool) -> None:
    """Against a plain reference, in any layout."""
    text = json.dumps(tree, indent=indent, ensure_ascii=ascii_only)
    assert json.loads(masked(text, f"$..{key}")) == reference(tree, key)


@fixed
@given(TREES)
def test_without_a_hit_the_text_is_the_same(tree: Any) -> None:
    """Bodies that hold nothing to mask stay as they were."""
    text = json.dumps(tree, indent=1)
    assert mask_json(text, [parse_path("$..nowhere"), parse_path("$.a.nowhere[3]")]) == (text, ())


@fixed
@given(st.text(alphabet='{}[]",:ap1 \\', max_size=30))
def test_whatever_is_accepted_was_json(text: str) -> None:
    """The walk lets nothing through that Python's own parser refuses."""
    try:
        result = masked(text, "$..p", "$.a[*]")
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            json.loads(text, strict=False)
    else:
        json.loads(text, strict=False)
        json.loads(result, strict=False)
        assert not re.search(r'"p"\s*:(?!\s*"\[redacted\]")', result)
