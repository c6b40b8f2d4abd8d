"""Where mistakes are made on purpose: a folder, an environment without surprises, and whatever has to be stopped again.

`doctor` and `check` are called as the command line calls them, in this process: most of a run is importing mitmproxy.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast.doctor.examining import examine
from holdfast.doctor.finding import Finding
from holdfast.testing import self_signed
from tests.services.process import free_port


@dataclass
class Bench:
    """One mistake's place. `fixture` gets a real server when it is needed, and skips where there is none."""

    folder: Path
    request: pytest.FixtureRequest
    patch: pytest.MonkeyPatch
    stack: ExitStack
    env: dict[str, str] = field(default_factory=dict)

    def fixture(self, name: str) -> Any:
        return self.request.getfixturevalue(name)

    def profile(self, *addons: object, **top: Any) -> Path:
        """A file with these addons and keys; free ports, and an upstream that nobody asks for anything."""
        made = {"version": 1, "listen": f"127.0.0.1:{free_port()}", "admin": {"listen": None}, "upstream": {}, **top}
        made["upstream"] = {"servers": [f"http://127.0.0.1:{free_port()}"], **made["upstream"]}
        return self.text(yaml.safe_dump({**made, "addons": list(addons)}, sort_keys=False))

    def text(self, text: str) -> Path:
        file = self.folder / "profile.yaml"
        file.write_text(text)
        file.chmod(0o600)
        return file

    def sink(self, **settings: Any) -> dict[str, Any]:
        return {"failure_sink": {"outbox": str(self.folder / "outbox.db"), **settings}}

    def server(self, *, tls: bool = False, hang: bool = False, ahead: float = 0.0) -> int:
        """The port of an HTTP server whose clock may be ahead."""
        return self.stack.enter_context(_serving(tls=tls, hang=hang, ahead=ahead))

    def listener(self) -> int:
        """The port of a socket that somebody else listens on."""
        taken = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port: int = taken.getsockname()[1]
        return port

    def doctor(self, profile: Path | str) -> list[Finding]:
        home = {"HOME": str(self.folder), "PATH": "/usr/bin:/bin"}
        return examine(str(profile), {**home, **self.env})


def matches(told: str, said: str) -> bool:
    """Whether this was said: `…` stands for anything, blanks and line ends for each other."""
    pattern = ".*?".join(re.escape(part.strip()) for part in " ".join(told.split()).split("…"))
    return re.search(pattern.replace(r"\ ", r"\s+").replace(".*?", r"\s*.*?\s*"), " ".join(said.split())) is not None


def sentence(finding: Finding) -> str:
    """As the table writes it."""
    return f"{finding.found} → {finding.advice}"


@contextlib.contextmanager
def _serving(*, tls: bool, hang: bool, ahead: float) -> Iterator[int]:
    released = threading.Event()

    class Answers(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            if hang:
                released.wait(10)
            self.send_response(200)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((timestamp or time.time()) + ahead)

        def log_message(self, *_: object) -> None: ...

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None: ...

    server = Quiet(("127.0.0.1", 0), Answers)
    if tls:
        server.socket = self_signed().server_context().wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        released.set()
        server.shutdown()
        server.server_close()
