"""inline: a connection carries out what its layers want as mitmproxy's own does; the same cases are put to both."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.connection import Server
from mitmproxy.exceptions import OptionsError
from mitmproxy.http import HTTPFlow
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import HttpRequestHook
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.server import ConnectionIO

from holdfast.engine.dispatch import dispatch_by_table
from holdfast.engine.speedups.inline import InlineConnection
from holdfast.testing import make_flow

SERVER = Server(address=("127.0.0.1", 1))


class Wire:
    """A peer that takes everything."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.got.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    async def drain(self) -> None:
        """There is room."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("127.0.0.1", 5) if name in ("peername", "sockname") else default


class Scripted:
    """A layer that answers each event with what it is told to; notes the events."""

    def __init__(self, answers: dict[type, Callable[[Any], list[commands.Command]]]) -> None:
        self.seen: list[str] = []
        self._answers = answers

    def handle_event(self, event: events.Event) -> Iterator[commands.Command]:
        self.seen.append(type(event).__name__)
        for command in self._answers.get(type(event), lambda _: [])(event):
            self.seen.append(f"+{type(command).__name__}")
            yield command


@pytest.fixture(params=["stock", "inline"])
async def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A connection with this layer and these addons, of either kind; tasks begin at once, as under mitmproxy."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)

    def made(layer: Scripted, *addons: object) -> Any:
        master = Master(Options())
        mode = ProxyMode.parse("reverse:http://127.0.0.1:1")
        wire: Any = Wire()
        master.options.add_option("tcp_timeout", int, 600, "")
        kind: Any = InlineConnection
        if request.param == "inline":
            dispatch_by_table(master)
        else:
            kind = InlineConnection.__bases__[0]
        master.addons.add(*addons)
        connection = kind(master, wire, wire, master.options, mode)
        connection.layer = layer
        connection.wire = wire
        return connection

    return made


def hooking(flow: HTTPFlow, *more: commands.Command) -> dict[type, Callable[[Any], list[commands.Command]]]:
    return {events.Start: lambda _: [HttpRequestHook(flow), *more]}


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0)


async def test_the_layer_goes_on_when_the_addons_have_been_asked(make: Callable[..., Any]) -> None:
    """After the commands that came with the hook."""
    told: list[str] = []
    layer = Scripted(hooking(make_flow(), commands.Log("x")))
    connection = make(layer, SimpleNamespace(name="a", request=lambda _: told.append("a")))
    await connection.server_event(events.Start())
    await until(lambda: "HookCompleted" in layer.seen)
    assert (told, layer.seen) == (["a"], ["Start", "+HttpRequestHook", "+Log", "HookCompleted"])


async def test_an_addon_that_waits_holds_its_hook_up_and_nothing_else(make: Callable[..., Any]) -> None:
    """Other events of the connection come through meanwhile; so does a hook that nobody waits for."""
    gate = asyncio.Event()

    async def wait(_: HTTPFlow) -> None:
        await gate.wait()

    layer = Scripted(hooking(make_flow()))
    connection = make(layer, SimpleNamespace(name="a", request=wait))
    await connection.server_event(events.Start())
    await connection.server_event(events.DataReceived(connection.client, b"x"))
    assert layer.seen == ["Start", "+HttpRequestHook", "DataReceived"]
    assert not connection.timeout_watchdog.can_timeout.is_set()
    gate.set()
    await until(lambda: layer.seen[-1] == "HookCompleted")
    assert connection.timeout_watchdog.can_timeout.is_set()


async def test_an_intercepted_flow_waits_for_its_resumption(make: Callable[..., Any]) -> None:
    """As in mitmweb and the console."""
    flow = make_flow()
    layer = Scripted(hooking(flow))
    connection = make(layer, SimpleNamespace(name="a", request=lambda flow: flow.intercept()))
    await connection.server_event(events.Start())
    for _ in range(5):
        await asyncio.sleep(0)
    assert "HookCompleted" not in layer.seen
    flow.resume()
    await until(lambda: "HookCompleted" in layer.seen)


async def test_an_addon_that_raises_holds_up_nothing(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; but a fault in the options is nobody's to go on from."""

    def broken(_: HTTPFlow) -> None:
        raise ValueError("broken")

    layer = Scripted(hooking(make_flow()))
    connection = make(layer, SimpleNamespace(name="a", request=broken))
    await connection.server_event(events.Start())
    await until(lambda: "HookCompleted" in layer.seen)
    assert "Addon error: broken" in caplog.text


