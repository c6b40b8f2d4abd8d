"""What the tests of the README share: the commands of a section, run as they stand but for the ports."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.e2e.conftest import SampleOrigin
from tests.e2e.harness import ROOT, Gateway, environment


def commands_of(title: str) -> list[tuple[str, str]]:
    """Each command of a section, and what stands behind its `#`, if anything."""
    section = (ROOT / "README.md").read_text().split(f"## {title}")[1].split("\n## ")[0]
    return re.findall(r"^\$ (.*?)(?: +# (.*))?$", section, re.MULTILINE)


def here(line: str, gateway: Gateway, sample: SampleOrigin) -> str:
    """The command for this gateway and this origin."""
    command = line.replace(":8080", f":{gateway.port}").replace(":3000", f":{sample.port}")
    return command.replace(".venv/bin/holdfast", f"{sys.executable} -m holdfast")


async def shell(line: str, folder: Path) -> str:
    """What it prints; it must not fail."""
    env = environment(folder, {"PATH": os.environ["PATH"]})
    pipe = asyncio.subprocess.PIPE
    run = await asyncio.create_subprocess_shell(line, cwd=folder, env=env, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(run.communicate(), 30)
    assert run.returncode == 0, f"{line}\n{err.decode()}"
    return out.decode().strip()
