"""The programs the tests need beside Python: installed on Debian as root, named with their packages elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

# Program -> Debian packages that bring it; the first one that the machine's sources know is taken.
NEEDED = {
    "chromium": ["chromium", "chromium-browser"],
    "curl": ["curl"],
    "java": ["openjdk-17-jre-headless", "default-jre-headless"],
    "mvn": ["maven"],
    "nghttp": ["nghttp2-client"],
    "postgres": ["postgresql"],
    "promtool": ["prometheus"],
    "redis-server": ["redis-server"],
}
POLICY = Path("/usr/sbin/policy-rc.d")


def is_there(program: str) -> bool:
    """Whether the program can be run, or the file is there; PostgreSQL's are not on Debian's PATH, Java must be 17."""
    if program == "postgres":
        return bool(shutil.which(program) or list(Path("/usr/lib/postgresql").glob("*/bin/postgres")))
    if program == "java":
        return java_version() >= 17
    return shutil.which(program) is not None or Path(program).is_file()


def java_version() -> int:
    """The major version of the Java that would be run; 0 without one."""
    home = os.environ.get("JAVA_HOME")
    java = (shutil.which("java", path=f"{home}/bin") if home else None) or shutil.which("java")
    if java is None:
        return 0
    told = subprocess.run(
        [java, "-version"], check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
    ).stderr
    found = re.search(r'version "(\d+)', told)
    return int(found[1]) if found else 0


def install_missing(needed: Mapping[str, Sequence[str]] = NEEDED) -> list[str]:
    """Install what is missing where that is possible; returns what is still missing, as lines to show."""
    missing = [program for program in needed if not is_there(program)]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        apt_install(missing, needed)
        missing = [program for program in missing if not is_there(program)]
    packages = " ".join(dict.fromkeys(needed[program][0] for program in missing))
    return [f"missing programs: {', '.join(missing)}; on Debian: apt-get install {packages}"] if missing else []


def apt_install(programs: Sequence[str], needed: Mapping[str, Sequence[str]]) -> None:
    """apt-get update and install, quietly; what it cannot install is found missing afterwards."""
    print(f"holdfast: installing {', '.join(programs)}", flush=True)
    apt("update")
    packages = [next((name for name in needed[program] if apt_knows(name)), needed[program][0]) for program in programs]
    with no_daemons():
        apt("install", "--yes", "--no-install-recommends", *packages)


def apt(*arguments: str) -> None:
    """Run apt-get without questions, and show its output only when it fails."""
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-qq", *arguments]
    done = subprocess.run(command, env=env, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        print(f"holdfast: {' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}", flush=True)


def apt_knows(package: str) -> bool:
    """Whether the machine's package sources have an installable version of it."""
    shown = subprocess.run(
        ["apt-cache", "policy", package], check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return "Candidate:" in shown.stdout and "Candidate: (none)" not in shown.stdout


@contextmanager
def no_daemons() -> Iterator[None]:
    """Keep Debian from starting what is installed as a system service: the tests start their own."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)
