"""Servers given by a name: several addresses, that change, with a real DNS server and origins on several addresses."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from holdfast.testing import Certificate, self_signed
from tests.e2e import raw
from tests.e2e.harness import Gateway, profile, until
from tests.services.name_server import NameServer

HOST = "backend.invalid"  # RFC 6761, section 6.4: nobody else's name server knows it
IPS = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
REFRESH = "300ms"
CHANGED = "upstream addresses changed"


class Origin:
    """One address: answers every GET with 200; `hosts` is the Host field of each request, `names` each SNI."""

    def __init__(self, ip: str, port: int = 0, certificate: Certificate | None = None) -> None:
        self.ip = ip
        self.port = port
        self.hosts: list[str] = []
        self.names: list[str | None] = []
        self.hold: asyncio.Event | None = None
        self._tls = certificate.server_context() if certificate else None
        if self._tls:
            self._tls.sni_callback = self._note_name
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.ip, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    def _note_name(self, _socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        self.names.append(name)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(EOFError, OSError):
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
                self.hosts += [line.removeprefix("host:").strip() for line in lines if line.startswith("host:")]
                if self.hold:
                    await self.hold.wait()
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.ip)}\r\n\r\n{self.ip}".encode())
                await writer.drain()
        self._open.discard(writer)
        writer.close()


@contextlib.asynccontextmanager
async def origins(certificate: Certificate | None = None) -> AsyncIterator[dict[str, Origin]]:
    """One on each of `IPS`, all on the same port."""
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(Origin(IPS[0], certificate=certificate))
        rest = [await stack.enter_async_context(Origin(ip, first.port, certificate)) for ip in IPS[1:]]
        yield {origin.ip: origin for origin in (first, *rest)}


def behind(names: NameServer, port: int, scheme: str = "http", **changes: Any) -> dict[str, Any]:
    """A profile whose only server is `HOST`, with a breaker that opens at once and stays so."""
    made = {
        "upstream__dns": {"refresh": REFRESH, "servers": [names.address]},
        "upstream__breaker": {"max_fails": 1, "fail_timeout": "30s"},
    }
    return profile(f"{scheme}://{HOST}:{port}", **(made | changes))


async def counts(client: raw.RawClient, requests: int = 12) -> Counter[str]:
    """Who answered so many requests; all with 200."""
    answers = [await client.request("GET", "/api/users") for _ in range(requests)]
    assert {answer.status for answer in answers} == {200}
    return Counter(answer.body.decode() for answer in answers)


async def in_use(gateway: Gateway, *ips: str) -> None:
    """Wait until these are the addresses that the gateway knows, and no others."""

    async def known() -> bool:
        servers = [key[1] for key in await gateway.metrics() if key[0] == "holdfast_upstream_open"]
        return sorted(server.rpartition("#")[2] for server in servers) == sorted(ips)

    await until(known, within=8, what=f"{ips} to be in use")


async def test_every_address_of_a_name_gets_its_share(tmp_path: Path) -> None:
    """Round robin, with the name in the Host field; health and metrics show each address."""
    async with NameServer({HOST: IPS}) as names, origins() as three:
        port = three[IPS[0]].port
        async with Gateway(tmp_path, made=behind(names, port)) as gateway, raw.RawClient(gateway.port) as client:
            await in_use(gateway, *IPS)
            assert await counts(client) == dict.fromkeys(IPS, 4)
            assert {host for origin in three.values() for host in origin.hosts} == {f"{HOST}:{port}"}
            health = (await gateway.admin("/health")).json()["upstream"]
            assert {name: server["status"] for name, server in health.items()} == {
                f"http://{HOST}:{port}#{ip}": "ok" for ip in IPS
            }
            figures = await gateway.metrics()
            attempts = {k: v for k, v in figures.items() if k[0] == "holdfast_upstream_attempts_total"}
            assert attempts == {
                ("holdfast_upstream_attempts_total", "outcome=ok", f"server=http://{HOST}:{port}"): 12.0
            }


async def test_one_address_is_dead_and_nobody_notices(tmp_path: Path) -> None:
    """Failover within one request, also of a POST that never arrived; then its circuit is open, the others' are not."""
    async with NameServer({HOST: IPS}) as names, origins() as three:
        port = three[IPS[0]].port
        async with Gateway(tmp_path, made=behind(names, port)) as gateway, raw.RawClient(gateway.port) as client:
            await in_use(gateway, *IPS)
            await three[IPS[1]].__aexit__(None, None, None)
            posted = [await client.request("POST", "/api/users") for _ in range(6)]
            assert {answer.status for answer in posted} == {200}
            assert await counts(client) == {IPS[0]: 6, IPS[2]: 6}
            figures = await gateway.metrics()
            opened = {k[1].rpartition("#")[2]: v for k, v in figures.items() if k[0] == "holdfast_upstream_open"}
            assert opened == {IPS[0]: 0.0, IPS[1]: 1.0, IPS[2]: 0.0}
            assert await gateway.captures() == []


