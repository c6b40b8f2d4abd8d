"""idle: mitmproxy's own addons that have nothing to do are not asked, and are once an option gives them something."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.addons import default_addons
from mitmproxy.addons.modifyheaders import ModifyHeaders
from mitmproxy.http import HTTPFlow
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy.layers.http import HttpRequestHeadersHook, HttpRequestHook, HttpResponseHook

from holdfast.engine.dispatch import HookTable, dispatch_by_table
from holdfast.engine.speedups.idle import leave_out_idle
from holdfast.engine.speedups.inline import table_of
from holdfast.testing import make_flow


@pytest.fixture(params=["all", "sifted"])
async def master(request: pytest.FixtureRequest) -> Master:
    """A mitmproxy with its own addons, all asked or only those that may act."""
    made = Master(Options())
    dispatch_by_table(made)
    if request.param == "sifted":
        leave_out_idle(made)
    made.addons.add(*default_addons())
    return made


async def ask(master: Master, change: Callable[[HTTPFlow], None] = lambda _: None) -> HTTPFlow:
    flow = make_flow()
    flow.live = True
    change(flow)
    await master.addons.handle_lifecycle(HttpRequestHeadersHook(flow))
    await master.addons.handle_lifecycle(HttpRequestHook(flow))
    return flow


@pytest.mark.parametrize(
    ("option", "value", "shows"),
    [
        ("block_list", ["|~all|418"], lambda flow: flow.response and flow.response.status_code == 418),
        ("anticache", True, lambda flow: "if-none-match" not in flow.request.headers),
        ("anticomp", True, lambda flow: flow.request.headers.get("accept-encoding") == "identity"),
        ("map_remote", ["|/x|/y"], lambda flow: flow.request.path == "/y"),
        ("modify_headers", ["/~q/a/b"], lambda flow: flow.request.headers.get("a") == "b"),
        ("modify_body", ["/~q/old/new"], lambda flow: flow.request.raw_content == b"new"),
    ],
)
async def test_an_addon_is_asked_as_long_as_its_option_says_so(
    master: Master, option: str, value: Any, shows: Callable[[HTTPFlow], object]
) -> None:
    """Neither before nor after."""

    def usual(flow: HTTPFlow) -> None:
        flow.request.path, flow.request.content = "/x", b"old"
        flow.request.headers["if-none-match"] = '"1"'

    before = getattr(master.options, option)
    assert not shows(await ask(master, usual))
    master.options.update(**{option: value})
    assert shows(await ask(master, usual))
    master.options.update(**{option: before})
    assert not shows(await ask(master, usual))


async def test_what_looks_at_every_request_still_finds_its_own(master: Master) -> None:
    """The page of mitmproxy's certificates, and the list of revoked ones."""

    def for_the_app(flow: HTTPFlow) -> None:
        flow.request.host_header = "mitm.it"

    master.options.update(onboarding=True)
    flow = await ask(master, for_the_app)
    assert flow.response and b"mitmproxy" in (flow.response.content or b"")
    master.options.update(onboarding=False)
    assert (await ask(master, for_the_app)).response is None
    tls: Any = master.addons.get("tlsconfig")
    tls.certstore = SimpleNamespace(default_ca=SimpleNamespace(serial=1), default_crl=b"list")

    def for_the_list(flow: HTTPFlow) -> None:
        flow.request.path = tls.crl_path()

    flow = await ask(master, for_the_list)
    assert flow.response and flow.response.headers["content-type"] == "application/pkix-crl"


async def test_an_addon_of_somebody_elses_is_always_asked(master: Master) -> None:
    """Though it is made of one that would be idle, or has been given a method."""
    told: list[str] = []

    class Own(ModifyHeaders):
        name = "own"

        def requestheaders(self, flow: HTTPFlow) -> None:
            told.append("own")

    given: Any = ModifyHeaders()
    given.name = "given"
    given.requestheaders = lambda _: told.append("given")
    for addon in (Own(), given):
        addon.load = lambda _: None
        master.addons.add(addon)
    await ask(master)
    assert told == ["own", "given"]


async def test_few_are_left(master: Master) -> None:
    """Or nothing would be gained."""
    table = table_of(master)
    assert isinstance(table, HookTable)
    asked = sum(len(group) for hook in (HttpRequestHook, HttpResponseHook) for group in table.groups(hook))
    assert asked <= 7 or table.sift(object(), "request", ask) is ask
