"""onlookers: whoever may need to see hits closes the fast lane."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from mitmproxy.addons import default_addons, dumper, view
from mitmproxy.master import Master
from mitmproxy.options import Options

from holdfast.guard import Guard
from holdfast.lane.onlookers import onlookers, onlookers_of
from holdfast.profile.settings import AddonEntry


class Watching:
    """Somebody else's, with a hook."""

    def response(self, flow: object) -> None:
        """Looks."""


class Quiet:
    """Somebody else's, with no hook for requests."""

    def client_connected(self, client: object) -> None:
        """Looks elsewhere."""


class Parent:
    """Somebody else's, whose sub-addon has a hook."""

    addons: Any = (Watching(),)

    def running(self) -> None:
        """Begins."""


@pytest.fixture
async def master() -> Master:
    """mitmdump's addons, with their options as they are."""
    made = Master(Options())
    made.addons.add(*default_addons(), dumper.Dumper())
    return made


def seeing(master: Master, *more: object, logged: bool = True) -> list[str]:
    """Who is there with these addons behind mitmdump's."""
    return list(onlookers([*master.addons.chain, *more], master.options, logged=logged))


async def test_mitmdumps_own_addons_leave_hits_alone_while_their_options_say_nothing(master: Master) -> None:
    """Otherwise the lane would never be open."""
    assert seeing(master) == []


@pytest.mark.parametrize(
    ("option", "value", "name"),
    [
        ("modify_headers", ["/~s/x/y"], "modifyheaders"),
        ("modify_body", ["/~s/x/y"], "modifybody"),
        ("block_list", [":~u x:404"], "blocklist"),
        ("map_local", ["|x|/tmp"], "maplocal"),
        ("map_remote", ["|x|http://y"], "mapremote"),
        ("stickycookie", "~all", "stickycookie"),
        ("stickyauth", "~all", "stickyauth"),
        ("proxyauth", "any", "proxyauth"),
        ("upstream_auth", "a:b", "upstreamauth"),
        ("anticache", True, "anticache"),
        ("anticomp", True, "anticomp"),
        ("save_stream_file", "flows", "save"),
        ("hardump", "flows.har", "savehar"),
        ("server_replay", ["flows"], "serverplayback"),
        ("flow_detail", 2, "dumper"),
    ],
)
async def test_an_option_by_which_one_of_them_acts_closes_it(
    master: Master, option: str, value: object, name: str
) -> None:
    """Whatever it does, it does it to hits too."""
    options: Any = SimpleNamespace(**{each: getattr(master.options, each) for each in master.options._options})
    setattr(options, option, value)
    assert list(onlookers(master.addons.chain, options, logged=True)) == [name]


async def test_the_line_of_mitmdump_is_missed_where_there_is_no_access_log(master: Master) -> None:
    """Somebody wants to see each request somewhere."""
    assert seeing(master, logged=False) == ["dumper"]
    master.options.update(flow_detail=0)
    assert seeing(master, logged=False) == []


async def test_somebody_elses_hook_closes_it_wherever_it_stands(master: Master) -> None:
    """A class, a script's module, an addon within another, one of a profile, a view of flows."""
    script = ModuleType("script")
    script.request = lambda flow: None  # type: ignore[attr-defined]
    entry = AddonEntry(name="own", target="own:Watching")
    assert seeing(master, Watching()) == ["watching"]
    assert len(seeing(master, script)) == 1
    assert seeing(master, Parent()) == ["watching"]
    assert seeing(master, Guard(Watching(), entry, lambda *_: None)) == ["own"]
    assert seeing(master, view.View()) == ["view"]
    assert seeing(master, Quiet()) == []


@pytest.mark.parametrize(
    ("target", "closes"), [("metrics", False), ("cache", False), ("tracing", True), ("faults", True)]
)
async def test_of_ours_those_close_it_that_act_on_every_request(master: Master, target: str, closes: bool) -> None:
    """By what the profile calls it, not by what its class is called."""
    entry = AddonEntry(name="a", target=target)
    assert seeing(master, Guard(Watching(), entry, lambda *_: None)) == (["a"] if closes else [])
    assert onlookers_of([entry]) == (["a"] if closes else [])


async def test_an_addon_that_makes_requests_fail_closes_it_without_a_hook(master: Master) -> None:
    """The engine asks it itself, for each answer to a client."""
    faults = SimpleNamespace(injection=lambda flow, at: None)
    assert seeing(master, Guard(faults, AddonEntry(name="a", target="faults"), lambda *_: None)) == ["a"]
