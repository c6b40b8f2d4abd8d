"""Profiles take over beside the traffic: nothing in flight suffers, what is known is kept, addons come and go."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.testing import Answer, Break, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Gateway, profile, until
from tests.e2e.live import OWN, Made, banner, change, entry_of, held, outcomes, put, quiet, write
from tests.e2e.test_http2 import http2_client

BREAKER = {"max_fails": 3, "fail_timeout": "60s"}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder on the gateway's PYTHONPATH with addons of one's own."""
    (tmp_path / "own_addons.py").write_text(OWN)
    return tmp_path


@contextlib.asynccontextmanager
async def reloading(gateway: Gateway, *edits: Callable[[Made], object], every: float = 0.05) -> AsyncIterator[None]:
    """Another profile every 50 ms, over and over; at least ten of them, and none is refused."""

    async def reload() -> None:
        number = 0
        while True:
            made = held(gateway)
            edits[number % len(edits)](made)
            write(gateway, made)
            gateway.send(signal.SIGHUP)
            number += 1
            await asyncio.sleep(every)

    task = asyncio.create_task(reload())
    try:
        yield

        async def enough() -> bool:
            return (await outcomes(gateway))[0] >= 10

        await until(enough, within=10, what="ten reloads")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (await outcomes(gateway))[1] == 0, gateway.log()


# -- traffic --------------------------------------------------------------------------------------------------------


async def test_no_request_is_lost_and_no_connection_closed(own: Path) -> None:
    """HTTP/1.1 on kept connections and HTTP/2 on one, while addons, servers and limits change every 50 ms."""
    async with MisbehavingOrigin() as one, MisbehavingOrigin() as two:
        edits = [
            lambda made: made["addons"].insert(0, banner("a")),
            lambda made: put(made, "upstream.servers", [one.url, two.url]),
            lambda made: made["addons"].insert(2, made["addons"].pop(0)),
            lambda made: put(made, "limits.buffer_body", "1MiB"),
            lambda made: made["addons"].remove(banner("a")),
            lambda made: put(made, "upstream.servers", [one.url]),
            lambda made: put(made, "limits.buffer_body", "2MiB"),
        ]
        made = quiet(profile(one.url, upstream__response_timeout="5s", upstream__deadline="10s"))
        async with Gateway(own, made=made) as gateway, http2_client(gateway) as http2:

            async def on_one_connection(requests: int) -> None:
                async with raw.RawClient(gateway.port) as client:
                    for number in range(requests):
                        body = str(number).encode() * 100
                        answer = await client.request("POST", "/api/users", body=body)
                        assert (answer.status, answer.body) == (200, b"ok")
                    assert await client.is_kept()

            async def on_http2(requests: int) -> set[Any]:
                ports = set()
                for _ in range(requests):
                    answer = await http2.get("/api/users")
                    assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
                    ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
                return ports

            async with reloading(gateway, *edits):
                *_, ports = await asyncio.gather(*(on_one_connection(40) for _ in range(5)), on_http2(50))
            assert len(ports) == 1
            assert len(one.requests) + len(two.requests) == 250
            figures = await gateway.metrics()
            requests = sum(v for k, v in figures.items() if k[0] == "holdfast_requests_total" and "fate=ok" in k)
            assert requests == 250, {
                k: v
                for k, v in figures.items()
                if k[0] in ("holdfast_requests_total", "holdfast_upstream_attempts_total")
            }
            assert "Traceback" not in gateway.log(5000)


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A WebSocket server that sends every short frame back; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first, length = await reader.readexactly(2)
                mask, data = await reader.readexactly(4), await reader.readexactly(length & 0x7F)
                plain = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
                writer.write(bytes([first, len(plain)]) + plain)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_websocket_goes_on(own: Path) -> None:
    """Frames both ways, before, during and after."""
    async with echo() as port:
        made = quiet(profile(f"http://127.0.0.1:{port}"))
        async with Gateway(own, made=made) as gateway, raw.RawClient(gateway.port) as client:
            fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]
            key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            await client.send(raw.head("GET", "/ws", [*fields, key]))
            assert (await client.answer_head()).status == 101
            edits = [lambda made: made["addons"].append(banner("a")), lambda made: made["addons"].pop()]
            async with reloading(gateway, *edits):
                for number in range(100):
                    text = f"frame {number}".encode()
                    await client.send(b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text)
                    async with asyncio.timeout(5):
                        assert await client.reader.readexactly(2 + len(text)) == b"\x81" + bytes([len(text)]) + text
                    await asyncio.sleep(0.01)


