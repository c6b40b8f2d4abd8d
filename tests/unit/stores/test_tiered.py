"""Which level may be used when, with a Redis and a channel that do as they are told."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from holdfast.errors import StoreUnavailable
from holdfast.stores import Lookup
from holdfast.stores.channel import LEASE, Channel
from holdfast.stores.memory import MemoryStore
from holdfast.stores.options import StoreOptions
from holdfast.stores.redis import Found, RedisStore
from holdfast.stores.redis_url import parse_redis_url
from holdfast.stores.tiered import Mode, TieredStore
from holdfast.testing import FixedClock
from tests.contract.responses import PLAIN, make_response

NOW = 2**50  # a value of Redis's clock


class ToldRedis(RedisStore):
    """Never connects. `answer` is what is found, after `gate` is open; writes are kept in `written`."""

    def __init__(self, clock: FixedClock) -> None:
        super().__init__(parse_redis_url("redis://nowhere"), StoreOptions(), clock)
        self.answer = Found(Lookup(None, NOW))
        self.gate = asyncio.Event()
        self.gate.set()
        self.written: list[str] = []
        self.refusal = ""

    @property
    def home(self) -> object:
        return self.link.nodes.of(self.keys.purges)

    def break_down(self) -> None:
        self.link.nodes.of(self.keys.purges).circuit.failed("gone")

    def recover(self) -> None:
        self.link.nodes.of(self.keys.purges).circuit.succeeded()

    async def find(self, key: str, request: object) -> Found:
        answer = self.answer
        await self.gate.wait()
        return answer

    async def put(self, key: str, response: object, *, keep: float) -> str:
        self.written.append(key)
        return self.refusal

    touch = put


class Scene:
    """A gateway with everything in hand."""

    def __init__(self) -> None:
        self.time = FixedClock()
        self.redis = ToldRedis(self.time)
        self.store = TieredStore(MemoryStore(1024 * 1024, self.time), self.redis, self.time, self.time)
        self.store.synced(NOW)
        self.trust()

    def trust(self) -> None:
        self.store.channel.trusted_until = self.time.now + LEASE

    def distrust(self) -> None:
        self.store.channel.trusted_until = 0.0

    def outage(self) -> None:
        self.distrust()
        self.redis.break_down()

    def back(self, clock: int = NOW) -> None:
        self.redis.recover()
        self.store.synced(clock)
        self.trust()

    async def body(self, key: str = "k") -> bytes | None:
        found = await self.store.get(key, PLAIN)
        return found.response.body if found.response else None


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_the_mode_follows_the_lease_and_the_circuit(scene: Scene) -> None:
    """Trust goes before everything: a call that failed once does not make the copies worse."""
    assert scene.store.mode() is Mode.FULL
    scene.redis.break_down()
    assert scene.store.mode() is Mode.FULL
    scene.time.advance(LEASE)
    assert scene.store.mode() is Mode.ALONE
    scene.redis.recover()
    assert scene.store.mode() is Mode.SHARED
    scene.trust()
    assert scene.store.mode() is Mode.FULL


async def test_a_copy_that_was_read_before_the_channel_was_lost_is_not_kept_after_it(scene: Scene) -> None:
    """It may have been purged in between, and nobody would say so again."""
    response = make_response(NOW - 5, tags=("t",))
    scene.redis.answer = Found(Lookup(response, NOW, level="redis"), scene.time.now + 60)
    scene.redis.gate.clear()
    reading = asyncio.create_task(scene.store.get("k", PLAIN))
    await asyncio.sleep(0)
    scene.distrust()
    assert scene.store.mode() is Mode.SHARED
    scene.store.synced(NOW + 2)
    scene.trust()
    scene.redis.gate.set()
    await reading
    assert scene.store.lookup("k", PLAIN) is None


async def test_a_copy_is_kept_when_the_clock_has_not_moved(scene: Scene) -> None:
    """Then nothing was purged."""
    await scene.store.put("k", make_response(NOW), keep=60)
    scene.distrust()
    assert scene.store.lookup("k", PLAIN) is None
    scene.back()
    assert scene.store.lookup("k", PLAIN)


async def test_a_purge_of_ones_own_while_the_channel_is_lost_does_not_hide_one_from_elsewhere(scene: Scene) -> None:
    """What counts is where the *channel* left the clock."""
    await scene.store.put("k", make_response(NOW, tags=("elsewhere",)), keep=60)
    scene.distrust()
    scene.store._copies.invalidate(["own"], soft=False, at=NOW + 4)
    scene.back(NOW + 5)
    assert scene.store.lookup("k", PLAIN) is None


async def test_what_was_filled_during_one_outage_is_not_served_during_the_next(scene: Scene) -> None:
    """Redis was back in between, and with it purges from elsewhere."""
    scene.outage()
    alone = (await scene.store.get("k", PLAIN)).as_of
    late = make_response(alone, b"late")
    await scene.store.put("k", make_response(alone, b"meanwhile"), keep=60)
    assert await scene.body() == b"meanwhile"
    scene.back()
    assert scene.store.mode() is Mode.FULL
    scene.outage()
    assert await scene.body() is None
    assert await scene.store.put("late", late, keep=60)
    assert await scene.body("late") is None


async def test_a_fill_belongs_to_the_mode_that_it_began_in(scene: Scene) -> None:
    """The clocks of the two have nothing to do with each other."""
    shared = make_response((await scene.store.get("k", PLAIN)).as_of)
    scene.outage()
    assert await scene.store.put("k", shared, keep=60) == "begun before Redis was lost"
    alone = make_response((await scene.store.get("k", PLAIN)).as_of)
    scene.back()
    assert await scene.store.put("k", alone, keep=60) == "begun while Redis was away"
    assert scene.redis.written == []


async def test_the_two_memories_are_never_both_in_use(scene: Scene) -> None:
    """Or they would take twice what one may."""
    for _ in range(2):
        for number in range(400):
            await scene.store.put(f"k{number}", make_response(NOW, bytes(1000)), keep=60)
        scene.outage()
        as_of = (await scene.store.get("k", PLAIN)).as_of
        assert scene.store._copies.health().figures["bytes"] == 0
        for number in range(400):
            await scene.store.put(f"k{number}", make_response(as_of, bytes(1000)), keep=60)
        scene.back()
        scene.store.mode()
        assert scene.store._alone.health().figures["bytes"] == 0


async def test_what_redis_cannot_take_is_kept_in_memory(scene: Scene) -> None:
    """The channel tells of purges all the same."""
    scene.redis.refusal = "Redis is out of memory"
    assert await scene.store.put("k", make_response(NOW, tags=("t",)), keep=60) == ""
    assert await scene.body() == b"hello"
    scene.store.purged(["t"], NOW, soft=False)
    assert await scene.body() is None
    scene.distrust()
    assert await scene.store.put("k", make_response(NOW + 1), keep=60) == "Redis is out of memory"


async def test_an_older_copy_is_better_than_nothing_when_redis_does_not_answer(scene: Scene) -> None:
    """The caller asked for a newer one, and can still serve this one stale."""
    response = make_response(NOW, arrived=1000.0)
    await scene.store.put("k", response, keep=60)
    scene.redis.answer = Found(Lookup(None, NOW, degraded="too slow"))
    found = await scene.store.get("k", PLAIN, fresh_enough=2000.0)
    assert (found.response, found.degraded) == (response, "too slow")
    newer = replace(response, response_time=3000.0)
    scene.redis.answer = Found(Lookup(newer, NOW, level="redis"), scene.time.now + 60)
    assert (await scene.store.get("k", PLAIN, fresh_enough=2000.0)).response == newer


async def test_a_purge_that_failed_empties_this_gateway_at_least(scene: Scene) -> None:
    """Whoever asked wants it gone; the error says that it is not gone elsewhere."""
    await scene.store.put("k", make_response(NOW, tags=("t",)), keep=60)
    with pytest.raises(StoreUnavailable, match="own memory only"):
        await scene.store.purge(["t"], soft=False)
    assert scene.store.lookup("k", PLAIN) is None or scene.store.mode() is Mode.ALONE


# --- the channel ---


class Heard:
    """What the channel says, in order."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def synced(self, clock: int) -> None:
        self.said.append(("synced", clock))

    def purged(self, tags: object, value: int, *, soft: bool) -> None:
        self.said.append(("purged", tags, value, soft))


