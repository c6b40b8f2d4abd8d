"""policy.since: points in time in filters."""

import pytest

from holdfast.policy.since import parse_since

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("15m", NOW - 900),
        ("1.5h", NOW - 5400),
        ("2d", NOW - 172800),
        ("1700000000.5", 1700000000.5),
        ("2026-01-31T12:00:00Z", 1769860800.0),
        ("2026-01-31T13:00:00+01:00", 1769860800.0),
        ("2026-01-31 12:00", 1769860800.0),
    ],
)
def test_a_time(text: str, moment: float) -> None:
    """Relative, absolute, or a number; without a zone it is UTC."""
    assert parse_since(text, NOW) == moment


def test_what_is_no_time_is_refused_with_examples() -> None:
    """The message says what to write."""
    with pytest.raises(ValueError, match="write it like"):
        parse_since("yesterday", NOW)
