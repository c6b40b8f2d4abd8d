"""The attempts of one request: which server is next, how long there still is, and whether another one follows.

Times are seconds of the leg's monotonic clock. Nothing here yields or waits; that is the stream's part.
"""

from __future__ import annotations

from mitmproxy.connection import Server
from mitmproxy.http import HTTPFlow
from mitmproxy.net.http import url

from holdfast.engine.leg import Leg
from holdfast.exchange import exchange_of
from holdfast.policy.endpoint import Endpoint
from holdfast.policy.failure import Failure
from holdfast.policy.pool import PoolServer
from holdfast.policy.retry import GiveUp, Retry, Tried, decide


class Attempts:
    """Made when the request first needs a server. `aimed` is where reverse mode would send it."""

    def __init__(self, leg: Leg, flow: HTTPFlow, aimed: Server) -> None:
        self._leg = leg
        self._flow = flow
        self._made = exchange_of(flow).setdefault("attempts", [])
        self._pool = leg.pool_for(flow, aimed)
        self._server: PoolServer | None = None  # while an attempt is under way
        self._endpoint = leg.endpoints[0]
        self._tried: set[Endpoint] = set()
        self._failed_at: set[Endpoint] = set()
        self._began = leg.clock()
        if leg.budget:
            leg.budget.request(self._began)
        self.deadline_at = self._began + leg.limits.deadline

    def next(self, keep_host_header: bool) -> Endpoint | None:
        """Begin an attempt; the request is aimed at the chosen server. None: every one is held back."""
        self._began = self._leg.clock()
        self._server = self._pool.pick(self._began, self._tried)
        if self._server is None:
            exchange_of(self._flow)["retry_in"] = self._pool.retry_in(self._began)
            return None
        endpoint = self._endpoint = self._server.endpoint
        self._tried.add(endpoint)
        request = self._flow.request
        if (request.host, request.port, request.scheme) != (*endpoint.address, endpoint.scheme):
            # Not by the setters of host and port: they would rewrite Host whatever the options say.
            request.data.host, request.data.port = endpoint.address
            request.scheme = endpoint.scheme
            if not keep_host_header:
                request.host_header = url.hostport(endpoint.scheme, *endpoint.address)
        return endpoint

    def ended(self, failure: Failure | None) -> None:
        """Account for the attempt that was begun last; None: it succeeded."""
        status = failure.status if failure else self._flow.response.status_code if self._flow.response else None
        # A request counts once against a server, however often it has tried it: or one of three attempts would be
        # enough to open a circuit that is to open after three failures.
        counted = None if failure and self._endpoint in self._failed_at else failure is not None
        self._release(failed=counted, server_error=(status or 0) >= 500)
        if failure:
            self._failed_at.add(self._endpoint)
        self._made.append(
            {
                "server": str(self._endpoint),
                "error": failure.error if failure else None,
                "status": status,
                "duration_ms": round((self._leg.clock() - self._began) * 1000, 3),
            }
        )
        self._leg.attempt_ended(self._endpoint, failure)

    def abandoned(self) -> None:
        """The client has left: nobody knows how the attempt that is under way would have ended."""
        self._release(failed=None)

    def _release(self, *, failed: bool | None, server_error: bool = False) -> None:
        server, self._server = self._server, None
        if server:
            self._pool.end(server, self._leg.clock(), failed=failed, server_error=server_error)

    def broke_off(self, failure: Failure) -> None:
        """A response that the client was already reading ended early: the attempt was accounted for as a success."""
        exchange = exchange_of(self._flow)
        exchange["error"], exchange["detail"] = failure.error, failure.detail
        self._leg.attempt_ended(self._endpoint, failure)

    def verdict(self, failure: Failure) -> Retry | GiveUp:
        """Whether another attempt follows the one that has just failed."""
        tried = Tried(
            failure=failure,
            method=self._flow.request.method,
            idempotency_key="idempotency-key" in self._flow.request.headers,
            body_held=not exchange_of(self._flow).get("request_streamed", False),
            attempts=len(self._made),
            remaining=self.deadline_at - self._leg.clock(),
        )
        verdict = decide(self._leg.retry_rules, tried, self._leg.jitter())
        if isinstance(verdict, Retry) and self._leg.budget and not self._leg.budget.try_retry(self._leg.clock()):
            return GiveUp("budget")
        return verdict

    def restart_deadline(self) -> None:
        """A large upload has taken its own time: the upstream's starts now."""
        self.deadline_at = self._leg.clock() + self._leg.limits.deadline
