"""policy.names: what is a name, and which addresses behind it are servers."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.names import is_name, parse_name_server, servers_behind

V4 = ["10.0.0.1", "10.0.0.2", "10.0.0.10"]
V6 = ["2001:db8::1", "2001:db8::2"]


@pytest.mark.parametrize(
    ("host", "name"),
    [("api", True), ("api.example", True), ("10.0.0.1", False), ("::1", False), ("localhost", True), ("10.0.0", True)],
)
def test_an_ip_address_is_no_name(host: str, name: bool) -> None:
    """Only names are looked up."""
    assert is_name(host) is name


@pytest.mark.parametrize(
    ("found", "servers"),
    [
        (V4, V4),
        (V6, V6),
        (V4 + V6, V4),
        (V4[:1] + V6, V6),
        (V4[:1] + V6[:1], []),
        (["127.0.0.1", "::1"], []),
        (V4[:1], []),
        (V4[:1] * 3, []),
        ([*V6[:1], "2001:DB8:0::1"], []),
        ([], []),
    ],
)
def test_a_name_is_several_servers_where_one_family_has_two_addresses(found: list[str], servers: list[str]) -> None:
    """IPv4 is preferred; a dual-stack host such as localhost stays one server."""
    assert list(servers_behind(found)) == servers


def test_a_name_that_was_several_stays_so_with_one_address_left() -> None:
    """What is known of that one is kept; a single address that nobody knows is the name again."""
    assert servers_behind(V4[:1], V4[:2]) == (V4[0],)
    assert servers_behind([V4[0], V6[0]], V6) == (V6[0],)
    assert servers_behind(V4[:1], V4[1:]) == ()


def test_a_single_address_stands_for_itself_where_nobody_else_can_look_the_name_up() -> None:
    """Own name servers: the operating system does not know the name."""
    assert servers_behind(V4[:1], alone=True) == (V4[0],)
    assert servers_behind([V6[0], V4[0]], alone=True) == (V4[0],)
    assert servers_behind(V6[:1], alone=True) == (V6[0],)


ADDRESSES = st.lists(st.sampled_from([f"10.0.0.{n}" for n in range(6)] + [f"fd00::{n}" for n in range(1, 5)]))


@given(st.lists(ADDRESSES, max_size=6), st.booleans(), st.randoms())
def test_neither_order_nor_repetition_matters_and_what_stays_keeps_its_place(
    answers: list[list[str]], alone: bool, dice: object
) -> None:
    """Name servers shuffle."""
    before: tuple[str, ...] = ()
    for answer in answers:
        shuffled = answer * 2
        dice.shuffle(shuffled)  # type: ignore[attr-defined]
        servers = servers_behind(shuffled, before, alone=alone)
        assert servers == servers_behind(answer, before, alone=alone)
        assert len(set(servers)) == len(servers)
        assert set(servers) <= set(answer)
        assert len({ipaddress.ip_address(ip).version for ip in servers}) <= 1
        stayed = [ip for ip in before if ip in servers]
        assert list(servers[: len(stayed)]) == stayed
        before = servers


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.2:8600", ("10.0.0.2", 8600)),
        ("10.0.0.2", ("10.0.0.2", 53)),
        ("consul:8600", ("consul", 8600)),
        ("[::1]:5353", ("::1", 5353)),
        ("[::1]", ("::1", 53)),
        ("::1", ("::1", 53)),
    ],
)
def test_a_name_server_is_a_host_and_a_port(text: str, address: tuple[str, int]) -> None:
    """53 where none is given."""
    assert parse_name_server(text) == address


@pytest.mark.parametrize(
    "text",
    ["", ":53", "10.0.0.2:", "10.0.0.2:0", "10.0.0.2:65536", "a:b", "[::1", "[::1]53", "[a]:53", "a:b:c", "a:+5"],
)
def test_what_is_no_name_server_is_refused(text: str) -> None:
    """ValueError says what to write."""
    with pytest.raises(ValueError, match=r"10\.0\.0\.2:8600"):
        parse_name_server(text)
