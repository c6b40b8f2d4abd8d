"""The commands `holdfast.*` where no browser is needed: under mitmweb by its API, and under mitmdump by an addon."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from holdfast.testing import Break, MisbehavingOrigin
from tests.e2e.harness import Gateway, accepts, profile, until
from tests.e2e.test_front_ends import web
from tests.services.process import free_port

TYPIST = """
from mitmproxy import ctx, exceptions, http

class Typist:
    def request(self, flow):
        if command := flow.request.headers.get("x-command"):
            try:
                said = ctx.master.commands.execute(command)
            except exceptions.CommandError as error:
                said = f"error: {error}"
            flow.response = http.Response.make(200, said if isinstance(said, str) else "\\n".join(said))
"""
NOBODY = "0199e0c2-7c1e-7d3a-9c55-0d1f5a2b6c7d"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """mitmweb before an origin that a test starts if it needs it."""
    made = Gateway(tmp_path_factory.mktemp("commands"), f"http://127.0.0.1:{free_port()}", front="mitmweb")
    yield made
    made.kill()


@pytest.fixture
async def gateway(shared: Gateway) -> AsyncIterator[Gateway]:
    """It runs, with all circuits closed."""
    if shared.exit_code is not None or not await accepts(shared.port):
        await shared.start()
    yield shared
    await said(shared, "holdfast.breaker.close", shared.upstream)


async def said(gateway: Gateway, command: str, *args: str) -> Any:
    """What a command answers, or why it does not."""
    answer = (await web(gateway, f"/commands/{command}", "POST", json={"arguments": list(args)})).json()
    return answer.get("error") or answer["value"]


async def captured(gateway: Gateway, path: str = "/api/users", **more: Any) -> str:
    """The id of a POST that no server has answered."""
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.post(path, **({"content": b"x"} | more))
    assert answer.status_code == 503
    return answer.headers["holdfast-capture-id"]


async def flow_of(gateway: Gateway, comment: str) -> dict[str, Any]:
    """The newest whose comment has this in it."""

    async def asked() -> dict[str, Any] | None:
        flows = [each for each in await web(gateway, "/flows") if comment in each["comment"]]
        return flows[-1] if flows else None

    found = await until(asked, what=f"a flow with the comment {comment!r}")
    assert found
    return found


BAD = {
    ("captures", "rubbish"): r"'rubbish' is no filter: write NAME=VALUE, with one of state, route, .*limit",
    ("captures", "state=asleep"): r"'asleep' is no state: it is one of pending, published, delivered",
    ("captures", "since=soon"): r"'soon' is no time: write it like 15m",
    ("captures", "status=many"): r"status is a whole number, not 'many'",
    ("show", NOBODY): rf"there is no capture '{NOBODY}' here: holdfast.captures lists them",
    ("replay", "\x00\u2028"): r"there is no capture '\\x00\\u2028' here",
    ("replay", NOBODY, "later"): r"'later': write `edit` to have it in the flow list, or `send`",
    ("breaker.open", "http://127.0.0.1:1"): r"no server 'http://127.0.0.1:1': there is http://127.0.0.1:\d+",
    ("breaker.open", "SERVER", "soon"): r"'soon' is not a duration: write a number with a unit",
    ("breaker.open", "SERVER", "0s"): r"a duration is above 0s",
    ("breaker.close", ""): r"no server '': there is http://127.0.0.1:\d+",
    ("show",): r"Command argument mismatch",
}


@pytest.mark.parametrize("words", BAD, ids=lambda words: " ".join(words).encode("ascii", "replace").decode())
async def test_a_command_says_what_is_wrong_with_what_was_typed(gateway: Gateway, words: tuple[str, ...]) -> None:
    """And what to write instead."""
    name, *args = words
    told = await said(gateway, f"holdfast.{name}", *(gateway.upstream if a == "SERVER" else a for a in args))
    assert isinstance(told, str)
    assert re.match(BAD[words], told, re.DOTALL), told


async def test_the_commands_explain_themselves(gateway: Gateway) -> None:
    """Help and types, as mitmproxy shows them."""
    known = await web(gateway, "/commands")
    ours = {name: each for name, each in known.items() if name.startswith("holdfast.")}
    assert set(ours) == {
        f"holdfast.{n}" for n in ("captures", "show", "replay", "reload", "breaker.open", "breaker.close")
    }
    assert all(each["help"] for each in ours.values())
    assert [each["type"] for each in ours["holdfast.replay"]["parameters"]] == ["capture id", "edit|send"]
    assert ours["holdfast.breaker.open"]["signature_help"] == "holdfast.breaker.open server duration -> str"


async def test_captures_are_listed_newest_first_and_by_filters(gateway: Gateway) -> None:
    """A line each."""
    older, newer = await captured(gateway), await captured(gateway, "/api/users/8")
    listed = await said(gateway, "holdfast.captures")
    assert [line.split()[0] for line in listed[:2]] == [newer, older]
    assert re.fullmatch(rf"{newer}  pending  POST  /api/users/8  connection_refused  route user", listed[0])
    assert (await said(gateway, "holdfast.captures", "route=users", "limit=1"))[0].startswith(older)
    assert await said(gateway, "holdfast.captures", "state=dead,parked") == ["no captures that fit"]


async def test_a_circuit_is_opened_and_closed_by_hand(gateway: Gateway) -> None:
    """Nothing goes out while it is open, /health and metrics say so, and it closes at once."""
    async with MisbehavingOrigin(port=int(gateway.upstream.rpartition(":")[2])) as origin:
        assert "gets nothing until" in await said(gateway, "holdfast.breaker.open", gateway.upstream)
        await captured(gateway)
        assert origin.requests == []
        page = (await gateway.admin("/health")).json()["upstream"][gateway.upstream]
        assert (page["circuit"], page["forced_open"]) == ("open", True)
        figures = await gateway.metrics()
        for name in ("holdfast_upstream_open", "holdfast_upstream_forced_open"):
            assert figures[name, f"server={gateway.upstream}"] == 1
        assert "is asked again" in await said(gateway, "holdfast.breaker.close", gateway.upstream.partition("//")[2])
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            assert (await client.post("/api/users")).status_code == 200
            assert "for 200ms" in await said(gateway, "holdfast.breaker.open", gateway.upstream, "200ms")
            await captured(gateway)

            async def is_asked() -> bool:
                return (await client.post("/api/users")).status_code == 200

            await until(is_asked, what="the circuit to be probed again")
        assert (await gateway.metrics())["holdfast_upstream_forced_open", f"server={gateway.upstream}"] == 0


async def test_a_replay_by_hand_that_fails_is_said_to_have_failed_and_not_captured_again(gateway: Gateway) -> None:
    """From the record, and from the flow that was captured; the second capture would be a duplicate."""
    capture_id, count = await captured(gateway), len(await gateway.captures())
    assert "is being sent" in await said(gateway, "holdfast.replay", capture_id, "send")
    flow = await flow_of(
        gateway, f"replay by hand of capture {capture_id}: failed: the upstream refused the connection"
    )
    assert (flow["marked"], flow["is_replay"]) == ("❌", "request")
    assert f"attempt 1 {gateway.upstream} connection_refused" in flow["comment"]
    live = await flow_of(gateway, f"holdfast.show {capture_id}")
    await web(gateway, f"/flows/{live['id']}/replay", "POST")
    await until(lambda: is_by_hand(gateway, live["id"]), what="the live flow to be replayed")
    assert len(await gateway.captures()) == count
    async with MisbehavingOrigin(port=int(gateway.upstream.rpartition(":")[2])) as origin:
        await web(gateway, f"/flows/{live['id']}/replay", "POST")
        flow = await flow_of(gateway, f"replay by hand of capture {capture_id}: ok")
        assert (flow["marked"], flow["id"]) == ("✋", live["id"])
        assert [each.body for each in origin.requests] == [b"x"]
        assert origin.requests[0].header("holdfast-capture-id") == capture_id
        origin.plan = [Break("request", "fin")]
        await web(gateway, f"/flows/{live['id']}/replay", "POST")
        await flow_of(gateway, f"replay by hand of capture {capture_id}: failed: the upstream closed the connection")


async def is_by_hand(gateway: Gateway, flow_id: str) -> bool:
    flows = {each["id"]: each["comment"] for each in await web(gateway, "/flows")}
    return str(flows[flow_id]).startswith("replay by hand")


async def test_a_persons_comment_stays_over_a_replay(gateway: Gateway) -> None:
    """Only what the gateway has written is written anew."""
    capture_id = await captured(gateway)
    await said(gateway, "holdfast.replay", capture_id)
    flow = await flow_of(gateway, f"capture {capture_id}, pending")
    await web(gateway, f"/flows/{flow['id']}", "PUT", json={"comment": "mine", "marked": ":star:"})
    await web(gateway, f"/flows/{flow['id']}/replay", "POST")

    async def ended() -> bool:
        (found,) = [each for each in await web(gateway, "/flows") if each["id"] == flow["id"]]
        assert (found["comment"], found["marked"]) == ("mine", "⭐")
        return bool(found["error"])

    await until(ended, what="the replay to end")


async def test_a_record_is_shown_by_the_content_view(gateway: Gateway) -> None:
    """Chosen by itself, for what holdfast.show puts into the list."""
    capture_id = await captured(gateway, content=b"\x00\x01binary")
    assert "look at the response" in (await said(gateway, "holdfast.show", capture_id))[0]
    flow = (await web(gateway, "/flows"))[-1]
    shown = await web(gateway, f"/flows/{flow['id']}/response/content/Auto.json")
    assert shown["view_name"] == "Holdfast capture"
    for told in (f"Capture {capture_id}", "connection_refused", "000000  00 01 62 69 6e 61 72 79"):
        assert told in shown["text"]


async def test_the_commands_work_under_mitmdump_and_follow_the_profile(tmp_path: Path) -> None:
    """Without a flow list, called by an addon; and after the profile has changed while it runs."""
    (tmp_path / "typist.py").write_text(TYPIST)
    async with MisbehavingOrigin() as origin:
        made = profile(origin.url)
        made["addons"].append({"use": "typist:Typist"})
        gateway = Gateway(tmp_path, origin.url, front="mitmdump", made=made)
        async with gateway, httpx.AsyncClient(base_url=gateway.url) as client:

            async def typed(text: str) -> str:
                return (await client.get("/", headers={"x-command": text})).text

            async with origin.refusing():
                capture_id = await captured(gateway)
            assert capture_id in await typed("holdfast.captures state=pending")
            assert (await typed(f"holdfast.show {capture_id}")).startswith(f"Capture {capture_id}\n")
            assert "there is no flow list here to edit it in: add `send`" in await typed(
                f"holdfast.replay {capture_id}"
            )
            assert "is being sent" in await typed(f"holdfast.replay {capture_id} send")
            await until(lambda: [each.body for each in origin.requests] == [b"x"], what="the replay at the origin")
            document = yaml.safe_load(Path(gateway.profile).read_text())
            document["addons"] = [each for each in document["addons"] if "failure_sink" not in each]
            Path(gateway.profile).write_text(yaml.safe_dump(document))
            assert "is being read" in await typed("holdfast.reload")
            await until(lambda: "profile taken over" in gateway.log(), what="the new profile")
            assert "the profile has no failure_sink, so nothing is captured" in await typed("holdfast.captures")
            assert origin.url in await typed("holdfast.breaker.open nowhere")
