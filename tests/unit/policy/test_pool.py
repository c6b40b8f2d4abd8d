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


# --- names with several addresses ---


def ips(pool: Pool) -> list[str]:
    return [one.endpoint.ip for one in pool.servers]


def test_each_address_of_a_name_is_a_server_of_its_own() -> None:
    """Own breaker, own place in the balancing, failover within one request; weight and backup are the name's."""
    rules = BreakerRules(max_fails=1)
    pool = Pool([server(A, rules, weight=2), server(B, backup=True)])
    pool.resolve(A, ["10.0.0.1", "10.0.0.2"])
    pool.resolve(B, ["10.0.1.1"])
    assert [(str(one.endpoint), one.weight, one.backup) for one in pool.servers] == [
        ("http://a:80#10.0.0.1", 2, False),
        ("http://a:80#10.0.0.2", 2, False),
        ("http://b:80#10.0.1.1", 1, True),
    ]
    first = pool.pick(0.0)
    assert first
    pool.end(first, 0.0, failed=True)
    second = pool.pick(0.0, {first.endpoint})
    assert second and second.endpoint.host == "a" and second.endpoint.ip != first.endpoint.ip
    assert second.breaker.rules is rules and first.breaker.state(0.0) == "open"


def test_addresses_that_stay_keep_what_is_known_of_them() -> None:
    """An attempt under way at one that goes ends as any other, and no new one begins there."""
    pool = Pool([server(A)])
    pool.resolve(A, ["10.0.0.1", "10.0.0.2"])
    one, two = pool.servers
    one.breaker.force(True, 0.0)
    under_way = pool.pick(0.0)
    assert under_way is two
    pool.resolve(A, ["10.0.0.3", "10.0.0.1", "10.0.0.3"])
    assert ips(pool) == ["10.0.0.3", "10.0.0.1"]
    assert pool.servers[1] is one
    assert {found.ip for found in picks(pool, 5)} == {"10.0.0.3"}
    pool.end(under_way, 0.0, failed=True)
    assert two.outstanding == 0


def test_a_name_without_addresses_stands_for_itself() -> None:
    """With what was known of it before."""
    pool = Pool([server(A)])
    itself = pool.servers[0]
    pool.resolve(A, ["10.0.0.1", "10.0.0.2"])
    assert pool.ips(A) == ("10.0.0.1", "10.0.0.2")
    pool.resolve(A, [])
    assert pool.servers == (itself,)
    assert pool.ips(A) == pool.ips(B) == ()


def test_a_server_that_is_given_twice_is_two_servers() -> None:
    """None is in use twice, or it would be asked twice and weighed once."""
    pool = Pool([server(A, weight=3), server(A)])
    pool.resolve(A, ["10.0.0.1", "10.0.0.2"])
    assert len(set(pool.servers)) == 4
    assert Counter(found.ip for found in picks(pool, 8)) == {"10.0.0.1": 4, "10.0.0.2": 4}
    assert [one.weight for one in pool.servers] == [3, 3, 1, 1]


def test_a_changed_profile_forgets_no_address() -> None:
    """Weight and rules are the new profile's, circuits and addresses are those that were."""
    old = Pool([server(A), server(B), server(C)])
    old.resolve(A, ["10.0.0.1", "10.0.0.2"])
    old.servers[0].breaker.force(True, 0.0)
    before = old.servers
    rules = BreakerRules(max_fails=9)
    new = Pool([server(B), server(A, rules, weight=4, backup=True)])
    new.take_over(old)
    assert [(one.endpoint.host, one.endpoint.ip) for one in new.servers] == [
        ("b", ""),
        ("a", "10.0.0.1"),
        ("a", "10.0.0.2"),
    ]
    assert new.servers[1:] == before[:2]
    assert [(one.weight, one.backup, one.breaker.rules) for one in new.servers[1:]] == [(4, True, rules)] * 2
    assert new.servers[1].breaker.state(0.0) == "open"
    new.resolve(A, ["10.0.0.3"])
    assert (new.servers[1].weight, new.servers[1].backup, new.servers[1].breaker.rules) == (4, True, rules)


def test_no_server_is_in_two_pools() -> None:
    """Where a route gets servers of its own that it had shared, it begins anew: it may weigh them otherwise."""
    shared = Pool([server(A), server(B)])
    for_all, for_the_route = Pool([server(A), server(B)]), Pool([server(A, weight=9), server(B)])
    for_all.take_over(shared)
    for_the_route.take_over(shared)
    assert for_all.servers == shared.servers
    assert not set(for_all.servers) & set(for_the_route.servers)
    assert for_all.servers[0].weight == 1


NAMES = (A, B)
ANSWERS = st.lists(st.sampled_from([f"10.0.0.{n}" for n in range(5)]), max_size=6)
STEPS = st.lists(st.one_of(st.tuples(st.sampled_from(NAMES), ANSWERS), st.booleans()), max_size=30)


@given(STEPS, st.sampled_from(["round_robin", "least_outstanding"]))
def test_whatever_names_stand_for_what_stays_is_kept_and_what_goes_is_gone(
    steps: list[tuple[Endpoint, list[str]] | bool], balance: Balance
) -> None:
    """Over any order of answers, attempts and changed profiles; weights and backups are always the name's."""
    pool = Pool([server(A, weight=2), server(B, backup=True)], balance)
    wanted: dict[Endpoint, list[str]] = {A: [], B: []}
    under_way = []
    for step in steps:
        before = {one.endpoint: one for one in pool.servers}
        if step is True:
            chosen = pool.pick(0.0)
            assert chosen in pool.servers
            under_way.append((pool, chosen))
        elif step is False:
            old, pool = pool, Pool([server(A, weight=2), server(B, backup=True)], balance)
            pool.take_over(old)
        else:
            wanted[step[0]] = list(dict.fromkeys(step[1]))
            pool.resolve(*step)
        assert [one.endpoint for one in pool.servers] == [
            Endpoint("http", name.host, 80, ip) for name in NAMES for ip in wanted[name] or [""]
        ]
        assert all(before.get(one.endpoint, one) is one for one in pool.servers)
        assert all(
            (one.weight, one.backup) == ((2, False), (1, True))[one.endpoint.host == "b"] for one in pool.servers
        )
        assert {name: list(pool.ips(name)) for name in NAMES} == wanted
    for where, chosen in under_way:
        where.end(chosen, 0.0, failed=False)
    assert all(one.outstanding == 0 for one in [*pool.servers, *(chosen for _, chosen in under_way)])


def test_a_server_that_is_forced_open_is_so_at_every_address_and_at_new_ones() -> None:
    """And closed it is asked at once, even where the last health check was bad."""
    pool = Pool([server(A), server(B)])
    pool.resolve(A, ["10.0.0.1", "10.0.0.2"])
    assert (pool.force(A, True, 0.0), pool.force(C, True, 0.0)) == (2, 0)
    pool.resolve(A, ["10.0.0.2", "10.0.0.3"])
    assert {found.host for found in picks(pool, 6)} == {"b"}
    pool.servers[0].healthy = False
    assert pool.force(A, False, 1.0) == 2
    assert {found.ip for found in picks(pool, 6)} == {"", "10.0.0.2", "10.0.0.3"}
