"""Captures as documents, the same from the command line and from the control surface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from holdfast.audit import AttemptLog
from holdfast.captures import Capture
from holdfast.captures.view import Message
from holdfast.errors import PoisonRecord
from holdfast.policy.envelope import CapturedRequest, from_json
from holdfast.policy.wire import HeaderMap, encode_body, first_value

_ANSWER_FIELDS = ("status", "headers", "body", "body_encoding", "body_truncated")


def summary(capture: Capture) -> dict[str, Any]:
    """What a list shows. Times in epoch seconds."""
    return {
        "id": capture.id,
        "captured": capture.captured,
        "state": capture.state,
        "reason": capture.reason,
        "route": capture.route,
        "method": capture.method,
        "path": capture.path,
        "error": capture.error,
        "status": capture.status,
        "attempts": capture.attempts,
        "last_error": capture.last_error,
        "due": capture.due,
        "settled": capture.settled,
        "redrive": capture.redrive,
    }


def whole(capture: Capture, message: Message | None, attempts: Sequence[AttemptLog]) -> dict[str, Any]:
    """All of it. `request` is the envelope, or null where it is not kept any more; `replays` are oldest first."""
    request = json.loads(message.value) if message else None
    return summary(capture) | {"key": capture.key, "request": request, "replays": [attempt(each) for each in attempts]}


def attempt(log: AttemptLog) -> dict[str, Any]:
    """One replay; `answer` is null where there was none."""
    return {
        "at": log.at,
        "server": log.server,
        "error": log.error,
        "status": log.status,
        "duration_ms": log.duration_ms,
        "answer": None if log.status is None else answer(log.status, log.headers, log.body, log.body_truncated),
    }


def answer(status: int, headers: HeaderMap, body: bytes, truncated: bool) -> dict[str, Any]:
    """As the envelope has the upstream's last answer."""
    text, encoding = encode_body(body, first_value(headers, "content-type"))
    return dict(zip(_ANSWER_FIELDS, (status, dict(headers), text, encoding, truncated), strict=True))


def readable(message: Message | None) -> CapturedRequest | None:
    """The envelope; None where there is none that can be read."""
    try:
        return from_json(message.value) if message else None
    except PoisonRecord:
        return None
