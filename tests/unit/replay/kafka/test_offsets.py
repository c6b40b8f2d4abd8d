"""What may be committed: never what is not settled, never back, and in the end everything."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.replay.kafka.offsets import Offsets


def given_out(*offsets: int) -> Offsets:
    made = Offsets()
    for offset in offsets:
        made.give(offset)
    return made


def test_the_lowest_that_is_not_settled_is_what_may_be_committed() -> None:
    """A commit is the offset to begin with after a crash."""
    offsets = given_out(10, 11, 12, 13)
    assert offsets.to_commit() is None, "nothing is settled"
    offsets.settle(12)
    offsets.settle(11)
    assert offsets.to_commit() is None, "10 is in the way"
    offsets.settle(10)
    assert offsets.to_commit() == 13
    offsets.settle(13)
    assert offsets.to_commit() == 14


def test_gaps_are_passed_over() -> None:
    """Compaction and the markers of transactions leave offsets that nobody is ever given."""
    offsets = given_out(3, 7, 20)
    offsets.settle(3)
    assert offsets.to_commit() == 7
    offsets.settle(7)
    offsets.settle(20)
    assert offsets.to_commit() == 21
    offsets.reach(25)
    assert offsets.to_commit() == 25


def test_a_gap_before_what_is_open_does_not_pass_it() -> None:
    """The end may be known while messages before it are open."""
    offsets = given_out(3, 4)
    offsets.reach(9)
    offsets.settle(4)
    assert offsets.to_commit() is None
    offsets.settle(3)
    assert offsets.to_commit() == 9


def test_where_kafka_has_us_begin_is_not_told_to_kafka() -> None:
    """An idle partition costs no commit."""
    offsets = Offsets()
    assert (offsets.low, offsets.to_commit()) == (None, None)
    offsets.reach(40)
    assert (offsets.low, offsets.to_commit()) == (40, None)


def test_what_was_asked_is_not_asked_again_unless_it_failed() -> None:
    """After a failure the next commit says it all."""
    offsets = given_out(1, 2, 3)
    offsets.settle(1)
    assert offsets.to_commit() == 2
    assert offsets.to_commit() is None
    offsets.fail()
    offsets.settle(2)
    assert offsets.to_commit() == 3
    offsets.confirm(3)
    offsets.fail()
    assert offsets.to_commit() is None
    offsets.settle(3)
    assert offsets.to_commit() == 4


def test_settling_twice_or_the_unknown_changes_nothing() -> None:
    """`settle` says whether it was open."""
    offsets = given_out(5, 6)
    assert [offsets.settle(each) for each in (6, 6, 4, 7)] == [True, False, False, False]
    assert (offsets.low, offsets.open) == (5, 1)


def test_an_offset_that_was_passed_is_refused() -> None:
    """It would make commits go back."""
    offsets = given_out(5, 6)
    assert not offsets.follows(6)
    with pytest.raises(ValueError, match="offset 6 comes after 6"):
        offsets.give(6)
    offsets.reach(9)
    assert not offsets.follows(8)
    assert offsets.follows(9)


@given(st.data())
def test_commits_agree_with_a_model(data: st.DataObject) -> None:
    """The model keeps everything in a dict, and looks through all of it each time."""
    offsets, settled, asked, confirmed = Offsets(), {}, -1, -1
    end = data.draw(st.integers(0, 5))
    first = True
    for _ in range(data.draw(st.integers(0, 60))):
        action = data.draw(st.sampled_from(["give", "give", "settle", "settle", "reach", "ask"]))
        if action == "give":
            end += data.draw(st.sampled_from([0, 0, 0, 1, 4]))
            offsets.give(end)
            settled[end] = False
            asked, confirmed, first = (end, end, False) if first else (asked, confirmed, False)
            end += 1
        elif action == "reach":
            end += data.draw(st.integers(0, 3))
            offsets.reach(end)
            asked, confirmed, first = (end, end, False) if first else (asked, confirmed, False)
        elif action == "settle" and settled:
            one = data.draw(st.sampled_from(sorted(settled)))
            assert offsets.settle(one) is not settled[one]
            settled[one] = True
        elif action == "ask":
            low = None if first else min((each for each, done in settled.items() if not done), default=end)
            wanted = low if low is not None and low > asked else None
            assert offsets.to_commit() == wanted
            if wanted is not None and data.draw(st.booleans()):
                asked = confirmed = wanted
                offsets.confirm(wanted)
            elif wanted is not None:
                asked = confirmed
                offsets.fail()
        assert offsets.open == list(settled.values()).count(False)


def test_all_of_a_long_partition_is_committed_in_the_end(seed: int) -> None:
    """100,000 offsets with gaps, settled in any order within a window; commits only grow, and hold up nothing."""
    dice = random.Random(seed)
    offsets, window, end, last = Offsets(), [], 0, 0
    for _ in range(100_000):
        end += dice.choice((1, 1, 1, 2, 5))
        offsets.give(end)
        window.append(end)
        if len(window) > 500:
            offsets.settle(window.pop(dice.randrange(500)))
        commit = offsets.to_commit()
        assert commit is None or commit > last
        last = commit or last
    for each in window:
        offsets.settle(each)
    assert (offsets.open, offsets.to_commit()) == (0, end + 1)
