"""The README's way from failure to delivery, run as it stands but for the ports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.conftest import SampleOrigin
from tests.e2e.harness import Gateway
from tests.e2e.readme import commands_of, here, shell

pytestmark = pytest.mark.any_engine


@pytest.mark.timeout(90)
async def test_five_commands_lead_from_failure_to_delivery(tmp_path: Path, sample: SampleOrigin) -> None:
    """What stands behind `#` is in what they print, `...` for anything."""
    lines = commands_of("From failure to delivery in five commands")
    assert len(lines) == 5
    assert all(told for _, told in lines)
    async with Gateway(tmp_path, sample.url, made="sidecar") as gateway:
        for line, told in lines:
            command = here(line, gateway, sample)
            out = await shell(command, tmp_path)
            assert re.search(".*".join(map(re.escape, told.split("..."))), out), f"{command}\n{out}\n{gateway.log()}"
