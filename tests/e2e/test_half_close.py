"""A client that has said all it wants to say (shutdown of its writing side) still gets its answer, and then the end."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from holdfast.testing import Answer, Break, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Gateway, profile, until

MEBIBYTE = 2**20


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("delay", [0.0, 0.2], ids=["at once", "after a while"])
async def test_it_gets_its_answer_and_then_the_end(tmp_path: Path, method: str, delay: float) -> None:
    """RFC 9112, section 9.6; `printf ... | nc -N` and `curl` through some proxies do that."""
    async with (
        MisbehavingOrigin(Answer(body=b"done", delay=delay)) as origin,
        Gateway(tmp_path, origin.url) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        await client.send(raw.head(method, "/", length=2 if method == "POST" else None) + b"hi" * (method == "POST"))
        client.finish()
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"done")
        assert await client.ends(5) == b""


async def test_all_of_its_pipelined_requests_are_answered(tmp_path: Path) -> None:
    """Those that were whole; a rest that is none is dropped."""
    async with MisbehavingOrigin(Answer(delay=0.05)) as origin, Gateway(tmp_path, origin.url) as gateway:
        for rest in (b"", b"GET /four HTT"):
            async with raw.RawClient(gateway.port) as client:
                await client.send(b"".join(raw.head("GET", f"/{number}") for number in range(3)) + rest)
                client.finish()
                assert [(await client.answer()).status for _ in range(3)] == [200] * 3
                assert await client.ends(5) == b""


async def test_a_failure_is_retried_and_captured_for_it_too(tmp_path: Path) -> None:
    """It is there, and wants to know."""
    plan = {"/retried": [Break("request", "reset"), Answer(body=b"second")], "/lost": Break("request", "reset")}
    async with MisbehavingOrigin(plan) as origin, Gateway(tmp_path, origin.url) as gateway:
        for path, status in (("/retried", 200), ("/lost", 503)):
            async with raw.RawClient(gateway.port) as client:
                await client.send(raw.head("GET", path))
                client.finish()
                answer = await client.answer()
                assert answer.status == status
                assert await client.ends(5) == b""
        assert [capture["id"] for capture in await gateway.captures()] == [answer.capture_id]


async def test_half_a_request_is_told_so(tmp_path: Path) -> None:
    """The body has ended before its length: 400, and nothing behind the gateway."""
    async with (
        MisbehavingOrigin() as origin,
        Gateway(tmp_path, origin.url) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        await client.send(raw.head("POST", "/", length=10) + b"half")
        client.finish()
        assert (await client.answer()).status == 400
        assert await client.ends(5) == b""
        assert origin.requests == []


async def test_over_tls_as_well(tmp_path: Path) -> None:
    """There the end of sending is an alert (RFC 8446, section 6.1)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    async with (
        MisbehavingOrigin(Answer(body=b"done", delay=0.2)) as origin,
        Gateway(tmp_path, origin.url) as gateway,
        raw.RawClient(gateway.port) as client,
    ):

        async def step(what: object) -> bytes:
            while True:
                try:
                    done = what()  # type: ignore[operator]
                except ssl.SSLWantReadError:
                    await client.send(outgoing.read())
                    incoming.write(await asyncio.wait_for(client.reader.read(65536), 5))
                    continue
                await client.send(outgoing.read())
                return bytes(done or b"")

        await step(tls.do_handshake)
        tls.write(raw.head("GET", "/"))
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        await client.send(outgoing.read())
        incoming.write(await client.ends(5))
        got = b""
        while not got.endswith(b"done"):
            got += tls.read(65536)  # raises if there is no more


async def test_one_that_has_gone_altogether_ends_the_exchange(tmp_path: Path) -> None:
    """It cannot be told from one that reads on until something is written to it: then the upstream is let go.

    A large response, a client that closes after its request: the gateway does not read on for nobody, nor take the end
    of it for a failure that it could mend or capture.
    """
    large = Answer(body=bytes(64 * MEBIBYTE), delay=0.2, pieces=64)
    async with MisbehavingOrigin(large) as origin:
        times = {"upstream__response_timeout": "10s", "upstream__deadline": "20s"}
        made = profile(origin.url, **times, limits={"buffer_body": "1MiB"})
        async with Gateway(tmp_path, origin.url, made=made) as gateway:
            for _ in range(5):
                async with raw.RawClient(gateway.port) as client:
                    await client.send(raw.head("GET", "/api/users"))
                    client.writer.close()
                    await client.writer.wait_closed()
            await until(lambda: _ended(gateway, 5), within=10, what="the exchanges to end")
            assert len(origin.requests) == 5
            assert await gateway.captures() == []
            assert (await gateway.admin("/health")).status_code == 200
            assert await gateway.terminate(10) == 0
            assert "Traceback" not in gateway.log(1000)


async def test_one_that_resets_its_connection_ends_the_exchange_at_once(tmp_path: Path) -> None:
    """A reset says that nobody is there; so it does after the end of sending."""
    async with MisbehavingOrigin(Break("request", "hang")) as origin:
        made = profile(origin.url, upstream__response_timeout="20s", upstream__deadline="20s")
        async with Gateway(tmp_path, origin.url, made=made) as gateway:
            async with raw.RawClient(gateway.port) as client:
                await client.send(raw.head("GET", "/api/users"))
                await origin.wait_for(1)
            await until(lambda: _ended(gateway, 1), within=5, what="the exchange to end")
            assert len(origin.requests) == 1
            assert await gateway.captures() == []


async def test_a_stop_waits_for_its_answer(tmp_path: Path) -> None:
    """It counts as in flight, and is answered before the process ends."""
    async with MisbehavingOrigin(Answer(body=b"done", delay=0.8)) as origin:
        made = profile(origin.url, upstream__response_timeout="5s", upstream__deadline="8s")
        async with Gateway(tmp_path, origin.url, made=made) as gateway, raw.RawClient(gateway.port) as client:
            await client.send(raw.head("GET", "/api/users"))
            client.finish()
            await origin.wait_for(1)
            ending = asyncio.create_task(gateway.terminate(10))
            assert (await client.answer()).body == b"done"
            assert await ending == 0


async def _ended(gateway: Gateway, number: int) -> bool:
    figures = await gateway.metrics()
    return sum(v for k, v in figures.items() if k[0] == "holdfast_requests_total" and "route=users" in k) >= number
