"""YAML by libyaml and by PyYAML's own parser: one and the same to whoever writes a profile."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import ProfileError
from holdfast.profile import compose as module
from holdfast.profile.compose import compose
from holdfast.profile.shipped import shipped_file, shipped_profiles

ODD = (
    *("a:\tb", "a: b\t", "\tb: 1", "a: \ufeffb", "a: 1\r\nb: 2", "a\x85b: 1", "? a\n: b", "{a?b: c}", "a: [b?, c]"),
    *("!x a", "a: !", "|-#", "a: |#x\n b", "%YAML 3.0\n---\na", "a\n---\nb", "a: >-\n  x\n  y\n", 'a: "x?{y"', "@a"),
    *(
        "{a: , b: 1}",
        "a: [1, 2",
        "a: 'x",
        "a: &x [*x]",
        "a: *x",
        "- a\nb: 1",
        "a: b: c",
        "",
        "a: ${B:-}",
        "{a: ${B:-}}",
    ),
)


@pytest.mark.parametrize("name", sorted(name for name, _ in shipped_profiles()))
def test_a_shipped_profile_is_read_by_libyaml_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every node, with its tag, its quotes and its line."""
    assert_alike(Path(shipped_file(name)).read_text(encoding="utf-8"), monkeypatch)


@pytest.mark.parametrize("text", ODD)
def test_odd_texts_are_taken_or_refused_in_the_same_words(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What libyaml would take otherwise is left to the parser that says better what is wrong."""
    assert_alike(text, monkeypatch)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(alphabet="ab1: -\n,[]{}#&*!|>'\"%@`?\t\\~", max_size=40))
def test_made_up_texts_are_taken_or_refused_in_the_same_words(text: str) -> None:
    """Of those that both take, every line is the same."""
    with pytest.MonkeyPatch.context() as patch:
        assert_alike(text, patch)


def test_a_line_that_is_all_brackets_does_not_take_long_to_look_at() -> None:
    """A mistaken file ends in a fault, not in a hang: seconds at most."""
    began = time.monotonic()
    for text in ("{" * 500_000, '{"' * 250_000, "{?" * 250_000, "?\n" * 250_000):
        assert isinstance(module._read_otherwise(text), bool)
    assert time.monotonic() - began < 20


def assert_alike(text: str, patch: pytest.MonkeyPatch) -> None:
    """Both ways come to the same."""
    assert module._FastLoader, "this PyYAML was built without libyaml"
    fast = outcome(text)
    patch.setattr(module, "_FastLoader", None)
    assert fast == outcome(text)


def outcome(text: str) -> object:
    """The graph, or the fault."""
    try:
        return plain(compose(text, "f"))
    except ProfileError as error:
        return str(error)


def plain(node: yaml.Node | None) -> object:
    """The graph as values; of places only the line, which is what faults name. What is left out stands nowhere."""
    if isinstance(node, yaml.ScalarNode):
        return node.tag, node.value, node.style or None, node.start_mark.line if node.value else None
    if isinstance(node, yaml.MappingNode):
        return node.tag, [(plain(key), plain(value)) for key, value in node.value], node.start_mark.line
    if isinstance(node, yaml.SequenceNode):
        return node.tag, [plain(each) for each in node.value], node.start_mark.line
    return None
