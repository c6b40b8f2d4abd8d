"""The README's minute with the cache, run as it stands but for the ports."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.e2e.conftest import SampleOrigin
from tests.e2e.harness import ROOT, Gateway, environment


async def shell(line: str, folder: Path) -> str:
    """What it prints; it must not fail."""
    env = environment(folder, {"PATH": os.environ["PATH"]})
    pipe = asyncio.subprocess.PIPE
    run = await asyncio.create_subprocess_shell(line, cwd=folder, env=env, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(run.communicate(), 30)
    assert run.returncode == 0, f"{line}\n{err.decode()}"
    return out.decode().strip()


async def test_the_minute_with_the_cache_is_as_the_readme_has_it(tmp_path: Path, sample: SampleOrigin) -> None:
    """What stands behind `#` is what Cache-Status says, `...` for anything."""
    section = (ROOT / "README.md").read_text().split("## The cache in a minute")[1].split("\n## ")[0]
    lines = re.findall(r"^\$ (.*?)(?: +# (.*))?$", section, re.MULTILINE)
    assert len(lines) == 8
    async with Gateway(tmp_path, sample.url, made="cache") as gateway:
        for line, told in lines:
            command = line.replace(":8080", f":{gateway.port}").replace(":3000", f":{sample.port}")
            command = command.replace(".venv/bin/holdfast", f"{sys.executable} -m holdfast")
            command = command.replace("--profile cache", f"--profile cache --admin {gateway.admin_port}")
            out = await shell(command, tmp_path)
            wanted = ".*".join(map(re.escape, told.split("..."))) if told else ""
            assert re.search(f"holdfast;{wanted}", out) if told else out, f"{command}\n{out}"
