"""speedups: each part answers as mitmproxy's own does; the same cases are put to both."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import connection, hooks, http
from mitmproxy.http import Headers, Request, Response
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.layers.http import HttpRequestHook

from holdfast.engine.speedups import fields, layers, values
from holdfast.testing import make_flow

EITHER = ("stock", "ours")
NAMES = st.sampled_from(["a", "A", "Bc", "bC", "content-type", "x-ü"])
TEXTS = st.text(st.characters(codec="utf-8"), max_size=3)
PAIRS = st.lists(st.tuples(NAMES, st.one_of(TEXTS, st.binary(max_size=2))), max_size=5)


@pytest.fixture(params=EITHER)
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """mitmproxy's functions, then ours."""
    use(request.param, monkeypatch)
    return str(request.param)


def use(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (*fields.REPLACEMENTS, *layers.REPLACEMENTS, *values.REPLACEMENTS):
        if each.stock is not None or which == "ours":
            monkeypatch.setattr(each.owner, each.name, getattr(each, which), raising=False)
        elif each.name in vars(each.owner):
            monkeypatch.delattr(each.owner, each.name)  # for what it inherits


def raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001  # it is what is compared
        return type(error), str(error)


def lived(pairs: list[tuple[str, str | bytes]], name: Any, value: Any, more: list[Any]) -> list[Any]:
    """What a set of header fields says, and what becomes of it."""
    made = outcome(lambda: Headers([(raw(key), raw(text)) for key, text in pairs], x_more="1"))
    return [
        outcome(lambda: made[name]),
        outcome(lambda: made.get(name)),
        outcome(lambda: made.get(name, "other")),
        outcome(lambda: name in made),
        outcome(lambda: made.get_all(name)),
        outcome(lambda: made.setdefault(name, "new")),
        outcome(lambda: made.__setitem__(name, value)),
        made.fields,
        outcome(lambda: made.add(name, "again")),
        outcome(lambda: made.set_all(name, more)),
        made.fields,
        list(made.items()),
        outcome(lambda: made.__delitem__(name)),
        outcome(lambda: made.__delitem__(name)),
        outcome(lambda: made.pop("a", None)),
        made.fields,
    ]


@given(pairs=PAIRS, name=NAMES, value=st.one_of(TEXTS, st.binary(max_size=2)), more=st.lists(TEXTS, max_size=3))
def test_header_fields_are_what_they_are_in_mitmproxy(
    pairs: list[tuple[str, str | bytes]], name: str, value: str | bytes, more: list[str]
) -> None:
    """Order, case, several of one name, stray bytes; as text and as bytes."""
    told = []
    for which in EITHER:
        with pytest.MonkeyPatch.context() as monkeypatch:
            use(which, monkeypatch)
            told.append([lived(pairs, name, value, list(more)), lived(pairs, raw(name), value, list(more))])
    assert told[0] == told[1]


@pytest.mark.parametrize("wrong", [3, None])
def test_what_is_no_name_is_refused_in_the_same_words(wrong: Any) -> None:
    """Whatever it is used for."""
    told = []
    for which in EITHER:
        with pytest.MonkeyPatch.context() as monkeypatch:
            use(which, monkeypatch)
            headers = Headers([(b"a", b"b")])
            calls: list[Callable[[], Any]] = [
                lambda headers=headers: headers[wrong],
                lambda headers=headers: headers.get(wrong),
                lambda headers=headers: wrong in headers,
                lambda headers=headers: headers.get_all(wrong),
            ]
            told.append([outcome(call) for call in calls])
    assert told[0] == told[1]


def test_header_fields_are_pairs_of_bytes(either: str) -> None:
    """Or they are refused when they are made."""
    assert Headers([[b"a", b"b"]]).fields == ((b"a", b"b"),)  # type: ignore[list-item]
    wrong: Any = [("a", "b")]
    with pytest.raises(TypeError, match="must be bytes"):
        Headers(wrong)


def test_a_message_of_the_wrong_type_is_refused_in_mitmproxys_words(either: str) -> None:
    """An addon's author sees what is wrong."""
    assert Response.make(200, b"", {"a": "b"}).copy().headers["a"] == "b"
    with pytest.raises(TypeError, match="Expected <class 'int'> for status_code, but got <class 'str'>"):
        http.ResponseData(b"HTTP/1.1", Headers(), b"", None, 0.0, None, status_code="200", reason=b"")  # type: ignore[arg-type]
    made = Request.make("GET", "http://a/")
    made.data.__post_init__()
    made.data.port = "80"  # type: ignore[assignment]
    with pytest.raises(TypeError, match="for port"):
        made.data.__post_init__()


def test_an_option_that_can_change_in_place_is_still_a_copy(either: str) -> None:
    """And one that there is not, no attribute."""
    options = Options()
    assert options.mode == ["regular"]
    options.mode.append("socks5")
    assert options.mode == ["regular"]
    assert (options.listen_port, options.rawtcp) == (None, True)
    options.update(rawtcp=False)
    assert options.rawtcp is False
    assert not hasattr(options, "no_such_option")
    with pytest.raises(AttributeError, match="No such option: no_such_option"):
        _ = options.no_such_option


def test_the_arguments_of_an_event_are_its_fields(either: str) -> None:
    """One list for each asking."""
    flow = make_flow()
    event = HttpRequestHook(flow)
    assert event.args() == [flow]
    event.args().clear()
    assert event.args() == [flow]
    assert hooks.RunningHook().args() == []


def test_a_forked_context_has_layers_of_its_own(either: str) -> None:
    """And the same client and server."""
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
    context: Any = Context(client, Options())
    context.layers.append("a")
    fork = context.fork()
    fork.layers.append("b")
    assert (fork.client, fork.server, fork.options) == (context.client, context.server, context.options)
    assert (context.layers, fork.layers) == (["a"], ["a", "b"])


class Asking(Layer):
    """Waits for a hook at each event but the first, and notes what it is given."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.told: list[str] = []

    def _handle_event(self, event: events.Event) -> Generator[commands.Command, Any, None]:
        if isinstance(event, events.Start):
            yield commands.Log("started")
            return
        assert isinstance(event, events.DataReceived)
        self.told.append(f"{event.data.decode()} begun")
        yield commands.Log("before")
        reply = yield Asks(event.data)
        self.told.append(f"{event.data.decode()} {reply}")
        yield commands.Log("after")


class Asks(commands.Command):
    """Of which the reply is waited for."""

    blocking = True

    def __init__(self, data: bytes) -> None:
        self.data = data


@dataclass(repr=False)
class Answer(events.CommandCompleted):
    """The reply."""

    command: Asks
    reply: str


@pytest.mark.parametrize("debug", [None, ""])
def test_a_layer_that_waits_is_given_later_what_came_meanwhile(either: str, debug: str | None) -> None:
    """One after the other, and other replies are none of its affair."""
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
    layer = Asking(Context(client, Options()))
    layer.debug = debug
    seen: list[commands.Command] = []

    def give(event: events.Event) -> list[str]:
        new = [
            each for each in layer.handle_event(event) if debug is None or getattr(each, "level", 0) != logging.DEBUG
        ]
        seen.extend(new)
        return [type(each).__name__ for each in new]

    assert give(events.Start()) == ["Log"]
    assert give(events.DataReceived(client, b"1")) == ["Log", "Asks"]
    assert give(events.DataReceived(client, b"2")) == []
    assert give(Answer(Asks(b"other"), "wrong")) == []
    first = seen[-1]
    assert isinstance(first, Asks) and first.blocking is layer
    layer._paused_event_queue.pop()  # the wrong reply
    assert give(events.DataReceived(client, b"3")) == []
    assert give(Answer(first, "one")) == ["Log", "Log", "Asks"]
    second = seen[-1]
    assert isinstance(second, Asks)
    assert give(Answer(second, "two")) == ["Log", "Log", "Asks"]
    assert layer.told == ["1 begun", "1 one", "2 begun", "2 two", "3 begun"]
