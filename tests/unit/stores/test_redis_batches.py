"""redis_batches: which calls go out together, and that each caller gets what is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from holdfast.stores.redis_batches import AT_ONCE, LARGE, Batches, Command, is_small
from holdfast.stores.redis_link import Unreachable

BOUND = 0.5


class Server:
    """Notes each batch, and answers with the commands when it may; `fails` is raised in place of that."""

    def __init__(self) -> None:
        self.batches: list[list[Command]] = []
        self.bounds: list[float] = []
        self.answers = asyncio.Event()
        self.fails: BaseException | None = None

    async def send(self, commands: Sequence[Command], bound: float) -> list[Any]:
        self.batches.append(list(commands))
        self.bounds.append(bound)
        await self.answers.wait()
        if self.fails:
            raise self.fails
        return [command[0].lower() for command in commands]


@pytest.fixture(params=["eager", "lazy"])
async def server(request: pytest.FixtureRequest) -> Server:
    """Under mitmproxy tasks begin at once, elsewhere they do not."""
    if request.param == "eager":
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    return Server()


def begun(call: Coroutine[Any, Any, list[Any]]) -> asyncio.Task[list[Any]]:
    return asyncio.create_task(asyncio.wait_for(call, 10))


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0)


async def a_moment() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_calls_of_one_turn_go_out_as_one(server: Server) -> None:
    """Within the longest of their bounds; each gets its own answers, in order."""
    batches = Batches(server.send)
    calls = [begun(batches.ask(commands, bound)) for commands, bound in (([("A",), ("B",)], 1.0), ([("C",)], 2.0))]
    server.answers.set()
    assert await asyncio.gather(*calls) == [["a", "b"], ["c"]]
    assert server.batches == [[("A",), ("B",), ("C",)]]
    assert server.bounds == [2.0]
    assert await batches.ask([("D",)], BOUND) == ["d"]  # and the next one goes at once again


async def test_what_comes_while_calls_are_under_way_goes_together_then(server: Server) -> None:
    """No more than so many batches at once; nobody waits for all of them."""
    batches = Batches(server.send)
    calls = []
    for number in range(AT_ONCE + 3):
        calls.append(begun(batches.ask([(f"N{number}",)], BOUND)))
        await a_moment()
    assert server.batches == [[(f"N{number}",)] for number in range(AT_ONCE)]
    server.answers.set()
    assert await asyncio.gather(*calls) == [[f"n{number}"] for number in range(AT_ONCE + 3)]
    assert server.batches[AT_ONCE:] == [[(f"N{number}",) for number in range(AT_ONCE, AT_ONCE + 3)]]


async def test_what_goes_wrong_is_told_to_each_caller(server: Server) -> None:
    """With an exception of its own: they are raised in several tasks, and would share their traces. Then it goes on."""
    batches = Batches(server.send)
    calls = [begun(batches.ask([("A",)], BOUND)) for _ in range(3)]
    server.fails = Unreachable("nobody is there")
    server.answers.set()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [(type(error), str(error)) for error in errors] == [(Unreachable, "nobody is there")] * 3
    assert len(set(map(id, errors))) == 3
    server.fails = None
    assert await batches.ask([("B",)], BOUND) == ["b"]


class Particular(Exception):
    """Cannot be made of its `args`."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


async def test_an_exception_that_cannot_be_made_again_is_told_too(server: Server) -> None:
    """Nobody is left waiting for it."""
    batches = Batches(server.send)
    calls = [begun(batches.ask([("A",)], BOUND)) for _ in range(2)]
    server.fails = Particular(code=5)
    server.answers.set()
    async with asyncio.timeout(10):
        errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(error) for error in errors] == ["code 5"] * 2


async def test_a_caller_that_goes_does_not_disturb_the_others(server: Server) -> None:
    """Its answer is nobody's."""
    batches = Batches(server.send)
    first, going, last = (begun(batches.ask([(name,), (name,)], BOUND)) for name in "ABC")
    await until(lambda: server.batches)
    going.cancel()
    server.answers.set()
    assert await asyncio.gather(first, last) == [["a", "a"], ["c", "c"]]
    assert going.cancelled()


@pytest.mark.parametrize("others", [True, False])
async def test_what_nobody_wants_any_more_is_not_sent(server: Server, others: bool) -> None:
    """A caller has gone before its turn has come; and where all have gone, the next call is as any other."""
    batches = Batches(server.send)
    calls = []
    for _ in range(AT_ONCE):
        calls.append(begun(batches.ask([("BEFORE",)], BOUND)))
        await a_moment()
    going = begun(batches.ask([("GONE",)], BOUND))
    last = [begun(batches.ask([("LAST",)], BOUND))] if others else []
    await a_moment()
    going.cancel()
    server.answers.set()
    await asyncio.gather(*calls, *last)
    await a_moment()
    assert server.batches == [[("BEFORE",)]] * AT_ONCE + [[("LAST",)]] * others
    assert await batches.ask([("NEXT",)], BOUND) == ["next"]


async def test_a_batch_that_is_cancelled_cancels_its_callers(server: Server) -> None:
    """As at the end of the process."""
    batches = Batches(server.send)
    calls = [begun(batches.ask([("A",)], BOUND)) for _ in range(2)]
    server.fails = asyncio.CancelledError()
    server.answers.set()
    await asyncio.wait(calls, timeout=10)
    assert all(call.cancelled() for call in calls)


@pytest.mark.parametrize(
    ("commands", "small"),
    [
        ([], True),
        ([("GET", b"x" * LARGE, 5, None)], True),
        ([("GET", "k"), ("SET", "k", b"x" * (LARGE + 1))], False),
        ([("EVAL", "x" * (LARGE + 1))], False),
    ],
)
def test_what_is_large_goes_by_itself(commands: list[Command], small: bool) -> None:
    """One large argument is enough: the others would wait for it."""
    assert is_small(commands) is small
