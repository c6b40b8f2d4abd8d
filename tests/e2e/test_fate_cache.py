"""The fates `hit` and `stale`: access log, metric, Proxy-Status, Cache-Status and mitmweb's mark show the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from holdfast.testing import Answer, Break, MisbehavingOrigin, Step
from tests.e2e.cached import access_lines, cached, fates, keep
from tests.e2e.cached_place import Place, stale, told
from tests.e2e.harness import Gateway, until
from tests.e2e.test_fate import fate_in
from tests.e2e.test_fate import told as line_of
from tests.e2e.test_front_ends import web

pytestmark = pytest.mark.asyncio(loop_scope="module")
HIT, STALE = "⚡", "⌛"
GRACE = "stale-if-error=1000"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A cache under mitmweb."""
    async with MisbehavingOrigin() as origin:
        folder = tmp_path_factory.mktemp("watched")
        gateway = Gateway(folder, origin.url, front="mitmweb", made=cached(origin.url))
        async with gateway, httpx.AsyncClient(base_url=gateway.url, timeout=10) as client:
            made = Place(origin, gateway, client)
            origin.plan = made.step
            yield made


async def flows_of(gateway: Gateway, path: str) -> list[dict[str, Any]]:
    """What mitmweb shows of this path, in the order of its list."""
    return [flow for flow in await web(gateway, "/flows") if flow["request"]["path"] == path]


def header(flow: dict[str, Any], name: str, part: str = "response") -> str:
    """Of a flow in mitmweb."""
    return ", ".join(value for field, value in flow[part]["headers"] if field.lower() == name)


@dataclass(frozen=True)
class Case:
    """What the origin does after it has answered once, and what everybody is to be shown then."""

    then: Step | None  # None: it refuses connections
    first: Answer
    fate: str
    reason: str
    status: dict[str, Any]
    attempts: list[str]  # their outcomes
    method: str = "GET"
    fields: tuple[tuple[str, str], ...] = ()


