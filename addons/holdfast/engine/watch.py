"""Looks after servers that are held back: active health checks, and an early end of an open circuit.

A circuit that opened because nobody accepted a connection need not wait for `fail_timeout`: once a second it is tried
whether the server accepts one again, and then a probe may go at once. A backend that was restarted is back within a
second, not within half a minute. An open circuit of any other cause keeps its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field

from mitmproxy.utils import asyncio_utils

from holdfast.engine.leg import Leg
from holdfast.engine.plan import Plan
from holdfast.policy.failure import Failure
from holdfast.policy.pool import PoolServer
from holdfast.profile.settings import HealthCheckSettings

logger = logging.getLogger(__name__)
LOOK_EVERY = 1.0


@dataclass(slots=True)
class _Series:
    """The active checks of one server: when the next is due (monotonic seconds), and how many in a row were alike."""

    due: float
    good: int = 0
    bad: int = 0
    under_way: bool = False


@dataclass(slots=True, eq=False)
class Watch:
    """Runs from `start` to `stop`. Plans are read anew each time: a changed profile is followed."""

    leg: Leg
    verify_tls: bool
    _series: dict[PoolServer, _Series] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """On the running loop."""
        self._task = asyncio_utils.create_task(self._run(), name="upstream watch", keep_ref=True)

    def stop(self) -> None:
        """Looking ends."""
        if self._task:
            self._task.cancel()

    async def _run(self) -> None:
        looked_at = float("-inf")
        while True:
            now = self.leg.clock()
            if now - looked_at >= LOOK_EVERY:
                looked_at = now
                for plan in self.leg.pools().values():
                    for server in plan.pool.servers:
                        self._begin(self._look(server, plan.bounds.connect_timeout))
            self._begin_checks(now)
            await asyncio.sleep(self._until_next(looked_at + LOOK_EVERY))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        asyncio_utils.create_task(work, name="upstream look", keep_ref=True)

    async def _look(self, server: PoolServer, within: float) -> None:
        error = server.last_error
        refused = error is not None and not error.startswith("http_") and not Failure(error, "").reached
        if server.breaker.state(self.leg.clock()) == "open" and refused and await _accepts(server, within):
            server.breaker.hasten(self.leg.clock())

    # -- active checks ----------------------------------------------------------------------------------------------

    def _begin_checks(self, now: float) -> None:
        checked = {
            s: plan for plan in self.leg.pools().values() if plan.settings.health_check for s in plan.pool.servers
        }
        for gone in self._series.keys() - checked.keys():
            del self._series[gone]
            gone.healthy = True  # it is checked no more
        for server, plan in checked.items():
            series = self._series.setdefault(server, _Series(due=now))
            if now >= series.due and not series.under_way:
                series.under_way = True
                self._begin(self._check(server, series, plan))

    def _until_next(self, look_at: float) -> float:
        due = min([look_at, *(series.due for series in self._series.values() if not series.under_way)])
        return min(LOOK_EVERY, max(0.01, due - self.leg.clock()))

    async def _check(self, server: PoolServer, series: _Series, plan: Plan) -> None:
        """So many in a row of one kind change what is thought of the server."""
        checks = plan.settings.health_check
        assert checks
        fault = await _ask(server, checks, self.verify_tls)
        series.good, series.bad = (0, series.bad + 1) if fault else (series.good + 1, 0)
        if server.healthy and series.bad >= checks.unhealthy_after:
            server.healthy = False
            logger.warning("upstream server unhealthy", extra={"server": str(server.endpoint), "error": fault})
        elif not server.healthy and series.good >= checks.healthy_after:
            server.healthy = True
            logger.info("upstream server healthy again", extra={"server": str(server.endpoint)})
        series.due, series.under_way = self.leg.clock() + float(checks.interval), False


async def _accepts(server: PoolServer, within: float) -> bool:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(within):
            _, writer = await asyncio.open_connection(*server.endpoint.address)
        writer.close()
        return True
    return False


async def _ask(server: PoolServer, checks: HealthCheckSettings, verify_tls: bool) -> str | None:
    """What is wrong, None if nothing is. A server of HTTP/2 alone is only connected to."""
    from tornado.httpclient import AsyncHTTPClient, HTTPClientError  # for profiles with active checks alone
    from tornado.netutil import DefaultLoopResolver, OverrideResolver

    timeout, endpoint = float(checks.timeout), server.endpoint
    if endpoint.http2_only:
        return None if await _accepts(server, timeout) else "accepts no connection"
    mapping = {(endpoint.host, endpoint.port): endpoint.address}  # by its name, but at this address
    client = AsyncHTTPClient(force_instance=True, resolver=OverrideResolver(DefaultLoopResolver(), mapping))
    try:
        answer = await client.fetch(
            f"{endpoint.name}{checks.path}",
            connect_timeout=timeout,
            request_timeout=timeout,
            follow_redirects=False,
            validate_cert=verify_tls,
            raise_error=False,
        )
    except (OSError, HTTPClientError, ValueError) as e:
        return str(e) or type(e).__name__
    finally:
        client.close()
    return f"answered {answer.code}" if answer.code >= 500 else None
