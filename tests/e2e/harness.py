"""Starts real gateways, waits for what can be waited for, and talks to them as strangers would.

    async with Gateway(tmp_path, origin.url) as gateway, RawClient(gateway.port) as client:
        answer = await client.request("GET", "/api/users")

Nothing here knows the product's insides: only its command line, its sockets and its files.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.services.process import free_port, leash

ROOT = Path(__file__).parents[2]
MAIN = ROOT / "addons" / "main.py"
PROBLEM = "application/problem+json"
type Front = Literal["run", "mitmdump", "mitmweb"]

ROUTER = {
    "router": {
        "routes": [
            {"name": "user", "pattern": "^/api/users/(?P<id>[^/]+)$"},
            {"name": "users", "pattern": "^/api/users$"},
        ]
    }
}


def profile(upstream: str, outbox: Path | str = "outbox.db", **changes: Any) -> dict[str, Any]:
    """A profile with short times, no breaker and no retry budget.

    `changes` are dotted keys with `__` for the dot: `upstream__deadline="5s"`."""
    made: dict[str, Any] = {
        "version": 1,
        "upstream": {
            "servers": [upstream],
            "connect_timeout": "300ms",
            "response_timeout": "300ms",
            "read_timeout": "300ms",
            "deadline": "2s",
            "retry": {"attempts": 3, "backoff": {"base": "10ms", "max": "40ms"}, "budget": None},
            "breaker": {"max_fails": 0},  # the tests count attempts; those of breaker and budget switch them on
        },
        "addons": [
            copy.deepcopy(ROUTER),
            "metrics",
            "interceptor",
            {"failure_sink": {"broker": "embedded://", "outbox": str(outbox)}},
        ],
    }
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        place = made
        for key in path:
            place = place.setdefault(key, {})
        place[last] = value
    return made


def addon(made: dict[str, Any], name: str, **settings: Any) -> dict[str, Any]:
    """Change the settings of one addon of a profile in place, adding it at the end if it is not there."""
    for number, entry in enumerate(made["addons"]):
        if entry == name:
            made["addons"][number] = {name: settings}
            return made
        if isinstance(entry, dict) and name in entry:
            entry[name] = {**entry[name], **settings}
            return made
    made["addons"].append({name: settings})
    return made


async def until[T](
    question: Callable[[], T | Awaitable[T]], *, within: float = 15.0, every: float = 0.02, what: str = ""
) -> T:
    """Ask until the answer is true-ish and return it; TimeoutError, with `what` was waited for, after `within`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        asked = question()
        answer = await asked if isinstance(asked, Awaitable) else asked
        if answer:
            return answer
        if loop.time() > deadline:
            raise TimeoutError(f"not within {within:g} s: {what or question}")
        await asyncio.sleep(every)


class GatewayError(Exception):
    """The process ended when it should have served; carries its exit code and its output."""