CASES = {
    "hit": Case(keep(b"other"), keep(b"good"), "hit", "max-age", {"hit": True}, []),
    "hit by HEAD": Case(keep(b"other"), keep(b"good"), "hit", "max-age", {"hit": True}, [], "HEAD"),
    "hit by 304": Case(
        keep(b"other"),
        keep(b"good", ("ETag", '"1"')),
        *("hit", "max-age", {"hit": True}, [], "GET", (("If-None-Match", '"1"'),)),
    ),
    "max-stale": Case(
        keep(b"other"),
        stale(b"good", ("ETag", '"1"')),
        *("stale", "max-stale", {"hit": True, "detail": "max-stale"}, [], "GET", (("Cache-Control", "max-stale"),)),
    ),
    "refused": Case(
        None,
        stale(b"good", says=GRACE),
        *("stale", "stale-if-error", {"fwd": "stale", "detail": "stale-if-error"}, ["connection_refused"] * 3),
    ),
    "503": Case(
        Answer(503),
        stale(b"good", says=GRACE),
        "stale",
        "stale-if-error",
        {"fwd": "stale", "fwd-status": 503, "detail": "stale-if-error"},
        ["http_503"] * 3,
    ),
    "500": Case(
        Answer(500),
        stale(b"good", says=GRACE),
        "stale",
        "stale-if-error",
        {"fwd": "stale", "fwd-status": 500, "detail": "stale-if-error"},
        ["500"],
    ),
    "timeout": Case(
        Break("request", "hang"),
        stale(b"good", says=GRACE),
        *("stale", "stale-if-error", {"fwd": "stale", "detail": "stale-if-error"}, ["http_response_timeout"] * 3),
    ),
    "cut short": Case(
        Break("body", "fin"),
        stale(b"good", says=GRACE),
        *("stale", "stale-if-error", {"fwd": "stale", "detail": "stale-if-error"}, ["http_response_incomplete"] * 3),
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_all_show_the_same(watched: Place, name: str) -> None:
    """One place decides: log line, metric, both status fields, the flow's mark and its comment."""
    case, gateway = CASES[name], watched.gateway
    path = watched.at([case.first, case.then or keep()])
    assert (await watched.get(path)).content == b"good"
    before = await fates(gateway)
    async with AsyncExitStack() as stack:
        if case.then is None:
            await stack.enter_async_context(watched.origin.refusing())
        answer = await watched.client.request(case.method, path, headers=list(case.fields))
    shown = told(answer)
    assert answer.status_code == (304 if case.fields and case.fields[0][0] == "If-None-Match" else 200)
    assert {key: shown.get(key) for key in case.status} == case.status
    line = await line_of(gateway, answer)
    assert (line["fate"], line["reason"], line["attempts"]) == (case.fate, case.reason, len(case.attempts))
    assert (line["status"], line["path"], line["method"]) == (answer.status_code, path, case.method)
    assert fate_in(answer) == ("ok" if case.fate == "hit" else case.fate)  # of a hit, Cache-Status tells
    assert f'details="{case.reason}"' in answer.headers.get("proxy-status", "") or case.fate == "hit"
    assert await fates(gateway) == {**before, case.fate: before.get(case.fate, 0) + 1}
    _, flow = await flows_of(gateway, path)
    assert flow["marked"] == (HIT if case.fate == "hit" else STALE)
    first, *attempts = flow["comment"].split("\n· ")
    assert first.startswith(f"{case.fate}: ")
    assert case.reason in first
    assert [each.split(" ")[3] for each in attempts if each.startswith("attempt ")] == case.attempts
    assert header(flow, "cache-status") == answer.headers["cache-status"]
    assert header(flow, "proxy-status") == answer.headers.get("proxy-status", "")
    assert await gateway.captures() == []


async def test_what_simply_passed_has_no_mark(watched: Place) -> None:
    """A miss that was stored, and a validation: the upstream has answered, and that is all."""
    gone = Answer(304, headers=[("ETag", '"1"'), ("Cache-Control", "max-age=60")], body=b"")
    path = watched.at([stale(b"good", ("ETag", '"1"')), gone])
    answers = [await watched.get(path) for _ in range(2)]
    assert [(await line_of(watched.gateway, a))["fate"] for a in answers] == ["ok", "ok"]
    assert [(f["marked"], f["comment"]) for f in await flows_of(watched.gateway, path)] == [("", "")] * 2
    assert [told(a)["fwd"] for a in answers] == ["miss", "stale"]


async def test_those_who_waited_for_another_are_hits(watched: Place) -> None:
    """RFC 9211, section 2.6: they asked nobody; `collapsed` says that it was not stored when they came."""
    before = await fates(watched.gateway)
    path = watched.at(keep(b"good", delay=0.2))
    first = asyncio.create_task(watched.get(path))
    await until(lambda: watched.asked(path))
    second = await watched.get(path)
    await first
    assert told(second)["collapsed"] is True
    assert (await line_of(watched.gateway, second))["fate"] == "hit"
    after = await fates(watched.gateway)
    assert (after["hit"] - before.get("hit", 0), after["ok"] - before.get("ok", 0)) == (1, 1)


def own_lines(watched: Place, path: str) -> list[dict[str, Any]]:
    """The access log of the gateway's own requests for this path."""
    return [each for each in access_lines(watched.gateway) if each["path"] == path and each.get("refresh")]


@pytest.mark.parametrize(
    ("then", "shown"),
    [(keep(b"new"), ("ok", 200)), (Answer(500), ("ok", 500)), (Break("request", "reset"), ("failed", 502))],
    ids=["good", "500", "reset"],
)
async def test_the_refresh_in_the_background_is_a_flow_of_its_own(
    watched: Place, then: Step, shown: tuple[str, int]
) -> None:
    """RFC 5861, section 3: the client's flow is `stale` and asked nobody; the gateway's own shows what came of it."""
    gateway, says = watched.gateway, "stale-while-revalidate=1000"
    path = watched.at([stale(b"good", says=says), then])
    await watched.get(path)
    answer = await watched.get(path)
    assert (answer.content, told(answer)["hit"], told(answer)["detail"]) == (b"good", True, "stale-while-revalidate")
    assert fate_in(answer) == "stale"

    def lines() -> list[dict[str, Any]]:
        return [each for each in access_lines(gateway) if each["path"] == path]

    await until(lambda: len(lines()) == 3, what="the log line of the refresh")
    (own,) = [each for each in lines() if each.get("refresh")]
    (served,) = [each for each in lines() if each["fate"] == "stale" and not each.get("refresh")]
    assert (served["attempts"], served["reason"], served["status"]) == (0, "stale-while-revalidate", 200)
    assert own["request_id"] == served["request_id"] == answer.headers["x-request-id"]
    assert own["attempts"] >= 1
    _, client, refresh = await flows_of(gateway, path)
    assert (client["marked"], client["comment"].split(":")[0]) == (STALE, "stale")
    assert client["id"] != refresh["id"]
    assert (own["fate"], own["status"]) == shown
    assert (refresh["marked"] != "") is (shown[0] != "ok")
    assert refresh["response"]["status_code"] == shown[1]
    assert (await watched.get(path)).content == (b"new" if shown == ("ok", 200) else b"good")
    assert await gateway.captures() == []


async def test_a_refresh_that_fails_is_no_answer_to_anybody(watched: Place) -> None:
    """`stale` counts what clients got; the gateway's own request has failed, and that is what is shown of it."""
    gateway, before = watched.gateway, await fates(watched.gateway)
    path = watched.at([stale(b"good", says="stale-while-revalidate=1000"), Break("request", "reset")])
    await watched.get(path)
    await watched.get(path)

    async def ended() -> bool:
        return sum((await fates(gateway)).values()) == sum(before.values()) + 3

    await until(ended, what="the refresh to be counted")
    after = await fates(gateway)
    assert {fate: count - before.get(fate, 0) for fate, count in after.items() if count != before.get(fate)} == {
        "ok": 1,
        "stale": 1,
        "failed": 1,
    }


async def refreshed_ahead_of_time(watched: Place, then: Step) -> str:
    """A path whose fresh answer is being fetched anew: a matter of luck, and the likelier the closer its end."""
    for _ in range(5):
        path = watched.at([keep(b"good", cache_control="max-age=2", delay=0.25), then])
        answer = await watched.get(path)
        while answer.content == b"good" and (told(answer).get("hit") or told(answer)["fwd"] == "miss"):
            if len(watched.asked(path)) > 1:
                return path
            answer = await watched.get(path)
    raise AssertionError("not in five times two seconds")


@pytest.mark.parametrize("then", [Break("request", "reset"), Answer(503)], ids=["reset", "503"])
async def test_a_refresh_ahead_of_time_that_fails_is_not_captured(watched: Place, then: Step) -> None:
    """Nobody asked for it, and what is stored is still fresh: there is nothing to replay."""
    path = await refreshed_ahead_of_time(watched, then)
    line, *_ = await until(lambda: own_lines(watched, path), what="the log line of the refresh")
    assert line["fate"] == "failed"
    captured = [each["path"] for each in await watched.gateway.captures()]
    assert path not in captured


async def test_a_refresh_ahead_of_time_keeps_errors_out(watched: Place) -> None:
    """An error never takes the place of what may still be used, even one that says how long it may be kept."""
    path = await refreshed_ahead_of_time(watched, keep(b"bad", status=500))
    await until(lambda: own_lines(watched, path), what="the log line of the refresh")
    answer = await watched.get(path)
    assert answer.content == b"good" or "hit" not in told(answer)  # that one is over by now on a slow machine
