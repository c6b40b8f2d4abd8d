"""The attempts of one request: which server is next, how long there still is, and whether another one follows.

Times are seconds of the leg's monotonic clock. Nothing here yields or waits; that is the stream's part.
"""

from __future__ import annotations

from mitmproxy.connection import Server
from mitmproxy.http import HTTPFlow
from mitmproxy.net.http import url

from holdfast.engine.leg import Leg
from holdfast.exchange import exchange_of, route_of
from holdfast.policy.endpoint import Endpoint
from holdfast.policy.failure import NO_TURN, Failure
from holdfast.policy.pool import PoolServer
from holdfast.policy.retry import GiveUp, Retry, Tried, decide


class Attempts:
    """Made when the request first needs a server. `aimed` is where reverse mode would send it."""

    def __init__(self, leg: Leg, flow: HTTPFlow, aimed: Server) -> None:
        self._leg = leg
        self._flow = flow
        self.plan = leg.plan(route_of(flow))
        self._made = exchange_of(flow).setdefault("attempts", [])
        self._pool = leg.pool_for(self.plan, flow, aimed)
        self._known = self._pool is self.plan.pool
        self._server: PoolServer | None = None  # while an attempt is under way
        self._last: PoolServer | None = None
        self._tried: set[Endpoint] = set()
        self._failed_at: set[Endpoint] = set()
        self.injected = False  # the end of this attempt says nothing of the server: a fault was asked for
        self._began = leg.clock()
        if self.plan.budget:
            self.plan.budget.request(self._began)
        self.deadline_at = self._began + self.plan.bounds.deadline

    def next(self, keep_host_header: bool) -> Endpoint | None:
        """Begin an attempt; the request is aimed at the chosen server. None: every one is held back."""
        self._began, self.injected = self._leg.clock(), False
        self._server = self._pool.pick(self._began, self._tried)
        if self._server is None:
            exchange_of(self._flow)["retry_in"] = self._pool.retry_in(self._began)
            return None
        self._last, endpoint = self._server, self._server.endpoint
        self._tried.add(endpoint)
        request = self._flow.request
        if (request.host, request.port, request.scheme) != (endpoint.host, endpoint.port, endpoint.uri_scheme):
            # Not by the setters of host and port: they would rewrite Host whatever the options say.
            request.data.host, request.data.port = endpoint.host, endpoint.port
            request.scheme = endpoint.uri_scheme
            if not keep_host_header:
                request.host_header = url.hostport(endpoint.uri_scheme, endpoint.host, endpoint.port)
        return endpoint

    @property
    def endpoint(self) -> Endpoint | None:
        """Of the attempt that was begun last."""
        return self._last.endpoint if self._last else None

    def ended(self, failure: Failure | None) -> None:
        """Account for the attempt that was begun last; None: it succeeded."""
        assert self._last
        endpoint = self._last.endpoint
        status = failure.status if failure else self._flow.response.status_code if self._flow.response else None
        # A request counts once against a server, however often it has tried it: or one of three attempts would be
        # enough to open a circuit that is to open after three failures.
        blameless = failure is NO_TURN
        counted = None if failure and (endpoint in self._failed_at or blameless) else failure is not None
        self._release(failed=counted, server_error=(status or 0) >= 500)
        if failure and not blameless:
            self._failed_at.add(endpoint)
        self._made.append(
            {
                "server": str(endpoint),
                "error": failure.error if failure else None,
                "status": status,
                "duration_ms": round((self._leg.clock() - self._began) * 1000, 3),
            }
        )
        self._leg.attempt_ended(self._last, self._known, failure, injected=self.injected or blameless)

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
        assert self._last
        self._leg.attempt_ended(self._last, self._known, failure, injected=self.injected)

    def verdict(self, failure: Failure, body_held: bool) -> Retry | GiveUp:
        """Whether another attempt follows the one that has just failed. `body_held`: it could send the whole body."""
        tried = Tried(
            failure=failure,
            method=self._flow.request.method,
            idempotency_key="idempotency-key" in self._flow.request.headers,
            body_held=body_held,
            attempts=len(self._made),
            remaining=self.deadline_at - self._leg.clock(),
        )
        verdict, budget = decide(self.plan.retry, tried, self._leg.jitter()), self.plan.budget
        if isinstance(verdict, Retry) and budget and not budget.try_retry(self._leg.clock()):
            return GiveUp("budget")
        return verdict

    def restart_deadline(self) -> None:
        """A large upload has taken its own time: the upstream's starts now."""
        self.deadline_at = self._leg.clock() + self.plan.bounds.deadline
