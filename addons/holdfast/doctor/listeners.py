"""Who listens on a port of this machine, as far as /proc tells: other users' processes show only to root."""

from __future__ import annotations

import os
import re
from pathlib import Path

_LISTEN = "0A"
_TABLES = ("net/tcp", "net/tcp6")


def who_listens(port: int, proc: Path = Path("/proc")) -> str:
    """`name (process 123)`; empty if nobody is found."""
    sockets = _sockets(port, proc)
    if not sockets:
        return ""
    for folder in sorted(proc.glob("[0-9]*"), key=lambda each: int(each.name)):
        try:
            handles = list(os.scandir(folder / "fd"))
        except OSError:  # it has ended, or is another user's
            continue
        for handle in handles:
            try:
                target = os.readlink(handle.path)
            except OSError:
                continue
            if (match := re.fullmatch(r"socket:\[(\d+)\]", target)) and match[1] in sockets:
                return f"{_command(folder)} (process {folder.name})"
    return ""


def _sockets(port: int, proc: Path) -> set[str]:
    """The inode numbers of the sockets that listen on it."""
    found = set()
    for name in _TABLES:
        try:
            lines = (proc / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if len(words) > 9 and words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                found.add(words[9])
    return found


def _command(folder: Path) -> str:
    """The program, and the script or module that an interpreter runs; no arguments, which may hold secrets."""
    try:
        words = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return "a program"
    words = [word for word in words if word]
    name = Path(words[0]).name if words else "a program"
    if not name.startswith("python"):
        return name
    rest = words[1:]
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c"):
        rest = rest[1:]
    if rest[:1] == ["-c"] or not rest:
        return name
    return f"{name} {' '.join(rest[:2])}" if rest[0] == "-m" else f"{name} {Path(rest[0]).name}"
