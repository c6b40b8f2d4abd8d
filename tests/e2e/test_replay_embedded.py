"""The replayer within the gateway: what is sent, in which order, what an answer means, what survives a crash."""

from __future__ import annotations

import asyncio
import base64
import gzip
import random
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.harness import Gateway, addon, profile, until
from tests.e2e.replayed import Consumer, Origin


def made_for(origin: Origin, **rules: Any) -> dict[str, Any]:
    """A profile with short times that replays what it has captured."""
    made = profile(origin.url, upstream__retry={"attempts": 1})
    quick = {"audit": "audit.db", "attempts": 5, "schedule": {"delays": ["50ms"]}, "slow_start": "100ms"}
    made["addons"].insert(3, {"replayer": {**quick, **rules}})
    return made


async def posted(gateway: Gateway, path: str, content: bytes = b"x", **headers: str) -> httpx.Response:
    """The answer to a POST."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
        return await client.post(path, content=content, headers=named)


async def captured(gateway: Gateway, paths: Iterable[str]) -> list[str]:
    """Ids of requests that were captured, one for each path, with its number as the body."""
    answers = [await posted(gateway, path, str(number).encode()) for number, path in enumerate(paths)]
    return [answer.headers["holdfast-capture-id"] for answer in answers]


async def outcomes(gateway: Gateway) -> dict[str, str]:
    """id -> state, as the command line has it."""
    return {each["id"]: each["state"] for each in await gateway.captures("--limit", "1000")}


async def test_after_an_outage_everything_is_delivered_in_the_order_of_its_key(tmp_path: Path) -> None:
    """Three keys, five requests each; nothing is captured twice, and the client is told."""
    async with Origin() as origin:
        await origin.stop()
        async with Gateway(tmp_path, origin.url, made=made_for(origin)) as gateway:
            ids = await captured(gateway, [f"/api/{n % 3}" for n in range(15)])
            await origin.start()
            await until(lambda: len(origin.replays()) == 15, within=20, what="all to be delivered")
            states = await until(lambda: _all(gateway, ids, "delivered"), within=10, every=0.5)
            assert len(states) == 15
            page = await httpx.AsyncClient(base_url=gateway.url).get(f"/.holdfast/captures/{ids[0]}")
            assert page.json()["state"] == "delivered"
    for number in range(3):
        assert origin.by_key()[f"/api/{number}"] == ids[number::3]


async def _all(gateway: Gateway, ids: list[str], state: str) -> dict[str, str] | None:
    found = await outcomes(gateway)
    return found if all(found.get(each) == state for each in ids) else None


async def test_one_key_that_fails_keeps_only_its_own_waiting(tmp_path: Path) -> None:
    """The upstream answers 500 for one key until the others are through."""
    others_done = asyncio.Event()

    def answer(method: str, target: str, headers: dict[str, str], body: bytes) -> int:
        return 500 if target == "/api/bad" and not others_done.is_set() else 200

    async with Origin(answer) as origin:
        await origin.stop()
        async with Gateway(tmp_path, origin.url, made=made_for(origin, attempts=1000)) as gateway:
            ids = await captured(gateway, ["/api/bad", "/api/a", "/api/bad", "/api/b", "/api/bad", "/api/c"])
            await origin.start()
            await until(lambda: len(origin.replays()) == 3, within=20, what="the others to be delivered")
            assert {seen.target for seen in origin.replays()} == {"/api/a", "/api/b", "/api/c"}
            assert {seen.capture_id for seen in origin.log if seen.target == "/api/bad"} == {ids[0]}, (
                "younger ones wait"
            )
            others_done.set()
            await until(lambda: len(origin.replays()) == 6, within=20, what="the rest to be delivered")
    assert origin.by_key()["/api/bad"] == ids[::2]


async def test_it_is_the_same_request_byte_for_byte_with_the_marks_of_a_replay(tmp_path: Path) -> None:
    """Binary and compressed bodies, query, fields; Host is the upstream's; the trace goes on under a new span."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    bodies = [bytes(range(256)) * 3, gzip.compress(b"compressed"), b"", "grüße".encode()]
    async with Origin() as origin:
        await origin.stop()
        async with Gateway(tmp_path, origin.url, made=made_for(origin)) as gateway:
            fields = {"X_Own": "kept", "Content_Encoding": "gzip", "traceparent": f"00-{trace}-{span}-01"}
            answers = [
                await posted(gateway, "/api/users?a=%20b&c=1", bodies[0]),
                await posted(gateway, "/api/users", bodies[1], **fields),
                await posted(gateway, "/api/users", bodies[2], Idempotency_Key='"of-the-client"'),
                await posted(gateway, "/api/users", bodies[3], Connection="x-hop", X_Hop="1"),
            ]
            ids = [answer.headers["holdfast-capture-id"] for answer in answers]
            await origin.start()
            await until(lambda: len(origin.replays()) == 4, within=20, what="all to be delivered")
    by_id = {seen.capture_id: seen for seen in origin.replays()}
    query, encoded, keyed, hop = (by_id[each] for each in ids)
    assert [seen.body for seen in (query, encoded, keyed, hop)] == bodies
    assert query.target == "/api/users?a=%20b&c=1"
    assert (encoded.headers["x-own"], encoded.headers["content-encoding"]) == ("kept", "gzip")
    version, trace_id, span_id, _ = encoded.headers["traceparent"].split("-")
    assert (version, trace_id) == ("00", trace)
    assert span_id != span
    assert keyed.headers["idempotency-key"] == '"of-the-client"'
    assert query.headers["idempotency-key"] == f'"{ids[0]}"'
    assert "x-hop" not in hop.headers
    assert {seen.headers["holdfast-replay"] for seen in by_id.values()} == {"1"}
    assert {seen.headers["host"] for seen in by_id.values()} == {f"127.0.0.1:{origin.port}"}


