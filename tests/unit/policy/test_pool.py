"""policy.pool: whose turn it is."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.breaker import Breaker, BreakerRules
from holdfast.policy.endpoint import Endpoint
from holdfast.policy.pool import Balance, Pool, PoolServer

A, B, C = (Endpoint("http", name, 80) for name in "abc")


def server(endpoint: Endpoint, rules: BreakerRules | None = None, **more: object) -> PoolServer:
    return PoolServer(endpoint, Breaker(rules or BreakerRules()), **more)  # type: ignore[arg-type]


def picks(pool: Pool, count: int) -> list[Endpoint]:
    found = []
    for _ in range(count):
        chosen = pool.pick(0.0)
        assert chosen
        pool.end(chosen, 0.0, failed=False)
        found.append(chosen.endpoint)
    return found


def test_round_robin_follows_the_weights_and_mixes() -> None:
    """Smooth: the heavy one is not asked five times in a row."""
    found = picks(Pool([server(A, weight=5), server(B), server(C)]), 7)
    assert Counter(found) == {A: 5, B: 1, C: 1}
    assert found != sorted(found, key=str)


def test_least_outstanding_takes_the_idle_one() -> None:
    """Attempts under way count, by weight."""
    pool = Pool([server(A), server(B)], "least_outstanding")
    first, second = pool.pick(0.0), pool.pick(0.0)
    assert first and second and {first.endpoint, second.endpoint} == {A, B}
    pool.end(second, 0.0, failed=False)
    third = pool.pick(0.0)
    assert third and third.endpoint == second.endpoint


def test_the_next_attempt_goes_to_another_server() -> None:
    """Failover within one request; when all were tried, again from the beginning."""
    pool = Pool([server(A), server(B)])
    first = pool.pick(0.0)
    assert first
    second = pool.pick(0.0, {first.endpoint})
    assert second and second.endpoint != first.endpoint
    assert pool.pick(0.0, {A, B}) is not None


def test_a_backup_is_asked_only_when_the_others_cannot_be() -> None:
    """Open breaker, or tried by this request."""
    pool = Pool([server(A), server(B, backup=True)])
    assert set(picks(pool, 10)) == {A}
    second = pool.pick(0.0, {A})
    assert second and second.endpoint == B
    pool.servers[0].breaker.force(True, 0.0)
    third = pool.pick(0.0)
    assert third and third.endpoint == B


def test_with_all_held_back_there_is_none_and_it_is_known_for_how_long() -> None:
    """All open: an immediate answer, never a wait."""
    pool = Pool([server(A), server(B)])
    for one in pool.servers:
        for _ in range(3):
            one.breaker.failed(5.0)
    assert pool.pick(6.0) is None
    assert pool.retry_in(6.0) == 29.0


def test_an_unhealthy_server_is_not_asked() -> None:
    """The active health check has its say."""
    pool = Pool([server(A), server(B)])
    pool.servers[0].healthy = False
    assert set(picks(pool, 5)) == {B}


def test_a_failure_rate_does_not_empty_the_pool() -> None:
    """Half of the servers stay in service, however badly they do."""
    rules = BreakerRules(max_fails=0, failure_rate=0.1, min_requests=2)
    pool = Pool([server(A, rules), server(B, rules)], keep=0.5)
    for _ in range(20):
        chosen = pool.pick(0.0)
        assert chosen
        pool.end(chosen, 0.0, failed=False, server_error=True)
    assert sum(one.breaker.state(0.0) == "open" for one in pool.servers) == 1


@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=5),
    st.lists(st.sampled_from([True, False, None]), max_size=60),
    st.sampled_from(["round_robin", "least_outstanding"]),
)
def test_nothing_is_left_outstanding_and_an_open_server_is_never_picked(
    made: list[tuple[int, bool]], ends: list[bool | None], balance: Balance
) -> None:
    """Over any order of outcomes."""
    servers = [server(Endpoint("http", f"s{n}", 80), weight=w, backup=b) for n, (w, b) in enumerate(made)]
    pool, now = Pool(servers, balance), 0.0
    for failed in ends:
        now += 1.0
        chosen = pool.pick(now)
        if chosen is None:
            assert all(one.breaker.state(now) != "closed" for one in servers)
            continue
        assert chosen.breaker.state(now) != "open"
        pool.end(chosen, now, failed=failed)
    assert all(one.outstanding == 0 for one in servers)
