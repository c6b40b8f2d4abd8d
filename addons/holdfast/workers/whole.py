"""What the control surface shows: this process's own, or where there are several workers that of all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import generate_latest

from holdfast.admin.health import overall
from holdfast.errors import StoreUnavailable
from holdfast.gateway import Gateway, HealthReport
from holdfast.policy.minutes import Minute, hour_of
from holdfast.workers.figures import Collected
from holdfast.workers.questions import SILENT, Whole, WorkerState
from holdfast.workers.worker import Worker, understood

KEPT = 1.0
_SEVERITY = {"unknown": 1, "failing": 2}
_ADDED = {"outbox": ("pending", "quarantined", "bytes"), "redis": ("entries", "bytes", "max_bytes", "evicted")}
"""Figures of what each worker has of its own."""


async def figures(gateway: Gateway) -> tuple[bytes, tuple[Minute, ...]]:
    """The metrics in Prometheus' text format, and the last hour's requests. StoreUnavailable: the parent is gone."""
    if gateway.worker is None:
        return generate_latest(gateway.registry), gateway.minutes.hour(gateway.wall_clock())
    said = await gateway.worker.ask("figures")
    whole = understood(said[0], Whole) if said else None
    if whole is None:
        raise StoreUnavailable("the workers' figures cannot be had: the gateway is about to end")
    counted = {n: {(route, fate): count for route, fate, count in counts} for n, counts in whole.minutes}
    text = generate_latest(Collected(whole.families))
    return text, hour_of(counted, gateway.wall_clock())


class HealthOfAll:
    """The health page over all workers: of each component the worst, and how the workers are themselves."""

    def __init__(self, worker: Worker, own: HealthReport) -> None:
        self._worker = worker
        self._own = own
        self._one_at_a_time = asyncio.Lock()
        self._made = float("-inf")
        self._others: list[tuple[int, dict[str, Any]]] = []
        self._states: list[WorkerState] = []

    async def document(self) -> tuple[int, dict[str, Any]]:
        """(HTTP status, document), as of one gateway, with `workers` besides."""
        _, own = await self._own()
        async with self._one_at_a_time:
            if time.monotonic() - self._made > KEPT:
                await self._look()
        document = together({self._worker.number: own, **dict(self._others)}, self._worker.number)
        document["workers"] = of_workers(self._states)
        document["status"] = overall(document)
        return 503 if document["status"] == "failing" else 200, document

    async def _look(self) -> None:
        said = await self._worker.ask("health")
        self._others = [(each.worker, doc) for each in said if (doc := understood(each, dict))]
        states = await self._worker.ask("workers")
        self._states = (understood(states[0], list[WorkerState]) if states else None) or []
        self._made = time.monotonic()


def together(documents: Mapping[int, dict[str, Any]], own: int) -> dict[str, Any]:
    """One document out of those of the workers, by their numbers. `gateway` is the own one's."""
    shown: dict[str, Any] = {"status": ""}
    for name, part in documents[own].items():
        several = {number: each[name] for number, each in documents.items() if name in each}
        if name in ("status", "gateway"):
            shown[name] = part
        elif name == "upstream":
            servers = {s: {n: each[s] for n, each in several.items() if s in each} for s in part}
            shown[name] = {server: _worst(each) for server, each in servers.items()}
        else:
            shown[name] = _worst(several) | _added(list(several.values()), _ADDED.get(name, ()))
    return shown


def of_workers(states: Sequence[WorkerState]) -> dict[str, Any]:
    """How the workers are."""
    trouble = [f"worker {each.number} {each.state}" for each in states if each.state != "serving"]
    silent = [each for each in states if each.state == "serving" and each.silent > SILENT]
    trouble += [f"worker {each.number} has been silent for {each.silent:.0f} s" for each in silent]
    detail = {"detail": ", ".join(trouble)} if trouble else {}
    each = [
        {"number": s.number, "pid": s.pid, "status": s.state, "since": s.since, "restarts": s.restarts} for s in states
    ]
    return {"status": "failing" if trouble else "ok", **detail, "each": each}


def _worst(several: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    number = max(several, key=lambda each: (_SEVERITY.get(several[each]["status"], 0), _is_open(several[each])))
    worst = several[number]
    if len({each["status"] for each in several.values()}) > 1:
        return worst | {"detail": f"worker {number}: {worst.get('detail', worst['status'])}"}
    return worst


def _is_open(server: dict[str, Any]) -> bool:
    return bool(server.get("circuit", "closed") != "closed")


def _added(several: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    sums = {name: sum(each.get(name, 0) for each in several) for name in names if name in several[0]}
    if "oldest_seconds" in several[0]:
        sums["oldest_seconds"] = max(each.get("oldest_seconds", 0.0) for each in several)
    return sums