async def test_credentials_are_opened_or_attached_and_a_mask_is_never_sent(tmp_path: Path) -> None:
    """With the key that sealed them; without one, what the profile attaches."""
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    async with Origin() as origin:
        for env, attach, sent in (
            ({"HOLDFAST_SEAL_KEY": key}, {}, "Bearer s3cret"),
            ({}, {"Authorization": "Bearer ours"}, "Bearer ours"),
            ({}, {}, None),
        ):
            await origin.stop()
            origin.log.clear()
            folder = tmp_path / secrets.token_hex(4)
            async with Gateway(folder, origin.url, made=made_for(origin, attach=attach), env=env) as gateway:
                await posted(gateway, "/api/users", b"x", Authorization="Bearer s3cret")
                await origin.start()
                await until(origin.replays, within=20, what="it to be delivered")
            assert origin.replays()[0].headers.get("authorization") == sent


@pytest.mark.parametrize(
    ("status", "rules", "reason", "attempts"),
    [
        (404, {}, "status_404", 1),
        (422, {"retry": ["422"], "attempts": 3}, "attempts", 3),
        (503, {"attempts": 2}, "attempts", 2),
        (200, {"delivered": ["201"]}, "status_200", 1),
    ],
)
async def test_what_is_final_is_dead_after_so_many_attempts(
    tmp_path: Path, status: int, rules: dict[str, Any], reason: str, attempts: int
) -> None:
    """By the profile's rules; with the last answer in the audit store, and never captured anew."""
    async with Origin(lambda *_: status) as origin:
        await origin.stop()
        async with Gateway(tmp_path, origin.url, made=made_for(origin, **rules)) as gateway:
            (capture,) = await captured(gateway, ["/api/users"])
            await origin.start()
            await until(lambda: _all(gateway, [capture], "dead"), within=20, every=0.5, what="it to be dead")
            (row,) = await gateway.captures()
            assert (row["reason"], row["attempts"], row["status"]) == (reason, attempts, status)
    assert [seen.headers["holdfast-replay"] for seen in origin.log] == [str(n) for n in range(1, attempts + 1)]


async def test_the_upstreams_retry_after_is_honoured(tmp_path: Path) -> None:
    """Instead of the schedule, where it is longer."""
    times: list[float] = []

    def answer(*_: object) -> int:
        times.append(asyncio.get_running_loop().time())
        return 429 if len(times) == 1 else 200

    async with Origin(answer) as origin:
        origin.extra = {"Retry-After": "2"}
        await origin.stop()
        async with Gateway(tmp_path, origin.url, made=made_for(origin)) as gateway:
            await captured(gateway, ["/api/users"])
            await origin.start()
            await until(lambda: len(times) == 2, within=20)
    assert times[1] - times[0] >= 1.9


async def test_what_is_too_old_is_dead_and_not_sent(tmp_path: Path) -> None:
    """`expires_after`, per route."""
    async with Origin() as origin:
        await origin.stop()
        made = made_for(origin, routes={"users": {"expires_after": "1ms"}})
        async with Gateway(tmp_path, origin.url, made=made) as gateway:
            old, other = await captured(gateway, ["/api/users", "/api/other"])
            await origin.start()
            await until(lambda: _all(gateway, [old], "dead"), within=20, every=0.5)
            await until(origin.replays, within=20)
    assert [seen.capture_id for seen in origin.log] == [other]


async def test_a_replay_is_never_captured_again(tmp_path: Path) -> None:
    """Not the gateway's own, and not one of another gateway that passes through here."""
    origin = Origin(lambda *_: 503)
    async with origin, Gateway(tmp_path, origin.url, made=made_for(origin, attempts=3)) as gateway:
        answer = await posted(gateway, "/api/users", Holdfast_Replay="2")
        assert (answer.status_code, "holdfast-capture-id" in answer.headers) == (503, False)
        (capture,) = await captured(gateway, ["/api/users"])
        await until(lambda: _all(gateway, [capture], "dead"), within=20, every=0.5)
        assert len(await gateway.captures()) == 1
        metrics = await gateway.metrics()
    captures = {key: value for key, value in metrics.items() if key[0] == "holdfast_captures_total"}
    assert sum(captures.values()) == 1


