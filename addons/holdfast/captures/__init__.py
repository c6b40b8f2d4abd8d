"""What people and clients see of captures: one entry for each, of the outbox and the audit store together.

The words for where a capture stands, wherever somebody is told:

    pending     it is to be sent: it waits for the upstream, for its time, or for an older one of its key
    published   it was handed to the broker, and no replayer has seen it yet
    delivered   a replay was answered as it should be
    dead        given up by the rules; or damaged, or refused by the broker
    parked      it failed again after a person had had it sent again
    discarded   a person has given it up

Where both know a capture, the audit store is right: an outbox only knows what it has to do with a record.

    merging     the words of the two stores, as these
    view        lists, and one capture with all there is of it
    redriving   having captures sent again
    preparing   the request that a person sends by hand
    documents   all of it as JSON
    opening     the stores that a profile names
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from holdfast.policy.since import parse_since

State = Literal["pending", "published", "delivered", "dead", "parked", "discarded"]
STATES: tuple[State, ...] = get_args(State)
GIVEN_UP: tuple[State, ...] = ("dead", "parked")
# The stores' own words, for those who know them: in filters they mean these.
_OTHER_WORDS: dict[str, tuple[State, ...]] = {
    "open": ("pending",),
    "sent": ("published", "delivered"),
    "quarantined": ("dead",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """`status` is of the last answer: a replay's, or else the one that it was captured for. Times in epoch seconds.

    `error` says why it was captured, `last_error` why the last replay had no answer. `known`: to the audit store.
    """

    id: str
    captured: float
    state: State
    route: str
    method: str
    path: str
    error: str
    status: int | None
    reason: str = ""
    attempts: int = 0
    last_error: str | None = None
    due: float | None = None  # when it is sent next, if it is pending and that is known
    settled: float | None = None
    redrive: int = 0  # how often a person has had it sent again
    key: str = ""
    known: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a list or an action may choose by; all that are given must hold. Times in epoch seconds."""

    route: str | None = None
    error: str | None = None  # why it was captured
    status: int | None = None  # of the last answer
    states: frozenset[State] | None = None
    since: float | None = None  # captured at or after
    until: float | None = None  # captured before
    key: str | None = None


def parse_states(words: Iterable[str]) -> frozenset[State] | None:
    """One or several, each possibly with commas between; None where there are none. ValueError names the right ones."""
    found: set[State] = set()
    for word in (each.strip() for text in words for each in text.split(",")):
        if word in STATES:
            found.add(word)
        elif word in _OTHER_WORDS:
            found.update(_OTHER_WORDS[word])
        elif word:
            raise ValueError(f"{word!r} is no state: it is one of {', '.join(STATES)}")
    return frozenset(found) or None


def parse_choice(given: Mapping[str, str], now: float) -> Choice:
    """From the words of a filter. `now` in epoch seconds. ValueError, saying what to write."""
    return Choice(
        route=given.get("route"),
        error=given.get("error"),
        key=given.get("key"),
        status=parse_whole("status", given["status"]) if given.get("status") else None,
        states=parse_states([given.get("state", "")]),
        since=parse_since(given["since"], now) if given.get("since") else None,
        until=parse_since(given["until"], now) if given.get("until") else None,
    )


def parse_whole(name: str, text: str) -> int:
    """A whole number from 0 on; ValueError otherwise."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{name} is a whole number, not {text!r}")
    return int(text)
