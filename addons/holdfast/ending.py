"""How a gateway that must not serve ends itself."""

from __future__ import annotations

import sys
from typing import NoReturn


def end_process(message: str, status: int) -> NoReturn:
    """Say why on standard error and leave.

    SystemExit passes through mitmproxy's isolation of addons, where any other exception would be logged and the proxy
    would serve on without its chain.
    """
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
    sys.exit(status)
