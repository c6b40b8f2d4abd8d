"""The README's minute with the cache, run as it stands but for the ports."""

from __future__ import annotations

import re
from pathlib import Path

from tests.e2e.conftest import SampleOrigin
from tests.e2e.harness import Gateway
from tests.e2e.readme import commands_of, here, shell


async def test_the_minute_with_the_cache_is_as_the_readme_has_it(tmp_path: Path, sample: SampleOrigin) -> None:
    """What stands behind `#` is what Cache-Status says, `...` for anything."""
    lines = commands_of("The cache in a minute")
    assert len(lines) == 8
    async with Gateway(tmp_path, sample.url, made="cache") as gateway:
        for line, told in lines:
            command = here(line, gateway, sample)
            command = command.replace("--profile cache", f"--profile cache --admin {gateway.admin_port}")
            out = await shell(command, tmp_path)
            wanted = ".*".join(map(re.escape, told.split("..."))) if told else ""
            assert re.search(f"holdfast;{wanted}", out) if told else out, f"{command}\n{out}"
