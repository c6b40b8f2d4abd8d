"""Figures as people read them."""

from __future__ import annotations

import pytest

from holdfast.top import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (0.001, "0"),
        (0.04, "0.04"),
        (1, "1.0"),
        (41.23, "41.2"),
        (99.97, "100"),
        (12345, "12.3k"),
    ],
)
def test_a_rate_is_short(value: float | None, text: str) -> None:
    """Never wider than five characters, and 0 only where there is nothing to speak of."""
    assert wording.per_second(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0"), (9999, "9999"), (10_000, "10.0k"), (999_999, "1000k"), (4.5e6, "4.5M"), (2e9, "2.0G")],
)
def test_a_count_is_short(value: float | None, text: str) -> None:
    """Whole up to four digits."""
    assert wording.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0 B"), (512, "512 B"), (3481, "3.4 KiB"), (1 << 30, "1 GiB"), (5 << 40, "5 TiB")],
)
def test_a_size_has_its_unit(value: float | None, text: str) -> None:
    """As profiles write sizes."""
    assert wording.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, "–"), (0, "0s"), (0.4, "0.4s"), (14.9, "14s"), (60, "1m"), (134, "2m14s")),
        *((11520, "3h12m"), (3600, "1h"), (187200, "2d4h")),
    ],
)
def test_an_age_has_two_units_at_most(value: float | None, text: str) -> None:
    """As profiles write durations."""
    assert wording.age(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.0004, "0.4ms"), (0.012, "12ms"), (1.34, "1.3s"), (30, "30s"), (0.00999, "10ms")]
)
def test_a_duration_of_a_request_is_in_ms_or_s(value: float | None, text: str) -> None:
    """Whatever reads best."""
    assert wording.duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0%"), (0.0001, "0.1%"), (0.021, "2.1%"), (0.92, "92%"), (0.9999, "99%"), (1, "100%")],
)
def test_only_all_is_100_percent(value: float | None, text: str) -> None:
    """And only nothing is 0."""
    assert wording.share(value) == text


def test_a_sparkline_shows_the_shape() -> None:
    """The highest is full, nothing is the lowest block, something is more than that, unknown is blank."""
    assert wording.sparkline([None, 0, 1, 50, 100], 5) == " ▁▂▅█"
    assert wording.sparkline([0, 0], 2) == "▁▁"
    assert wording.sparkline([None, 4, 0, 4, 8, 8], 3) == "▅▃█"
    assert wording.sparkline([1, 2, 3], 10) == wording.sparkline([1, 2, 3], 3)
    assert wording.sparkline([1], 0) == wording.sparkline([], 5) == ""
