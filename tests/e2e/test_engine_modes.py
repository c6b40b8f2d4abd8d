"""`HOLDFAST_ENGINE`: the plain engine does the same, and a mode that there is not is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.testing import MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Gateway, profile, run_cli

pytestmark = pytest.mark.any_engine  # each says which it wants
OWN = """
class Own:
    def request(self, flow):
        flow.request.headers["x-own"] = "sync"

    async def response(self, flow):
        flow.response.headers["x-own"] = "async"
"""


@pytest.mark.parametrize("mode", ["", "plain"])
async def test_addons_are_told_of_everything_in_either_mode(tmp_path: Path, mode: str) -> None:
    """Speed is all that differs."""
    (tmp_path / "own_addon.py").write_text(OWN)
    async with MisbehavingOrigin() as origin:
        made = profile(origin.url)
        made["addons"].append({"use": "own_addon:Own"})
        async with Gateway(tmp_path, made=made, env={"HOLDFAST_ENGINE": mode}) as gateway:
            async with raw.RawClient(gateway.port) as client:
                answer = await client.request("GET", "/api/users")
            assert (answer.status, answer.header("x-own")) == (200, "async")
            assert [received.header("x-own") for received in origin.requests] == ["sync"]
            assert ("left out" in gateway.log()) is False


async def test_a_mode_that_there_is_not_is_refused(tmp_path: Path) -> None:
    """With what to write instead, and before anything is served."""
    code, _, err = await run_cli("run", "--profile", "minimal", cwd=tmp_path, env={"HOLDFAST_ENGINE": "slow"})
    assert (code, "HOLDFAST_ENGINE=slow: write `plain`" in err) == (2, True), err
