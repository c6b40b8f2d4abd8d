"""swap: addons change places on mitmproxy's manager without an event noticing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mitmproxy import command
from mitmproxy.exceptions import AddonManagerError
from mitmproxy.hooks import UpdateHook
from mitmproxy.test import taddons

from holdfast.engine import swap


class Named:
    """Notes the events it gets, and can do something on one."""

    def __init__(self, name: str, then: Callable[[], None] = lambda: None, *inner: object) -> None:
        self.name = name
        self.addons = list(inner)
        self.heard: list[str] = []
        self.then = then

    def load(self, _: object) -> None:
        self.heard.append("load")

    def configure(self, updated: set[str]) -> None:
        self.heard.append("configure")

    def update(self, flows: object) -> None:
        self.heard.append("update")
        self.then()

    @command.command("own.command")
    def own(self) -> str:
        """Which one it is."""
        return self.name


async def test_an_event_under_way_ends_over_the_addons_it_began_with() -> None:
    """And the next one meets those that have come."""
    with taddons.context() as context:
        before, stays, after = Named("before"), Named("stays"), Named("after")
        first = Named("first", lambda: swap.swap(context.master, old, [first, after, stays]))
        old: list[object] = [first, before, stays]
        context.master.addons.add(*old, Named("another"))
        await context.master.addons.trigger_event(UpdateHook([]))
        assert "update" in before.heard and "update" not in after.heard
        first.then = lambda: None
        await context.master.addons.trigger_event(UpdateHook([]))
        assert before.heard.count("update") == 1 and after.heard == ["update"]
        assert [each.name for each in context.master.addons.chain[-4:]] == ["first", "after", "stays", "another"]
        assert context.master.addons.get("after") is after and context.master.addons.get("before") is None
        assert stays.heard.count("update") == 2


def test_a_newcomer_loads_and_is_nowhere_yet() -> None:
    """Its commands are there, though: mitmproxy collects them with `load`."""
    with taddons.context() as context:
        newcomer = Named("new", lambda: None, Named("inner"))
        taken = swap.taken_names(context.master, [])
        swap.introduce(context.master, newcomer, taken)
        swap.configure(context.master, newcomer)
        assert newcomer.heard == ["load", "configure"] == newcomer.addons[0].heard  # type: ignore[attr-defined]
        assert context.master.addons.get("new") is None and {"new", "inner"} <= taken
        assert context.master.commands.call("own.command") in ("new", "inner")


@pytest.mark.parametrize("name", ["new", "inner", "old"])
def test_two_of_one_name_are_refused(name: str) -> None:
    """Unless the other is about to leave."""
    with taddons.context() as context:
        old = Named("old")
        context.master.addons.add(old)
        swap.introduce(context.master, Named("old"), swap.taken_names(context.master, [old]))
        taken = swap.taken_names(context.master, [])
        swap.introduce(context.master, Named("new", lambda: None, Named("inner")), taken)
        with pytest.raises(AddonManagerError, match=name):
            swap.introduce(context.master, Named(name), taken)
