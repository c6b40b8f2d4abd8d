"""A process that is measured: started on its core, waited for, asked what it used, and stopped."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.bench.machine import TICKS
from tests.services.process import LOOPBACK, leash

READY_WITHIN = 30.0
QUIET = 0.3  # seconds


class Broken(Exception):
    """A measurement that measured something else, or nothing. The message says what."""


class Missing(Exception):
    """Something that is not installed. The message names it, and says how to install it."""


@dataclass
class Running:
    """One process and its children. `url` is where it is asked."""

    name: str
    command: Sequence[str]
    port: int
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    scheme: str = "http"
    admin: int = 0  # the port of the control surface, if there is one
    beside: tuple[int, ...] = ()  # processes that work for it, and count as its own

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def is_down(self) -> bool:
        """Not started, or ended."""
        return self._process is None or self._process.poll() is not None

    def launch(self) -> Self:
        """Start it and return at once."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*leash(), *self.command],
                cwd=self.folder,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def start(self) -> Self:
        """Start it and wait until it accepts connections."""
        return self.launch().wait()

    def wait(self) -> Self:
        """Until it accepts connections; Broken, with what it said, if it does not."""
        until = time.monotonic() + READY_WITHIN
        while not accepts(self.port):
            if self.is_down():
                raise Broken(f"{self.name} ended while starting:\n{self.tail()}")
            if time.monotonic() > until:
                raise Broken(f"{self.name} did not listen within {READY_WITHIN:g} s:\n{self.tail()}")
            time.sleep(0.005)
        return self

    def settle(self) -> None:
        """Until it has done what it still has to do after its start, such as to start more of itself."""
        until = time.monotonic() + READY_WITHIN
        while time.monotonic() < until:
            before = self.cpu()
            time.sleep(QUIET)
            if self.cpu() - before <= 0.1 * QUIET:
                return

    def stop(self) -> None:
        """As an operator would, and by force after ten seconds."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def tail(self) -> str:
        """The end of what it said."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def forget_log(self) -> None:
        """An access log of minutes under load would fill the disk."""
        with contextlib.suppress(OSError):
            os.truncate(self.log, 0)

    # -- what it uses -----------------------------------------------------------------------------------------------

    def cpu(self) -> float:
        """Seconds of CPU time so far, of it, all its children, and what works for it."""
        return sum(cpu_of(pid) for pid in (*family(self.pid), *self.beside))

    def rss(self) -> int:
        """Resident bytes, shared pages counted in each process."""
        return sum(_status(pid, "VmRSS") for pid in family(self.pid))

    def pss(self) -> int:
        """Resident bytes, a shared page divided among those that share it."""
        return sum(_rollup(pid) for pid in family(self.pid))

    def files(self) -> int:
        """Open file descriptors."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in family(self.pid))


def accepts(port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection((LOOPBACK, port), 1).close()
    except OSError:
        return False
    return True


def family(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
    found, fresh = [pid], [pid]
    while fresh:
        fresh = [child for parent in fresh for child in children.get(parent, [])]
        found += fresh
    return found


def cpu_of(pid: int) -> float:
    """Of one process; 0 once it is gone."""
    try:
        fields = _stat(pid)
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name, which may contain anything: state, parent ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _status(pid: int, field_name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field_name):
                return int(line.split()[1]) * 1024
    return 0


def _rollup(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
