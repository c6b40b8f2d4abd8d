"""profile.routed: what a route leaves out is as for all routes."""

from __future__ import annotations

import pytest

from holdfast.errors import ProfileError
from holdfast.profile.load import load_profile
from holdfast.profile.settings import Profile

ROUTER = "addons: [{router: {routes: [{name: slow, path: /slow}, {name: user, path: /u}]}}]\n"


@pytest.fixture
def load(tmp_path):
    """Load a profile from its text."""

    def loaded(text: str) -> Profile:
        file = tmp_path / "p.yaml"
        file.write_text(f"version: 1\n{text}{ROUTER}")
        return load_profile(str(file), env={})

    return loaded


def faults(load, text: str) -> list[str]:
    """What is wrong with it: line and path and message."""
    with pytest.raises(ProfileError) as caught:
        load(text)
    return [f"{fault.line}: {fault.path}: {fault.message}" for fault in caught.value.faults]


def test_a_route_changes_what_it_names_and_keeps_the_rest(load):
    """Also within `retry` and `breaker`."""
    upstream = load(
        "upstream:\n"
        "  servers: [http://a:1]\n"
        "  deadline: 9s\n"
        "  retry: {attempts: 5, backoff: {base: 1s, max: 2s}}\n"
        "  routes:\n"
        "    slow: {response_timeout: 1m, retry: {attempts: 1}}\n"
        "    user: {servers: [http://b:2], retry: {backoff: {max: 4s}}}\n"
    ).upstream
    slow, user = upstream.routes["slow"], upstream.routes["user"]
    assert (slow.servers, float(slow.response_timeout), float(slow.deadline)) == (("http://a:1",), 60.0, 9.0)
    assert (slow.retry.attempts, float(slow.retry.backoff.max)) == (1, 2.0)
    assert (user.servers, user.retry.attempts) == (("http://b:2",), 5)
    assert (float(user.retry.backoff.base), float(user.retry.backoff.max)) == (1.0, 4.0)


def test_the_rules_between_keys_see_what_will_hold(load):
    """A `base` above the inherited `max` is a fault, one below it is none, whatever the defaults say."""
    load("upstream: {retry: {backoff: {max: 10s}}, routes: {slow: {retry: {backoff: {base: 5s}}}}}\n")
    (fault,) = faults(load, "upstream: {retry: {backoff: {max: 1s}}, routes: {slow: {retry: {backoff: {base: 5s}}}}}\n")
    assert fault.startswith("2: upstream.routes.slow.retry.backoff: `max` (1s) is shorter than `base` (5s)")


def test_limits_differ_per_route_too(load):
    """`null` lifts a bound."""
    limits = load("limits: {max_body: 1MiB, routes: {slow: {max_body: null, max_response: 5MiB}}}\n").limits
    assert (int(limits.max_body or 0), limits.routes["slow"].max_body) == (1 << 20, None)
    assert int(limits.routes["slow"].max_response or 0) == 5 << 20
    assert float(limits.routes["slow"].body_timeout) == 60.0


def test_a_fault_of_all_is_told_once(load):
    """Not again for each route that takes it over."""
    found = faults(load, "upstream:\n  deadline: soon\n  routes:\n    slow: {}\n    user: {connect_timeout: 1s}\n")
    assert len(found) == 1
    assert found[0].startswith("3: upstream.deadline: ")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("upstream: {routes: {slow: {verify_tls: false}}}\n", "upstream.routes.slow.verify_tls"),
        ("upstream: {routes: {slow: {routes: {}}}}\n", "upstream.routes.slow.routes"),
        ("limits: {routes: {slow: {buffer_body: 1}}}\n", "limits.routes.slow.buffer_body"),
        ("upstream: {routes: {slow: [1]}}\n", "upstream.routes.slow"),
        ("upstream: {routes: 5}\n", "upstream.routes"),
    ],
)
def test_what_cannot_differ_per_route_is_a_fault(load, text: str, path: str):
    """Nothing is silently ignored."""
    (fault,) = faults(load, text)
    assert fault.startswith(f"2: {path}: ")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("upstream: {routes: {usr: {deadline: 1s}}}\n", "upstream.routes.usr"),
        ("limits: {routes: {usr: {max_body: 1}}}\n", "limits.routes.usr"),
    ],
)
def test_a_name_that_the_router_does_not_give_is_a_fault(load, text: str, path: str):
    """A rule that never applies is a mistake; the names that exist are told."""
    (fault,) = faults(load, text)
    assert fault == f"2: {path}: the router gives no route this name: there are other, slow, user"


def test_names_are_not_checked_where_another_addon_may_give_them(tmp_path):
    """Without a router, or with somebody's addon in the chain."""
    file = tmp_path / "p.yaml"
    for addons in ("[]", f"[{{router: {{}}}}, {{use: '{__name__}:Addon'}}]"):
        file.write_text(f"version: 1\nupstream: {{routes: {{mine: {{deadline: 1s}}}}}}\naddons: {addons}\n")
        assert "mine" in load_profile(str(file), env={}).upstream.routes


class Addon:
    """Somebody's."""

    def request(self, flow):
        """Nothing."""
