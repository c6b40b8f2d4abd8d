"""`python -m tests.services -- COMMAND`: real servers up, the command with their addresses, servers down again.

An address that is already in the environment is used as it is. What could not be had is named at the end; with CI=true
that is a failure even when the command succeeded.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType

from tests.services import jars, packages
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer
from tests.services.process import Service, ServiceError, free_port
from tests.services.redis import RedisServer

KAFKA, KAFKA_LIBS = "HOLDFAST_TEST_KAFKA", "HOLDFAST_TEST_KAFKA_LIBS"
REDIS, POSTGRES = "HOLDFAST_TEST_REDIS", "HOLDFAST_TEST_POSTGRES"


class Fleet:
    """The servers of one run: starts those the environment does not name, and remembers what could not be had."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.env: dict[str, str] = {}
        self.troubles: list[str] = []

    def start(self) -> None:
        """All processes first, then wait for all of them: the slow starts overlap."""
        if not os.environ.get(KAFKA_LIBS):
            self._try("Kafka's jars", lambda: self.env.update({KAFKA_LIBS: str(jars.kafka_libs())}))
        makers: dict[str, Callable[[], Service]] = {
            KAFKA: lambda: KafkaServer(self._libs(), self.folder / "kafka", free_port()),
            POSTGRES: lambda: PostgresServer(self.folder / "postgres", free_port()),
            REDIS: lambda: RedisServer(self.folder / "redis", free_port()),
        }
        wanted = {name: make for name, make in makers.items() if not os.environ.get(name)}
        launched = {name: self._try(name, partial(self._launch, make)) for name, make in wanted.items()}
        for name, server in launched.items():
            ready = self._try(name, partial(server.wait_ready)) if server else None
            if ready is not None:
                self.env[name] = ready.url

    def _libs(self) -> Path:
        libs = self.env.get(KAFKA_LIBS) or os.environ.get(KAFKA_LIBS)
        if not libs:
            raise ServiceError("no jars to start it from")
        return Path(libs)

    def _launch(self, make: Callable[[], Service]) -> Service:
        server = make()
        self.stack.callback(server.stop, within=5)
        return server.start()

    def _try[T](self, what: str, action: Callable[[], T]) -> T | None:
        try:
            return action()
        except (ServiceError, OSError) as error:
            self.troubles.append(f"{what}: {error}")
            return None


def run(command: Sequence[str], env: dict[str, str]) -> int:
    """The command with our environment; Ctrl-C reaches it by itself, any other wish to end is passed on as Ctrl-C."""
    child = subprocess.Popen(command, env=os.environ | env)

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        child.send_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    return child.wait()


def stop_starting(number: int, _frame: FrameType | None) -> None:
    """Leave while servers are being started; the exit stack ends those that run."""
    raise SystemExit(128 + number)


def main(arguments: Sequence[str]) -> int:
    """Exit code of the command, or 1 where something is missing that may not be."""
    command = list(arguments[1:] if arguments[:1] == ["--"] else arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop_starting)
    troubles = packages.install_missing()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="holdfast-test-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)  # PostgreSQL runs as another user
        fleet = Fleet(folder, stack)
        fleet.start()
        for name, value in sorted(fleet.env.items()):
            print(f"holdfast: {name}={value}", flush=True)
        code = run(command, fleet.env)
    return report([*troubles, *fleet.troubles], code)


def report(troubles: Sequence[str], code: int) -> int:
    """Name what was missing; in CI that is a failure."""
    for trouble in troubles:
        print(f"holdfast: not tested against all real servers: {trouble}", file=sys.stderr)
    required = os.environ.get("CI", "").lower() in ("1", "true", "yes")
    return 1 if troubles and required and code == 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
