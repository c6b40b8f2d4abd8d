"""The README's five minutes with a flaky backend, run as they stand but for the ports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.conftest import SampleOrigin
from tests.e2e.harness import Gateway
from tests.e2e.readme import commands_of, here, shell

pytestmark = pytest.mark.any_engine


@pytest.mark.timeout(120)
async def test_the_five_minutes_with_a_flaky_backend_are_as_the_readme_has_them(
    tmp_path: Path, sample: SampleOrigin
) -> None:
    """What stands behind `#` is in what they print, `...` for anything."""
    (export, _), *lines = commands_of("Debug a flaky backend in five minutes")
    assert len(lines) == 11
    assert len([told for _, told in lines if told]) == 10
    async with Gateway(tmp_path, sample.url, made="debug") as gateway:
        for line, told in lines:
            command = here(line, gateway, sample)
            command = re.sub(r"(holdfast (?:faults \w+|explain))", rf"\1 --admin {gateway.admin_port}", command)
            out = await shell(f"{export}; {command}", tmp_path)
            wanted = ".*".join(map(re.escape, told.split("...")))
            assert re.search(wanted, out, re.DOTALL), f"{command}\n{out}\n{gateway.log()}"
