"""`${NAME}` and `${NAME:-default}`."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.profile.interpolate import interpolate

ENV = {"HOST": "example", "EMPTY": "", "TRICKY": "${HOST} $${x} }"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain $HOST {HOST}", "plain $HOST {HOST}"),
        ("${HOST}", "example"),
        ("http://${HOST}:${PORT:-80}/", "http://example:80/"),
        ("${EMPTY}", ""),
        ("${EMPTY:-x}", "x"),
        ("${MISSING:-}", ""),
        ("${MISSING:-a:-b}", "a:-b"),
        ("$${HOST}", "${HOST}"),
        ("$$${HOST}", "$${HOST}"),
        ("${TRICKY}", "${HOST} $${x} }"),
    ],
)
def test_references_are_filled_in_once(text, result):
    """What a variable holds is taken as it is."""
    assert interpolate(text, ENV) == result


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A-b}", "${A:?b}", "${HOST", "${A:-${HOST}}", "${ HOST }"])
def test_anything_else_that_looks_like_a_reference_is_refused(text):
    """A misspelt reference must not end up in a setting as it stands."""
    with pytest.raises(ValueError, match=r"holds a \$\{ that is no reference"):
        interpolate(text, ENV)


def test_a_missing_variable_without_default_is_named():
    """The message names the variable and the way out."""
    with pytest.raises(ValueError, match=r"variable KAFKA_URL is not set: set it, or write \$\{KAFKA_URL:-default\}"):
        interpolate("${KAFKA_URL}", ENV)


@given(st.text(alphabet="${}:-AB \\n"))
def test_no_text_raises_anything_but_value_error(text):
    """Whatever the order of dollars and braces."""
    with suppress(ValueError):
        interpolate(text, {"A": "1"})
