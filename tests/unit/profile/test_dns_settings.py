"""profile.settings: `upstream.dns`."""

import pytest

from tests.unit.profile.conftest import Faults, Load


def test_name_servers_are_given_with_their_port(load: Load) -> None:
    """For all routes, or for one."""
    made = load(
        "version: 1\n"
        "upstream:\n"
        "  dns: {refresh: 5s, servers: [127.0.0.1:8600, '[::1]:53']}\n"
        "  routes: {users: {dns: {servers: [], expand: false}}}\n"
    )
    assert made.upstream.dns.servers == ("127.0.0.1:8600", "[::1]:53")
    own = made.upstream.routes["users"].dns
    assert (own.servers, own.expand, float(own.refresh)) == ((), False, 5.0)


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ("servers: [a:b]", "upstream.dns.servers[0]", "write HOST:PORT"),
        ("servers: ['exa mple:53']", "upstream.dns.servers[0]", "write HOST:PORT"),
        ("servers: ['127.0.0.1:99999']", "upstream.dns.servers[0]", "write HOST:PORT"),
        ("refresh: 0s", "upstream.dns.refresh", "more than 0"),
        ("servers: [127.0.0.1], expand: false", "upstream.dns", "are not asked with `expand: false`"),
    ],
)
def test_what_will_not_do_is_a_fault(faults: Faults, given: str, path: str, message: str) -> None:
    """One fault, in its place."""
    found = faults(f"version: 1\nupstream:\n  dns: {{{given}}}\n")
    assert len(found) == 1
    assert path in found[0] and message in found[0]
