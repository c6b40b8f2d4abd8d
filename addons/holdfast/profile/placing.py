"""Where addons belong in a chain, and which are of no use without another. Pure: one table, read from top to bottom.

An addon of somebody else's (`use: package.module:Class`) may be anything, so nothing is said about it, nor about what
it might stand for.
"""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.profile.entries import path_of
from holdfast.profile.settings import AddonEntry

# (the addon, those it belongs before, why)
BEFORE: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "router",
        ("tracing", "cache", "surrogate", "interceptor"),
        "what stands before it does not know the route while the header of a request arrives",
    ),
    (
        "cache",
        ("surrogate",),
        "the tags are for what the cache stores",
    ),
    (
        "cache",
        ("interceptor", "failure_sink"),
        "a failed request is captured, and answered 503, before the cache can answer it with what it has stored",
    ),
    (
        "cache",
        ("understudy",),
        "what the cache may answer, fresh or stale, is better than a recording",
    ),
    (
        "tracing",
        ("interceptor",),
        "the span of a request ends by what becomes of it there",
    ),
    (
        "interceptor",
        ("failure_sink",),
        "it decides what is stored there",
    ),
    (
        "replayer",
        ("failure_sink",),
        "at a stop the outbox is closed before what is on its way is settled, and that is sent again after the start",
    ),
)
# (the addon, those of which it needs one, what happens without, what to do)
NEEDS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    (
        "interceptor",
        ("failure_sink",),
        "failed requests are answered 503, and lost: nothing stores them",
        "add `- failure_sink` behind it",
    ),
    (
        "failure_sink",
        ("interceptor",),
        "it stores nothing: nothing decides which requests have failed",
        "add `- interceptor` before it",
    ),
    ("replayer", ("failure_sink",), "there is nothing to replay: nothing is stored", "add `- failure_sink` behind it"),
    (
        "surrogate",
        ("cache",),
        "its tags are of no use: nothing is stored that they could purge",
        "add `- cache` before it, or take it out",
    ),
)


def misplaced(addons: Sequence[AddonEntry]) -> list[tuple[str, str, str]]:
    """(path, what is wrong, what to do) of each addon that stands where it makes no sense."""
    places = {entry.target: number for number, entry in enumerate(addons)}
    names = {entry.target: entry.name for entry in addons}
    found = []
    for addon, others, why in BEFORE:
        overtaken = [each for each in others if each in places and addon in places and places[each] < places[addon]]
        if overtaken:
            first = min(overtaken, key=lambda each: places[each])
            told = f"stands behind `{names[first]}`: {why}"
            found.append((path_of(names[addon]), told, f"move it up, before `{names[first]}`"))
    if any(":" in entry.target for entry in addons):
        return found  # which may be what is missing
    for addon, others, what, advice in NEEDS:
        if addon in places and not any(each in places for each in others):
            found.append((path_of(names[addon]), what, advice))
    return found
