"""policy.caching.dates: the three formats of HTTP dates, and what is none."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.caching.dates import parse, written

NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
AUGUST = int(datetime(2050, 8, 18, 2, 1, 18, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        (b"Sun Nov  6 08:49:37 1994", 784111777),
        (b" Sun, 06 Nov 1994 08:49:37 GMT\t", 784111777),
        (b"Thu, 18 Aug 2050 02:01:18 GMT", AUGUST),
        (b"THU, 18 Aug 2050 02:01:18 GMT", AUGUST),
        (b"Thu, 18 AUG 2050 02:01:18 GMT", AUGUST),
        (b"Thu, 18 Aug 2050 02:01:18 gMT", AUGUST),
        (b"Mon, 18 Aug 2050 02:01:18 GMT", AUGUST),
        (b"Thursday, 18-Aug-50 02:01:18 GMT", AUGUST),
        (b"Tue, 19 Jan 2038 14:14:08 GMT", 2147523248),
        (b"Sun, 21 Nov 2286 04:46:39 GMT", 10000039599),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0),
        (b"Wed, 31 Dec 1969 23:59:59 GMT", -1),
        (b"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800),
    ],
)
def test_a_date_in_any_of_the_three_formats_is_read(value: bytes, moment: int) -> None:
    """RFC 9110, section 5.6.7; the case of the letters and the day of the week do not matter."""
    assert parse(value, NOW) == moment


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0",
        b"-1",
        b"1483228800",
        b"foo",
        b"Thu, 18 Aug 2050 02:01:18 UTC",
        b"Thu, 18 Aug 2050 02:01:18 AEST",
        b"Thu, 18 Aug 2050 02:01:18 +0000",
        b"Thu, 18 Aug 2050 02:01:18",
        b"Thu, 18 Aug 50 02:01:18 GMT",
        b"Thu 18 Aug 2050 02:01:18 GMT",
        b"Thu, 18  Aug  2050 02:01:18 GMT",
        b"Thu, 18-Aug-2050 02:01:18 GMT",
        b"Thu, 18 Aug 2050 02.01.18 GMT",
        b"Thu, 18 Aug 2050 2:01:18 GMT",
        b"Thu, 8 Aug 2050 02:01:18 GMT",
        b"Thu, 18 Aug 2050 25:01:18 GMT",
        b"Thu, 18 Aug 2050 02:61:18 GMT",
        b"Thu, 18 Aug 2050 02:01:61 GMT",
        b"Thu, 31 Feb 2050 02:01:18 GMT",
        b"Thu, 18 Aug 0000 02:01:18 GMT",
        b"Thu, 18 Foo 2050 02:01:18 GMT",
        b"Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
        b"Thu, 18 Aug 2050 02:01:18 GMT\n",
        "Thu, 1٨ Aug 2050 02:01:18 GMT".encode(),
    ],
)
def test_anything_else_is_no_date(value: bytes) -> None:
    """RFC 9111, section 5.3: as an Expires it is one in the past, so a guess would be the greater error."""
    assert parse(value, NOW) is None


@pytest.mark.parametrize(
    ("year", "now", "full"),
    [(b"76", 2026, 2076), (b"77", 2026, 1977), (b"26", 2026, 2026), (b"25", 2026, 2025), (b"05", 2099, 2105)],
)
def test_a_year_of_two_digits_is_at_most_fifty_years_ahead(year: bytes, now: int, full: int) -> None:
    """RFC 9110, section 5.6.7."""
    moment = parse(b"Sunday, 06-Nov-" + year + b" 08:49:37 GMT", datetime(now, 6, 1, tzinfo=UTC).timestamp())
    assert moment == int(datetime(full, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp())


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))  # noqa: DTZ001
def test_every_date_that_can_be_written_is_read_back(moment: datetime) -> None:
    """Both formats that carry the whole year."""
    moment = moment.replace(tzinfo=UTC, microsecond=0)
    for form in ("%a, %d %b {year} %H:%M:%S GMT", "%a %b %d %H:%M:%S {year}"):
        text = moment.strftime(form.format(year=f"{moment.year:04d}"))
        assert parse(text.encode(), NOW) == int(moment.timestamp())


def test_a_date_is_sent_in_the_fixed_form() -> None:
    """RFC 9110, section 5.6.7; a date has no fraction."""
    assert written(784111777.9) == b"Sun, 06 Nov 1994 08:49:37 GMT"


@given(st.binary(max_size=40), st.floats(allow_nan=True, allow_infinity=True))
def test_no_value_is_too_strange_to_be_refused(value: bytes, now: float) -> None:
    """The parser never raises, whatever the clock says."""
    parse(value, now)
    parse(b"Sunday, 06-Nov-94 08:49:37 GMT", now)
