"""chain: every addon is asked in its order, and what one answers the others know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.http import HTTPFlow, Response

from holdfast.chain import Chain, build_chain
from holdfast.explaining.chain import _agreed
from holdfast.gateway import Explaining, WouldDo
from holdfast.profile.load import load_profile
from holdfast.registry import BUILT_IN, resolve

type Explain = Callable[..., Any]
PROFILE = """
version: 1
upstream:
  servers: [{url: "http://10.0.0.1:1"}, {url: "http://10.0.0.2:2", backup: true}, {url: "http://10.0.0.3:3"}]
  retry: {attempts: 4, on: [connect, 503]}
addons:
  - router: {routes: [{name: user, path: "/users/{id}"}, {name: hook, path: /hook}, {name: plain, path: /plain}]}
  - metrics
  - use: tests.unit.explaining.test_chain:Teapot
  - interceptor: {on: [connect], routes: {hook: {mode: always, answer: 202}, plain: {capture: false}}}
  - replayer: {audit: ./a.db}
  - failure_sink: {outbox: ./x.db, seal_key: "%s"}
"""
KEY = "A" * 43 + "="


class Teapot:
    """An addon of somebody else's."""

    def requestheaders(self, flow: HTTPFlow) -> None:
        """Answer by itself."""
        flow.response = Response.make(418)

    def response(self, flow: HTTPFlow) -> None:
        """See the answer."""


@pytest.fixture
async def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Made, with its outbox open."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(PROFILE % KEY)
    made = build_chain(load_profile(str(tmp_path / "p.yaml")))
    sink: Any = made.gateway.sink
    await sink.running()
    yield made
    await sink.done()


async def explain(chain: Chain, method: str = "GET", path: str = "/users/7", **fields: str) -> dict[str, Any]:
    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return await chain.gateway.explain(method, f"http://gateway.test{path}", encoded)


@pytest.mark.parametrize("addon", BUILT_IN)
def test_every_built_in_addon_tells_what_it_would_do(addon: str) -> None:
    """Or `holdfast explain` would speak of a part of the chain only."""
    assert issubclass(resolve(addon), Explaining)  # type: ignore[arg-type]


async def test_the_addons_are_asked_in_their_order(chain: Chain) -> None:
    """Route and parameters; what is known of an addon that tells nothing; what a capture would hold."""
    told = await explain(chain, path="/users/7?token=t", Authorization="Bearer x")
    assert (told["request"]["route"], told["request"]["params"]) == ("user", {"id": "7"})
    order = ["router", "metrics", "Teapot", "interceptor", "replayer", "failure_sink"]
    assert [step["addon"] for step in told["chain"]] == order
    assert told["answered_by"] == "upstream"
    assert told["chain"][2]["does"].startswith("sees it in requestheaders, response;")
    assert told["details"]["interceptor"] == {"on": ["connect"], "answer": 503, "captures": True}
    kept = told["details"]["failure_sink"]
    assert (kept["key"], kept["sealed"]) == ("/users/7", True)
    assert kept["redacted"] == ["header:authorization", "query:token"]
    assert kept["request"]["uri"] == "/users/7?token=[redacted]"
    assert kept["request"]["headers"]["authorization"] == "[redacted]"


async def test_nothing_is_stored_counted_or_sent(chain: Chain) -> None:
    """It can be asked of a gateway in production, as often as one likes."""
    registry = chain.gateway.registry
    before = {(s.name, *s.labels.items()): s.value for m in registry.collect() for s in m.samples}
    for method in ("GET", "POST"):
        for path in ("/users/7", "/hook", "/health", "/.holdfast/captures/x"):
            await explain(chain, method, path)
    after = {(s.name, *s.labels.items()): s.value for m in registry.collect() for s in m.samples}
    steady = {key for key in before if "process" not in str(key[0])}
    assert {key: after[key] for key in steady} == {key: before[key] for key in steady}
    sink: Any = chain.gateway.sink
    assert (await asyncio.to_thread(sink.outbox.stats)).pending == 0
    assert chain.gateway.in_flight == 0


@pytest.mark.parametrize(
    ("method", "path", "by", "route"),
    [
        ("POST", "/hook", "interceptor", "hook"),
        ("GET", "/health", "holdfast-intake", "health"),
        ("GET", "/.holdfast/captures/x", "holdfast-status", "captures"),
        ("GET", "/hook", "upstream", "hook"),
    ],
)
async def test_who_answers_is_named_and_nobody_after_it_acts(
    chain: Chain, method: str, path: str, by: str, route: str
) -> None:
    """The gateway's own pages, and requests that are stored without asking a server."""
    told = await explain(chain, method, path)
    assert (told["answered_by"], told["request"]["route"]) == (by, route)
    acts = {step["addon"]: step["acts"] for step in told["chain"]}
    assert acts["failure_sink"] is (by in ("upstream", "interceptor"))
    assert ("holdfast-intake" in acts, "holdfast-status" in acts) == (by == "holdfast-intake", by == "holdfast-status")


