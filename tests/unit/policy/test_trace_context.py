"""policy.trace_context: which `traceparent` fields count, and the sampling decision."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.trace_context import TraceParent, is_sampled, parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-01", 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-03", 3),
        (f"cc-{TRACE}-{SPAN}-01", 1),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", 1),
    ],
)
def test_a_field_of_this_and_of_later_versions_is_read(text: str, flags: int) -> None:
    """W3C Trace Context, sections 3.2.2 and 3.2.4: of a later version the parts that this one knows."""
    assert parse_traceparent(text) == TraceParent(TRACE, SPAN, flags)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_a_broken_field_is_ignored(text: str) -> None:
    """Section 3.2.2: a field that cannot be parsed begins a new trace."""
    assert parse_traceparent(text) is None


def test_what_is_passed_on_is_version_00_with_the_flags_that_have_a_meaning() -> None:
    """Section 3.2.2.5: flags nobody knows are not set for others."""
    read = parse_traceparent(f"cc-{TRACE}-{SPAN}-ff-more")
    assert read
    assert str(read) == f"00-{TRACE}-{SPAN}-03"
    assert str(read.with_sampled(False)) == f"00-{TRACE}-{SPAN}-02"


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 3))
def test_what_is_written_is_read_again(trace_id: int, span_id: int, flags: int) -> None:
    """Nothing is lost on the way through."""
    made = TraceParent(f"{trace_id:032x}", f"{span_id:016x}", flags)
    assert parse_traceparent(str(made)) == made


def test_the_share_decides_by_the_trace_id() -> None:
    """All or nothing at the ends; between them the low half of the id, as TraceIdRatioBased of the SDKs does."""
    below, above = f"{1:032x}", "0" * 16 + "f" * 16
    assert is_sampled(above, 1.0)
    assert not is_sampled(f"{2**127:032x}", 0.0)
    assert is_sampled(below, 0.5)
    assert not is_sampled(above, 0.5)


def test_a_share_is_kept_over_many_traces() -> None:
    """Ids spread evenly."""
    ids = [f"{(number * 0x9E3779B97F4A7C15) % 2**64:032x}" for number in range(10_000)]
    assert 900 < sum(is_sampled(trace_id, 0.1) for trace_id in ids) < 1100
