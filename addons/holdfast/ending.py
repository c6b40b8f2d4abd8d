"""How a gateway that must not serve ends itself."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def end_process(message: str, status: int) -> NoReturn:
    """Say why on standard error and be gone.

    mitmproxy logs whatever an addon raises and serves on without it, and SystemExit out of a running event loop leaves
    a page of traces from connections that came early. Nothing is lost by an end without ceremony: what the outbox has
    taken is on the disk.
    """
    sys.stdout.flush()
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
    os._exit(status)
