"""Python's garbage collector and the start.

While modules are loaded next to nothing is garbage, and looking for it again and again takes a tenth of the start. What
has been loaded then stays: it is put aside, so that no later search goes over it. `HOLDFAST_ENGINE=plain` leaves the
collector alone.
"""

from __future__ import annotations

import gc
import os
import sys


def pause() -> None:
    """At the very beginning of a start; a script that is loaded again by mitmproxy begins none."""
    if os.environ.get("HOLDFAST_ENGINE") != "plain" and "holdfast.loader" not in sys.modules:
        gc.disable()


def resume() -> None:
    """The start is over: clients are served."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
