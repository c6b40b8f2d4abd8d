"""The machine that is measured on: what it is, what else kept it busy, and which core is for what."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")

VERSIONS = {
    "nginx": ["nginx", "-v"],
    "varnish": ["varnishd", "-V"],
    "redis-server": ["redis-server", "--version"],
    "wrk": ["wrk", "-v"],
    "h2load": ["h2load", "--version"],
}


def describe() -> dict[str, Any]:
    """For the report: cores, model, kernel, versions."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*: (.*)", info)
    return {
        "cores": os.cpu_count(),
        "cpu": model[1] if model else platform.processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "engine": os.environ.get("HOLDFAST_ENGINE") or "default",
        "load": os.getloadavg()[0],
        **{name: _installed(name) for name in ("mitmproxy", "redis", "confluent-kafka", "apsw")},
        **{name: told for name, command in VERSIONS.items() if (told := _said(command))},
    }


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _said(command: list[str]) -> str:
    """The version that a program tells of itself, wherever it writes it."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    found = re.search(r"\d+\.\d+[\w.]*", done.stdout + done.stderr)
    return found[0] if found else "?"


@dataclass(frozen=True)
class Cores:
    """Which cores the measured server gets, and which the load and the origin. Empty: whatever the kernel likes."""

    server: str = ""
    load: str = ""
    every: str = ""  # of this run

    def pin(self, cores: str, command: list[str]) -> list[str]:
        return ["taskset", "-c", cores, *command] if cores else command


def split_cores() -> Cores:
    """The last core for the server, all others for the load; nothing where there is one core, or no taskset."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2 or shutil.which("taskset") is None:
        return Cores()
    return Cores(str(usable[-1]), ",".join(map(str, usable[:-1])), ",".join(map(str, usable)))


class Watch:
    """What others did to the machine while something was measured."""

    def __init__(self) -> None:
        self._total, self._idle, self._steal = _cpu()

    def disturbance(self, ours: float, seconds: float) -> tuple[float, float]:
        """Cores that others used, and the share that the host took. `ours`: CPU seconds of what is started here."""
        total, idle, steal = _cpu()
        busy = ((total - self._total) - (idle - self._idle) - (steal - self._steal)) / TICKS
        return max(0.0, (busy - ours) / seconds), (steal - self._steal) / max(1, total - self._total)


def _cpu() -> tuple[int, int, int]:
    """All, idle and stolen ticks of all cores."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields), fields[3] + fields[4], fields[7]


def raise_file_limit(wanted: int) -> int:
    """As many open files as possible up to `wanted`, for this process and its children; how many there are now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        for higher in (max(hard, wanted), hard):  # beyond the hard limit for root only
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, higher), higher))
                break
            except (ValueError, OSError):
                continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def python_tool(name: str) -> str:
    """A program that came with a Python package, such as mitmdump."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or name
