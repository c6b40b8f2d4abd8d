"""dispatch: mitmproxy's documented behaviour of addons, held by its own walk and by the table alike."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy import hooks
from mitmproxy.exceptions import AddonHalt, OptionsError
from mitmproxy.http import HTTPFlow
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy.layers.http import HttpRequestHook

from holdfast.engine.dispatch import dispatch_by_table
from holdfast.testing import make_flow
from tests.unit.hooks import finished

type Told = list[str]


@dataclass
class Addon:
    """Notes its name for each request, and does what it is told then."""

    name: str
    told: Told
    then: Callable[[], Any] | None = None

    def request(self, flow: HTTPFlow) -> Any:
        """Whatever `then` gives back is mitmproxy's to deal with."""
        self.told.append(self.name)
        return self.then() if self.then else None


@pytest.fixture(params=["walk", "table", "at once"])
async def master(request: pytest.FixtureRequest) -> Master:
    """A mitmproxy without addons, with any of the dispatchers."""
    made = Master(Options())
    if request.param != "walk":
        table = dispatch_by_table(made)

        async def at_once(event: hooks.Hook) -> None:
            await finished(table.at_once(type(event), *event.args()))

        if request.param == "at once":
            made.addons.handle_lifecycle = at_once  # type: ignore[method-assign]
    return made


async def ask(master: Master) -> HTTPFlow:
    flow = make_flow()
    await master.addons.handle_lifecycle(HttpRequestHook(flow))
    return flow


def raising(error: BaseException) -> Callable[[], Any]:
    def raise_it() -> None:
        raise error

    return raise_it


async def test_addons_are_asked_in_the_order_of_the_chain(master: Master) -> None:
    """Also those that are added while mitmproxy runs, and no more once they are removed."""
    told: Told = []
    first, second, third = (Addon(name, told) for name in "abc")
    master.addons.add(first, second)
    await ask(master)
    master.addons.add(third)
    await ask(master)
    master.addons.remove(first)
    await ask(master)
    assert "".join(told) == "ababcbc"


async def test_a_list_that_is_replaced_is_followed(master: Master) -> None:
    """As `engine.swap` and `engine.placement` do it."""
    told: Told = []
    addons = [Addon(name, told) for name in "abc"]
    master.addons.add(*addons)
    await ask(master)
    master.addons.chain = [addons[2], addons[0], addons[1]]
    await ask(master)
    assert "".join(told) == "abccab"


async def test_async_methods_are_waited_for(master: Master) -> None:
    """The next addon is asked when the one before is done, whether it is declared async or gives back an awaitable."""
    told: Told = []

    async def later() -> None:
        await asyncio.sleep(0)
        told.append("later")

    master.addons.add(Addon("a", told, later), Addon("b", told))
    await ask(master)
    assert told == ["a", "later", "b"]


@pytest.mark.parametrize("async_first", [True, False])
@pytest.mark.parametrize(
    ("error", "asked"),
    [(None, "nest a b c"), (ValueError("broken"), "nest a c"), (AddonHalt(), "nest a"), (OptionsError("no"), "nest a")],
)
async def test_what_an_async_method_raises_is_as_if_it_had_been_raised_at_once(
    master: Master, error: Exception | None, asked: str, async_first: bool
) -> None:
    """In the midst of a nest: those after it there, and those of the next addon, are asked or not by the same rules."""
    told: Told = []
    seen: Told = []

    async def later() -> None:
        await asyncio.sleep(0)
        seen.append(" ".join(told))  # nobody else meanwhile
        if error:
            raise error

    async def soon() -> None:
        await asyncio.sleep(0)

    nest: Any = Addon("nest", told, soon if async_first else None)
    nest.addons = [Addon("a", told, later), Addon("b", told, soon)]
    master.addons.add(nest, Addon("c", told))
    master.addons.add(SimpleNamespace(name="view", update=lambda _: told.append("update")))
    if isinstance(error, OptionsError):
        with pytest.raises(OptionsError):
            await ask(master)
        assert " ".join(told) == asked
    else:
        await ask(master)
        assert " ".join(told) == f"{asked} update"
    assert seen == ["nest a"]


