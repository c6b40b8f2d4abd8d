"""The health page over several workers."""

from __future__ import annotations

from typing import Any

from holdfast.workers.questions import SILENT, WorkerState
from holdfast.workers.whole import of_workers, together


def document(outbox: str = "ok", pending: int = 0, server: str = "ok", **more: Any) -> dict[str, Any]:
    return {
        "status": "ok",
        "outbox": {"status": outbox, "pending": pending, "bytes": 1, "oldest_seconds": float(pending), **more},
        "upstream": {"http://a": {"status": server, "circuit": "closed"}},
        "gateway": {"status": "ok"},
    }


def test_of_each_component_the_worst_is_shown_and_says_whose_it_is() -> None:
    """What each has of its own is added up."""
    found = together({1: document(pending=2), 2: document("failing", 3, "failing", detail="disk full")}, 1)
    assert found["outbox"]["status"] == "failing"
    assert found["outbox"]["detail"] == "worker 2: disk full"
    assert (found["outbox"]["pending"], found["outbox"]["bytes"], found["outbox"]["oldest_seconds"]) == (5, 2, 3.0)
    assert found["upstream"]["http://a"]["status"] == "failing"
    assert found["gateway"] == {"status": "ok"}


def test_what_all_say_alike_needs_no_name() -> None:
    """As with one gateway."""
    found = together({1: document("failing", detail="disk full"), 2: document("failing", detail="disk full")}, 1)
    assert found["outbox"]["detail"] == "disk full"


def test_a_worker_that_does_not_serve_or_is_silent_is_a_finding() -> None:
    """By its number."""

    def state(number: int, state: str = "serving", silent: float = 0.0) -> WorkerState:
        return WorkerState(number, 1, state, 0.0, 0, silent)

    assert of_workers([state(1), state(2)])["status"] == "ok"
    found = of_workers([state(1), state(2, "ended"), state(3, silent=SILENT + 1)])
    assert found["status"] == "failing"
    assert found["detail"] == "worker 2 ended, worker 3 has been silent for 11 s"
