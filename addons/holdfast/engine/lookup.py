"""One lookup of a server's name: by the operating system, or by name servers that the profile names.

mitmproxy's own resolver takes name servers without a port, keeps answers for itself and tells no lifetime: what is
asked here is its DNS messages over a socket of ours (RFC 1035; UDP with EDNS, RFC 6891; TCP for what was cut off).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import struct
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mitmproxy.dns import DNSMessage, Question, ResourceRecord
from mitmproxy.net.dns import classes, op_codes, response_codes, types

from holdfast.policy.names import is_name, parse_name_server

SEND_AGAIN_AFTER = 1.0
TIMEOUT = 2.5  # seconds for a name server to answer one question
_OPT = 41  # RFC 6891, section 6.1.1
# Room for a large answer: Consul leaves all but three addresses out, without a word, where a question offers no more
# than the 512 bytes of old. Larger datagrams might be fragmented, and lost.
_ROOM = 1232
_BYTES = {types.A: 4, types.AAAA: 16}


class LookupFailed(Exception):
    """No addresses were found; the message says why. `final`: the name server is sure of it."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


@dataclass(frozen=True, slots=True)
class Found:
    """IP addresses, at least one, and for how many seconds they hold; None: nobody said."""

    ips: tuple[str, ...]
    ttl: float | None = None


async def look_up(host: str, name_servers: Sequence[str]) -> Found:
    """The addresses of a name. LookupFailed where there are none to be had."""
    if not name_servers:
        return _usable(Found(await _ask_system(host)))
    reasons = []
    for text in name_servers:
        try:
            return _usable(await _ask(text, host))
        except LookupFailed as e:
            reasons.append(f"{text}: {e}")
            if e.final:
                break
    raise LookupFailed("; ".join(reasons))


def _usable(found: Found) -> Found:
    """Without what this machine has no route to: most often all of one family."""
    ips = tuple(ip for ip in found.ips if _has_route(ip))
    if not ips:
        raise LookupFailed("there is no route to any of its addresses")
    return Found(ips, found.ttl)


def _has_route(ip: str) -> bool:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((ip, 9))  # of a datagram socket: nothing is sent
    except OSError:
        return False
    return True


# --- the operating system ---


async def _ask_system(host: str) -> tuple[str, ...]:
    """In a thread of its own.

    The loop's executor would be kept by a name server that does not answer, and connections by name wait for that;
    and a thread of any executor keeps the process from ending.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[str, ...]] = loop.create_future()

    def settle(found: tuple[str, ...] | LookupFailed) -> None:
        if answer.done():  # nobody waits any more
            return
        if isinstance(found, LookupFailed):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def work() -> None:
        found: tuple[str, ...] | LookupFailed
        try:
            found = tuple(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as e:
            found = LookupFailed(getattr(e, "strerror", None) or str(e))
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=work, name="dns lookup", daemon=True).start()
    return await answer


# --- name servers ---


async def _ask(text: str, host: str) -> Found:
    """One name server: for IPv4 addresses, and for IPv6 where there are not several of those."""
    name, port = parse_name_server(text)
    address = ((await _ask_system(name))[0] if is_name(name) else name, port)
    four = await _records(address, host, types.A)
    six: list[ResourceRecord] = []
    if len(_ips(four, types.A)) < 2:
        try:
            six = await _records(address, host, types.AAAA)
        except LookupFailed:
            if not four:
                raise
    ips = _ips(four, types.A) + _ips(six, types.AAAA)
    if not ips:
        raise LookupFailed("it has no addresses", final=True)
    return Found(ips, min(record.ttl for record in [*four, *six]))


async def _records(address: tuple[str, int], host: str, kind: int) -> list[ResourceRecord]:
    """The answers to one question, aliases included."""
    try:
        async with asyncio.timeout(TIMEOUT):
            answer = await _answer(address, _question(host, kind))
    except TimeoutError:
        raise LookupFailed(f"no answer within {TIMEOUT:g} s") from None
    except (OSError, EOFError) as e:
        raise LookupFailed(str(e) or type(e).__name__) from e
    code = answer.response_code
    if code != response_codes.NOERROR:
        raise LookupFailed(response_codes.to_str(code), final=code == response_codes.NXDOMAIN)
    wanted = [r for r in answer.answers if r.class_ == classes.IN and r.type in (kind, types.CNAME)]
    return wanted if _ips(wanted, kind) else []


def _ips(records: Iterable[ResourceRecord], kind: int) -> tuple[str, ...]:
    found = [r for r in records if r.type == kind and len(r.data) == _BYTES[kind]]
    return tuple(str(r.ipv4_address if kind == types.A else r.ipv6_address) for r in found)


async def _answer(address: tuple[str, int], question: DNSMessage) -> DNSMessage:
    answer = await _over_udp(address, question)
    if answer.response_code == response_codes.FORMERR:  # an old one, that takes EDNS for a mistake
        question.additionals = []
        answer = await _over_udp(address, question)
    return await _over_tcp(address, question) if answer.truncation else answer


def _question(host: str, kind: int) -> DNSMessage:
    try:
        question = DNSMessage(
            id=secrets.randbelow(1 << 16),
            query=True,
            op_code=op_codes.QUERY,
            authoritative_answer=False,
            truncation=False,
            recursion_desired=True,
            recursion_available=False,
            reserved=0,
            response_code=response_codes.NOERROR,
            questions=[Question(host.rstrip("."), kind, classes.IN)],
            answers=[],
            authorities=[],
            additionals=[ResourceRecord("", _OPT, _ROOM, 0, b"")],
        )
        _ = question.packed
    except ValueError as e:
        raise LookupFailed(f"it is no name for DNS: {e}", final=True) from None
    return question


def _read(data: bytes, question: DNSMessage) -> DNSMessage | None:
    """The answer in there; None if it is none, or none to this question."""
    try:
        _, answer = DNSMessage.unpack_from(data, 0)
    except (struct.error, ValueError, RecursionError):
        return None
    if answer.query or answer.id != question.id:
        return None
    same = [(q.name.rstrip(".").lower(), q.type) for q in answer.questions] == [
        (q.name.lower(), q.type) for q in question.questions
    ]
    # One that did not understand the question need not repeat it.
    return answer if same or (not answer.questions and answer.response_code == response_codes.FORMERR) else None


@dataclass(slots=True)
class _Listener(asyncio.DatagramProtocol):
    """Waits for the answer; whatever else arrives is somebody's guess and is passed over."""

    question: DNSMessage
    answer: asyncio.Future[DNSMessage] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def datagram_received(self, data: bytes, addr: object) -> None:
        answer = _read(data, self.question)
        if answer and not self.answer.done():
            self.answer.set_result(answer)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _over_udp(address: tuple[str, int], question: DNSMessage) -> DNSMessage:
    loop = asyncio.get_running_loop()
    transport, listener = await loop.create_datagram_endpoint(lambda: _Listener(question), remote_addr=address)
    try:
        transport.sendto(question.packed)
        done, _ = await asyncio.wait([listener.answer], timeout=SEND_AGAIN_AFTER)
        if not done:
            transport.sendto(question.packed)
        return await listener.answer
    finally:
        transport.close()


async def _over_tcp(address: tuple[str, int], question: DNSMessage) -> DNSMessage:
    reader, writer = await asyncio.open_connection(*address)
    try:
        packed = question.packed
        writer.write(len(packed).to_bytes(2) + packed)
        length = int.from_bytes(await reader.readexactly(2))
        answer = _read(await reader.readexactly(length), question)
    finally:
        writer.close()
    if answer is None:
        raise LookupFailed("the answer over TCP cannot be read")
    return answer