async def test_where_nobody_waits_all_is_done_at_once() -> None:
    """And where somebody does, all up to there."""
    told: Told = []
    table = dispatch_by_table(master := Master(Options()))
    master.addons.add(Addon("a", told), Addon("b", told))
    assert table.at_once(HttpRequestHook, make_flow()) is None
    assert told == ["a", "b"]
    told.clear()
    gate = asyncio.Event()
    master.addons.add(Addon("c", told, gate.wait), Addon("d", told))
    master.addons.add(SimpleNamespace(name="view", update=lambda _: told.append("update")))
    rest = table.at_once(HttpRequestHook, make_flow())
    assert rest is not None and told == ["a", "b", "c"]
    gate.set()
    await rest
    assert told == ["a", "b", "c", "d", "update"]


async def test_a_halt_ends_the_event(master: Master) -> None:
    """Nobody after it is asked, and nothing is logged."""
    told: Told = []
    master.addons.add(Addon("a", told, raising(AddonHalt())), Addon("b", told))
    await ask(master)
    assert told == ["a"]


async def test_an_exception_is_logged_and_the_next_addon_asked(
    master: Master, caplog: pytest.LogCaptureFixture
) -> None:
    """With its trace, from the addon on."""
    told: Told = []
    master.addons.add(Addon("a", told, raising(ValueError("broken"))), Addon("b", told))
    with caplog.at_level(logging.ERROR):
        await ask(master)
    assert told == ["a", "b"]
    (record,) = caplog.records
    assert record.getMessage() == "Addon error: broken"
    assert record.exc_info and record.exc_info[2]
    assert record.exc_info[2].tb_frame.f_code.co_name == "request"


async def test_an_error_of_options_is_the_callers(master: Master) -> None:
    """It is raised, and ends the event."""
    told: Told = []
    master.addons.add(Addon("a", told, raising(OptionsError("no"))), Addon("b", told))
    with pytest.raises(OptionsError):
        await ask(master)
    assert told == ["a"]


async def test_nested_addons_follow_the_one_they_belong_to_and_share_its_fate(master: Master) -> None:
    """One exception skips those after it in the same nest, and nobody else."""
    told: Told = []
    nest: Any = Addon("nest", told)
    nest.addons = [Addon("a", told, raising(ValueError())), Addon("b", told)]
    master.addons.add(nest, Addon("c", told))
    await ask(master)
    assert told == ["nest", "a", "c"]


async def test_an_addon_that_registers_others_has_them_asked(master: Master) -> None:
    """As scripts are loaded anew: the parent keeps the list, mitmproxy only registers."""
    told: Told = []
    nest: Any = Addon("nest", told)
    nest.addons = []
    master.addons.add(nest)
    await ask(master)
    child = Addon("child", told)
    master.addons.register(child)
    nest.addons.append(child)
    await ask(master)
    assert told == ["nest", "nest", "child"]


async def test_what_is_no_method_is_an_error_when_its_turn_comes(
    master: Master, caplog: pytest.LogCaptureFixture
) -> None:
    """But a module that happens to have the name of an event is left out."""
    told: Told = []
    wrong: Any = SimpleNamespace(name="wrong", request="no method")
    master.addons.add(SimpleNamespace(name="module", request=json), wrong, Addon("a", told))
    with caplog.at_level(logging.ERROR):
        await ask(master)
    assert told == ["a"]
    assert "not callable" in caplog.text


async def test_whoever_wants_to_know_of_changes_is_told_after_each_event(master: Master) -> None:
    """`update`, with the flow; after an event about something else there is none."""
    seen: list[Any] = []
    master.addons.add(SimpleNamespace(name="view", update=seen.append))
    flow = await ask(master)
    assert seen == [[flow]]
    await master.addons.handle_lifecycle(hooks.ConfigureHook(set()))
    assert len(seen) == 1
