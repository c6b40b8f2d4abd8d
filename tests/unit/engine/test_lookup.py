"""engine.lookup: one lookup, against a DNS server that does what a test tells it to."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.net.dns import types

from holdfast.engine import lookup
from holdfast.engine.lookup import LookupFailed, _question, _read, look_up
from tests.services.name_server import AAAA, SERVFAIL, A, NameServer
from tests.services.process import free_port

HOST = "api.test"
FOUR = ["127.0.0.2", "127.0.0.3"]


async def test_addresses_and_their_lifetime_come_from_the_name_server() -> None:
    """Its port is the profile's; IPv6 is not asked for where IPv4 has several."""
    async with NameServer({HOST: [*FOUR, "::1"]}, ttl=7) as names:
        found = await look_up(HOST, [names.address])
        assert (sorted(found.ips), found.ttl) == (FOUR, 7)
        assert names.asked == [("udp", HOST, A)]


async def test_both_families_are_asked_for_where_ipv4_has_fewer_than_two() -> None:
    """Which of them are servers is not decided here."""
    async with NameServer({HOST: ["127.0.0.2", "::1"]}) as names:
        assert set((await look_up(HOST, [names.address])).ips) == {"127.0.0.2", "::1"}
        assert [kind for _, _, kind in names.asked] == [A, AAAA]


async def test_an_alias_is_followed_and_its_lifetime_counts() -> None:
    """CNAME, RFC 1035 section 3.3.1; names are compared without regard to case."""
    async with NameServer({"real.test": FOUR}, ttl=3) as names:
        names.aliases[HOST] = "real.test"
        found = await look_up("API.test.", [names.address])
        assert (sorted(found.ips), found.ttl) == (FOUR, 3)


async def test_an_answer_that_was_cut_off_is_asked_for_over_tcp() -> None:
    """RFC 7766, section 5."""
    many = [f"127.0.1.{n}" for n in range(1, 200)]
    async with NameServer({HOST: many}) as names:
        names.truncates = True
        assert set((await look_up(HOST, [names.address])).ips) == set(many)
        assert [protocol for protocol, _, _ in names.asked] == ["udp", "tcp"]


async def test_a_name_server_without_edns_is_asked_without() -> None:
    """RFC 6891, section 7: it answers FORMERR."""
    async with NameServer({HOST: FOUR}) as names:
        names.old = True
        assert sorted((await look_up(HOST, [names.address])).ips) == FOUR


async def test_the_next_name_server_is_asked_where_one_fails() -> None:
    """Refused, silent and SERVFAIL; all reasons are told where none is left."""
    async with NameServer({HOST: FOUR}) as good, NameServer() as bad:
        bad.refuses = SERVFAIL
        dead = f"127.0.0.1:{free_port()}"
        assert sorted((await look_up(HOST, [dead, bad.address, good.address])).ips) == FOUR
        with pytest.raises(LookupFailed, match=r"refused.*; .*SERVFAIL"):
            await look_up(HOST, [dead, bad.address])


async def test_a_silent_name_server_is_asked_twice_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A datagram may be lost; a lookup must end."""
    monkeypatch.setattr(lookup, "SEND_AGAIN_AFTER", 0.05)
    monkeypatch.setattr(lookup, "TIMEOUT", 0.2)
    async with NameServer({HOST: FOUR}) as names:
        names.silent = True
        with pytest.raises(LookupFailed, match="no answer within"):
            await look_up(HOST, [names.address])
        assert len(names.asked) == 2


@pytest.mark.parametrize(("zone", "reason"), [({}, "NXDOMAIN"), ({HOST: []}, "no addresses")])
async def test_a_name_that_does_not_exist_is_not_asked_for_elsewhere(zone: dict[str, list[str]], reason: str) -> None:
    """A sure answer is an answer, as for the system's resolver."""
    async with NameServer(zone) as sure, NameServer({HOST: FOUR}) as other:
        with pytest.raises(LookupFailed, match=reason):
            await look_up(HOST, [sure.address, other.address])
        assert not other.asked


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".test"])
async def test_a_host_that_is_no_name_for_dns_fails_as_a_lookup(host: str) -> None:
    """Nothing is sent."""
    async with NameServer() as names:
        with pytest.raises(LookupFailed, match="no name for DNS"):
            await look_up(host, [names.address])
        assert not names.asked


async def test_a_name_server_may_be_given_by_name() -> None:
    """As compose and Kubernetes do; that name is the operating system's."""
    async with NameServer({HOST: FOUR}) as names:
        assert sorted((await look_up(HOST, [f"localhost:{names.port}"])).ips) == FOUR


async def test_the_operating_system_is_asked_in_a_thread_that_keeps_nothing_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not on the loop, nor on its executor: a daemon thread does not keep the process from ending."""
    seen = []

    def getaddrinfo(host: str, port: object, **more: object) -> list[tuple[object, ...]]:
        seen.append((threading.current_thread().daemon, threading.current_thread() is threading.main_thread()))
        if host == "none.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (ip, 0)) for ip in FOUR]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    found = await look_up(HOST, [])
    assert (found.ips, found.ttl) == (tuple(FOUR), None)
    with pytest.raises(LookupFailed, match="Name or service not known"):
        await look_up("none.test", [])
    assert seen == [(True, False)] * 2


async def test_addresses_without_a_route_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most often IPv6 on a machine that has none: such servers would only fail."""
    monkeypatch.setattr(lookup, "_has_route", lambda ip: ":" not in ip)
    async with NameServer({HOST: ["127.0.0.2", "fd00::1", "fd00::2"], "six.test": ["fd00::1"]}) as names:
        assert (await look_up(HOST, [names.address])).ips == ("127.0.0.2",)
        with pytest.raises(LookupFailed, match="no route"):
            await look_up("six.test", [names.address])


def test_only_the_answer_to_the_question_is_read() -> None:
    """Its number, its name and its type have to be the question's."""
    names = NameServer({HOST: FOUR, "other.test": FOUR})
    question = _question(HOST, types.A)
    answer = names.answer("udp", question.packed)
    assert answer is not None
    assert _read(answer, question)
    assert _read(question.packed, question) is None
    assert _read(bytes([answer[0] ^ 1]) + answer[1:], question) is None
    for other in (_question("other.test", types.A), _question(HOST, types.AAAA)):
        other.id = question.id
        assert _read(answer, other) is None


@given(st.binary(max_size=64), st.integers(0, 80), st.binary(max_size=8))
def test_no_datagram_does_harm(noise: bytes, at: int, put: bytes) -> None:
    """Whatever arrives on the socket is read or passed over."""
    question = _question(HOST, types.A)
    answer = NameServer({HOST: FOUR}).answer("udp", question.packed)
    assert answer is not None
    _read(noise, question)
    _read(answer[:at] + put + answer[at + len(put) :], question)
    _read(answer[:at], question)


def test_a_long_chain_of_pointers_does_no_harm() -> None:
    """RFC 1035, section 4.1.4, abused."""
    question = _question(HOST, types.A)
    header = question.packed[:2] + b"\x81\x80\0\1\0\0\0\0\0\0"
    chain = b"".join((0xC000 | (14 + 2 * n)).to_bytes(2) for n in range(8000))
    assert _read(header + chain, question) is None
