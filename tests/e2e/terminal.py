"""A command on a terminal of its own: what it writes, the keys it gets, and what it leaves behind."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.harness import environment, until
from tests.services.process import leash

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"  # the alternate screen
_CONTROL = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]|\x1b[()][A-Z0-9]|\x1b[=>]|[\x0e\x0f]")
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"  # the cursor


class Terminal:
    """`holdfast ARGS`, or another program with its arguments, in a terminal of this size.

    `written` is all that it has written.
    """

    def __init__(
        self,
        folder: Path,
        *args: str,
        size: tuple[int, int] = (100, 30),
        program: Sequence[str] = (sys.executable, "-m", "holdfast"),
        **env: str,
    ) -> None:
        self.written = b""
        self._pressed = 0
        self._master, self._slave = pty.openpty()
        self.resize(*size)
        self.modes = termios.tcgetattr(self._slave)
        variables: Mapping[str, str] = environment(folder, {"TERM": "xterm-256color", **env})
        self._process = subprocess.Popen(
            [*leash(), "setsid", "--ctty", *program, *args],
            cwd=folder,
            env={k: v for k, v in variables.items() if k not in ("COLUMNS", "LINES")},
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
        )
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def _read(self) -> None:
        self.written += os.read(self._master, 1 << 16)

    def resize(self, columns: int, lines: int) -> None:
        """As a person does by dragging the window."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        self._pressed = len(self.written)
        os.write(self._master, keys.encode())

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    async def shows(self, text: str, within: float = 20.0) -> None:
        """Wait until the newest frame has this text."""
        await until(lambda: text in self.frame(), within=within, what=f"{text!r} on the terminal")

    async def writes(self, text: str, within: float = 20.0) -> None:
        """Wait until it has written this since the last key, for what draws in places and not in frames."""
        await until(lambda: text in self.plain(), within=within, what=f"{text!r} on the terminal")

    def plain(self) -> str:
        """What it has written since the last key, without colours and movements."""
        return _CONTROL.sub("", self.written[self._pressed :].decode("utf-8", "replace"))

    def frame(self) -> str:
        """The newest whole frame, without colours."""
        frames = self.written.decode("utf-8", "replace").split("\x1b[H")
        return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", frames[-2] if len(frames) > 1 else "")

    async def ended(self, within: float = 10.0) -> int:
        """Its exit code; what it has written is complete then."""
        code: Any = await asyncio.wait_for(asyncio.to_thread(self._process.wait), within)
        await asyncio.sleep(0.05)
        return int(code)

    def modes_now(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        if self._process.poll() is None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        os.close(self._master)
        os.close(self._slave)
        if error is not None:
            error.add_note(f"--- on the terminal ---\n{self.written[-4000:]!r}")
