"""notifying.callbacks: at least once, later and later, and not for ever; with a fixed clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import StoreUnavailable
from holdfast.notifying.callbacks import LEASE, SCHEDULE, TRIES, Callback, Callbacks
from holdfast.notifying.posting import NotTaken
from holdfast.policy.signature import verify
from holdfast.testing import FixedClock

KEY = b"k" * 32
URL = "https://app.test/outcomes/s3cret"


@dataclass
class Row:
    """A callback in the queue. `due` includes the lease."""

    callback: Callback
    due: float
    error: str = ""
    given_up: bool = False


class MemoryQueue:
    """As the real one, in memory; `away` makes each method fail."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.away = False

    def put(self, id_: int, due: float, url: str = URL) -> None:
        self.rows[id_] = Row(Callback(id_, f"outcome-{id_}", url, b'{"id":%d}' % id_), due)

    async def due(self, now: float, limit: int, lease_seconds: float) -> Sequence[Callback]:
        self._check()
        taken = [row for row in self.rows.values() if row.due <= now and not row.given_up][:limit]
        for row in taken:
            row.due = now + lease_seconds
        return [row.callback for row in taken]

    async def done(self, ids: Sequence[int]) -> None:
        self._check()
        for id_ in ids:
            del self.rows[id_]

    async def later(self, id: int, due: float, error: str) -> None:  # noqa: A002
        self._check()
        row = self.rows[id]
        row.callback, row.due, row.error = replace(row.callback, tries=row.callback.tries + 1), due, error

    async def given_up(self, id: int, error: str) -> None:  # noqa: A002
        self._check()
        row = self.rows[id]
        row.given_up, row.error = True, error

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("the disk is away")


class Receiver:
    """Meets each POST with the next of `fates`; the last one stays."""

    def __init__(self, *fates: Exception | None) -> None:
        self.fates = list(fates) or [None]
        self.posts: list[tuple[str, Mapping[str, str], bytes]] = []

    async def __call__(self, url: str, fields: Mapping[str, str], body: bytes) -> None:
        self.posts.append((url, fields, body))
        fate = self.fates.pop(0) if len(self.fates) > 1 else self.fates[0]
        if fate:
            raise fate


class Place:
    """A worker, its queue and its receiver. Without jitter a pause is three quarters of its step."""

    def __init__(self, *fates: Exception | None) -> None:
        self.queue, self.receiver, self.clock = MemoryQueue(), Receiver(*fates), FixedClock()
        self.counted: list[str] = []
        self.worker = Callbacks(
            self.queue, [KEY], self.receiver, self.clock, count=self.counted.append, jitter=lambda: 0.5
        )


async def test_an_outcome_is_posted_signed_and_forgotten() -> None:
    """Under the id of the outcome."""
    place = Place()
    place.queue.put(1, due=place.clock())
    assert await place.worker.turn()
    ((url, fields, body),) = place.receiver.posts
    assert (url, fields["webhook-id"], body) == (URL, "outcome-1", b'{"id":1}')
    verify([KEY], fields, body, place.clock(), tolerance=1)
    assert (place.queue.rows, place.counted) == ({}, ["sent"])
    assert not await place.worker.turn()


async def test_one_that_is_not_taken_comes_again_later_with_the_same_id() -> None:
    """Signed anew, with the time of the try."""
    place = Place(NotTaken("answered 500"), None)
    place.queue.put(1, due=place.clock())
    await place.worker.turn()
    row = place.queue.rows[1]
    assert (row.due - place.clock(), row.error, row.callback.tries) == (5.0 * 0.75, "answered 500", 1)
    assert not await place.worker.turn()
    place.clock.advance(3.75)
    await place.worker.turn()
    (_, first, _), (_, second, body) = place.receiver.posts
    assert first["webhook-id"] == second["webhook-id"]
    verify([KEY], second, body, place.clock(), tolerance=1)
    assert (place.queue.rows, place.counted) == ({}, ["failed", "sent"])


async def test_after_ten_tries_it_is_given_up() -> None:
    """The pauses grow from five seconds to an hour."""
    place, pauses = Place(NotTaken("answered 500")), list[float]()
    place.queue.put(1, due=place.clock())
    while not place.queue.rows[1].given_up:
        await place.worker.turn()
        pauses.append(place.queue.rows[1].due - place.clock())
        place.clock.now = place.queue.rows[1].due
    assert len(place.receiver.posts) == TRIES == 10
    assert place.counted == ["failed"] * 9 + ["given_up"]
    steps = [pause / 0.75 for pause in pauses[:9]]
    assert (steps[0], steps) == (5.0, sorted(steps))
    assert steps[8] == pytest.approx(3600, rel=0.05)


