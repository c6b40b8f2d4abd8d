"""A DNS server on loopback, in the test's own process, for names whose addresses a test changes.

    async with NameServer({"api.test": ["127.0.0.2", "127.0.0.3"]}) as names:
        ...                                  # ask 127.0.0.1:{names.port}, over UDP or TCP
        names.zone["api.test"] = ["127.0.0.4"]

Written by hand rather than with the product's DNS messages, names compressed as real servers do (RFC 1035, 4.1.4).
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import struct
from types import TracebackType
from typing import Self

A, CNAME, AAAA, OPT = 1, 5, 28, 41
FORMERR, SERVFAIL, NXDOMAIN = 1, 2, 3


class NameServer:
    """`zone` holds addresses by name, `aliases` other names; what is in neither does not exist. Order is random.

    `silent` leaves questions unanswered, `refuses` (a response code) answers all with it; `truncates` cuts every answer
    over UDP off, and `old` takes EDNS for a mistake. `asked` is what was asked: (protocol, name, type).
    """

    def __init__(self, zone: dict[str, list[str]] | None = None, *, ttl: int = 60, port: int = 0) -> None:
        self.zone = zone if zone is not None else {}
        self.aliases: dict[str, str] = {}
        self.ttl = ttl
        self.port = port
        self.silent = self.truncates = self.old = False
        self.refuses = 0
        self.asked: list[tuple[str, str, int]] = []
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> Self:
        """Listen; a restart takes the same port."""
        self._tcp = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._tcp.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=("127.0.0.1", self.port)
        )
        return self

    async def stop(self) -> None:
        """Nobody listens any more."""
        if self._udp and self._tcp:
            self._udp.close()
            self._tcp.close()
            await self._tcp.wait_closed()
            await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2))
        answer = self.answer("tcp", await reader.readexactly(length))
        if answer:
            writer.write(len(answer).to_bytes(2) + answer)
            await writer.drain()
        writer.close()

    def answer(self, protocol: str, question: bytes) -> bytes | None:
        """The answer to this message; None: none at all."""
        number, _, _, _, _, extra = struct.unpack_from("!6H", question)
        end, name = 12, []
        while question[end]:
            name.append(question[end + 1 : end + 1 + question[end]].decode())
            end += 1 + question[end]
        (kind,) = struct.unpack_from("!H", question, end + 1)
        asked, full = question[12 : end + 5], ".".join(name).lower()
        self.asked.append((protocol, full, kind))
        if self.silent:
            return None
        target = self.aliases.get(full, full)
        code = self.refuses or (FORMERR if self.old and extra else 0 if target in self.zone else NXDOMAIN)
        records = [] if code else self._records(full, target, kind)
        cut = self.truncates and protocol == "udp"
        if cut:
            records = records[:1]
        header = struct.pack("!6H", number, 0x8180 | cut << 9 | code, 1, len(records), 0, 0)
        return header + asked + b"".join(records)

    def _records(self, name: str, target: str, kind: int) -> list[bytes]:
        records, owner = [], b"\xc0\x0c"
        if name != target:
            owner = b"".join(bytes([len(part)]) + part.encode() for part in target.split(".")) + b"\0"
            records.append(b"\xc0\x0c" + struct.pack("!HHIH", CNAME, 1, self.ttl, len(owner)) + owner)
        found = [ipaddress.ip_address(ip) for ip in self.zone[target]]
        packed = [ip.packed for ip in found if ip.version == (4 if kind == A else 6)]
        random.shuffle(packed)
        return records + [owner + struct.pack("!HHIH", kind, 1, self.ttl, len(ip)) + ip for ip in packed]


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.answer("udp", data)
        if answer and self._transport:
            self._transport.sendto(answer, addr)
