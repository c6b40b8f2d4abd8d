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
    if not _is_plain() and "holdfast.loader" not in sys.modules:
        gc.disable()


def resume() -> None:
    """The start is over: clients are served."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def before_forks() -> None:
    """What is there now is the same for all workers: nobody need look at it again, and so copy it."""
    if not _is_plain():
        gc.collect()
        gc.freeze()
        gc.enable()


def in_worker() -> None:
    """The start of a worker, as of any gateway."""
    if not _is_plain():
        gc.disable()


def _is_plain() -> bool:
    return os.environ.get("HOLDFAST_ENGINE") == "plain"
