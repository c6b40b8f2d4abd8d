"""The README's way from failure to delivery, run as it stands but for the ports."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import SampleOrigin
from tests.e2e.harness import ROOT, Gateway
from tests.e2e.test_cache_readme import shell


@pytest.mark.timeout(90)
async def test_five_commands_lead_from_failure_to_delivery(tmp_path: Path, sample: SampleOrigin) -> None:
    """What stands behind `#` is in what they print, `...` for anything."""
    readme = (ROOT / "README.md").read_text()
    section = readme.split("## From failure to delivery in five commands")[1].split("\n## ")[0]
    lines = re.findall(r"^\$ (.*?) +# (.*)$", section, re.MULTILINE)
    assert len(lines) == 5
    async with Gateway(tmp_path, sample.url, made="sidecar") as gateway:
        for line, told in lines:
            command = line.replace(":8080", f":{gateway.port}").replace(":3000", f":{sample.port}")
            command = command.replace(".venv/bin/holdfast", f"{sys.executable} -m holdfast")
            out = await shell(command, tmp_path)
            assert re.search(".*".join(map(re.escape, told.split("..."))), out), f"{command}\n{out}\n{gateway.log()}"