class ToldChannel(Channel):
    """Its looks at the clock are answered with `now`."""

    now = NOW

    async def _sync(self) -> None:
        self._clock = self.now
        self._synced = True
        self._listener.synced(self._clock)


async def hear(channel: Channel, before: int, value: int, kind: str = "h", *tags: str) -> None:
    await channel._heard([b"message", b"purges", msgspec.msgpack.encode([before, value, kind, *tags])])


@pytest.fixture
async def channel(scene: Scene) -> ToldChannel:
    """In step with Redis."""
    made = ToldChannel(scene.redis.link, Heard(), scene.time)
    await made._sync()
    return made


async def test_a_purge_that_follows_the_last_one_is_passed_on(channel: ToldChannel) -> None:
    """Nothing was missed."""
    await hear(channel, NOW, NOW + 10, "s", "a", "b")
    await hear(channel, NOW + 11, NOW + 20, "h", "c")
    assert channel._listener.said[1:] == [  # type: ignore[attr-defined]
        ("purged", ["a", "b"], NOW + 10, True),
        ("purged", ["c"], NOW + 20, False),
    ]


async def test_a_purge_that_skips_one_shows_that_it_was_missed(channel: ToldChannel) -> None:
    """Then the listener has to start over, before it hears of the one that was not."""
    channel.now = NOW + 31
    await hear(channel, NOW + 11, NOW + 20, "h", "c")
    assert channel._listener.said[1:] == [("synced", NOW + 31), ("purged", ["c"], NOW + 20, False)]  # type: ignore[attr-defined]
    assert channel.losses == 1


async def test_an_echo_lends_trust_from_when_it_was_sent(scene: Scene, channel: ToldChannel) -> None:
    """Not from when it came; and a late one takes nothing back."""
    sent = scene.time.now
    scene.time.advance(0.7)
    await channel._heard([b"pong", f"{sent!r} {NOW}".encode()])
    assert channel.trusted_until == sent + LEASE
    await channel._heard([b"pong", f"{sent - 0.2!r} {NOW}".encode()])
    assert channel.trusted_until == sent + LEASE


async def test_an_echo_that_knows_more_than_was_heard_lends_no_trust(scene: Scene, channel: ToldChannel) -> None:
    """A purge has been lost on the way."""
    channel.now = NOW + 2
    await channel._heard([b"pong", f"{scene.time.now!r} {NOW + 2}".encode()])
    assert channel.trusted_until == 0.0
    assert channel._listener.said[-1] == ("synced", NOW + 2)  # type: ignore[attr-defined]
