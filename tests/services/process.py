"""What every test server shares: a child process with a port, a data folder and a log, to be stopped or broken."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import Self

LOOPBACK = "127.0.0.1"
_given_out: deque[int] = deque(maxlen=100)  # ports: whoever asked for one may not listen there yet


class ServiceError(Exception):
    """A server could not be had or did not come up; the message says why and ends with its log."""


def free_port() -> int:
    """A TCP port of the loopback address that nothing listens on right now, and that was not given out just before."""
    while True:
        with closing(socket.socket()) as probe:
            probe.bind((LOOPBACK, 0))
            port: int = probe.getsockname()[1]
        if port not in _given_out:
            _given_out.append(port)
            return port


def leash() -> list[str]:
    """A command prefix that makes the kernel kill the child when this process dies, however it dies.

    The kernel watches the *thread* that started the child, so only the main thread may use it.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return []
    return [setpriv, "--pdeathsig", "KILL", "--"]


class Service(ABC):
    """One server process. The data folder outlives it: `start` after `stop` or `kill` finds the same data and port."""

    name: str
    ready_within = 60.0
    stop_signal = signal.SIGTERM

    def __init__(self, data: Path, port: int) -> None:
        self.data = data.absolute()
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    free_port = staticmethod(free_port)

    @property
    def address(self) -> str:
        """host:port."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        """How a client is told where it is; host:port unless the service has URLs of its own."""
        return self.address

    @property
    def log_file(self) -> Path:
        """Where the server's own output goes; one file over all starts."""
        return self.data / "server.log"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @abstractmethod
    def prepare(self) -> None:
        """Fill the data folder before the first start; does nothing on a later one."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command line that runs the server in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server does real work for a client now."""

    def start(self) -> Self:
        """Start the process; returns at once, so follow with `wait_ready`."""
        if self.pid is not None:
            raise ServiceError(f"{self.name} runs already, as process {self.pid}")
        self.data.mkdir(parents=True, exist_ok=True)
        self.prepare()
        with self.log_file.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches pytest, which then stops the servers in order.
            self._process = subprocess.Popen(
                [*leash(), *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def wait_ready(self, within: float | None = None) -> Self:
        """Block until the server answers; raises ServiceError with the end of its log when it does not."""
        deadline = time.monotonic() + (within or self.ready_within)
        while time.monotonic() < deadline:
            if self.pid is None:
                raise ServiceError(f"{self.name} ended while starting:\n{self.log_tail()}")
            if self.answers():
                return self
            time.sleep(0.1)
        raise ServiceError(f"{self.name} on {self.address} did not answer in time:\n{self.log_tail()}")

    def stop(self, within: float = 20.0) -> None:
        """An orderly end, forced when it takes too long; does nothing when the server is not running."""
        if self._process is None:
            return
        self.resume()
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """`kill -9` of the server and its children: what it did not write to disk is lost."""
        if self._process is None:
            return
        self._signal_all(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def pause(self) -> None:
        """Freeze the process: connections are still accepted by the kernel, but nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        self._signal_all(signal.SIGCONT)

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of the server's own output."""
        if not self.log_file.exists():
            return "(no log)"
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        try:
            return self.start().wait_ready()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _signal_all(self, number: signal.Signals) -> None:
        """To the whole process group: PostgreSQL is one process per connection."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)
