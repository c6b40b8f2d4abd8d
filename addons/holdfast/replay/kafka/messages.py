"""A message of Kafka as the replayer sees it: the capture that it names, or what is wrong with it. Pure.

Header fields of messages that Holdfast reads and writes:

    holdfast-id       the capture's id, from the gateway
    holdfast-due      in topics of retries: not before this moment (epoch seconds)
    holdfast-redrive  how often a person has had it sent again
    holdfast-reason, holdfast-topic, holdfast-partition, holdfast-offset
                      of a dead letter: why, and where it was
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from holdfast.audit import Arrival
from holdfast.errors import PoisonRecord
from holdfast.policy.envelope import CapturedRequest, from_json
from holdfast.policy.trace_context import parse_traceparent

type RawHeaders = Sequence[tuple[str, bytes | None]]  # as Kafka has them: a value may be null

ID, DUE, REDRIVE, REASON = "holdfast-id", "holdfast-due", "holdfast-redrive", "holdfast-reason"
TOPIC, PARTITION, OFFSET = "holdfast-topic", "holdfast-partition", "holdfast-offset"
_SECONDS = re.compile(rb"\d{1,12}(?:\.\d{1,9})?")
_COUNT = re.compile(rb"\d{1,9}")


def read_arrival(key: bytes | None, value: bytes | None, headers: RawHeaders) -> Arrival:
    """The capture. PoisonRecord says what is wrong, without a word of the contents."""
    try:
        record = from_json(value or b"")
    except PoisonRecord:
        raise
    except Exception as error:  # whatever is in a topic must not stop a replayer
        raise PoisonRecord(f"the record cannot be read: {type(error).__name__}") from error
    if any(each != record.id.encode() for each in _values(headers, ID)):
        raise PoisonRecord(f"the header {ID} is not the id of the record")
    return Arrival(
        id=record.id,
        key=_key(key, record),
        route=plain(record.route),
        method=plain(record.method),
        path=plain(record.path),
        error=plain(record.error),
        captured=record.timestamp,
        status=record.response.status if record.response else None,
        traceparent=_traceparent(headers),
        redrive=_redrive(headers),
    )


def due_of(headers: RawHeaders) -> float:
    """Epoch seconds; 0 where the header says nothing that can be understood, which is: now."""
    found = _values(headers, DUE)
    return float(found[-1]) if found and _SECONDS.fullmatch(found[-1]) else 0.0


def with_changes(headers: RawHeaders, changes: Iterable[tuple[str, bytes | None]]) -> list[tuple[str, bytes | None]]:
    """All that were there, those named anew replaced."""
    added = list(changes)
    names = {name for name, _ in added}
    return [*((name, value) for name, value in headers if name not in names), *added]


def due_header(due: float) -> tuple[str, bytes]:
    """The header for a moment in epoch seconds."""
    return DUE, f"{max(due, 0.0):.3f}".encode()


def text_header(name: str, text: str) -> tuple[str, bytes]:
    """Any text at all."""
    return name, text.encode("utf-8", "backslashreplace")


def plain(text: str) -> str:
    """Text that every store takes: without halves of surrogate pairs and NUL, which JSON may bring."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _key(key: bytes | None, record: CapturedRequest) -> str:
    return plain(record.path if key is None else key.decode("utf-8", "backslashreplace"))


def _values(headers: RawHeaders, name: str) -> list[bytes]:
    return [value or b"" for each, value in headers if each == name]


def _traceparent(headers: RawHeaders) -> str:
    for value in _values(headers, "traceparent"):
        text = value.decode("latin-1")
        if parse_traceparent(text):
            return text
    return ""


def _redrive(headers: RawHeaders) -> int:
    found = _values(headers, REDRIVE)
    if not found:
        return 0
    if not _COUNT.fullmatch(found[-1]):
        raise PoisonRecord(f"the header {REDRIVE} is not a number")  # as 0 it would pass for a duplicate, and be gone
    return int(found[-1])
