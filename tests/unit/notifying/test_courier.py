"""notifying.courier: in order, tried again, bounded; and nobody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from holdfast.notifying.courier import Courier
from holdfast.notifying.posting import NotTaken
from holdfast.notifying.targets import Event

REFUSED, GONE = NotTaken("answered 500"), NotTaken("answered 410", final=True)


class FakeTarget:
    """Meets each try with the next of `fates`, an error to raise or None; the last one stays. Holds while told to."""

    name = "fake"

    def __init__(self, *fates: Exception | None) -> None:
        self.fates = list(fates) or [None]
        self.tries: list[str] = []
        self.free = asyncio.Event()
        self.free.set()
        self.closed = False

    async def send(self, event: Event) -> None:
        self.tries.append(event.id)
        await self.free.wait()
        fate = self.fates.pop(0) if len(self.fates) > 1 else self.fates[0]
        if fate:
            raise fate

    async def close(self) -> None:
        self.closed = True


class Carried:
    """A courier to a fake target, and what was counted."""

    def __init__(self, target: FakeTarget, pauses: Sequence[float] = (0.0, 0.0), most: int = 500) -> None:
        self.target = target
        self.counted: list[tuple[str, str]] = []
        self.courier = Courier(target, pauses, lambda event, outcome: self.counted.append((event.id, outcome)), most)

    async def until(self, question: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not question():
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def carried(target: FakeTarget, pauses: Sequence[float] = (0.0, 0.0), most: int = 500) -> AsyncIterator[Carried]:
    made = Carried(target, pauses, most)
    made.courier.start()
    try:
        yield made
    finally:
        target.free.set()
        await made.courier.close(1.0)


def event(id_: str) -> Event:
    return Event(id_, "failing", "holdfast.route.failing", "users", b"{}")


async def test_notices_arrive_in_their_order() -> None:
    """Also when one has to be tried again: a recovery is never told before the failure."""
    async with carried(FakeTarget(REFUSED, REFUSED, None)) as made:
        for each in ("a", "b", "c"):
            made.courier.put(event(each))
        await made.until(lambda: len(made.counted) == 3)
    assert made.target.tries == ["a", "a", "a", "b", "c"]
    assert made.counted == [("a", "sent"), ("b", "sent"), ("c", "sent")]
    assert made.target.closed


async def test_a_notice_is_given_up_after_its_tries() -> None:
    """The next has tries of its own; what is wrong is known until one gets through."""
    async with carried(FakeTarget(REFUSED, REFUSED, REFUSED, REFUSED, None)) as made:
        made.courier.put(event("a"))
        await made.until(lambda: bool(made.counted))
        assert made.courier.trouble == "answered 500"
        made.courier.put(event("b"))
        await made.until(lambda: len(made.counted) == 2)
        assert made.courier.trouble == ""
    assert made.target.tries == ["a", "a", "a", "b", "b"]
    assert made.counted == [("a", "failed"), ("b", "sent")]


async def test_what_can_never_be_taken_is_not_tried_again() -> None:
    """As by a receiver that answers 410."""
    async with carried(FakeTarget(GONE)) as made:
        made.courier.put(event("a"))
        await made.until(lambda: bool(made.counted))
    assert (made.target.tries, made.counted) == (["a"], [("a", "failed")])


async def test_between_two_tries_there_is_a_pause() -> None:
    """As long as is set, a fifth more or less."""
    async with carried(FakeTarget(REFUSED, None), pauses=[0.2]) as made:
        loop = asyncio.get_running_loop()
        before = loop.time()
        made.courier.put(event("a"))
        await made.until(lambda: bool(made.counted))
        assert 0.15 < loop.time() - before < 1.0


async def test_at_the_bound_notices_are_dropped_and_counted() -> None:
    """A target that hangs costs memory for so many, and `put` returns at once."""
    target = FakeTarget()
    target.free.clear()
    async with carried(target, most=3) as made:
        made.courier.put(event("first"))
        await made.until(lambda: bool(target.tries))
        for number in range(5):
            made.courier.put(event(str(number)))
        assert made.counted == [("3", "dropped"), ("4", "dropped")]
        assert made.courier.waiting == 3


async def test_a_stop_tries_what_waits_once_more() -> None:
    """A pause is cut short; a target that takes nothing has it counted as failed."""
    async with carried(FakeTarget(REFUSED), pauses=[60.0, 60.0]) as made:
        made.courier.put(event("a"))
        made.courier.put(event("b"))
        await made.until(lambda: bool(made.target.tries))
        async with asyncio.timeout(2):
            await made.courier.close(5.0)
    assert made.target.tries == ["a", "a", "b"]
    assert made.counted == [("a", "failed"), ("b", "failed")]


async def test_a_target_that_hangs_does_not_keep_a_stop() -> None:
    """What it has not taken is dropped; so is what comes afterwards."""
    target = FakeTarget()
    target.free.clear()
    async with carried(target) as made:
        made.courier.put(event("a"))
        made.courier.put(event("b"))
        await made.until(lambda: bool(target.tries))
        async with asyncio.timeout(2):
            await made.courier.close(0.05)
        made.courier.put(event("c"))
        await made.until(lambda: len(made.counted) == 3)
    assert sorted(made.counted) == [("a", "dropped"), ("b", "dropped"), ("c", "dropped")]


async def test_a_defect_of_a_target_does_not_end_the_courier(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its trace, and the next notice goes out."""
    async with carried(FakeTarget(RuntimeError("a defect"), None)) as made:
        made.courier.put(event("a"))
        made.courier.put(event("b"))
        await made.until(lambda: len(made.counted) == 2)
    assert made.counted == [("a", "failed"), ("b", "sent")]
