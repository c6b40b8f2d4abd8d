"""What the components say of themselves, gathered for the health page.

An answer is kept for a second: a load balancer that asks often must not become load on Kafka or the upstream.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from holdfast.gateway import Gateway, Health, HealthCheck
from holdfast.policy.pool import PoolServer

TIMEOUT = 2.0
KEPT = 1.0
FAILING_AFTER = 3
COMPONENTS = ("redis", "kafka", "outbox")  # always named; others only where the chain has them


@dataclass(slots=True)
class _Kept:
    """The last document and when it was made (monotonic seconds)."""

    made: float = float("-inf")
    document: dict[str, Any] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class HealthPage:
    """Asks every component at once, each for at most `TIMEOUT` seconds."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._kept = _Kept()

    async def document(self) -> tuple[int, dict[str, Any]]:
        """(HTTP status, document). 503 where a request could neither be answered by the upstream nor be stored."""
        async with self._kept.lock:
            if time.monotonic() - self._kept.made > KEPT:
                self._kept.document = await self._ask()
                self._kept.made = time.monotonic()
        gateway = self._gateway
        document = self._kept.document | {"gateway": {"status": _phase(gateway)}, "profile": _profile(gateway)}
        document = {"status": overall(document)} | document
        return 503 if document["status"] == "failing" else 200, document

    async def _ask(self) -> dict[str, Any]:
        gateway = self._gateway
        checks: dict[str, HealthCheck] = dict(gateway.checks)
        servers = gateway.leg.servers()
        answers = await asyncio.gather(
            *(_bounded(check) for check in checks.values()), *(_server(server) for _, server in servers)
        )
        found = dict(zip(checks, answers, strict=False))
        names = dict.fromkeys([*COMPONENTS, *checks])
        document: dict[str, Any] = {n: _plain(found.get(n, Health("not_configured"))) for n in names}
        document["upstream"] = {
            name: _plain(health) | _record(gateway, server)
            for (name, server), health in zip(servers, answers[len(checks) :], strict=True)
        }
        return document


async def health_document(gateway: Gateway, *, with_addresses: bool) -> tuple[int, dict[str, Any]]:
    """For the admin page; and without the servers' addresses for the proxied port, where strangers may ask."""
    status, document = await gateway.health()
    if with_addresses:
        return status, document
    servers = document["upstream"].values()
    up = sum(server["status"] == "ok" for server in servers)
    plain = {name: {"status": document[name]["status"]} for name in ("gateway", *COMPONENTS)}
    return status, {"status": document["status"], **plain, "upstream": {"servers": len(servers), "up": up}}


async def _bounded(check: HealthCheck) -> Health:
    try:
        return await asyncio.wait_for(check(), TIMEOUT)
    except TimeoutError:
        return Health("failing", f"no answer within {TIMEOUT:g} s")
    except Exception as e:  # noqa: BLE001  # whatever a component's check raises is a finding about it
        return Health("failing", f"{type(e).__name__}: {e}")


async def _server(server: PoolServer) -> Health:
    """Does it accept a connection, and did it answer the last requests?"""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(*server.endpoint.address), TIMEOUT)
    except TimeoutError:
        return Health("failing", f"no connection within {TIMEOUT:g} s")
    except OSError as e:
        return Health("failing", str(e))
    writer.close()
    failures = server.failures
    return Health("failing", f"the last {failures} attempts failed") if failures >= FAILING_AFTER else Health("ok")


def _record(gateway: Gateway, server: PoolServer) -> dict[str, Any]:
    now = gateway.leg.clock()
    return {
        "circuit": server.breaker.state(now),
        "forced_open": server.breaker.is_forced(now),  # by a person
        "healthy": server.healthy,  # what the active health check says
        "consecutive_failures": server.failures,
        "last_error": server.last_error,
        "since": server.since,
    }


def _profile(gateway: Gateway) -> dict[str, Any]:
    """The one that holds; and why what its files hold now was not taken over."""
    faults, source, since = [str(fault) for fault in gateway.refused], gateway.profile.source, gateway.profile_since
    shown: dict[str, Any] = {"status": "failing" if faults else "ok", "source": source, "since": since}
    detail = "what its files hold now was not taken over: the profile from before still holds"
    return shown | ({"detail": detail, "faults": faults} if faults else {})


def _plain(health: Health) -> dict[str, Any]:
    detail = {"detail": health.detail} if health.detail else {}
    return {"status": health.status} | detail | health.figures


def _phase(gateway: Gateway) -> str:
    return "ok" if gateway.phase == "serving" else gateway.phase


def overall(document: dict[str, Any]) -> str:
    """One word for all of it."""
    servers = [server["status"] for server in document["upstream"].values()]
    stores = document["outbox"]["status"]
    if document["gateway"]["status"] != "ok" or ("ok" not in servers and stores != "ok"):
        return "failing"
    rest = [part["status"] for name, part in document.items() if name not in ("status", "gateway", "upstream")]
    return "degraded" if "failing" in [*servers, *rest] else "ok"
