"""The terminal: another screen while the view is shown, keys without Enter, and all as it was when it ends."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from types import FrameType, TracebackType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.live import Live


class Screen:
    """Enter it, show frames, ask for keys. However it is left (an error, SIGTERM, Ctrl-Z), the terminal is put back."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(
            console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._keys = sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None
        self._modes: list[Any] = []
        self._before: dict[signal.Signals, Any] = {}
        self._suspended = False

    def __enter__(self) -> Self:
        for number, act in ((signal.SIGTERM, _end), (signal.SIGHUP, _end), (signal.SIGTSTP, self._suspend)):
            self._before[number] = signal.signal(number, act)
        self._take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._give_back()
        for number, act in self._before.items():
            signal.signal(number, act)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now."""
        return self._console.size.width, self._console.size.height

    @property
    def takes_keys(self) -> bool:
        return self._keys is not None

    def show(self, renderable: RenderableType) -> None:
        """In place of what is shown."""
        self._live.update(renderable, refresh=True)

    def key(self, within: float) -> str:
        """The key pressed within so many seconds, empty if none was."""
        if self._suspended:
            self._sleep()
        if self._keys is None:
            time.sleep(within)
            return ""
        if not select.select([self._keys], [], [], within)[0]:
            return ""
        # The terminal is gone where there is nothing to read.
        return os.read(self._keys, 64).decode("utf-8", "replace") or "q"

    # -- parts ------------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        if self._keys is not None:
            self._modes = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)
        self._live.start(refresh=True)

    def _give_back(self) -> None:
        try:
            self._live.stop()
        finally:
            if self._keys is not None and self._modes:
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._modes)

    def _suspend(self, _number: int, _frame: FrameType | None) -> None:
        self._suspended = True  # the signal may come in the middle of a frame

    def _sleep(self) -> None:
        """Ctrl-Z: the shell gets its terminal, and `fg` brings the view back."""
        self._suspended = False
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
