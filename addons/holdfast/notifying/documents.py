"""The JSON that is sent out: `type`, `timestamp` and `data`, as Standard Webhooks recommends.

Nothing of a request is in it but its method, its path without the query, and the names that Holdfast gives.
"""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from typing import Any

from holdfast.gateway import Settled
from holdfast.policy.envelope import UpstreamAnswer
from holdfast.policy.notices import Notice, NoticeType
from holdfast.policy.trace_context import parse_traceparent

TYPES: dict[NoticeType, str] = {
    "failing": "holdfast.route.failing",
    "dead_letter": "holdfast.capture.dead_letter",
    "recovered": "holdfast.route.recovered",
}


def notice_document(notice: Notice, ahead: float, gateway: str) -> bytes:
    """`ahead` is how far the wall clock is ahead of the clock of the notice, `gateway` this host's name."""
    trouble, parent = notice.trouble, parse_traceparent(notice.trouble.traceparent)
    data: dict[str, Any] = {
        "route": notice.route,
        "fate": trouble.fate,
        "error": trouble.error,
        "reason": trouble.reason,
        "capture_ids": list(notice.capture_ids),
        "trace_id": parent.trace_id if parent else None,
        "traceparent": str(parent) if parent else None,
        "since": rfc3339(notice.since + ahead),
    }
    counts: dict[str, int | None] = {"suppressed": notice.suppressed}
    if notice.type == "dead_letter":
        counts["dead"] = notice.dead
        data |= {"attempts": trouble.attempts, "status": trouble.status, "last_error": trouble.last_error}
    else:
        counts |= {"captured": notice.captured, "failed": notice.failed, "unsettled": notice.unsettled}
    if notice.type == "recovered":
        data["lasted_seconds"] = round(notice.at - notice.since, 3)
    data |= {"counts": counts, "command": command_of(notice), "gateway": gateway}
    return _encoded(TYPES[notice.type], notice.at + ahead, data)


def command_of(notice: Notice) -> str:
    """What to type next: dead letters are replayed, of a route's captures there is first a list."""
    if notice.type == "dead_letter":
        return shlex.join(["holdfast", "captures", "replay", *notice.capture_ids])
    return shlex.join(["holdfast", "captures", "list", "--route", notice.route])


def outcome_document(settled: Settled, answer: UpstreamAnswer | None) -> bytes:
    """What became of a capture; with the answer to its replay, if there is one to be told."""
    data: dict[str, Any] = {
        "id": settled.id,
        "outcome": settled.outcome,
        "reason": settled.reason,
        "status": settled.status,
        "attempts": settled.attempts,
        "captured_at": rfc3339(settled.captured),
        "settled_at": rfc3339(settled.settled),
        "route": settled.route,
        "method": settled.method,
        "path": settled.path,
        "redrive": settled.redrive,
    }
    if answer:
        data["answer"] = {
            "status": answer.status,
            "headers": answer.headers,
            "body": answer.body,
            "body_encoding": answer.body_encoding,
            "body_truncated": answer.body_truncated,
        }
    return _encoded(f"holdfast.capture.{settled.outcome}", settled.settled, data)


def rfc3339(moment: float) -> str:
    """Epoch seconds as RFC 3339 has it, in UTC, to the millisecond."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _encoded(type_: str, moment: float, data: dict[str, Any]) -> bytes:
    whole = {"type": type_, "timestamp": rfc3339(moment), "data": data}
    return json.dumps(whole, separators=(",", ":")).encode()