async def test_streams_go_on_in_both_directions(own: Path) -> None:
    """Server-sent events, and an upload that takes its time, over many reloads."""
    events = [b"data: %d\n\n" % number for number in range(20)]
    sse = Answer(headers=[("Content-Type", "text/event-stream")], body=b"".join(events), pieces=20, pace=0.08)
    async with MisbehavingOrigin({"/events": sse, "*": Answer(body=b"taken")}) as origin:
        made = quiet(profile(origin.url, limits={"buffer_body": "1KiB"}, upstream__read_timeout="5s"))
        gateway = Gateway(own, made=made)
        async with gateway, raw.RawClient(gateway.port) as reader, raw.RawClient(gateway.port) as writer:
            edits = [
                lambda made: made["addons"].insert(0, banner("a")),
                lambda made: made["addons"].remove(banner("a")),
                lambda made: put(made, "upstream.servers", ["http://127.0.0.1:11"]),
            ]
            await writer.send(raw.head("POST", "/upload", length=20 * 4096))
            await writer.send(bytes(2 * 4096))
            await reader.send(raw.head("GET", "/events"))
            await asyncio.sleep(0.3)  # both have reached the server that is about to be taken away
            async with reloading(gateway, *edits):
                for _ in range(18):
                    await writer.send(bytes(4096))
                    await asyncio.sleep(0.05)
                uploaded, answer = await writer.answer(), await reader.answer()
            assert (uploaded.status, uploaded.body) == (200, b"taken")
            assert (answer.status, answer.body) == (200, b"".join(events))


async def test_a_request_in_its_back_off_is_not_disturbed(own: Path) -> None:
    """It goes by the rules it began with, over the servers it began with; the next one by the new ones."""
    async with MisbehavingOrigin(Answer(503)) as old, MisbehavingOrigin() as new:
        made = quiet(profile(old.url, upstream__retry={"attempts": 6, "backoff": {"base": "1s", "max": "1s"}}))
        put(made, "upstream.deadline", "10s")
        async with Gateway(own, made=made) as gateway, raw.RawClient(gateway.port) as client:
            await client.send(raw.head("GET", "/api/users"))
            await old.wait_for(1)

            def edit(made: Made) -> None:
                put(made, "upstream.servers", [new.url])
                put(made, "upstream.retry.attempts", 1)
                made["addons"].insert(0, banner("a"))

            await change(gateway, edit)
            answer = await client.answer()
            assert (answer.status, answer.header("x-banner"), len(old.requests)) == (503, "a", 6)
            assert answer.capture_id
            assert (await client.request("GET", "/api/users")).status == 200
            assert (len(old.requests), len(new.requests)) == (6, 1)


# -- what is known is kept ------------------------------------------------------------------------------------------


async def test_circuits_counters_and_the_outbox_go_on(tmp_path: Path) -> None:
    """An open circuit stays open, no figure begins anew, captures from before and after are in one outbox."""
    async with MisbehavingOrigin(Break("request", "reset")) as bad:
        made = quiet(profile(bad.url, upstream__breaker=BREAKER, upstream__retry__attempts=1))
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            ids = [(await client.request("POST", "/api/users", body=b"x")).capture_id for _ in range(3)]
            before = await gateway.metrics()
            opened = ("holdfast_upstream_open", f"server={bad.url}")
            assert before[opened] == 1
            async with MisbehavingOrigin() as good:

                def edit(made: Made) -> None:
                    put(made, "upstream.servers", [bad.url, good.url])
                    put(made, "upstream.breaker.max_fails", 5)
                    made["addons"].reverse()

                await change(gateway, edit)
                for _ in range(4):
                    assert (await client.request("GET", "/api/users")).status == 200
                after = await gateway.metrics()
                assert after[opened] == 1 and len(bad.requests) == 3 and len(good.requests) == 4
                ignored = ("_bucket", "_seconds", "_since", "holdfast_profile", "process_", "python_")
                smaller = [k for k, v in before.items() if after.get(k, 0) < v and not any(i in k[0] for i in ignored)]
                assert smaller == []
                captured = "holdfast_captures_total", "error=connection_terminated", "route=users"
                assert after[captured] == before[captured] == 3
            assert {each["id"] for each in await gateway.captures()} == set(ids)


