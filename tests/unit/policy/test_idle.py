"""policy.idle: how many idle connections are kept, for how long, and which of them is used."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.idle import FRESH, Idle, IdleRules, fit


def kept(connections: int = 2, timeout: float = 60.0) -> Idle[str, str]:
    return Idle(IdleRules(connections, timeout))


def names(found: Iterable[tuple[str, float]]) -> list[str]:
    return [connection for connection, _ in found]


def test_the_one_used_last_comes_first() -> None:
    """The others grow old enough to be closed."""
    idle = kept(3)
    for moment, connection in enumerate(["a", "b", "c", "a"]):
        assert idle.put("server", connection, moment) == []
    assert list(idle.newest("server")) == [("a", 3), ("c", 2), ("b", 1)]
    assert list(idle.newest("other")) == []


def test_one_too_many_closes_the_oldest_to_that_server() -> None:
    """Those to other servers have a bound of their own."""
    idle = kept(2)
    assert [idle.put(server, f"{server}{n}", n) for n in range(2) for server in "xy"] == [[], [], [], []]
    assert idle.put("x", "x2", 2) == ["x0"]
    assert sorted(idle) == ["x1", "x2", "y0", "y1"]


def test_with_a_bound_of_none_nothing_is_kept() -> None:
    """The connection itself is one too many."""
    idle = kept(0)
    assert idle.put("x", "x1", 0) == ["x1"]
    assert list(idle) == []


def test_a_lower_bound_holds_from_the_next_one_on() -> None:
    """The profile may change while connections are idle."""
    idle = kept(3)
    for n in range(3):
        idle.put("x", f"x{n}", n)
    idle.rules = IdleRules(1)
    assert idle.put("x", "x3", 3) == ["x0", "x1", "x2"]


def test_what_has_been_idle_for_the_whole_timeout_expires() -> None:
    """Not what was used meanwhile."""
    idle = kept(9, timeout=60)
    assert idle.next_expiry() is None
    for moment, connection in ((0, "a"), (1, "b"), (2, "c")):
        idle.put("x", connection, moment)
    idle.take("x", "a")
    idle.take("x", "a")
    idle.put("x", "a", 30)
    assert idle.next_expiry() == 61
    assert idle.expired(60.9) == []
    assert idle.expired(62) == ["b", "c"]
    assert (list(idle), idle.next_expiry()) == (["a"], 90)
    assert (idle.since("x", "a"), idle.since("x", "b")) == (30, None)


def test_a_request_that_cannot_be_sent_again_takes_a_fresh_connection_only() -> None:
    """A server may be closing what has been idle for long, just as the request goes out."""
    assert fit(10, 10 + FRESH, careful=True)
    assert not fit(10, 10.1 + FRESH, careful=True)
    assert fit(10, 1000, careful=False)


@given(st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 9), st.booleans()), max_size=60), st.integers(0, 4))
def test_the_bound_holds_and_no_connection_is_lost(steps: list[tuple[str, int, bool]], most: int) -> None:
    """Each is idle, in use, or has been handed back to be closed; never two of these."""
    idle, inside = kept(most), dict[str, list[str]]()
    for now, (server, number, put) in enumerate(steps):
        connection, mine = f"{server}{number}", inside.setdefault(server, [])
        if connection in mine:
            mine.remove(connection)
        if put:
            mine.append(connection)
            assert idle.put(server, connection, now) == mine[: max(0, len(mine) - most)]
            del mine[: max(0, len(mine) - most)]
        else:
            idle.take(server, connection)
        assert names(idle.newest(server)) == mine[::-1]
    assert sorted(idle.clear()) == sorted(each for mine in inside.values() for each in mine)
    assert list(idle) == []