async def test_addresses_change_and_the_traffic_follows(tmp_path: Path) -> None:
    """Within `refresh`. A request under way at an address that goes is answered; no new one goes there."""
    async with NameServer({HOST: IPS[:2]}) as names, origins() as three:
        made = behind(names, three[IPS[0]].port, upstream__response_timeout="10s", upstream__deadline="10s")
        async with (
            Gateway(tmp_path, made=made) as gateway,
            raw.RawClient(gateway.port) as client,
            raw.RawClient(gateway.port) as patient,
        ):
            await in_use(gateway, *IPS[:2])
            one = three[IPS[0]]
            one.hold = asyncio.Event()
            under_way = asyncio.create_task(patient.request("GET", "/api/users"))
            await until(lambda: len(one.hosts) == 1)
            names.zone[HOST] = IPS[1:]
            await in_use(gateway, *IPS[1:])
            assert await counts(client) == dict.fromkeys(IPS[1:], 6)
            one.hold.set()
            answer = await under_way
            assert (answer.status, answer.body.decode()) == (200, IPS[0])
            assert len(one.hosts) == 1
            changes = [line for line in gateway.log().splitlines() if CHANGED in line]
            assert len(changes) == 2
            assert IPS[2] in changes[1].partition("added=")[2].partition("removed=")[0]
            assert IPS[0] in changes[1].partition("removed=")[2]


async def test_a_failed_connection_is_reason_enough_to_look_again(tmp_path: Path) -> None:
    """Not only after `refresh`: a server that has moved is found within a second or two."""
    async with NameServer({HOST: IPS[:1]}, ttl=3600) as names, origins() as three:
        made = behind(names, three[IPS[0]].port, upstream__dns__refresh="1h", upstream__breaker={"max_fails": 0})
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            await in_use(gateway, IPS[0])
            await counts(client, 2)
            names.zone[HOST] = IPS[1:2]
            await three[IPS[0]].__aexit__(None, None, None)

            async def served() -> bool:
                return (await client.request("GET", "/api/users")).status == 200

            await until(served, within=5, every=0.1, what="the name to be looked up again")
            assert len(names.asked) <= 20  # two questions a lookup, one lookup a second


async def test_the_name_server_dies_and_the_last_known_addresses_stay(tmp_path: Path) -> None:
    """Told once, however long it lasts; whoever answers in its place that there is no such name changes nothing."""
    async with NameServer({HOST: IPS[:2]}) as names, origins() as three:
        made = behind(names, three[IPS[0]].port)
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            await in_use(gateway, *IPS[:2])
            await names.stop()
            await until(lambda: "upstream name not found" in gateway.log(), within=8)
            await asyncio.sleep(1)
            assert await counts(client) == dict.fromkeys(IPS[:2], 6)
            names.zone.clear()
            asked = len(names.asked)
            await names.start()
            await until(lambda: len(names.asked) > asked + 1, within=8)
            assert await counts(client) == dict.fromkeys(IPS[:2], 6)
            assert gateway.log().count("upstream name not found") == 1
            names.zone[HOST] = IPS
            await in_use(gateway, *IPS)
            assert gateway.log().count("upstream name found again") == 1


async def test_a_name_that_does_not_exist_yet_is_a_dns_error_until_it_appears(tmp_path: Path) -> None:
    """The gateway starts without it, and answers honestly."""
    async with NameServer() as names, origins() as three:
        made = behind(names, three[IPS[0]].port, upstream__connect_timeout="3s", upstream__deadline="10s")
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            answer = await client.request("GET", "/api/users")
            assert answer.status in (502, 503)
            assert (answer.header("proxy-status") or "").startswith("holdfast; error=dns_error")
            names.zone[HOST] = IPS
            await in_use(gateway, *IPS)
            assert await counts(client) == dict.fromkeys(IPS, 4)


