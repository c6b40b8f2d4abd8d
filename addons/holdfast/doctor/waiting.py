"""Waiting for what has no time limit of its own, such as the look-up of a name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def in_time(ask: Callable[[], Any], seconds: float) -> Any:
    """What it returns or raises; TimeoutError after that time, and then it goes on by itself."""
    answers: list[Any] = []
    errors: list[Exception] = []

    def asked() -> None:
        try:
            answers.append(ask())
        except Exception as error:  # noqa: BLE001 # it is raised where somebody waits for it
            errors.append(error)

    thread = threading.Thread(target=asked, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return answers[0]