@pytest.mark.timeout(180)
async def test_kill_9_in_the_middle_leaves_one_outcome_for_each(tmp_path: Path, seed: int) -> None:
    """Several times over; the origin has seen each at least once, and each key in its order."""
    dice = random.Random(seed)
    async with Origin() as origin:
        await origin.stop()
        made = made_for(origin, concurrency=4)
        async with Gateway(tmp_path, origin.url, made=made) as gateway:
            ids = await captured(gateway, [f"/api/{n % 5}" for n in range(120)])
            await origin.start()
            for _ in range(4):
                before = len(origin.replays())
                wanted = min(120, before + dice.randint(5, 25))
                await until(lambda n=wanted: len(origin.replays()) >= n, within=30, every=0.001)  # type: ignore[misc]
                gateway.kill()
                await gateway.start()
            await until(lambda: set(ids) <= {seen.capture_id for seen in origin.replays()}, within=60)
            assert await until(lambda: _all(gateway, ids, "delivered"), within=60, every=0.5)
            lines = {(await gateway.cli("captures", "show", each, "--json")) for each in ids[:3]}
            assert len(lines) == 3
    for number in range(5):
        first = list(dict.fromkeys(origin.by_key()[f"/api/{number}"]))
        assert first == ids[number::5]
    again = len(origin.replays()) - 120
    assert 0 <= again <= 4 * 4, "no more than was under way at each kill is sent twice"


async def test_a_frozen_upstream_is_not_piled_upon(tmp_path: Path) -> None:
    """It accepts and says nothing: one probe after the other, and live requests of its other routes' servers go on."""
    async with Origin() as frozen, Origin() as healthy:
        frozen.frozen = asyncio.Event()
        made = made_for(frozen, attempts=1000, concurrency=8)
        made["upstream"]["routes"] = {"users": {"servers": [healthy.url]}}
        async with Gateway(tmp_path, frozen.url, made=made) as gateway:
            await asyncio.gather(*(captured(gateway, [f"/api/x{n}"]) for n in range(12)))
            asked = frozen.asked
            await asyncio.sleep(3.0)
            assert frozen.asked - asked <= 8 + 4, "those of the first burst, then probes"
            assert (await posted(gateway, "/api/users")).status_code == 200
            frozen.frozen.set()
            await until(lambda: len({seen.capture_id for seen in frozen.replays()}) == 12, within=60)


async def test_a_changed_profile_changes_the_rules_of_replays(tmp_path: Path) -> None:
    """What was retried is final from now on."""
    async with Origin(lambda *_: 500) as origin:
        await origin.stop()
        made = made_for(origin, attempts=1000)
        async with Gateway(tmp_path, origin.url, made=made) as gateway:
            (capture,) = await captured(gateway, ["/api/users"])
            await origin.start()
            await until(lambda: len(origin.log) > 1, within=20)
            addon(made, "replayer", retry=["503"])
            Gateway._write(gateway, made)
            await until(lambda: _all(gateway, [capture], "dead"), within=30, every=0.5)


async def test_a_consumer_empties_the_outbox_of_a_gateway_that_does_not_replay(tmp_path: Path) -> None:
    """`embedded: off`, and `holdfast consume` beside it."""
    async with Origin() as origin:
        await origin.stop()
        async with Gateway(tmp_path, origin.url, made=made_for(origin, embedded="off")) as gateway:
            ids = await captured(gateway, ["/api/users"] * 3)
            await origin.start()
            consumer = Consumer(gateway, tmp_path)
            consumer.log_file = tmp_path / "consumer.log"
            async with consumer:
                await until(lambda: len(origin.replays()) == 3, within=30)
                await until(lambda: _all(gateway, ids, "delivered"), within=10, every=0.5)
                assert await consumer.terminate() == 0
    assert origin.by_key()["/api/users"] == ids


async def test_a_stop_in_the_middle_loses_nothing_and_sends_nothing_twice(tmp_path: Path) -> None:
    """SIGTERM while it replays: what is on its way ends, the rest comes after the next start."""
    async with Origin() as origin:
        await origin.stop()
        async with Gateway(tmp_path, origin.url, made=made_for(origin, rate=50)) as gateway:
            ids = await captured(gateway, [f"/api/{n % 4}" for n in range(40)])
            await origin.start()
            await until(lambda: len(origin.replays()) >= 10, within=20)
            assert await gateway.terminate() == 0
            assert len(origin.replays()) < 40, "it was to be stopped in the middle"
            await gateway.start()
            await until(lambda: len(origin.replays()) >= 40, within=30)
            await until(lambda: _all(gateway, ids, "delivered"), within=20, every=0.5)
    assert sorted(seen.capture_id for seen in origin.replays()) == sorted(ids)
