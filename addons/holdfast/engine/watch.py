"""Looks after servers that are held back: active health checks, and an early end of an open circuit.

A circuit that opened because nobody accepted a connection need not wait for `fail_timeout`: once a second it is tried
whether the server accepts one again, and then a probe may go at once. A backend that was restarted is back within a
second, not within half a minute. An open circuit of any other cause keeps its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from tornado.httpclient import AsyncHTTPClient, HTTPClientError

from holdfast.engine.leg import Leg
from holdfast.policy.failure import Failure
from holdfast.policy.pool import PoolServer
from holdfast.profile.settings import HealthCheckSettings

logger = logging.getLogger(__name__)
LOOK_EVERY = 1.0


class Watch:
    """Runs from `start` to `stop`. `checks` None: no active health checks."""

    def __init__(self, leg: Leg, checks: HealthCheckSettings | None, verify_tls: bool) -> None:
        self._leg = leg
        self._checks = checks
        self._verify_tls = verify_tls
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """On the running loop."""
        self._tasks.append(asyncio.create_task(self._look_after_open_circuits()))
        if self._checks:
            self._tasks += [asyncio.create_task(self._check(s, self._checks)) for s in self._leg.pool.servers]

    def stop(self) -> None:
        """Both kinds of looking end."""
        for task in self._tasks:
            task.cancel()

    async def _look_after_open_circuits(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await asyncio.gather(*(self._look(server) for server in self._leg.pool.servers))

    async def _look(self, server: PoolServer) -> None:
        now, error = self._leg.clock(), self._leg.records[server.endpoint].last_error
        refused = error is not None and not error.startswith("http_") and not Failure(error, "").reached
        if server.breaker.state(now) == "open" and refused and await self._accepts(server):
            server.breaker.hasten(self._leg.clock())

    async def _accepts(self, server: PoolServer) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            connecting = asyncio.open_connection(*server.endpoint.address)
            _, writer = await asyncio.wait_for(connecting, self._leg.limits.connect_timeout)
            writer.close()
            return True
        return False

    async def _check(self, server: PoolServer, checks: HealthCheckSettings) -> None:
        """One server's checks, for ever: so many in a row of one kind change what is thought of it."""
        good = bad = 0
        while True:
            fault = await self._ask(server, checks)
            good, bad = (0, bad + 1) if fault else (good + 1, 0)
            if server.healthy and bad >= checks.unhealthy_after:
                server.healthy = False
                logger.warning("upstream server unhealthy", extra={"server": str(server.endpoint), "error": fault})
            elif not server.healthy and good >= checks.healthy_after:
                server.healthy = True
                logger.info("upstream server healthy again", extra={"server": str(server.endpoint)})
            await asyncio.sleep(float(checks.interval))

    async def _ask(self, server: PoolServer, checks: HealthCheckSettings) -> str | None:
        """What is wrong, None if nothing is."""
        timeout = float(checks.timeout)
        try:
            answer = await AsyncHTTPClient().fetch(
                f"{server.endpoint}{checks.path}",
                connect_timeout=timeout,
                request_timeout=timeout,
                follow_redirects=False,
                validate_cert=self._verify_tls,
                raise_error=False,
            )
        except (OSError, HTTPClientError, ValueError) as e:
            return str(e) or type(e).__name__
        return f"answered {answer.code}" if answer.code >= 500 else None