async def test_tls_is_by_the_name_whatever_the_address(tmp_path: Path) -> None:
    """SNI and the certificate's name; a certificate of another name is refused at every address."""
    certificate = self_signed(HOST)
    async with NameServer({HOST: IPS}) as names, origins(certificate) as three:
        trusted = {"upstream__ca_file": str(certificate.write(tmp_path)), "upstream__connect_timeout": "2s"}
        made = behind(names, three[IPS[0]].port, "https", **trusted)
        async with Gateway(tmp_path / "good", made=made) as gateway, raw.RawClient(gateway.port) as client:
            await in_use(gateway, *IPS)
            assert await counts(client) == dict.fromkeys(IPS, 4)
            assert {name for origin in three.values() for name in origin.names} == {HOST}
        other = self_signed("other.invalid", *IPS)
        trusted["upstream__ca_file"] = str(other.write(tmp_path))
        async with origins(other) as strangers:
            made = behind(names, strangers[IPS[0]].port, "https", **trusted)
            async with Gateway(tmp_path / "bad", made=made) as gateway, raw.RawClient(gateway.port) as client:
                await in_use(gateway, *IPS)
                answer = await client.request("GET", "/api/users")
                assert (answer.header("proxy-status") or "").startswith("holdfast; error=tls_certificate_error")
                assert not [host for origin in strangers.values() for host in origin.hosts]


async def test_a_changed_profile_keeps_the_addresses_and_nobody_notices(tmp_path: Path) -> None:
    """Not even for a route that gets servers of its own; the name server, silent by then, need not be asked."""
    async with NameServer({HOST: IPS}) as names, origins() as three:
        made = behind(names, three[IPS[0]].port)
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            await in_use(gateway, *IPS)
            await three[IPS[1]].__aexit__(None, None, None)
            await counts(client)
            names.silent = True
            written = yaml.safe_load(Path(gateway.profile).read_text())
            written["upstream"]["connect_timeout"] = "400ms"
            written["upstream"]["routes"] = {"users": {"balance": "least_outstanding"}}
            Path(gateway.profile).write_text(yaml.safe_dump(written))
            gateway.send(signal.SIGHUP)
            seen: Counter[str] = Counter()

            async def shown() -> dict[str, float]:
                return {k[1]: v for k, v in (await gateway.metrics()).items() if k[0] == "holdfast_upstream_open"}

            async def followed() -> bool:
                seen.update(await counts(client))
                return len(await shown()) == 2 * len(IPS)

            await until(followed, within=8, what="the route to have servers of its own")
            assert set(seen + await counts(client)) == {IPS[0], IPS[2]}
            opened = {name for name, is_open in (await shown()).items() if is_open}
            assert f"server=http://{HOST}:{three[IPS[1]].port}#{IPS[1]}" in opened


async def test_localhost_is_one_server(tmp_path: Path) -> None:
    """By the operating system: one address of each family is no reason for anything, with or without `expand`."""
    async with Origin("127.0.0.1") as origin:
        for number, dns in enumerate(({"refresh": REFRESH}, {"expand": False})):
            made = profile(f"http://localhost:{origin.port}", upstream__dns=dns)
            async with Gateway(tmp_path / str(number), made=made) as gateway, raw.RawClient(gateway.port) as client:
                assert await counts(client, 3) == {"127.0.0.1": 3}
                await asyncio.sleep(0.5)
                assert list((await gateway.admin("/health")).json()["upstream"]) == [f"http://localhost:{origin.port}"]
                assert await counts(client, 3) == {"127.0.0.1": 3}
                assert CHANGED not in gateway.log()


async def test_a_name_of_the_command_line_is_followed_too(tmp_path: Path) -> None:
    """`mitmdump --mode reverse:http://name`, with the profile's name servers."""
    async with NameServer({HOST: IPS}) as names, origins() as three:
        made = behind(names, 9)
        made["upstream"]["servers"] = ["http://127.0.0.1:9"]
        upstream = f"http://{HOST}:{three[IPS[0]].port}"
        async with (
            Gateway(tmp_path, upstream, front="mitmdump", made=made) as gateway,
            raw.RawClient(gateway.port) as client,
        ):
            await in_use(gateway, *IPS)
            assert await counts(client) == dict.fromkeys(IPS, 4)
