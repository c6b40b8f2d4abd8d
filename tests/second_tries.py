"""A pytest plugin for CI: a test of real parts that fails is run once more, and named at the end with why it failed.

    pytest -p tests.second_tries

A machine may stand still for a second, and then a server answers too late. That is no fault of the change that is
tested, but a test named here is a defect all the same: it waits too briefly, or what it tests does. Other tests are
never run again, those of `unit/` for one. After five second tries in a run there are no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

REAL = ("contract", "e2e", "integration")  # folders of tests with processes and servers
MOST = 5  # in one run


def pytest_configure(config: pytest.Config) -> None:
    config.option.max_suite_reruns = MOST
    config.option.rerun_show_tracebacks = True
    config.option.reportchars += "R"


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    folders = [config.rootpath / "tests" / name for name in REAL]
    for item in items:
        if not set(folders).isdisjoint(Path(item.path).parents):
            item.add_marker(pytest.mark.flaky(reruns=1))