async def test_a_server_is_added_and_another_taken_away(tmp_path: Path) -> None:
    """The new one gets traffic at once; the old one finishes what it has, and gets nothing more."""
    async with MisbehavingOrigin(Answer(delay=0.8, body=b"old")) as old, MisbehavingOrigin(Answer(body=b"new")) as new:
        made = quiet(profile(old.url, upstream__response_timeout="5s", upstream__deadline="8s"))
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            async with raw.RawClient(gateway.port) as other:
                await other.send(raw.head("GET", "/api/users"))
                await old.wait_for(1)
                await change(gateway, lambda made: put(made, "upstream.servers", [old.url, new.url]))
                both = {(await client.request("GET", "/api/users")).body for _ in range(4)}
                assert both == {b"old", b"new"}
                assert f"servers_added={new.url}" in gateway.log()
                await other.answer()
                await other.send(raw.head("GET", "/api/users"))
                await asyncio.sleep(0.2)
                seen = len(old.requests)
                await change(gateway, lambda made: put(made, "upstream.servers", [new.url]))
                assert {(await client.request("GET", "/api/users")).body for _ in range(6)} == {b"new"}
                assert (await other.answer()).status == 200
            assert len(old.requests) == seen
            assert f"servers_removed={old.url}" in gateway.log()
            assert not [
                key for key in await gateway.metrics() if key == ("holdfast_upstream_open", f"server={old.url}")
            ]


async def test_routes_and_their_settings_change(tmp_path: Path) -> None:
    """A new route gets its label, its server, its patience and its answer."""
    async with (
        MisbehavingOrigin() as one,
        MisbehavingOrigin(Answer(delay=0.6, body=b"two")) as two,
        Gateway(tmp_path, made=quiet(profile(one.url))) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        assert (await client.request("GET", "/slow")).body == b"ok"

        def edit(made: Made) -> None:
            entry_of(made, "router")["routes"].append({"name": "slow", "path": "/slow"})
            put(made, "upstream.routes", {"slow": {"servers": [two.url], "response_timeout": "3s"}})
            made["addons"][2] = {"interceptor": {"routes": {"slow": {"answer": 202, "retry_after": "7s"}}}}

        await change(gateway, edit)
        assert (await client.request("GET", "/slow")).body == b"two"
        async with two.refusing():
            accepted = await client.request("POST", "/slow", body=b"x")
        assert (accepted.status, accepted.header("retry-after")) == (202, "7")
        name, labels = "holdfast_requests_total", ("method=GET", "route=slow", "status=200")
        assert (await gateway.metrics())[name, "fate=ok", *labels] == 1
        await change(gateway, lambda made: put(made, "upstream.routes.slow.response_timeout", "100ms"))
        assert (await client.request("POST", "/slow", body=b"x")).status == 202


async def test_limits_redaction_and_the_log_change(tmp_path: Path) -> None:
    """What the failure sink stores, what it refuses, what is let in, and what is written about it."""
    async with (
        Gateway(tmp_path, made=quiet(profile("http://127.0.0.1:9"))) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        send = ("POST", "/api/users", [("X-Tenant", "acme")])
        plain = (await client.request(*send, body=b"x")).capture_id

        def edit(made: Made) -> None:
            entry_of(made, "failure_sink").update(redact={"headers": ["x-tenant"]}, max_record="8KiB")
            made["limits"] = {"max_body": "64KiB"}
            made["log"] = {"format": "json", "access": False}

        await change(gateway, edit)
        masked = (await client.request(*send, body=b"x")).capture_id
        assert plain and masked
        kept = await gateway.exported()
        assert kept[plain]["headers"]["x-tenant"] == "acme" != kept[masked]["headers"]["x-tenant"]
        too_large = await client.request(*send, body=bytes(20_000))
        assert too_large.header("holdfast-capture") == "failed; reason=too_large"
        assert '"message": "profile taken over"' in gateway.log()
        assert "/api/users" not in gateway.log(2)
        assert (await client.request(*send, body=bytes(100_000))).status == 413
