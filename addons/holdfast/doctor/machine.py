"""This machine: interpreter, mitmproxy, open files, memory, variables that send requests elsewhere."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from holdfast.doctor.case import Case
from holdfast.doctor.finding import Finding, Job
from holdfast.engine import SUPPORTED
from holdfast.interpreter import complaint
from holdfast.profile.values import Size

_FEW_FILES, _TOO_FEW_FILES = 1024, 256
_GATEWAY = 200 << 20  # bytes that a gateway takes, roughly, besides what it keeps
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY", "HTTP_PROXY")
_HERE = ("127.0.0.1", "localhost", "*")
_CGROUPS = ("memory.max", "memory/memory.limit_in_bytes")


def jobs(case: Case) -> list[Job]:
    return [
        Job("python", lambda: [interpreter()]),
        Job("mitmproxy", lambda: [mitmproxy(_installed("mitmproxy"))]),
        Job("open files", lambda: [open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))]),
        Job("memory", lambda: [memory(_free_memory(Path("/proc/meminfo"), Path("/sys/fs/cgroup")), _cached(case))]),
        Job("proxy variables", lambda: [proxy_variables(case.env)]),
    ]


def interpreter(found: Sequence[Any] = tuple(sys.version_info)) -> Finding:
    told = f"{'.'.join(map(str, found[:3]))}, {sys.executable}"
    sentence = complaint(tuple(found))
    if sentence:
        return Finding("python", "failing", told, sentence)
    if platform.system() != "Linux":
        advice = "expect what needs /proc, flock or SO_REUSEPORT to differ, and run it on Linux where it matters"
        return Finding("python", "warning", f"{told}, on {platform.system()}", advice)
    return Finding("python", "ok", told)


def mitmproxy(installed: str) -> Finding:
    """Whether the engine was written for it; its code is looked at where its version is the right one."""
    advice = f'install the one it was written for: `{sys.executable} -m pip install "mitmproxy~={SUPPORTED}.0"`'
    if not installed:
        return Finding("mitmproxy", "failing", f"is not installed for {sys.executable}", advice)
    if installed.split(".")[:2] != SUPPORTED.split("."):
        return Finding("mitmproxy", "failing", f"{installed}, and the engine needs {SUPPORTED}", advice)
    try:
        from holdfast.engine.selfcheck import check_engine

        check_engine(installed)
    except Exception as error:  # noqa: BLE001 # whatever an unknown mitmproxy raises when it is imported
        return Finding("mitmproxy", "failing", f"{installed}: {error}", advice)
    return Finding("mitmproxy", "ok", f"{installed}, and all that the engine relies on is there")


def open_files(soft: int, hard: int) -> Finding:
    """Each client takes up to two. `holdfast run` raises the soft limit to the hard one, mitmdump does not."""
    if hard == resource.RLIM_INFINITY:
        hard = sys.maxsize
    if soft == resource.RLIM_INFINITY:
        soft = sys.maxsize
    told = f"at most {min(soft, hard)} at once"
    if soft < hard:
        told += f"; `holdfast run` raises that to {'all it wants' if hard == sys.maxsize else hard}"
    advice = "allow more: `ulimit -n 65536`, LimitNOFILE= in a systemd unit, --ulimit nofile=65536 with Docker"
    if hard < _TOO_FEW_FILES:
        return Finding("open files", "failing", f"{told}, too few for the gateway itself and some clients", advice)
    if hard < _FEW_FILES:
        return Finding("open files", "warning", f"{told}, enough for {max(1, (hard - 100) // 2)} clients or so", advice)
    return Finding("open files", "ok", told)


def memory(free: int | None, cached: int) -> Finding:
    """`free` and `cached`, what the profile keeps in memory, in bytes."""
    if free is None:
        return Finding("memory", "skipped", "this machine does not say how much is free")
    told, needed = f"{_rounded(free)} free", _GATEWAY + cached
    if free < needed:
        advice = "free some, or lower `cache.memory`" if cached else "free some, or give the container more"
        return Finding("memory", "warning", f"{told}; the gateway may take {_rounded(needed)}", advice)
    return Finding("memory", "ok", told)


def proxy_variables(env: Mapping[str, str]) -> Finding:
    """The gateway itself heeds none of them; those who call it do."""
    given = [name for name in _PROXIES if env.get(name)]
    spared = [each.strip() for name in ("no_proxy", "NO_PROXY") for each in env.get(name, "").split(",")]
    if not given:
        return Finding("proxy variables", "ok", "none are set")
    told = f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} set"
    if any(each in _HERE for each in spared):
        return Finding("proxy variables", "ok", f"{told}, and no_proxy spares this machine")
    return Finding(
        "proxy variables",
        "warning",
        f"{told}, and no_proxy does not name 127.0.0.1: curl and others ask that proxy for the gateway",
        "export no_proxy=127.0.0.1,localhost",
    )


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cached(case: Case) -> int:
    return sum(int(settings.memory) for settings in case.settings("cache"))


def _free_memory(meminfo: Path, cgroup: Path) -> int | None:
    """The smaller of what the machine has left and what the container may still take; None if nobody says."""
    known = []
    try:
        lines = meminfo.read_text().splitlines()
        known = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        pass
    for name in _CGROUPS:
        try:
            limit = int((cgroup / name).read_text())
            used = (cgroup / name).with_name("memory.current" if name == "memory.max" else "memory.usage_in_bytes")
            known.append(max(0, limit - int(used.read_text())))
        except (OSError, ValueError):  # there is none, or it is the word max
            continue
    return min(known, default=None)


def _rounded(size: int) -> str:
    return str(Size(size >> 20 << 20)) if size < 10 << 30 else f"{size >> 30}GiB"
