"""What is held: the order within a key, and when which of them is looked at."""

from __future__ import annotations

from holdfast.replay.lanes import Held, Lanes
from tests.unit.replay.fakes import held


def lanes_of(*names: str, key: str = "/a") -> tuple[Lanes, list[Held]]:
    """One lane with these."""
    lanes, helds = Lanes(), [held(name, key) for name in names]
    for each in helds:
        lanes.add(each)
    return lanes, helds


def test_the_first_of_a_key_is_its_head_until_it_is_dropped() -> None:
    """One after the other."""
    lanes, (first, second, third) = lanes_of("1", "2", "3")
    assert lanes.is_head(first)
    assert not lanes.is_head(second)
    assert lanes.drop(first) is second
    assert lanes.is_head(second)
    assert lanes.drop(third) is None, "nobody has come to the front by this"
    assert lanes.drop(second) is None
    assert not len(lanes)
    assert not lanes.is_head(second)


def test_what_is_dropped_twice_does_not_take_another_of_its_id_with_it() -> None:
    """A capture may be dropped, and come again under the same id."""
    lanes, (first,) = lanes_of("1")
    lanes.drop(first)
    again = held("1")
    lanes.add(again)
    assert lanes.drop(first) is None
    assert lanes.holds(again)
    assert not lanes.holds(first)


def test_only_heads_become_ripe_and_each_once() -> None:
    """Whoever takes one schedules it anew."""
    lanes, (first, second) = lanes_of("1", "2")
    lanes.at(first, 5.0)
    lanes.at(second, 1.0)
    assert lanes.ripe(4.0, 10) == []
    assert lanes.ripe(5.0, 10) == [first]
    assert lanes.ripe(5.0, 10) == []
    assert lanes.is_forgotten(first)


def test_the_last_time_that_was_said_is_the_one_that_counts() -> None:
    """Older ones are passed over, also by the question for the next time."""
    lanes, (first,) = lanes_of("1")
    lanes.at(first, 1.0)
    lanes.at(first, 9.0)
    assert lanes.next_time() == 9.0
    assert lanes.ripe(5.0, 10) == []
    lanes.at(first, 2.0)
    assert lanes.ripe(5.0, 10) == [first]
    assert lanes.next_time() is None


def test_ripe_ones_come_in_the_order_of_their_times_and_no_more_than_asked_for() -> None:
    """The others stay."""
    lanes = Lanes()
    for number in range(5):
        each = held(str(number), f"/{number}")
        lanes.add(each)
        lanes.at(each, 10.0 - number)
    assert [each.arrival.id for each in lanes.ripe(10.0, 3)] == ["4", "3", "2"]
    assert [each.arrival.id for each in lanes.ripe(10.0, 3)] == ["1", "0"]


def test_one_that_somebody_is_busy_with_is_not_looked_at() -> None:
    """It is forgotten only once nobody is."""
    lanes, (first,) = lanes_of("1")
    first.busy = True
    lanes.at(first, 0.0)
    assert lanes.ripe(1.0, 10) == []
    assert not lanes.is_forgotten(first)
    first.busy = False
    assert lanes.is_forgotten(first)
    first.is_queued = True
    assert not lanes.is_forgotten(first)


def test_an_older_one_that_comes_later_goes_to_the_front() -> None:
    """From a topic of retries, say; the one that was the head is no more."""
    lanes, (first, second, third) = lanes_of("1", "2", "3")
    lanes.to_front(third)
    assert lanes.is_head(third)
    assert lanes.behind(third) == [first, second]
    assert lanes.behind(first) == [second]
    assert lanes.drop(third) is first


def test_behind_one_are_those_that_come_after_it_and_are_not_busy() -> None:
    """What is on its way has a way of its own."""
    lanes, (first, second, third) = lanes_of("1", "2", "3")
    second.busy = True
    assert lanes.behind(first) == [third]
    assert lanes.behind(held("4")) == []


def test_lost_is_what_every_message_of_is_somebody_elses() -> None:
    """And what is not on its way."""
    lanes, (first, second) = lanes_of("1", "2")
    first.takens += held("1").takens
    first.takens[0].is_lost = second.takens[0].is_lost = True
    assert lanes.lost() == [second]
    second.busy = True
    assert lanes.lost() == []


def test_lanes_are_counted_by_key() -> None:
    """For the bound of one key."""
    lanes, _ = lanes_of("1", "2")
    lanes.add(held("3", "/b"))
    assert (lanes.length("/a"), lanes.length("/b"), lanes.length("/c"), len(lanes)) == (2, 1, 0, 3)


def test_a_long_lane_is_worked_off_without_going_through_it_each_time() -> None:
    """Twenty thousand of one key: a look at each would be a few hundred million."""
    looks = 0

    class Counting(Held):
        def __eq__(self, other: object) -> bool:
            nonlocal looks
            looks += 1
            return self is other

        __hash__ = Held.__hash__

    lanes = Lanes()
    helds = [Counting(each.arrival, each.takens) for each in (held(str(number)) for number in range(20_000))]
    for each in helds:
        lanes.add(each)
    for each in helds:
        lanes.at(each, 0.0)
        assert lanes.ripe(0.0, 500) == [each]
        lanes.drop(each)
    assert looks < 200_000
