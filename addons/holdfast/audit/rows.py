"""What the tables hold: the order of the columns, and how texts, header fields and messages are spelt in them.

Texts. PostgreSQL has no NUL in a text and neither store takes a lone surrogate, yet a key or a path may have both. So
these are written as U+001A and four hexadecimal digits, and so is U+001A itself; everything else stands as it is.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from holdfast.audit import Arrival, AttemptLog, Callback, DeadLetter, Entry, State, outcome_id
from holdfast.policy.wire import HeaderMap

HELD = (
    *("seq", "id", "key", "status", "state", "reason", "redrive", "attempts", "due", "place", "owner"),
    *("claim_until", "last_status", "last_error", "settled_at"),
)
CHANGING = HELD[4:]
ARRIVING = (
    *("id", "lane", "key", "route", "method", "path", "error", "captured", "arrived", "status", "traceparent"),
    *("redrive", "due", "owner", "claim_until"),
)
ENTRY = (
    *("id", "key", "route", "method", "path", "error", "captured", "arrived", "status", "state", "reason", "attempts"),
    *("due", "place", "owner", "claim_until", "settled_at", "redrive", "last_status", "last_error", "traceparent"),
)
LOG = (
    *("event_id", "at", "kind", "owner", "server", "error", "status", "duration_ms", "headers", "body"),
    *("body_truncated", "traceparent", "outcome", "reason", "effective"),
)
ATTEMPT = LOG[1:2] + LOG[4:12]
PROCESSED = ("event_id", "outcome", "reason", "processed_at", "attempts", "status")
LETTER = ("event_id", "message_key", "value", "headers")
QUEUED = ("event_id", "redrive", "url", "document", "due")
CALLBACK = ("id", "event_id", "redrive", "url", "document", "tries")

_ODD = re.compile("[\x00\x1a\ud800-\udfff]")
_SPELT = re.compile("\x1a([0-9a-f]{4})")


@dataclass(slots=True)
class Held:
    """What decides of a capture: the columns `HELD`. `settled_at` is None while it is open; epoch seconds."""

    seq: int
    id: str
    key: str
    status: int | None
    state: State = "open"
    reason: str = ""
    redrive: int = 0
    attempts: int = 0
    due: float = 0.0
    place: str = ""
    owner: str = ""
    claim_until: float = 0.0
    last_status: int | None = None
    last_error: str | None = None
    settled_at: float | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of `audit_log`: what happened (`kind`), when, and whether it has changed anything (`effective`)."""

    id: str
    at: float
    kind: str
    owner: str = ""
    attempt: AttemptLog | None = None
    outcome: str = ""
    reason: str = ""
    effective: bool = True
    error: str | None = None
    status: int | None = None


def stored(text: str) -> str:
    """A text as both stores can hold it; two that differ stay different."""
    return _ODD.sub(lambda odd: f"\x1a{ord(odd[0]):04x}", text) if _ODD.search(text) else text


def loaded(text: str) -> str:
    """The way back from `stored`."""
    return _SPELT.sub(lambda spelt: chr(int(spelt[1], 16)), text) if "\x1a" in text else text


def _stored(text: str | None) -> str | None:
    return None if text is None else stored(text)


def _loaded(text: str | None) -> str | None:
    return None if text is None else loaded(text)


def lane(key: str) -> int:
    """A signed 64-bit number in the place of a key, for indices and locks: keys may be too long for either."""
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), signed=True)


# --- what is written ---


def arriving(arrival: Arrival, held: Held, now: float) -> tuple[Any, ...]:
    """A row of `captures` that is new, by `ARRIVING`."""
    return (
        stored(arrival.id),
        lane(arrival.key),
        *map(stored, (arrival.key, arrival.route, arrival.method, arrival.path, arrival.error)),
        arrival.captured,
        now,
        arrival.status,
        stored(arrival.traceparent),
        held.redrive,
        held.due,
        stored(held.owner),
        held.claim_until,
    )