async def test_a_receiver_that_is_gone_is_given_up_at_once() -> None:
    """410."""
    place = Place(NotTaken("answered 410", final=True))
    place.queue.put(1, due=place.clock())
    await place.worker.turn()
    assert place.queue.rows[1].given_up
    assert place.queue.rows[1].error == "answered 410"


async def test_a_crash_after_the_post_sends_it_again() -> None:
    """At least once: whoever takes it after the lease does not know; the receiver knows it by its id."""
    place = Place()
    place.queue.put(1, due=place.clock())
    taken = await place.queue.due(place.clock(), 10, LEASE)
    assert len(taken) == 1  # and then the process was killed
    assert not await place.worker.turn()
    place.clock.advance(LEASE)
    assert await place.worker.turn()
    assert place.queue.rows == {}


async def test_what_cannot_be_forgotten_is_not_called_sent() -> None:
    """The queue went away during the post; its error goes up to the loop, which sits it out."""
    place = Place()
    place.queue.put(1, due=place.clock())

    async def post(url: str, fields: Mapping[str, str], body: bytes) -> None:
        place.queue.away = True

    worker = Callbacks(place.queue, [KEY], post, place.clock, count=place.counted.append)
    with pytest.raises(StoreUnavailable):
        await worker.turn()
    assert place.counted == []


async def test_the_loop_sits_out_a_queue_that_is_away_and_stops_when_told() -> None:
    """What was to be sent is sent once it is back."""
    place = Place()
    place.queue.put(1, due=place.clock())
    place.queue.away = True
    running = asyncio.create_task(place.worker.run())
    async with asyncio.timeout(5):
        while not place.worker.trouble:
            await asyncio.sleep(0)
        assert place.worker.trouble == "the disk is away"
        place.queue.away = False
        place.worker.wake()
        while place.queue.rows:
            await asyncio.sleep(0)
        while place.worker.trouble:
            await asyncio.sleep(0)
        place.worker.stop()
        await running


async def test_a_defect_does_not_end_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged with its trace, and the loop goes on."""
    place = Place(RuntimeError("a defect"), None)
    place.queue.put(1, due=place.clock())
    running = asyncio.create_task(place.worker.run())
    async with asyncio.timeout(5):
        while "a defect" not in place.worker.trouble:
            await asyncio.sleep(0)
        place.clock.advance(LEASE)
        place.worker.wake()
        while place.queue.rows:
            await asyncio.sleep(0)
        place.worker.stop()
        await running


def test_without_a_key_there_are_no_callbacks() -> None:
    """A receiver that cannot tell who posts must not be made."""
    with pytest.raises(ValueError, match="HOLDFAST_WEBHOOK_KEY"):
        Callbacks(MemoryQueue(), [], Receiver(), FixedClock())


async def test_a_batch_is_sent_side_by_side() -> None:
    """One that hangs does not keep the others."""
    place = Place()
    held = asyncio.Event()
    done: list[str] = []

    async def post(url: str, fields: Mapping[str, str], body: bytes) -> None:
        if fields["webhook-id"] == "outcome-1":
            await held.wait()
        done.append(fields["webhook-id"])

    for number in (1, 2, 3):
        place.queue.put(number, due=place.clock())
    turning = asyncio.create_task(Callbacks(place.queue, [KEY], post, place.clock).turn())
    async with asyncio.timeout(5):
        while len(done) < 2:
            await asyncio.sleep(0)
        held.set()
        await turning
    assert place.queue.rows == {}


@given(st.lists(st.sampled_from(["taken", "refused"]), max_size=TRIES), st.integers())
async def test_every_outcome_is_taken_or_given_up_and_none_is_sent_more_often(fates: list[str], seed: int) -> None:
    """Whatever the receiver does: at most ten posts, the next never sooner than half of its pause."""
    answers = [None if fate == "taken" else NotTaken("answered 500") for fate in fates]
    place, dice = Place(*answers, None), random.Random(seed)
    place.worker = Callbacks(place.queue, [KEY], place.receiver, place.clock, jitter=dice.random)
    place.queue.put(1, due=place.clock())
    for tries in range(1, TRIES + 1):
        await place.worker.turn()
        if 1 not in place.queue.rows or place.queue.rows[1].given_up:
            break
        assert place.queue.rows[1].due - place.clock() >= SCHEDULE.delay(tries, 0.0) > 0
        place.clock.now = place.queue.rows[1].due
    assert len(place.receiver.posts) <= TRIES
    assert place.queue.rows == {} or place.queue.rows[1].given_up
