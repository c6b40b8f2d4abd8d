"""Second tries, as CI has them: which tests get one, that it is told, and that there are only so many."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.second_tries import MOST

ROOT = Path(__file__).parent.parent
pytest.importorskip("pytest_rerunfailures")

FAILS_AT_FIRST = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_it(number):
    seen = Path(__file__).with_name(f"seen{{number}}")
    first = not seen.exists()
    seen.touch()
    assert not first, "the machine stood still"
"""


def run(folder: Path, **counts: int) -> tuple[int, str]:
    """A run of so many tests in each of these folders, all of which fail at first: its code, and what it says."""
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -ra --strict-markers -p no:cacheprovider\n")
    for name, count in counts.items():
        (folder / "tests" / name).mkdir(parents=True)
        (folder / "tests" / name / f"test_{name}.py").write_text(FAILS_AT_FIRST.format(count=count))
    command = [sys.executable, "-m", "pytest", "-p", "tests.second_tries", "-p", "no:anyio", "--color=no"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout


def test_a_test_of_real_parts_is_run_once_more_and_named(tmp_path: Path) -> None:
    """With why it failed; the run succeeds."""
    code, told = run(tmp_path, e2e=1, integration=1, contract=1)
    assert code == 0, told
    assert "3 passed, 3 rerun" in told
    assert told.count("the machine stood still") >= 3
    for name in ("e2e", "integration", "contract"):
        assert f"RERUN tests/{name}/test_{name}.py::test_it[0]" in told


def test_a_unit_test_is_never_run_again(tmp_path: Path) -> None:
    """It has nothing to wait for."""
    code, told = run(tmp_path, unit=1)
    assert code == 1
    assert "1 failed in" in told


def test_more_than_a_few_fail_the_run(tmp_path: Path) -> None:
    """Then it is not the machine."""
    code, told = run(tmp_path, e2e=MOST + 1)
    assert code == 1
    assert f"1 failed, {MOST} passed, {MOST} rerun" in told


def test_a_test_that_fails_twice_has_failed(tmp_path: Path) -> None:
    """And the run with it."""
    folder = tmp_path / "tests" / "e2e"
    folder.mkdir(parents=True)
    (folder / "test_broken.py").write_text("def test_it():\n    assert False\n")
    code, told = run(tmp_path)
    assert code == 1
    assert "1 failed, 1 rerun" in told


def test_ci_runs_everything_that_way() -> None:
    """In both modes of the engine."""
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if "scripts/test" in line]
    assert len(lines) == 2
    assert all("-p tests.second_tries" in line for line in lines)
