"""Faults on demand, as a person has them: in the profile, by the command line, and seen wherever one looks."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from holdfast.testing import MisbehavingOrigin
from tests.e2e.harness import ROOT, Gateway, addon, profile, run_cli, until
from tests.e2e.live import change, quiet
from tests.e2e.raw import RawClient
from tests.e2e.readme import shell

pytestmark = pytest.mark.asyncio(loop_scope="module")
OF_THE_PROFILE = {"name": "flaky", "fault": "status", "at": "upstream", "script": ["fail*2", "pass"], "repeat": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """With a fault in its profile."""
    async with MisbehavingOrigin() as origin:
        made = quiet(addon(profile(origin.url), "faults", seed=3, rules=[OF_THE_PROFILE]))
        async with Gateway(tmp_path_factory.mktemp("gateway"), origin.url, made=made) as running:
            yield running


async def faults(gateway: Gateway, *args: str) -> tuple[int, str, str]:
    """`holdfast faults ARGS` for this gateway."""
    return await run_cli("faults", *args, "--profile", gateway.profile, cwd=gateway.folder)


async def rules(gateway: Gateway) -> dict[str, dict[str, Any]]:
    """The rules by their names."""
    return {rule["name"]: rule for rule in (await gateway.admin("/faults")).json()["rules"]}


async def test_those_of_the_profile_hold_from_the_start_and_are_told(gateway: Gateway) -> None:
    """Whoever has forgotten them reads it in the log, in the answer and on the health page."""
    assert "faults are active: requests fail on purpose" in gateway.log()
    async with RawClient(gateway.port) as client:
        for _ in range(2):  # the script begins again
            answer = await client.request("GET", "/api/users")
            assert answer.status == 200
            assert 'details="attempts:3"' in (answer.header("proxy-status") or "")
    assert 'faults="flaky (status at upstream)"' in gateway.log()
    document = (await gateway.admin("/health")).json()
    assert (document["status"], document["faults"]["rules"][0]["name"]) == ("ok", "flaky")


async def test_the_command_line_sets_lists_and_clears(gateway: Gateway) -> None:
    """A rule is one line; its counts are in the list; what is cleared acts no more."""
    code, out, _ = await faults(gateway, "clear")
    assert (code, out) == (0, "no faults: requests go their usual way\n")
    args = ["busy", "--fault", "status", "--status", "429", "-H", "Retry-After: 9", "--body", "later"]
    args += ["--route", "users", "-X", "get", "--script", "pass,fail", "--repeat"]
    code, out, err = await faults(gateway, "set", *args)
    assert (code, err) == (0, "")
    async with RawClient(gateway.port) as client:
        seen = [await client.request(m, "/api/users") for m in ("GET", "GET", "POST", "GET", "GET")]
        assert [answer.status for answer in seen] == [200, 429, 200, 200, 429]
        assert (seen[1].header("retry-after"), seen[1].body) == ("9", b"later")
        assert (await client.request("GET", "/api/users/1")).status == 200
    code, out, _ = await faults(gateway, "list")
    assert out.splitlines()[1].split()[:6] == ["busy", "status", "client", "2", "4", "active"]
    assert "set by hand: a restart ends them" in out
    listed = json.loads((await faults(gateway, "list", "--json"))[1])
    assert listed["rules"][0] == {
        "name": "busy",
        "fault": "status",
        "at": "client",
        "route": "users",
        "methods": ["get"],
        "status": 429,
        "headers": {"Retry-After": "9"},
        "body": "later",
        "script": ["pass", "fail"],
        "repeat": True,
        "asked": 4,
        "fired": 2,
        "over": None,
    }
    assert "fault set" in gateway.log()
    assert (await faults(gateway, "clear", "busy"))[1] == "no faults: requests go their usual way\n"
    assert await rules(gateway) == {}


async def test_the_commands_of_the_page_work(gateway: Gateway) -> None:
    """docs/faults.md, run as it stands but for the port and the profile."""
    lines = re.findall(r"^\$ (.*)$", (ROOT / "docs/faults.md").read_text(), re.MULTILINE)
    assert len(lines) == 7
    for line in lines:
        command = line.replace(":9900", f":{gateway.admin_port}")
        command = command.replace("holdfast", f"{sys.executable} -m holdfast")
        if "-m holdfast" in command:
            command += f" --profile {gateway.profile}"
        assert "NAME" in (out := await shell(command, gateway.folder)) or "no faults" in out or '"cut"' in out
    assert list(await rules(gateway)) == ["cut"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["set", "flakey"], "expected one of latency, status, reset"),
        (["set", "reset", "--route", "userz"], "the router gives no route the name userz"),
        (["set", "status", "-H", "Retry-After"], "write it like 'Retry-After: 5'"),
        (["clear", "nothing"], "there is no fault named nothing"),
    ],
)
async def test_a_mistake_is_answered_with_what_to_do(gateway: Gateway, args: list[str], says: str) -> None:
    """One sentence, exit code 2, and nothing has changed."""
    before = await rules(gateway)
    code, out, err = await faults(gateway, *args)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1
    assert await rules(gateway) == before


async def test_without_the_addon_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    """No gateway injects faults whose profile does not say so."""
    async with Gateway(tmp_path) as gateway:
        code, _, err = await faults(gateway, "set", "reset")
        assert (code, err) == (2, "holdfast: the profile has no addon faults: add `- faults` to its addons\n")
        assert (await gateway.admin("/faults", "DELETE")).status_code == 404
        assert "faults" not in (await gateway.admin("/health")).json()


async def test_a_reload_keeps_what_was_set_unless_the_profiles_own_have_changed(gateway: Gateway) -> None:
    """A restart ends it in any case."""
    await gateway.inject({"fault": "latency", "delay": "10ms", "name": "by-hand"})

    await change(gateway, lambda made: made["upstream"].update(deadline="3s"))
    assert list(await rules(gateway)) == ["by-hand"]
    await change(gateway, lambda made: addon(made, "faults", seed=-1), refused=True)
    assert list(await rules(gateway)) == ["by-hand"]
    await change(gateway, lambda made: addon(made, "faults", seed=4))
    assert list(await rules(gateway)) == ["flaky"]
    assert (await gateway.admin("/faults")).json()["seed"] == 4
    await gateway.inject({"fault": "reset", "name": "by-hand"})
    gateway.kill()
    await gateway.start()
    assert list(await rules(gateway)) == ["flaky"]


async def test_the_same_seed_gives_the_same_faults(gateway: Gateway) -> None:
    """By the seed and the order of the requests alone."""
    seen: list[list[int]] = []
    async with RawClient(gateway.port) as client:
        for _ in range(2):
            await gateway.inject({"at": "client", "fault": "status", "status": 418, "share": "50%"})
            seen.append([(await client.request("GET", "/api/users")).status for _ in range(20)])
    assert seen[0] == seen[1]
    assert set(seen[0]) == {200, 418}


async def test_it_lasts_as_long_as_it_was_set_for(gateway: Gateway) -> None:
    """`lasts`: a fault that somebody forgets ends by itself."""
    await gateway.inject({"at": "client", "fault": "status", "lasts": "300ms"})
    async with RawClient(gateway.port) as client:
        assert (await client.request("GET", "/api/users")).status == 503

        async def over() -> bool:
            return (await client.request("GET", "/api/users")).status == 200

        await until(over, within=3, what="the fault to end")
    assert [rule["over"] for rule in (await rules(gateway)).values()] == ["lasts"]


async def test_only_who_may_use_the_control_surface_may_set_faults(tmp_path: Path) -> None:
    """As everywhere there: the token, where there is one."""
    async with MisbehavingOrigin() as origin:
        made = addon(profile(origin.url, admin__token="a-token-of-some-length"), "faults")
        async with Gateway(tmp_path, made=made) as gateway:
            gateway.token = "another"
            for method in ("GET", "PUT", "POST", "DELETE"):
                assert (await gateway.admin("/faults", method, json={"fault": "reset"})).status_code == 401
            assert (await faults(gateway, "set", "reset"))[0] == 0  # the command reads it in the profile
