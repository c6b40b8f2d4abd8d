"""Whatever a file holds, loading it ends in a profile or in a ProfileError with at least one fault."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import ProfileError
from holdfast.profile.load import load_profile
from holdfast.profile.mask import masked
from holdfast.profile.settings import Profile

ENV = {"A": "1", "B": "", "C": "x: [y"}
PIECES = """\
version 1 2 extends minimal p.yaml listen 127.0.0.1:80 admin token upstream servers http://h retry on 502
deadline 5s 0 -1 1e999 1:30 0x1F addons metrics use with on_error open router routes name pattern
null ~ yes ${A} ${B} ${C} ${NO:-x} ${ << &a *a !!str !x !!binary ' " | > # --- ... \\ é \ud83d \x00
"""
WORDS = [*PIECES.split(), "%YAML 1.2", "\t", "\U0010ff00", "\ufeff", "\u2028"]
SYNTAX = [": ", "\n", "\n  ", "\n    ", "- ", ", ", "[", "]", "{", "}", " ", "? ", "\n- "]
yaml_like = st.lists(st.sampled_from(WORDS + SYNTAX), max_size=40).map("".join)

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.sampled_from(WORDS))
keys = st.sampled_from([word for word in WORDS if word.isidentifier()]) | st.text(max_size=8)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=20
)


def loaded(name: str, overrides: dict[str, object] | None = None) -> Profile | ProfileError:
    try:
        return load_profile(name, env=ENV, overrides=overrides)
    except ProfileError as error:
        return error


def load_text(text: str) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "p.yaml"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        outcome = loaded(str(file))
    if isinstance(outcome, ProfileError):
        assert outcome.faults
        assert all(fault.message and fault.path and fault.line >= 0 for fault in outcome.faults)
    else:
        assert masked(outcome)["version"] == 1


@settings(derandomize=True, max_examples=400, deadline=None)
@given(yaml_like)
def test_text_that_looks_like_yaml_is_read_or_refused(text):
    """Pieces of profiles and of YAML's syntax in any order."""
    load_text(text)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(text):
    """No character is too odd."""
    load_text(text)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.dictionaries(keys, trees, max_size=6))
def test_any_tree_is_read_or_refused(tree):
    """Sound YAML with the wrong values in the wrong places."""
    load_text("version: 1\n" + "".join(f"{_yaml(key)}: {_yaml(value)}\n" for key, value in tree.items()))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=12), trees, max_size=4))
def test_any_override_is_taken_or_refused(overrides):
    """The command line is checked like a file."""
    outcome = loaded("minimal", overrides)
    assert not isinstance(outcome, ProfileError) or outcome.faults


def _yaml(value: object) -> str:
    """Flow style, texts in double quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    if isinstance(value, str):
        return (
            '"'
            + "".join(f"\\U{ord(char):08x}" if char in '"\\' or not char.isprintable() else char for char in value)
            + '"'
        )
    return "null" if value is None else str(value).lower()
