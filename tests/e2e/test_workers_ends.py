"""Gateways of several workers: how they start and end, and that nothing that was captured is lost or out of order."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from holdfast.testing import MisbehavingOrigin
from tests.e2e import crew
from tests.e2e.cached import cached, keep
from tests.e2e.harness import Gateway, GatewayError, accepts, addon, profile, run_cli, until
from tests.e2e.raw import RawClient
from tests.e2e.replayed import Origin
from tests.e2e.test_replay_embedded import made_for
from tests.services.process import free_port


def of(folder: Path, made: dict[str, Any], count: int = 2, **more: Any) -> Gateway:
    """Whose access log can be read."""
    made["log"] = {"format": "json"}
    return Gateway(folder, made=made, args=["--workers", str(count)], **more)


async def post(client: RawClient, path: str, body: bytes) -> str:
    """The id under which it was captured."""
    answer = await client.request("POST", path, body=body)
    assert (answer.status, answer.header("holdfast-capture")) == (503, None), answer
    return str(answer.capture_id)


# -- captures -------------------------------------------------------------------------------------------------------


async def _health_tells(gateway: Gateway, pending: int) -> bool:
    health = (await gateway.admin("/health")).json()
    return (health["outbox"]["pending"], health["replayer"]["status"]) == (pending, "ok")


async def test_captures_of_one_key_are_replayed_in_their_order_whichever_worker_took_them(tmp_path: Path) -> None:
    """One worker replays for all. A live request does not overtake either: `order: true` looks into every outbox."""
    async with Origin() as origin:
        await origin.stop()
        made = addon(made_for(origin), "interceptor", order=True)
        async with of(tmp_path, made) as gateway:
            await crew.all_serve(gateway)
            async with crew.one_at_each(gateway) as pair:
                turns = [0, 1, 1, 0, 1, 0, 0, 1] * 2
                ids = [await post(pair[turn], "/key/a", str(n).encode()) for n, turn in enumerate(turns)]
                listed = await gateway.captures("--limit", "1000")
                assert {each["id"] for each in listed} == set(ids)
                await until(lambda: _health_tells(gateway, len(ids)), what="the health page, a second late")
                await origin.start()
                ids += [await _behind(pair[n % 2], ids) for n in range(2)]
                await until(lambda: len(origin.replays()) >= len(ids), within=30, what="all to be replayed")
                assert origin.by_key()["/key/a"] == ids
                assert len(list(tmp_path.glob("outbox*.db"))) == 2
                assert (await pair[1].request("GET", f"/.holdfast/captures/{ids[0]}")).json()["state"] == "delivered"


async def _behind(client: RawClient, ids: list[str]) -> str:
    """While anything of the key waits at any worker, the next one is captured behind it."""
    return await post(client, "/key/a", b"late")


async def test_what_workers_held_that_there_are_no_more_is_replayed(tmp_path: Path) -> None:
    """Three were killed with captures in their outboxes; two are started."""
    async with Origin() as origin:
        await origin.stop()
        made = made_for(origin)
        async with of(tmp_path, made, 3) as gateway:
            await crew.all_serve(gateway, 3)
            async with crew.one_at_each(gateway, 3) as three:
                ids = [await post(three[n % 3], f"/key/{n}", b"x") for n in range(9)]
            pids = [each["pid"] for each in await crew.workers(gateway)]
            gateway.kill()
            await until(lambda: not any(map(_lives, pids)), what="the workers to end with their parent")
            assert len(list(tmp_path.glob("outbox*.db"))) == 3
            await origin.start()
            gateway.args = ["--workers", "2"]
            await gateway.start()
            await until(lambda: len(origin.replays()) == len(ids), within=30, what="all to be replayed")
            assert sorted(each for key in origin.by_key().values() for each in key) == sorted(ids)


def _lives(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


# -- ends -----------------------------------------------------------------------------------------------------------


async def test_a_stop_drains_every_worker(tmp_path: Path) -> None:
    """What is under way at each of them is answered; then all of it is gone, with status 0."""
    async with Origin() as origin:
        made = profile(origin.url, upstream__response_timeout="10s", upstream__deadline="10s")
        async with of(tmp_path, made) as gateway:
            await crew.all_serve(gateway)
            pids = [each["pid"] for each in await crew.workers(gateway)]
            async with crew.one_at_each(gateway) as pair:
                origin.frozen = asyncio.Event()
                asked = origin.asked
                slow = [asyncio.create_task(client.request("GET", "/slow")) for client in pair]
                await until(lambda: origin.asked == asked + 2)
                gateway.send(signal.SIGTERM)
                await until(lambda: _refused(gateway.port), what="no more connections to be taken")
                origin.frozen.set()
                assert [(await each).status for each in slow] == [200, 200]
            assert await gateway.ended() == 0
            assert not any(map(_lives, pids))


async def _refused(port: int) -> bool:
    return not await accepts(port)


async def test_what_would_end_every_worker_is_said_once_and_ends_the_gateway(tmp_path: Path) -> None:
    """An addon that ends its process, an address that is taken: message and exit status."""
    (tmp_path / "own.py").write_text(
        "import os\nclass Deadly:\n    def running(self):\n        os.write(2, b'no licence')\n        os._exit(3)\n"
    )
    made = profile("http://127.0.0.1:9")
    made["addons"].append({"use": "own:Deadly"})
    with pytest.raises(GatewayError, match="exit code 3") as deadly:
        await of(tmp_path / "a", made, env={"PYTHONPATH": _path(tmp_path)}).start()
    assert str(deadly.value).count("no licence") == 1
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        with pytest.raises(GatewayError, match="exit code 1") as taken:
            await of(tmp_path / "b", profile("http://127.0.0.1:9", listen=address)).start()
    assert str(taken.value).count("Address already in use; choose another with --listen") == 1


def _path(folder: Path) -> str:
    return os.pathsep.join([str(Path(__file__).parents[2] / "addons"), str(folder)])


async def test_workers_under_mitmweb_are_refused(tmp_path: Path) -> None:
    """Exit status 2, and what to write instead, before anything is started."""
    code, _, err = await run_cli("run", "--profile", "minimal", "--workers", "2", "--web", cwd=tmp_path)
    assert (code, "leave one of them out" in err) == (2, True), err


async def test_any_free_port_is_the_same_for_all_workers(tmp_path: Path) -> None:
    """Port 0 is settled before they are started."""
    async with MisbehavingOrigin() as origin:
        made = profile(origin.url, listen="127.0.0.1:0")
        gateway = of(tmp_path, made)
        gateway.launch()
        try:
            found = await crew.all_serve(gateway)
            port = int((await gateway.admin("/config")).json()["listen"].rpartition(":")[2])
            assert port
            assert len({each["pid"] for each in found}) == 2
            gateway.port = port
            async with crew.one_at_each(gateway) as pair:
                assert [(await crew.get(client, "/")).status for client in pair] == [200, 200]
        finally:
            gateway.kill()


# -- a shared store -------------------------------------------------------------------------------------------------


async def test_with_redis_what_one_worker_stores_the_other_answers_and_a_purge_holds_at_both(
    tmp_path: Path, redis_url: str
) -> None:
    """As with two gateways."""
    async with MisbehavingOrigin(keep(b"ok", ("Surrogate-Key", "t"))) as origin:
        made = cached(origin.url, store=f"{redis_url}?prefix=w{free_port()}")
        async with of(tmp_path, made) as gateway, crew.one_at_each(gateway) as (one, other):
            await crew.get(one, "/r")
            await until(lambda: _hits(other), what="the other to find it")
            assert len(origin.requests) == 1
            assert (await gateway.admin("/purge", "POST", json={"tags": ["t"]})).status_code == 200
            await until(lambda: _misses(other), what="the other to hear of it")
            await until(lambda: _hits(one), what="the first to find the new one")
            assert len(origin.requests) == 2


async def _misses(client: RawClient) -> bool:
    return not await _hits(client)


async def _hits(client: RawClient) -> bool:
    return ";hit" in ((await crew.get(client, "/r")).header("cache-status") or "")
