"""UUID version 7 (RFC 9562): layout, and the order of ids made in one process."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.policy.uuid7 import Uuid7Source, is_uuid, uuid7

fixed = settings(derandomize=True, deadline=None)


def test_the_example_of_the_rfc_comes_out() -> None:
    """RFC 9562, appendix A.6."""
    random80 = bytes.fromhex("0cc3" + "18c4dc0c0c07398f")
    assert uuid7(0x017F22E279B0, random80) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@fixed
@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10), st.none() | st.integers(0, 0xFFF))
def test_every_id_is_a_version_7_of_the_rfcs_variant(ms: int, random80: bytes, counter: int | None) -> None:
    """RFC 9562, sections 4.1, 4.2 and 5.7: the standard library agrees on version, variant and time."""
    text = uuid7(ms, random80, counter)
    parsed = uuid.UUID(text)
    assert is_uuid(text)
    assert (parsed.version, parsed.variant, parsed.int >> 80) == (7, uuid.RFC_4122, ms)
    if counter is not None:
        assert parsed.int >> 64 & 0xFFF == counter


@pytest.mark.parametrize(
    ("ms", "random80", "counter"),
    [(-1, bytes(10), None), (2**48, bytes(10), None), (0, bytes(9), None), (0, bytes(11), 1), (0, bytes(10), 0x1000)],
)
def test_what_does_not_fit_is_refused(ms: int, random80: bytes, counter: int | None) -> None:
    """Cutting bits off would give two captures one id."""
    with pytest.raises(ValueError, match="UUIDv7"):
        uuid7(ms, random80, counter)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f", True),
        ("f81d4fae-7dec-11d0-a765-00a0c91e6bf6", True),
        ("017F22E2-79B0-7CC3-98C4-DC0C0C07398F", False),
        ("017f22e279b07cc398c4dc0c0c07398f", False),
        ("{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}", False),
        ("urn:uuid:017f22e2-79b0-7cc3-98c4-dc0c0c07398f", False),
        ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f\n", False),
        (" 017f22e2-79b0-7cc3-98c4-dc0c0c07398f", False),
        ("017f22e2-79b0-7cc3-18c4-dc0c0c07398f", False),
        ("00000000-0000-0000-0000-000000000000", False),
        ("\u0660" * 8 + "-0000-7000-8000-000000000000", False),
        ("../../../../etc/passwd", False),
        ("", False),
    ],
)
def test_only_the_form_that_is_written_is_an_id(text: str, expected: bool) -> None:
    """What passes may stand in a path or a header as it is."""
    assert is_uuid(text) is expected


@fixed
@given(st.lists(st.integers(0, 5_000), min_size=2, max_size=60), st.randoms(use_true_random=False))
def test_ids_only_grow_whatever_the_clock_does(times: list[int], dice: object) -> None:
    """RFC 9562, section 6.2: equal milliseconds and a clock that goes back."""
    clock = iter(times)
    source = Uuid7Source(lambda: next(clock) / 1000, dice.randbytes)  # type: ignore[attr-defined]
    ids = [source.next() for _ in times]
    assert ids == sorted(set(ids))


def test_a_used_up_counter_borrows_the_next_millisecond() -> None:
    """RFC 9562, section 6.2: more ids in a millisecond than the counter has room for."""
    source = Uuid7Source(lambda: 1.0, lambda count: b"\xff" * count)
    ids = [source.next() for _ in range(0xFFF - 0x7FF + 2)]
    assert ids == sorted(set(ids))
    assert {uuid.UUID(each).int >> 80 for each in ids} == {1000, 1001}


def test_the_time_of_an_id_follows_the_clock_again() -> None:
    """Having run ahead, the time waits for the clock and then goes on with it."""
    times = iter([5.0, 4.0, 5.001])
    source = Uuid7Source(lambda: next(times), bytes)
    assert [uuid.UUID(source.next()).int >> 80 for _ in range(3)] == [5000, 5000, 5001]
