"""Time that is moved: what waits on the loop wakes up, and the real time hardly passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from holdfast.rehearsal.clock import Clock, MovableLoop, in_real_time


def on_a_movable_loop[T](work: Callable[[Clock], Awaitable[T]]) -> T:
    async def run() -> T:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MovableLoop)
        return await work(Clock(loop))

    with asyncio.Runner(loop_factory=MovableLoop) as runner:
        return runner.run(run())


def test_an_hour_passes_in_a_moment():
    """All clocks of it, the loop's included; what is due every minute happens again and again."""

    async def work(clock: Clock) -> tuple[float, float, int]:
        ticks = 0

        async def every_two_minutes() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(120)
                ticks += 1

        ticking = asyncio.create_task(every_two_minutes())
        monotonic, wall = clock.monotonic(), clock.wall()
        await clock.pass_by(3600)
        ticking.cancel()
        return clock.monotonic() - monotonic, clock.wall() - wall, ticks

    began = time.monotonic()
    monotonic, wall, ticks = on_a_movable_loop(work)
    assert time.monotonic() - began < 5
    assert 3600 <= monotonic < 3610
    assert 3600 <= wall < 3610
    assert 20 <= ticks <= 30


def test_a_hurried_clock_goes_fast_until_it_is_told_not_to():
    """So that a timeout of ten seconds takes a fraction of one."""

    async def work(clock: Clock) -> tuple[float, float]:
        clock.hurry()
        clock.hurry()
        began = time.monotonic()
        await asyncio.sleep(10)
        took = time.monotonic() - began
        clock.relax()
        clock.relax()
        before = clock.monotonic()
        await asyncio.sleep(0.02)
        return took, clock.monotonic() - before

    took, after = on_a_movable_loop(work)
    assert took < 5
    assert after < 1


def test_a_hurried_clock_goes_the_faster_the_longer_it_must():
    """A day takes seconds."""

    async def work(clock: Clock) -> float:
        clock.hurry()
        began = time.monotonic()
        await asyncio.sleep(86400)
        clock.relax()
        return time.monotonic() - began

    assert on_a_movable_loop(work) < 10


def test_patience_is_counted_in_real_time():
    """However fast the moved time goes."""

    async def work(clock: Clock) -> str:
        clock.hurry()
        done = await in_real_time(asyncio.sleep(20, "done"), 10.0)
        with pytest.raises(TimeoutError):
            await in_real_time(asyncio.Event().wait(), 0.05)
        return done

    assert on_a_movable_loop(work) == "done"