def changing(held: Held) -> tuple[Any, ...]:
    """What may change of a row of `captures`, by `CHANGING`, and its `seq` behind that."""
    return (
        held.state,
        stored(held.reason),
        held.redrive,
        held.attempts,
        held.due,
        stored(held.place),
        stored(held.owner),
        held.claim_until,
        held.last_status,
        _stored(held.last_error),
        held.settled_at,
        held.seq,
    )


def logged(line: LogLine) -> tuple[Any, ...]:
    """A row of `audit_log`, by `LOG`."""
    attempt = line.attempt
    told = (line.outcome, stored(line.reason), line.effective)
    if attempt is None:
        begin = (stored(line.id), line.at, line.kind, stored(line.owner), "", _stored(line.error), line.status)
        return (*begin, 0.0, "", b"", False, "", *told)
    return (
        *(stored(line.id), attempt.at, line.kind, stored(line.owner), stored(attempt.server), _stored(attempt.error)),
        *(attempt.status, attempt.duration_ms, header_text(attempt.headers), attempt.body, attempt.body_truncated),
        *(stored(attempt.traceparent), *told),
    )


def processed(held: Held) -> tuple[Any, ...]:
    """A row of `processed_events`, by `PROCESSED`."""
    status = held.status if held.last_status is None else held.last_status
    return stored(held.id), held.state, stored(held.reason), held.settled_at, held.attempts, status


def lettered(letter: DeadLetter) -> tuple[Any, ...]:
    """A row of `dead_letters`, by `LETTER`: names and values of the header as JSON, the values in base64."""
    headers = [(name, base64.b64encode(value).decode("ascii")) for name, value in letter.headers]
    return stored(letter.id), stored(letter.key), letter.value, json.dumps(headers)


def queued(held: Held, callback: tuple[str, bytes], now: float) -> tuple[Any, ...]:
    """A row of `callbacks` that is new, by `QUEUED`, for the outcome that the capture has now."""
    url, document = callback
    return stored(held.id), held.redrive, stored(url), document, now


def header_text(headers: HeaderMap) -> str:
    """Header fields as JSON in ASCII; nothing for none."""
    return json.dumps(dict(headers)) if headers else ""


# --- what is read ---


def held_of(row: Any) -> Held:
    """From a row of `HELD`."""
    seq, id_, key, status, state, reason, redrive, attempts, due, place, owner, until, last, error, settled = row
    return Held(
        *(seq, loaded(id_), loaded(key), status, state, loaded(reason), redrive, attempts, due, loaded(place)),
        *(loaded(owner), until, last, _loaded(error), settled),
    )


def entry_of(row: Any, now: float) -> Entry:
    """From a row of `ENTRY`. Whose claim has run out is no owner any more."""
    told = dict(zip(ENTRY, row, strict=True))
    until, settled = told.pop("claim_until"), told.pop("settled_at")
    for name, value in told.items():
        if isinstance(value, str):
            told[name] = loaded(value)
    told["owner"] = told["owner"] if until > now else ""
    return Entry(**told, settled=settled)


def attempt_of(row: Any) -> AttemptLog:
    """From a row of `ATTEMPT`."""
    at, server, error, status, duration, headers, body, truncated, traceparent = row
    return AttemptLog(
        at=at,
        server=loaded(server),
        error=_loaded(error),
        status=status,
        duration_ms=duration,
        headers=_headers_of(headers),
        body=bytes(body),
        body_truncated=bool(truncated),
        traceparent=loaded(traceparent),
    )


def _headers_of(text: str) -> HeaderMap:
    if not text:
        return {}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()}


def letter_of(row: Any) -> DeadLetter:
    """From a row of `LETTER`."""
    capture_id, key, value, headers = row
    fields = tuple((name, base64.b64decode(text)) for name, text in json.loads(headers))
    return DeadLetter(loaded(capture_id), loaded(key), bytes(value), fields)


def callback_of(row: Any) -> Callback:
    """From a row of `CALLBACK`."""
    id_, event_id, redrive, url, document, tries = row
    return Callback(id_, outcome_id(loaded(event_id), redrive), loaded(url), bytes(document), tries)
