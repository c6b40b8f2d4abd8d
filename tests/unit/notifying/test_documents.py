"""notifying.documents: what is sent out, to the last key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.audit import outcome_id
from holdfast.gateway import Settled
from holdfast.notifying.documents import notice_document, outcome_document, rfc3339
from holdfast.policy.envelope import UpstreamAnswer
from holdfast.policy.notices import Notice, Trouble

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WALL = 1_700_000_000.0
ID = "0199e0c2-7c1e-7d3a-9c55-0d1f5a2b6c7d"

SETTLED = Settled(
    id=ID,
    key="/api/users/1",
    route="user",
    method="PUT",
    path="/api/users/1",
    error="connection_refused",
    captured=WALL,
    outcome="delivered",
    reason="status",
    attempts=3,
    status=201,
    last_error=None,
    settled=WALL + 61.5,
    redrive=2,
    traceparent=TRACE,
)


def told(type_: Any, trouble: Trouble, **more: Any) -> dict[str, Any]:
    """The document of a notice at 100 on a clock that the wall clock is WALL ahead of."""
    notice = Notice(type=type_, route="users", at=100.0, since=90.5, trouble=trouble, **more)
    document: dict[str, Any] = json.loads(notice_document(notice, WALL, "edge-1"))
    return document


def test_a_failing_route() -> None:
    """Type, time and data, as Standard Webhooks recommends; the command shows what was captured."""
    trouble = Trouble(
        fate="captured", error="http_503", reason="the upstream answered 503", capture_id=ID, traceparent=TRACE
    )
    assert told("failing", trouble, capture_ids=(ID,), captured=1, suppressed=4) == {
        "type": "holdfast.route.failing",
        "timestamp": "2023-11-14T22:15:00.000Z",
        "data": {
            "route": "users",
            "fate": "captured",
            "error": "http_503",
            "reason": "the upstream answered 503",
            "capture_ids": [ID],
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "traceparent": TRACE,
            "since": "2023-11-14T22:14:50.500Z",
            "counts": {"captured": 1, "failed": 0, "unsettled": None, "suppressed": 4},
            "command": "holdfast captures list --route users",
            "gateway": "edge-1",
        },
    }


def test_a_recovered_route() -> None:
    """How long it lasted, and what is left."""
    document = told("recovered", Trouble(fate="ok", error="http_503"), captured=7, failed=2, unsettled=3)
    data = document["data"]
    assert document["type"] == "holdfast.route.recovered"
    assert (data["fate"], data["lasted_seconds"]) == ("ok", 9.5)
    assert data["counts"] == {"captured": 7, "failed": 2, "unsettled": 3, "suppressed": 0}
    assert (data["trace_id"], data["traceparent"]) == (None, None)


def test_dead_letters() -> None:
    """The command replays those that are named."""
    trouble = Trouble(fate="dead", error="http_503", reason="attempts", attempts=12, status=500, last_error=None)
    document = told("dead_letter", trouble, capture_ids=(ID, "other"), dead=5)
    data = document["data"]
    assert document["type"] == "holdfast.capture.dead_letter"
    assert data["command"] == f"holdfast captures replay {ID} other"
    assert data["counts"] == {"dead": 5, "suppressed": 0}
    assert (data["fate"], data["attempts"], data["status"], data["last_error"]) == ("dead", 12, 500, None)


def test_a_command_can_be_pasted() -> None:
    """Whatever a route is called: its name may come out of a record."""
    notice = Notice(type="failing", route="a; rm -rf *", at=1.0, since=1.0, trouble=Trouble(fate="failed"))
    data = json.loads(notice_document(notice, WALL, "h"))["data"]
    assert data["command"] == "holdfast captures list --route 'a; rm -rf *'"


def test_an_outcome() -> None:
    """Nothing of the request but its method and path."""
    assert json.loads(outcome_document(SETTLED, None)) == {
        "type": "holdfast.capture.delivered",
        "timestamp": "2023-11-14T22:14:21.500Z",
        "data": {
            "id": ID,
            "outcome": "delivered",
            "reason": "status",
            "status": 201,
            "attempts": 3,
            "captured_at": "2023-11-14T22:13:20.000Z",
            "settled_at": "2023-11-14T22:14:21.500Z",
            "route": "user",
            "method": "PUT",
            "path": "/api/users/1",
            "redrive": 2,
        },
    }


def test_an_outcome_with_its_answer() -> None:
    """Where the route is to show it."""
    answer = UpstreamAnswer(status=201, headers={"location": "/api/users/1"}, body="{}", body_truncated=True)
    data = json.loads(outcome_document(SETTLED, answer))["data"]
    assert data["answer"] == {
        "status": 201,
        "headers": {"location": "/api/users/1"},
        "body": "{}",
        "body_encoding": "utf-8",
        "body_truncated": True,
    }


def test_the_id_of_an_outcome_is_its_own() -> None:
    """The same each time it is sent; another for what came of a redrive."""
    assert outcome_id(SETTLED.id, SETTLED.redrive) == f"{ID}-2"


@pytest.mark.parametrize(
    ("moment", "text"), [(0.0, "1970-01-01T00:00:00.000Z"), (WALL + 0.0006, "2023-11-14T22:13:20.000Z")]
)
def test_times_are_rfc_3339(moment: float, text: str) -> None:
    """In UTC."""
    assert rfc3339(moment) == text