@pytest.mark.parametrize(
    ("method", "path", "fields", "why"),
    [
        ("GET", "/plain", {}, "this route is not captured"),
        ("POST", "/hook", {"Holdfast_Replay": "1"}, "it is a replay"),
        ("GET", "/users/7", {"Connection": "Upgrade", "Upgrade": "websocket"}, "what asks for another protocol"),
    ],
)
async def test_nothing_is_said_of_a_capture_that_there_will_not_be(
    chain: Chain, method: str, path: str, fields: dict[str, str], why: str
) -> None:
    """The interceptor decides it, and the others know."""
    told = await explain(chain, method, path, **fields)
    steps = {step["addon"]: step for step in told["chain"]}
    assert why in steps["interceptor"]["does"]
    assert (steps["failure_sink"]["acts"], steps["replayer"]["acts"]) == (False, False)
    assert told["details"]["interceptor"]["captures"] is False


@pytest.mark.parametrize(
    ("path", "said"), [("/users/7", "gRPC status of 503 with"), ("/plain", "gRPC status of 503 a")]
)
async def test_a_call_of_grpc_is_not_told_as_an_answer_of_http(chain: Chain, path: str, said: str) -> None:
    """Its answer is 200, and the status in its header."""
    told = await explain(chain, "POST", path, Content_Type="application/grpc")
    assert said in {step["addon"]: step["does"] for step in told["chain"]}["interceptor"]


async def test_what_is_stored_without_asking_a_server_is_told_as_a_capture(chain: Chain) -> None:
    """`mode: always`: its key, and what is redacted."""
    told = await explain(chain, "POST", "/hook", Authorization="Bearer x")
    assert told["details"]["interceptor"]["captures"] is True
    assert {step["addon"]: step["acts"] for step in told["chain"]}["replayer"] is True
    assert (told["details"]["failure_sink"]["key"], told["details"]["failure_sink"]["sealed"]) == ("/hook", True)


def test_who_answers_first_for_a_failed_upstream_is_told() -> None:
    """The cache, then the understudy, then the interceptor; whoever stands before whom in the profile."""
    cache, sink = object(), object()
    gateway: Any = SimpleNamespace(cache=cache, sink=sink, replays=None)
    steps = [
        ("interceptor", object(), WouldDo(True, "has it captured", {"on": ["503"], "captures": True})),
        ("understudy", object(), WouldDo(True, "answers from a file", {"if_failed": "exact"})),
        ("cache", cache, WouldDo(True, "asks", {"if_failed": "grace"})),
        ("failure_sink", sink, WouldDo(True, "keeps a capture")),
    ]
    assert [told.says for _, _, told in _agreed(gateway, steps)] == [
        "has it captured, unless cache or understudy has an answer",
        "answers from a file, unless cache has an answer",
        "asks",
        "keeps a capture",
    ]
    assert [told.says for _, _, told in _agreed(gateway, steps[:1])] == ["has it captured"]


async def test_the_servers_are_told_with_their_state(chain: Chain) -> None:
    """Those in service first, then backups, then whom the breaker holds back."""
    now = chain.gateway.leg.clock()
    _, first = chain.gateway.leg.servers()[0]
    first.breaker.force(True, now)
    upstream = (await explain(chain))["upstream"]
    assert [(each["server"], each["available"], each["circuit"]) for each in upstream["servers"]] == [
        ("http://10.0.0.3:3", True, "closed"),
        ("http://10.0.0.2:2", True, "closed"),
        ("http://10.0.0.1:1", False, "open"),
    ]
    assert (upstream["available"], upstream["retry_in"]) == (2, 0.0)
    for _, server in chain.gateway.leg.servers():
        server.breaker.force(True, now)
    upstream = (await explain(chain))["upstream"]
    assert upstream["available"] == 0 and 0 < upstream["retry_in"] <= 30


@pytest.mark.parametrize(
    ("method", "fields", "expected", "because"),
    [
        ("GET", {}, "repeatable", "method"),
        ("POST", {}, "unreached", ""),
        ("POST", {"Idempotency_Key": "k"}, "repeatable", "idempotency_key"),
    ],
)
async def test_the_class_of_retry_is_told(
    chain: Chain, method: str, fields: dict[str, str], expected: str, because: str
) -> None:
    """Promise 3: what may have reached a server is repeated only where that is allowed."""
    retry = (await explain(chain, method, **fields))["upstream"]["retry"]
    assert retry == {"class": expected, "because": because, "attempts": 4, "on": ["503", "connect"]}