async def test_a_fault_in_the_options_ends_the_hook(make: Callable[..., Any]) -> None:
    """The connection goes on with what else there is."""

    def broken(_: HTTPFlow) -> None:
        raise OptionsError("no")

    layer = Scripted(hooking(make_flow(), commands.Log("x")))
    connection = make(layer, SimpleNamespace(name="a", request=broken))
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    await connection.server_event(events.Start())
    await connection.server_event(events.DataReceived(connection.client, b"x"))
    assert layer.seen == ["Start", "+HttpRequestHook", "+Log", "DataReceived"]


async def test_what_is_sent_arrives_in_its_order(make: Callable[..., Any]) -> None:
    """Pieces may be put together; before a close they are written, after it they are not."""
    layer = Scripted({})
    connection = make(layer)
    client, wire = connection.client, connection.wire
    connection.transports[client].handler = asyncio.ensure_future(asyncio.sleep(60))
    send = [commands.SendData(client, piece) for piece in (b"a", b"b", b"c" * 70_000, b"d")]
    layer._answers[events.Start] = lambda _: [*send, commands.SendData(SERVER, b"nobody"), commands.Log("x"), *send[:1]]
    await connection.server_event(events.Start())
    assert b"".join(wire.got) == b"ab" + b"c" * 70_000 + b"da"
    wire.closing = True
    layer._answers[events.Start] = lambda _: [
        send[0],
        commands.CloseConnection(client),
        commands.CloseConnection(SERVER),
    ]
    await connection.server_event(events.Start())
    assert b"".join(wire.got)[-2:] == b"da"
    assert connection.transports[client].handler.cancelling()


async def test_a_connection_that_cannot_be_opened_is_told_in_its_turn(make: Callable[..., Any]) -> None:
    """The task that opens it is so quick that it answers while the event that asked for it is still being handled."""
    opening = commands.OpenConnection(Server(address=None))
    layer = Scripted({events.Start: lambda _: [opening, commands.Log("x")]})
    connection = make(layer)
    await connection.server_event(events.Start())
    await until(lambda: "OpenConnectionCompleted" in layer.seen)
    assert layer.seen == ["Start", "+OpenConnection", "+Log", "OpenConnectionCompleted"]


async def test_a_layer_that_raises_is_logged(make: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    """And the connection goes on; a command that there is not is the same."""
    layer = Scripted({events.Start: lambda _: [commands.Command(), commands.Log("never")]})
    connection = make(layer)
    with caplog.at_level(logging.ERROR):
        await connection.server_event(events.Start())
    assert "mitmproxy has crashed!" in caplog.text
    await connection.server_event(events.DataReceived(connection.client, b"x"))
    assert layer.seen[-1] == "DataReceived"


async def test_a_writer_that_is_held_up_is_waited_for(make: Callable[..., Any]) -> None:
    """Whichever of them it is."""
    drained: list[bool] = []

    class Slow(Wire):
        async def drain(self) -> None:
            drained.append(True)

    connection = make(Scripted({}))
    slow: Any = Slow()
    connection.transports = {SERVER: ConnectionIO(writer=slow)}
    await connection.drain_writers()
    assert drained == [True]


async def test_a_client_that_has_gone_before_it_is_read_is_seen_off() -> None:
    """All it said, and its end, are there when it is first read; its hooks come in order, and nothing is left."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    master, seen = Master(Options()), list[str]()
    master.options.add_option("tcp_timeout", int, 600, "")
    addon = SimpleNamespace(
        name="seeing",
        client_connected=lambda _: seen.append("connected"),
        client_disconnected=lambda _: seen.append("disconnected"),
    )
    master.addons.add(addon)
    dispatch_by_table(master)
    reader: Any = asyncio.StreamReader()
    reader.feed_data(b"GET / HTTP/1.1\r\n\r\n")
    reader.feed_eof()
    connection = InlineConnection(master, reader, Wire(), master.options, ProxyMode.parse("reverse:http://127.0.0.1:1"))
    layer: Any = Scripted({events.ConnectionClosed: lambda event: [commands.CloseConnection(event.connection)]})
    connection.layer = layer
    async with asyncio.timeout(10):
        await connection.handle_client()
    assert seen == ["connected", "disconnected"]
    assert layer.seen == ["Start", "DataReceived", "ConnectionClosed", "+CloseConnection"]
    assert connection.transports == {}
