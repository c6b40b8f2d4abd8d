"""policy.idle: how many idle connections are kept, for how long, and which of them is used."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.idle import FRESH, Idle, IdleRules


def kept(connections: int = 2, timeout: float = 60.0) -> Idle[str]:
    return Idle(IdleRules(connections=connections, timeout=timeout))


def test_the_one_used_last_comes_first() -> None:
    """The others grow old enough to be closed."""
    idle = kept(3)
    for moment, connection in enumerate("abca"):
        assert idle.put(connection, moment) == []
    assert list(idle.newest()) == ["a", "c", "b"]


def test_one_too_many_closes_the_oldest() -> None:
    """It is the most likely to be closed by the server."""
    idle = kept(2)
    assert [idle.put(each, moment) for moment, each in enumerate("abc")] == [[], [], ["a"]]
    assert list(idle.newest()) == ["c", "b"]
    assert ["a" in idle, "b" in idle] == [False, True]


def test_with_a_bound_of_none_nothing_is_kept() -> None:
    """The connection itself is one too many."""
    idle = kept(0)
    assert idle.put("a", 0) == ["a"]
    assert len(idle) == 0


def test_a_lower_bound_holds_from_the_next_one_on() -> None:
    """The profile may change while connections are idle."""
    rules = IdleRules(connections=3)
    idle = Idle[str](rules)
    for moment, each in enumerate("abc"):
        idle.put(each, moment)
    rules.connections = 1
    assert idle.put("d", 3) == ["a", "b", "c"]


def test_what_has_been_idle_for_the_whole_timeout_expires() -> None:
    """Not what was used meanwhile."""
    idle = kept(9, timeout=60)
    assert idle.next_expiry() is None
    for moment, connection in enumerate("abc"):
        idle.put(connection, moment)
    idle.take("a")
    idle.take("a")
    idle.put("a", 30)
    assert idle.next_expiry() == 61
    assert idle.expired(60.9) == []
    assert idle.expired(62) == ["b", "c"]
    assert (list(idle.newest()), idle.next_expiry()) == (["a"], 90)


def test_a_request_that_cannot_be_sent_again_takes_a_fresh_connection_only() -> None:
    """A server may be closing what has been idle for long, just as the request goes out."""
    idle = kept()
    idle.put("a", 10)
    assert idle.is_fresh("a", 10 + FRESH)
    assert not idle.is_fresh("a", 10.1 + FRESH)
    assert idle.is_fresh("in use until now", 1000)


def test_one_can_be_given_up_for_a_new_one() -> None:
    """The oldest, so that those which careful requests do not take do not pile up."""
    idle = kept()
    idle.put("a", 0)
    idle.put("b", 1)
    assert [idle.oldest(), idle.oldest(), idle.oldest()] == ["a", "b", None]


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60), st.integers(0, 4))
def test_the_bound_holds_and_no_connection_is_lost(steps: list[tuple[int, bool]], most: int) -> None:
    """Each is idle, in use, or has been handed back to be closed; never two of these."""
    idle, mine = kept(most), list[str]()
    for now, (number, put) in enumerate(steps):
        connection = str(number)
        if connection in mine:
            mine.remove(connection)
        if put:
            mine.append(connection)
            assert idle.put(connection, now) == mine[: max(0, len(mine) - most)]
            del mine[: max(0, len(mine) - most)]
        else:
            idle.take(connection)
        assert list(idle.newest()) == mine[::-1]
    assert (idle.clear(), len(idle)) == (mine, 0)
