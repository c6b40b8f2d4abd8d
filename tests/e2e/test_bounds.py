"""Promise 5: at a bound the gateway refuses and says so; large, slow, many and leaving clients do not hurt it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from holdfast.testing import Answer, Break, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.conftest import SampleOrigin
from tests.e2e.harness import PROBLEM, Gateway, addon, profile, until

MEBIBYTE = 2**20
LARGE = 100 * MEBIBYTE
BUFFERED = 10 * MEBIBYTE
"""The default of limits.buffer_body: what is larger is streamed."""
GROWTH = 64 * MEBIBYTE
"""How much the gateway may grow by one large body: it may hold `BUFFERED` before it starts to stream, and Python
joins such a buffer once and more on its way; a gateway that holds the whole body would grow by twice `LARGE`."""


# -- the outbox -----------------------------------------------------------------------------------------------------


def refused(answer: raw.Answer, reason: str) -> None:
    """What a client is told when its request could not be stored: nothing that is not true."""
    assert answer.status == 503
    assert answer.header("content-type") == PROBLEM
    assert answer.header("holdfast-capture-id") is None
    assert answer.header("holdfast-capture") == f"failed; reason={reason}"
    assert "capture_id" not in answer.json()
    assert answer.header("retry-after")
    assert "error=connection_refused" in (answer.header("proxy-status") or "")


async def test_a_full_outbox_refuses_by_number(tmp_path: Path) -> None:
    """The bound counts; what had been stored stays, and what could not be is counted by its reason."""
    made = addon(profile("http://127.0.0.1:1"), "failure_sink", max_records=3)
    async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
        stored = [await client.request("POST", "/api/users", body=b"x") for _ in range(3)]
        assert all(answer.capture_id for answer in stored)
        for _ in range(2):
            refused(await client.request("POST", "/api/users", body=b"x"), "outbox_full")
        assert {c["id"] for c in await gateway.captures()} == {answer.capture_id for answer in stored}
        figures = await gateway.metrics()
        assert figures["holdfast_capture_failures_total", "reason=outbox_full"] == 2
        assert figures["holdfast_captures_total", "error=connection_refused", "route=users"] == 3


async def test_a_full_outbox_refuses_by_bytes_and_takes_requests_again(tmp_path: Path) -> None:
    """Discarding makes room, without a restart."""
    made = addon(profile("http://127.0.0.1:1"), "failure_sink", max_bytes="300KiB")
    async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
        body = b"a" * 100_000
        answers = [await client.request("POST", "/api/users", body=body) for _ in range(6)]
        kept = [answer for answer in answers if answer.capture_id]
        assert 1 <= len(kept) <= 3
        refused(answers[-1], "outbox_full")
        await gateway.cli("captures", "discard", "--yes")
        again = await until(lambda: stored_again(client, body), within=10, what="room in the outbox")
        assert again.capture_id


async def stored_again(client: raw.RawClient, body: bytes) -> raw.Answer | None:
    """The answer if it names a capture."""
    answer = await client.request("POST", "/api/users", body=body)
    return answer if answer.capture_id else None


async def test_a_record_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """By the bound of one record, and where the body was too large to be held at all."""
    made = addon(profile("http://127.0.0.1:1", limits={"buffer_body": "2MiB"}), "failure_sink", max_record="100KiB")
    async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
        refused(await client.request("POST", "/api/users", body=b"a" * MEBIBYTE), "too_large")
        refused(await client.request("POST", "/api/users", body=b"a" * 3 * MEBIBYTE), "too_large")
        assert (await client.request("POST", "/api/users", body=b"a" * 1000)).capture_id


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, where mounting is allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs; the outbox's own bounds are tested without it")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


async def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path, small_disk: Path) -> None:
    """The disk fills up in the middle of the load: every id given out is readable, even after a `kill -9`."""
    made = profile("http://127.0.0.1:1", small_disk / "outbox.db")
    async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
        promised: dict[str, bytes] = {}
        refusals = 0
        for number in range(400):
            body = number.to_bytes(2) * 5000
            answer = await client.request("POST", "/api/users", body=body)
            if answer.capture_id:
                promised[answer.capture_id] = body
            else:
                refused(answer, "disk_full")
                refusals += 1
            if refusals >= 10:
                break
        assert refusals == 10
        assert len(promised) > 20
        assert (await client.request("GET", "/health")).header("content-type") == "application/json"
        gateway.kill()
        subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)  # a reader needs room too
        kept = await gateway.exported()
        assert promised.keys() <= kept.keys()
        assert all(raw.body_of(kept[identifier]) == body for identifier, body in promised.items())


async def test_captures_work_again_when_the_disk_has_room(tmp_path: Path, small_disk: Path) -> None:
    """Without a restart."""
    filler = small_disk / "filler"
    made = profile("http://127.0.0.1:1", small_disk / "outbox.db")
    async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
        assert (await client.request("POST", "/api/users", body=b"before")).capture_id
        with filler.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
                file.flush()
        body = os.urandom(200_000)
        refused(await client.request("POST", "/api/users", body=body), "disk_full")
        filler.unlink()
        answer = await until(lambda: stored_again(client, body), within=15, what="a capture on the roomy disk")
        kept = await gateway.exported()
        assert raw.body_of(kept[answer.capture_id or ""]) == body


# -- large bodies ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def gateway(tmp_path: Path, sample: SampleOrigin) -> AsyncIterator[Gateway]:
    """A gateway with long times before the sample origin."""
    made = profile(sample.url, upstream__response_timeout="10s", upstream__read_timeout="10s", upstream__deadline="30s")
    async with Gateway(tmp_path / "gateway", sample.url, made=made) as running:
        yield running


async def test_a_large_request_body_goes_through_without_being_held(gateway: Gateway, sample: SampleOrigin) -> None:
    """100 MiB up: what arrives is what was sent, and the gateway's memory stays bounded."""
    before = gateway.memory()
    piece = os.urandom(MEBIBYTE)
    digest = hashlib.sha256()
    async with raw.RawClient(gateway.port) as client:
        await client.send(raw.head("POST", "/api/data", length=LARGE))
        for _ in range(LARGE // MEBIBYTE):
            digest.update(piece)
            await client.send(piece)
        answer = await client.answer()
        assert answer.json() == {"bytes": LARGE, "sha256": digest.hexdigest()}
        assert (await client.request("GET", "/api/health")).status == 200
    assert (await sample.arrived())[0]["body_sha256"] == digest.hexdigest()
    assert gateway.peak_memory() - before < GROWTH


async def test_a_large_response_body_goes_through_without_being_held(gateway: Gateway) -> None:
    """100 MiB down, read as fast as it comes."""
    before = gateway.memory()
    async with raw.RawClient(gateway.port) as client:
        await client.send(raw.head("GET", "/api/data?size=100MiB"))
        answer = await client.answer_head()
        assert (answer.status, answer.header("content-length")) == (200, str(LARGE))
        left = LARGE
        while left:
            piece = await asyncio.wait_for(client.reader.read(MEBIBYTE), 10)
            assert piece
            left -= len(piece)
        assert (await client.request("GET", "/api/health")).status == 200
    assert gateway.peak_memory() - before < GROWTH


async def test_a_slow_reader_does_not_make_the_gateway_hold_its_answer(gateway: Gateway) -> None:
    """It reads a few kilobytes of 100 MiB and then nothing: the upstream is slowed down, the memory is not used."""
    before = gateway.memory()
    async with raw.RawClient(gateway.port, receive_buffer=8192) as client:
        await client.send(raw.head("GET", "/api/data?size=100MiB"))
        assert (await client.answer_head()).status == 200
        await asyncio.sleep(1.5)
        async with raw.RawClient(gateway.port) as other:
            assert (await other.request("GET", "/api/health")).status == 200
        assert gateway.peak_memory() - before < GROWTH


async def test_a_slow_sender_is_served(gateway: Gateway) -> None:
    """A byte at a time, header and body; others are served meanwhile."""
    request = raw.head("POST", "/api/data", length=5) + b"hello"
    async with raw.RawClient(gateway.port) as client, raw.RawClient(gateway.port) as other:
        for number, byte in enumerate(request):
            await client.send(bytes([byte]))
            await asyncio.sleep(0.005)
            if number % 20 == 0:
                assert (await other.request("GET", "/api/health")).status == 200
        assert (await client.answer()).json()["bytes"] == 5


@pytest.mark.parametrize("sent", [1, BUFFERED // 2, BUFFERED * 2], ids=["a byte", "half a buffer", "streamed"])
async def test_a_client_that_leaves_within_its_request(gateway: Gateway, sample: SampleOrigin, sent: int) -> None:
    """Nothing incomplete is passed on as if it were whole, nothing is captured, and the next client is served."""
    async with raw.RawClient(gateway.port) as client:
        await client.send(raw.head("POST", "/api/data", length=LARGE) + bytes(sent))
        await asyncio.sleep(0.2)
    async with raw.RawClient(gateway.port) as client:
        assert (await client.request("GET", "/api/health")).status == 200
    await until(lambda: _in_flight_is_over(gateway), what="the request to have ended")
    assert await gateway.captures() == []
    arrived = [entry for entry in await sample.arrived() if entry["path"] == "/api/data"]
    assert all(not entry["complete"] for entry in arrived)


async def _in_flight_is_over(gateway: Gateway) -> bool:
    figures = await gateway.metrics()
    failed = [v for k, v in figures.items() if k[0] == "holdfast_requests_total" and "fate=failed" in k]
    return sum(failed) >= 1


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_large_request_that_fails_is_answered_once(tmp_path: Path, framing: str) -> None:
    """Streamed to an upstream that refuses: one answer, also when the client sends on, and the connection in step."""
    made = profile("http://127.0.0.1:1", limits={"buffer_body": "64KiB"})
    async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
        for pause in (0.0, 0.2):
            if framing == "length":
                await client.send(raw.head("POST", "/large", length=2**20))
            else:
                await client.send(raw.head("POST", "/large", [("Transfer-Encoding", "chunked")]) + b"100000\r\n")
            for _ in range(4):
                await client.send(bytes(2**18))
                await asyncio.sleep(pause)
            if framing == "chunked":
                await client.send(b"\r\n0\r\n\r\n")
            refused(await client.answer(), "too_large")
            assert await client.is_kept()
            small = await client.request("POST", "/small", body=b"x")
            envelope = (await gateway.admin(f"/captures/{small.capture_id}")).json()["request"]
            assert envelope["path"] == "/small"


async def test_a_client_that_leaves_within_the_answer(gateway: Gateway) -> None:
    """The gateway stops reading 100 MiB that nobody wants, and forgets them."""
    before = gateway.memory()
    for _ in range(5):
        async with raw.RawClient(gateway.port) as client:
            await client.send(raw.head("GET", "/api/data?size=100MiB"))
            await client.answer_head()
            await client.reader.readexactly(MEBIBYTE)
    await until(lambda: _in_flight_is_over(gateway), what="the request to have ended")
    assert gateway.peak_memory() - before < GROWTH
    async with raw.RawClient(gateway.port) as client:
        assert (await client.request("GET", "/api/health")).status == 200


async def test_a_client_that_leaves_while_the_upstream_is_silent(tmp_path: Path) -> None:
    """Nobody is left to be told an id: the request still counts as what it was, and the gateway goes on."""
    async with MisbehavingOrigin(Break("request", "hang")) as origin, Gateway(tmp_path, origin.url) as gateway:
        for _ in range(20):
            async with raw.RawClient(gateway.port) as client:
                await client.send(raw.head("GET", "/api/users"))
                await asyncio.sleep(0.01)
        origin.plan = Answer()
        async with raw.RawClient(gateway.port) as client:
            assert (await client.request("GET", "/api/users")).status == 200


async def test_a_request_body_over_the_bound_is_refused(tmp_path: Path) -> None:
    """limits.max_body: 413, announced or found out; nothing of it reaches the upstream."""
    async with MisbehavingOrigin() as origin:
        made = profile(origin.url, limits={"buffer_body": "10KiB", "max_body": "100KiB"})
        async with Gateway(tmp_path, origin.url, made=made) as gateway:
            for request in (
                raw.head("POST", "/api/users", length=MEBIBYTE) + bytes(1000),
                raw.head("POST", "/api/users", [("Transfer-Encoding", "chunked")])
                + b"8000\r\n%b\r\n" % bytes(0x8000) * 8,
            ):
                async with raw.RawClient(gateway.port) as client:
                    await client.send(request)
                    assert (await client.answer()).status == 413
            async with raw.RawClient(gateway.port) as client:
                assert (await client.request("POST", "/api/users", body=bytes(50_000))).status == 200
        assert len([received for received in origin.requests if received.complete]) == 1


# -- many -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("healthy", [True, False], ids=["healthy", "refusing"])
async def test_two_thousand_connections_at_once_are_all_answered(tmp_path: Path, healthy: bool) -> None:
    """All are open before the first one asks; with the upstream down every one of them is captured."""
    async with MisbehavingOrigin() as origin:
        upstream = origin.url if healthy else "http://127.0.0.1:1"
        times = {f"upstream__{key}": "30s" for key in ("connect_timeout", "response_timeout", "deadline")}
        made = profile(upstream, **times, log={"access": False})
        async with Gateway(tmp_path, upstream, made=made) as gateway, contextlib.AsyncExitStack() as stack:
            made_ready = [raw.RawClient(gateway.port) for _ in range(2000)]
            clients = await asyncio.gather(*(stack.enter_async_context(client) for client in made_ready))
            for client in clients:
                await client.send(raw.head("GET", "/api/users"))
            answers = await asyncio.gather(*(client.answer(within=60) for client in clients))
            assert {answer.status for answer in answers} == ({200} if healthy else {503})
            if not healthy:
                ids = {answer.capture_id for answer in answers}
                assert len(ids) == len(clients)
                assert None not in ids
                assert ids == (await gateway.exported()).keys()


async def test_an_outbox_whose_oldest_record_is_too_old_takes_no_more(tmp_path: Path) -> None:
    """failure_sink.max_age: nobody fetches these records, so the client is told instead of promised."""
    made = addon(profile("http://127.0.0.1:1"), "failure_sink", max_age="200ms")
    async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
        first = await client.request("GET", "/api/users")
        assert first.capture_id is not None

        async def refused() -> bool:
            answer = await client.request("GET", "/api/users")
            return answer.header("holdfast-capture") == "failed; reason=outbox_age"

        await until(refused, within=5, what="the first record to be too old")
        assert (await gateway.admin("/health")).json()["outbox"]["status"] == "failing"
        await gateway.cli("captures", "discard", "--yes")
        await until(lambda: captured(client), within=5, what="captures to go on")


async def captured(client: raw.RawClient) -> bool:
    """Whether a request is captured now."""
    return (await client.request("GET", "/api/users")).capture_id is not None
