"""When a worker that has ended is started again. Times are seconds; nothing is remembered here.

The first time at once; one that ends again and again waits longer each time, so that a worker which cannot live costs
the others no processor. While no other serves, nobody waits for long.
"""

from __future__ import annotations

STEADY = 60.0  # one that has lived for so long has not failed
FIRST, LONGEST, ALONE = 1.0, 30.0, 1.0


def failures_after(before: int, lived: float) -> int:
    """How often in a row it has ended early, after an end once it had lived for `lived` seconds."""
    return 1 if lived >= STEADY else before + 1


def pause_before(failures: int, *, others_serve: bool) -> float:
    """How long to wait before it is started again."""
    if failures <= 1:
        return 0.0
    wanted = min(LONGEST, FIRST * 2.0 ** min(failures - 2, 16))
    return wanted if others_serve else min(ALONE, wanted)