class Gateway:
    """One gateway process on free ports. It holds nothing of an event loop, so that a fixture of any scope may own it.

    `made` is the profile: a dictionary (see `profile`), a file, a shipped profile's name, or None for the default
    of this harness. `args` go to the command line as they are.
    """

    def __init__(
        self,
        folder: Path,
        upstream: str = "http://127.0.0.1:9",
        *,
        front: Front = "run",
        made: Mapping[str, Any] | Path | str | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        ready_within: float = 30.0,
    ) -> None:
        self.folder = folder
        self.upstream = upstream
        self.front: Front = front
        self.args = list(args)
        self.env = dict(env or {})
        self.ready_within = ready_within
        self.port, self.admin_port, self.web_port = free_port(), free_port(), free_port()
        self.web_password = "opensesame"
        self.token = ""
        folder.mkdir(parents=True, exist_ok=True)
        self.profile = self._write(profile(upstream) if made is None else made)
        self.log_file = folder / "gateway.log"
        self._process: subprocess.Popen[bytes] | None = None

    # -- addresses --------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        """The control surface."""
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal, as in `subprocess`."""
        return self._process.poll() if self._process else None

    # -- life -------------------------------------------------------------------------------------------------------

    def launch(self) -> Self:
        """Start the process and return at once."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*leash(), *self.command()],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    async def start(self) -> Self:
        """Start it and wait until it is ready; raises GatewayError with its output if it ends instead."""
        self.launch()
        try:
            await until(self.is_ready, within=self.ready_within, what="the gateway to be ready")
        except TimeoutError as error:
            self.kill()
            raise GatewayError(f"{error}\n{self.log()}") from error
        return self

    async def is_ready(self) -> bool:
        """Whether /readyz says so and the proxied port accepts connections."""
        if self.exit_code is not None:
            raise GatewayError(f"exit code {self.exit_code}\n{self.log()}")
        with contextlib.suppress(httpx.TransportError):
            return (await self.admin("/readyz")).status_code == 200 and await accepts(self.port)
        return False

    async def terminate(self, within: float = 15.0) -> int:
        """SIGTERM, and its exit code; after `within` seconds it is killed and a TimeoutError raised."""
        self.send(signal.SIGTERM)
        return await self.ended(within)

    async def ended(self, within: float = 15.0) -> int:
        """Wait for its end by itself and return the exit code."""
        try:
            await until(lambda: self.exit_code is not None, within=within, what="the gateway to end")
        except TimeoutError:
            self.kill()
            raise
        assert self.exit_code is not None
        return self.exit_code

    def kill(self) -> None:
        """`kill -9`, and wait for the kernel to have done it."""
        self.send(signal.SIGKILL)
        assert self._process
        self._process.wait(10)

    def pause(self) -> None:
        """Freeze the process."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        self.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        """A signal to the process, if it runs."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self.kill()
        if error is not None:
            error.add_note(f"--- the gateway said ---\n{self.log()}")

    # -- what it knows ----------------------------------------------------------------------------------------------

    def log(self, last: int = 60) -> str:
        """The end of its standard output and error."""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-last:])

    async def admin(self, path: str, method: str = "GET", **more: Any) -> httpx.Response:
        """One call of the admin API, with the token of the profile if there is one."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with httpx.AsyncClient(base_url=self.admin_url, headers=headers, timeout=10) as client:
            return await client.request(method, path, **more)

    async def inject(self, *rules: Mapping[str, Any]) -> None:
        """These faults from now on, in place of all others, at the upstream unless they say so; none: peace."""
        wanted = [{"at": "upstream", **rule} for rule in rules]
        (await self.admin("/faults", "PUT", json={"rules": wanted, "seed": 1})).raise_for_status()

    async def fired(self) -> int:
        """How often those faults have acted."""
        rules = (await self.admin("/faults")).json()["rules"]
        return sum(rule["fired"] for rule in rules)

    async def captures(self, *filters: str) -> list[dict[str, Any]]:
        """`holdfast captures list --json`, which works on a dead gateway too."""
        done = await self.cli("captures", "list", "--json", *filters)
        listed: list[dict[str, Any]] = json.loads(done)
        return listed

    async def exported(self) -> dict[str, dict[str, Any]]:
        """Every envelope in the outbox by its id, through `holdfast captures export`."""
        lines = (await self.cli("captures", "export")).splitlines()
        return {envelope["id"]: envelope for envelope in map(json.loads, lines)}

    async def cli(self, *args: str) -> bytes:
        """Standard output of a subcommand that takes `--profile`; fails the test unless it exits with 0."""
        code, out, err = await run_cli(*args, "--profile", self.profile, cwd=self.folder, env=self.env)
        assert code == 0, f"holdfast {' '.join(args)} exited with {code}:\n{err}"
        return out.encode()

    async def metrics(self) -> dict[tuple[str, ...], float]:
        """The samples of /metrics: (name, label=value, ...) with the labels in alphabetical order."""
        text = (await self.admin("/metrics")).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {(s.name, *(f"{k}={v}" for k, v in sorted(s.labels.items()))): s.value for s in samples}

    def memory(self) -> int:
        """Resident bytes of the process."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    def peak_memory(self) -> int:
        """The most resident bytes it ever had."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    # -- parts ------------------------------------------------------------------------------------------------------

    def command(self) -> list[str]:
        """The command line of this front end."""
        if self.front == "run":
            own = ["run", "--profile", self.profile]
            if not self.profile.startswith(str(self.folder)):  # otherwise it is ours, and says it itself
                own += ["--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin_port}"]
                own += ["--upstream", self.upstream]
            return [sys.executable, "-m", "holdfast", *own, *self.args]
        tool = str(Path(sys.executable).parent / self.front)
        options = ["-s", str(MAIN), "--set", f"holdfast={self.profile}", "--mode", f"reverse:{self.upstream}"]
        options += ["--listen-host", "127.0.0.1", "--listen-port", str(self.port)]
        if self.front == "mitmweb":
            options += ["--no-web-open-browser", "--web-port", str(self.web_port)]
            options += ["--set", f"web_password={self.web_password}"]
        return [tool, *options, *self.args]

    def _environment(self) -> dict[str, str]:
        return environment(self.folder, self.env)

    def _write(self, made: Mapping[str, Any] | Path | str) -> str:
        if not isinstance(made, Mapping):
            return str(made)
        whole = copy.deepcopy(dict(made))
        whole.setdefault("listen", f"127.0.0.1:{self.port}")
        admin = whole.setdefault("admin", {})
        if isinstance(admin, dict):
            admin.setdefault("listen", f"127.0.0.1:{self.admin_port}")
            self.token = admin.get("token", "")
        path = self.folder / "profile.yaml"
        path.write_text(yaml.safe_dump(whole, sort_keys=False))
        return str(path)


def environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours for a child process: the source root and the test's folder on the path, nothing of the caller's profile.

    But for `HOLDFAST_ENGINE`, so that everything can be tested in another mode. Nor a wish of the caller's to keep no
    bytecode: to compile everything anew doubles the time that a start takes.
    """
    left_out = ("HOLDFAST_", "PYTHONDONTWRITEBYTECODE")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(left_out) or k == "HOLDFAST_ENGINE"}
    path = os.pathsep.join([str(ROOT / "addons"), str(folder)])
    return {**inherited, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(more or {})}


async def run_cli(*args: str, cwd: Path, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """`holdfast ARGS`: exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "holdfast",
        *args,
        cwd=cwd,
        env=environment(cwd, env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def accepts(port: int) -> bool:
    """Whether somebody listens on this port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
