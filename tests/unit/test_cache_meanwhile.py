"""cache: what is fetched meanwhile and for whom, and when the upstream is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.caching.settings import CacheSettings
from holdfast.exchange import exchange_of
from holdfast.profile.values import Duration
from tests.unit.caching.rig import DEADLINE, HOST, KEY, Rig, a_moment, answer, settled, status_of

type Make = Callable[..., Rig]

GRACE = Duration("30s")


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """A cache with these settings."""
    return lambda **settings: Rig(monkeypatch, CacheSettings(**settings))


# -- fetched meanwhile ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
async def test_what_is_stale_is_served_while_it_is_fetched_anew(make: Make, tls: bool) -> None:
    """RFC 5861, section 3: the whole, by GET, whatever this client asked for."""
    rig = make(grace=GRACE)
    await rig.fetch(reply=answer(200, b"one"), tls=tls)
    rig.origin = lambda flow: answer(200, b"two")
    rig.clock.advance(70)
    stale = await rig.fetch("/a", ("Range", "bytes=0-0"), ("If-None-Match", '"9"'), ("Accept", "x"), tls=tls)
    assert stale.response and stale.response.content == b"o"
    assert f';ttl=-10;key="{"https" if tls else "http"}://{HOST}/a";detail=grace' in status_of(stale)
    assert exchange_of(stale)["cached"] == "stale" and rig.count("stale") == 1
    (sent,) = rig.sent
    assert sent.request.method == "GET"
    assert {n for n, _ in sent.request.headers.items()} == {"Host", "Accept"}
    assert exchange_of(sent)["refresh"].endswith(f"{HOST}/a") and exchange_of(sent)["original_host"] == HOST
    assert sent.client_conn.tls is tls
    fresh = await rig.fetch(tls=tls)
    assert fresh.response and fresh.response.content == b"two"
    assert status_of(fresh).startswith("holdfast;hit")


async def test_it_is_fetched_anew_by_one_at_a_time(make: Make) -> None:
    """However many clients get what is stale; the lock ends after the route's deadline."""
    rig = make(grace=GRACE)
    await rig.fetch()
    rig.clock.advance(70)
    for _ in range(3):
        await rig.ask("/a", method="HEAD")
    await settled()
    assert [each.request.method for each in rig.sent] == ["GET"]
    assert (f"refresh {KEY}", DEADLINE + 5) in rig.store.locked
    await rig.fetch()
    assert len(rig.sent) == 2


@pytest.mark.parametrize(("dice", "sent"), [(0.0, 0), (0.5, 0), (0.9, 1)])
async def test_what_takes_long_to_make_is_fetched_early_by_chance(make: Make, dice: float, sent: int) -> None:
    """A hot key is renewed before it is stale: four seconds to make, five to live (Vattani et al. 2015)."""
    rig = make()
    flow = await rig.ask()
    rig.clock.advance(4)
    await rig.told(flow, answer())
    rig.clock.advance(51)
    rig.dice = dice
    assert "hit;ttl=5;" in status_of(await rig.fetch())
    assert len(rig.sent) == sent


async def test_a_failing_upstream_is_left_alone_for_a_growing_while(make: Make) -> None:
    """One second, then two; then it is asked again, and once it answers it starts from one."""
    rig = make(grace_on_error=Duration("1h"))
    await rig.fetch()
    rig.clock.advance(61)
    for pause in (1.0, 2.0, 4.0):
        failed = await rig.fetch(reply=answer(503))
        assert ";fwd-status=503;" in status_of(failed)
        rig.clock.advance(pause - 0.1)
        left_alone = await rig.ask()
        assert left_alone.response and left_alone.response.content == b"one"
        assert status_of(left_alone).startswith("holdfast;hit;ttl=-")
        rig.clock.advance(0.1)
        assert (await rig.ask("/a", method="HEAD")).response is None
    await rig.fetch(reply=answer(200, b"two"))
    rig.clock.advance(61)
    await rig.fetch(reply=answer(503))
    rig.clock.advance(1.0)
    assert (await rig.ask()).response is None


# -- one for many -----------------------------------------------------------------------------------------------------


async def test_many_requests_for_one_thing_are_one_upstream(make: Make) -> None:
    """RFC 9211, section 2.6: who comes meanwhile gets what the first one brings."""
    rig = make()
    first = await rig.ask()
    others = [asyncio.create_task(rig.ask()) for _ in range(3)]
    await a_moment()
    assert not any(each.done() for each in others)
    await rig.told(first, answer(200, b"one"))
    for each in others:
        flow = await each
        assert flow.response and flow.response.content == b"one"
        assert status_of(flow) == f'holdfast;fwd=miss;ttl=60;collapsed;key="{KEY}"'
    assert (rig.count("miss"), rig.count("hit")) == (1, 3)


async def test_who_is_not_helped_by_the_answer_of_another_asks_for_itself(make: Make) -> None:
    """RFC 9211, section 2.6: `collapsed=?0`, as where Vary tells the two apart."""
    rig = make()
    first = await rig.ask("/a", ("Accept-Language", "de"))
    second = asyncio.create_task(rig.ask("/a", ("Accept-Language", "en")))
    await a_moment()
    await rig.told(first, answer(200, b"de", ("Vary", "Accept-Language")))
    flow = await second
    assert flow.response is None
    assert ";collapsed=?0;" in status_of(await rig.told(flow, answer()))


@pytest.mark.parametrize(
    ("settings", "headers", "more"),
    [
        ({"coalesce": Duration("0s")}, [], {}),
        ({}, [("Range", "bytes=0-1")], {}),
        ({}, [("If-Match", '"1"')], {}),
        ({}, [], {"method": "HEAD"}),
        ({}, [], {"refresh": KEY}),
    ],
)
async def test_who_would_get_nothing_from_another_does_not_wait(
    make: Make, settings: dict[str, Any], headers: list[tuple[str, str]], more: dict[str, Any]
) -> None:
    """A part, a condition that is the origin's, a HEAD, a request of the gateway's own; or by the profile."""
    rig = make(**settings)
    await rig.ask()
    async with asyncio.timeout(1):
        assert (await rig.ask("/a", *headers, **more)).response is None


async def test_who_waits_is_let_go_where_waiting_fails(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens to the first, the next one is not held."""
    rig = make()
    lock = rig.store.lock

    async def broken(key: str, *, seconds: float) -> str | None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(rig.store, "lock", broken)
    with pytest.raises(RuntimeError):
        await rig.ask()
    monkeypatch.setattr(rig.store, "lock", lock)
    async with asyncio.timeout(1):
        assert (await rig.ask()).response is None
