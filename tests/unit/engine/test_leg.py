"""Circuits that a person opens and closes: by the names of the profile, wherever a server is used."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from holdfast.engine.leg import Leg, build_leg
from holdfast.engine.timers import Timers
from holdfast.profile.load import load_profile

PROFILE = """
version: 1
upstream:
  servers: ["http://one.test", "https://two.test:8443"]
  routes: {own: {servers: ["http://one.test", "http://[::1]:3000"]}}
addons: [{router: {routes: [{name: own, path: /own}]}}]
"""


@pytest.fixture
def leg(tmp_path: Path) -> Leg:
    """Of a route with servers of its own, one of which the others have too."""
    file = tmp_path / "profile.yaml"
    file.write_text(PROFILE)
    return build_leg(load_profile(str(file)), Timers(lambda _: None), CollectorRegistry())


def held_open(leg: Leg) -> list[str]:
    """By the names of the health page."""
    return [name for name, server in leg.servers() if server.breaker.is_forced(leg.clock())]


@pytest.mark.parametrize(
    ("named", "names"),
    [
        ("http://one.test:80", ["http://one.test:80", "http://one.test:80 (own)"]),
        ("http://one.test", ["http://one.test:80", "http://one.test:80 (own)"]),
        ("one.test:80", ["http://one.test:80", "http://one.test:80 (own)"]),
        ("https://two.test:8443/", ["https://two.test:8443"]),
        ("[::1]:3000", ["http://[::1]:3000"]),
    ],
)
def test_a_server_is_forced_wherever_it_is_used(leg: Leg, named: str, names: list[str]) -> None:
    """By its name in the profile, with or without the scheme."""
    assert leg.force(named, is_open=True) == len(names)
    assert held_open(leg) == names
    leg.force(named, is_open=False)
    assert held_open(leg) == []


def test_a_route_that_gets_the_server_later_has_it_held_open_too(tmp_path: Path) -> None:
    """A change of the profile lets no request through to what a person has taken out of service."""
    file = tmp_path / "profile.yaml"
    file.write_text(PROFILE.replace("  routes: {own", "  # routes: {own"))
    leg = build_leg(load_profile(str(file)), Timers(lambda _: None), CollectorRegistry(), lambda: 100.0)
    leg.force("http://one.test:80", is_open=True, seconds=60.0)
    file.write_text(PROFILE)
    leg.follow(load_profile(str(file)))
    assert held_open(leg) == ["http://one.test:80", "http://one.test:80 (own)"]
    assert [server.breaker.retry_in(130.0) for _, server in leg.servers()][0::2] == [30.0, 30.0]
    leg.force("http://one.test:80", is_open=False)
    leg.follow(load_profile(str(file)))
    assert held_open(leg) == []


def test_a_server_that_there_is_not_is_answered_with_those_there_are(leg: Leg) -> None:
    """Each once."""
    with pytest.raises(
        ValueError, match=r"no server 'three': there is http://one.test:80, https://two.test:8443, http"
    ):
        leg.force("three", is_open=True)
    assert leg.server_names() == ["http://one.test:80", "https://two.test:8443", "http://[::1]:3000"]
