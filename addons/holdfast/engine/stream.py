"""One request through the gateway: attempts at the upstream, each bounded in time, and one answer whatever happens.

The stock stream gives up at the first error and closes the client's connection. This one turns every failure into a
`Failure`, asks `policy.retry` whether to try again, and after the last one lets the addons answer (`upstream_failed`)
and keeps the client's connection. What stock does well (hooks, streaming, upgrades) is left to it.
"""

from __future__ import annotations

import time
from functools import cached_property

from mitmproxy.http import HTTPFlow, Response
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    GetHttpConnection,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
    SendHttp,
)
from mitmproxy.proxy.layers.http._events import ErrorCode

from holdfast.answering import as_response
from holdfast.engine.attempts import Attempts
from holdfast.engine.connection_fields import passed_on
from holdfast.engine.failures import response_failure
from holdfast.engine.hooks import UpstreamFailedHook, UpstreamRetryHook
from holdfast.engine.leg import Leg
from holdfast.engine.timers import Cancellable, TimerFired
from holdfast.exchange import Exchange, exchange_of
from holdfast.policy.answer import addon_failed_answer, too_large_answer, upstream_failed_answer
from holdfast.policy.failure import GATEWAY_STATUSES, NO_SERVER, Failure, answered_with, connect_failure
from holdfast.policy.retry import Retry

_RESPONSE_EVENTS = (ResponseHeaders, ResponseData, ResponseTrailers, ResponseEndOfMessage, ResponseProtocolError)


class GiveUpConnection(commands.ConnectionCommand):
    """To the HTTP layer: close this upstream connection and let nothing more of it through."""


class ResilientStream(HttpStream):
    """`HttpStream` with attempts. Times are seconds of the leg's monotonic clock."""

    timer_generation: int = 0
    connect_timed_out: bool = False

    def __init__(self, context: Context, stream_id: int, leg: Leg) -> None:
        super().__init__(context, stream_id)
        self._leg = leg
        self._timer: Cancellable | None = None
        self._progress_at = 0.0
        self._last_failure: Failure | None = None
        self._discard_at_most: int | None = None
        self._answered = False

    @property
    def _exchange(self) -> Exchange:
        return exchange_of(self.flow)

    @cached_property
    def _attempts(self) -> Attempts:
        """Made when a server is first needed: by then every addon has had its say on where the request goes."""
        return Attempts(self._leg, self.flow, self.context.server)

    # -- attempts ---------------------------------------------------------------------------------------------------

    def make_server_connection(self) -> CommandGenerator[bool]:
        """Connect to a server, as often as the rules allow. False: the request has been ended here."""
        while True:
            endpoint = self._attempts.next(self.context.options.keep_host_header)
            if endpoint is None:
                yield from self._give_up(self._last_failure or NO_SERVER, "breaker")
                return False
            self.connect_timed_out = False
            self._arm(self._leg.limits.connect_timeout)
            connection, err = yield GetHttpConnection(endpoint.address, endpoint.tls, None)
            self._disarm()
            if not err:
                if (yield from self.check_killed(True)):
                    return False
                self.context.server = self.flow.server_conn = connection
                self._arm(self._leg.limits.response_timeout)
                return True
            failure = connect_failure(err, self.connect_timed_out)
            if not (yield from self._attempt_failed(failure)):
                return False

    def _attempt_failed(self, failure: Failure) -> CommandGenerator[bool]:
        """Account for it, then wait for the next attempt (True) or answer for good (False)."""
        self._disarm()
        self._last_failure = failure
        self._attempts.ended(failure)
        self._drop_stale_events()
        verdict, exchange = self._attempts.verdict(failure), self._exchange
        if isinstance(verdict, Retry):
            exchange["backoff"] = verdict.delay
            yield UpstreamRetryHook(self.flow)
            if (yield from self.check_killed(True)):
                return False
            if "closed_by" in exchange:
                yield from self._give_up(failure, "addon")
                return False
            self.flow.response = None
            return True
        yield from self._give_up(failure, verdict.reason)
        return False

    def _give_up(self, failure: Failure, reason: str) -> CommandGenerator[None]:
        """No further attempt, and why."""
        self._exchange["not_retried"] = reason
        self._leg.not_retried(reason)
        yield from self._finish(failure)

    def check_killed(self, emit_error_hook: bool) -> CommandGenerator[bool]:
        """As stock; an attempt under way ends with it."""
        killed = yield from super().check_killed(emit_error_hook)
        if killed:
            self._abandon()
        return killed

    def _abandon(self) -> None:
        if "_attempts" in vars(self):
            self._attempts.abandoned()

    def _finish(self, failure: Failure) -> CommandGenerator[None]:
        """The last attempt has failed: let the addons answer, or answer plainly, and keep the client's connection."""
        exchange = self._exchange
        exchange["error"], exchange["detail"] = failure.error, failure.detail
        upstream_answer = self.flow.response
        if "closed_by" in exchange:
            self.flow.response = as_response(addon_failed_answer(exchange["closed_by"]), self.flow)
        else:
            yield UpstreamFailedHook(self.flow)
        if (yield from self.check_killed(True)):
            return
        if self.flow.response is None:
            self.flow.response = as_response(
                upstream_failed_answer(failure, exchange.get("not_retried", "")), self.flow
            )
        if self.flow.response is not upstream_answer:
            exchange["answered"] = True
        elif exchange["not_retried"] == "not_retriable":
            # The profile calls this status no failure: it is the upstream's answer like any other.
            exchange.pop("error"), exchange.pop("detail"), exchange.pop("not_retried")
        if self.client_state == self.state_stream_request_body:
            self.client_state = self.state_discard_request_body
        yield from self._respond()

    def _respond(self) -> CommandGenerator[None]:
        """Send `flow.response` as mitmproxy sends one that an addon has set."""
        assert self.flow.response
        self.flow.response.timestamp_start = time.time()
        if self.flow.request.method == "HEAD":
            self.flow.response.raw_content = b""  # stock would send the bytes, and the next answer would be misread
        yield HttpResponseHeadersHook(self.flow)
        if not (yield from self.check_killed(True)):
            yield from self.send_response()

    def _resend(self) -> CommandGenerator[None]:
        """Another attempt after one that had reached the upstream."""
        self.server_state = self.state_wait_for_response_headers
        if not (yield from self.make_server_connection()):
            return
        request, content = self.flow.request, self.flow.request.raw_content
        ends_with_headers = not (content or request.trailers)
        yield SendHttp(RequestHeaders(self.stream_id, request, ends_with_headers), self.context.server)
        if content:
            yield SendHttp(RequestData(self.stream_id, content), self.context.server)
        if request.trailers:
            yield SendHttp(RequestTrailers(self.stream_id, request.trailers), self.context.server)
        yield SendHttp(RequestEndOfMessage(self.stream_id), self.context.server)

    # -- the request ------------------------------------------------------------------------------------------------

    def state_wait_for_request_headers(self, event: events.Event) -> CommandGenerator[None]:
        """As stock, but the client's Host is noted before reverse mode replaces it, and hop-by-hop fields end here."""
        assert isinstance(event, RequestHeaders)
        if event.replay_flow is None:
            event.replay_flow = HTTPFlow(self.context.client, self.context.server)
            exchange_of(event.replay_flow)["original_host"] = event.request.host_header or ""
        event.request = passed_on(event.request)
        if not event.request.is_http2:
            event.request.authority = ""  # an absolute target is for proxies, and the origin is none of ours
        yield from super().state_wait_for_request_headers(event)
        if self._answered:
            self.server_state = self.state_done  # stock waits for a response once the request is being streamed

    def start_request_stream(self) -> CommandGenerator[None]:
        """The body is too large to hold: send it as it arrives. Only a failure to connect can be retried then."""
        self._exchange["request_streamed"] = True
        if self.flow.response:
            # Stock raises here and the client hangs: an addon has answered while the body is still arriving.
            self.client_state = self.state_discard_request_body
            return
        if not (yield from self.make_server_connection()):
            if self.client_state != self.state_errored:
                self.client_state = self.state_discard_request_body
            return
        self._disarm()  # how long the upload takes is the client's affair
        yield SendHttp(RequestHeaders(self.stream_id, self.flow.request, end_stream=False), self.context.server)
        self.client_state = self.state_stream_request_body

    def check_body_size(self, request: bool) -> CommandGenerator[bool]:
        """As stock, but a request above `limits.max_body` is refused with an answer that can be read."""
        if not request or not self._too_large(len(self.request_body_buf)):
            return (yield from super().check_body_size(request))
        if not self.request_body_buf:
            yield HttpRequestHeadersHook(self.flow)  # nobody has seen this request yet
        self.request_body_buf.clear()
        yield from self._refuse_body()
        return True

    def _too_large(self, received: int) -> bool:
        limit = self._leg.limits.max_body
        if limit is None:
            return False
        announced = self.flow.request.headers.get("content-length", "")
        return received > limit or (announced.isdigit() and int(announced) > limit)

    def _refuse_body(self) -> CommandGenerator[None]:
        """Answer 413 at once. The client may still be sending: reset it only if it does not stop soon."""
        self._exchange["rejected"] = "body_too_large"
        self._exchange["answered"] = True
        self._discard_at_most = self._leg.limits.buffer_body
        self.flow.response = as_response(too_large_answer(self._leg.limits.max_body or 0), self.flow)
        self.client_state = self.state_discard_request_body
        yield from self._respond()
        if not self.flow.request.is_http2:
            yield commands.CloseTcpConnection(self.context.client, half_close=True)

    def state_stream_request_body(self, event: events.Event) -> CommandGenerator[None]:
        """As stock; the upstream's time to answer starts when the client has sent the whole request."""
        if isinstance(event, RequestData):
            sent = self._exchange["request_bytes"] = self._exchange.get("request_bytes", 0) + len(event.data)
            if self._too_large(sent) and self.server_state == self.state_wait_for_response_headers:
                self._disarm()
                yield GiveUpConnection(self.context.server)
                yield from self._refuse_body()
                return
        yield from super().state_stream_request_body(event)
        if isinstance(event, RequestEndOfMessage) and self.server_state == self.state_wait_for_response_headers:
            self._attempts.restart_deadline()
            self._arm(self._leg.limits.response_timeout)

    def state_discard_request_body(self, event: events.Event) -> CommandGenerator[None]:
        """The answer does not depend on the rest of the body: read it to its end, so that the connection can stay."""
        if isinstance(event, RequestData) and self._discard_at_most is not None:
            self._discard_at_most -= len(event.data)
            if self._discard_at_most < 0:
                yield commands.CloseConnection(self.context.client)
        if not isinstance(event, RequestEndOfMessage):
            return
        self.client_state = self.state_done
        if self.server_state == self.state_done:
            yield from self.flow_done()
            return
        yield HttpRequestHook(self.flow)
        if not (yield from self.check_killed(True)):
            yield from self._respond()

    # -- the response -----------------------------------------------------------------------------------------------

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, TimerFired):
            if event.generation == self.timer_generation:
                yield from self._time_is_up()
        else:
            yield from super()._handle_event(event)

    def state_wait_for_response_headers(self, event: events.Event) -> CommandGenerator[None]:
        """As stock, but 502, 503 and 504 are failures of the attempt."""
        assert isinstance(event, ResponseHeaders)
        self._progress_at = self._leg.clock()
        if self.client_state == self.state_stream_request_body:
            self._attempts.restart_deadline()
        self._arm(self._leg.limits.read_timeout)
        event.response = passed_on(event.response)
        if event.response.status_code in GATEWAY_STATUSES and not self._invalid(event.response):
            self.flow.response = event.response
            self.server_state = self.state_consume_failed_response
            return
        if event.response.headers.get("content-type", "").startswith("text/event-stream"):
            event.response.stream = True
        yield from super().state_wait_for_response_headers(event)

    def start_response_stream(self) -> CommandGenerator[None]:
        """From here on the client has seen the upstream's answer: nothing can be retried or replaced."""
        assert self.flow.response
        self._attempts.ended(None)
        if self.flow.response.headers.get("content-type", "").startswith("text/event-stream"):
            self._disarm()
        yield from super().start_response_stream()

    def state_stream_response_body(self, event: events.Event) -> CommandGenerator[None]:
        """As stock; each piece is progress."""
        self._progress_at = self._leg.clock()
        yield from super().state_stream_response_body(event)

    def state_consume_response_body(self, event: events.Event) -> CommandGenerator[None]:
        """As stock; each piece is progress, and the end of it ends the attempt."""
        self._progress_at = self._leg.clock()
        if isinstance(event, ResponseEndOfMessage):
            self._attempts.ended(None)
            self._delimit()
        yield from super().state_consume_response_body(event)

    def _delimit(self) -> None:
        """A body that the upstream ended by closing has a length now: the client's connection can stay."""
        assert self.flow.response
        headers, status = self.flow.response.headers, self.flow.response.status_code
        bodiless = self.flow.request.method == "HEAD" or status < 200 or status in (204, 304)
        if not (bodiless or "content-length" in headers or "transfer-encoding" in headers):
            headers["content-length"] = str(len(self.response_body_buf))

    def state_consume_failed_response(self, event: events.Event) -> CommandGenerator[None]:
        """Hold the upstream's error answer: it is recorded, and passed on if nobody answers in its place."""
        assert self.flow.response
        self._progress_at = self._leg.clock()
        if isinstance(event, ResponseTrailers):
            self.flow.response.trailers = event.trailers
        elif isinstance(event, ResponseData):
            self.response_body_buf += event.data
            if len(self.response_body_buf) > self._leg.limits.buffer_body:
                yield from self._response_failed(
                    Failure("http_protocol_error", "the body of the upstream's error answer exceeds buffer_body")
                )
        elif isinstance(event, ResponseEndOfMessage):
            self.flow.response.data.content = bytes(self.response_body_buf)
            self.response_body_buf.clear()
            yield from self._retry_or_answer(answered_with(self.flow.response.status_code))

    def check_invalid(self, request: bool) -> CommandGenerator[bool]:
        """As stock for requests; a malformed response is a failure of the attempt."""
        if request:
            return (yield from super().check_invalid(True))
        assert self.flow.response
        fault = self._invalid(self.flow.response)
        if fault:
            yield from self._response_failed(Failure("http_protocol_error", f"the upstream sent {fault}"))
        return fault is not None

    def _invalid(self, response: Response) -> str | None:
        if self.context.options.validate_inbound_headers:
            try:
                validate_headers(response)
            except ValueError as e:
                return str(e)
        return None

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> CommandGenerator[None]:
        """As stock once the client has seen part of an answer; before that, it is a failure of the attempt."""
        if isinstance(event, RequestProtocolError):
            self._disarm()
            self._abandon()
            yield from super().handle_protocol_error(event)
        elif self._awaiting_response:
            yield from self._response_failed(response_failure(event, self.flow.response is not None))
        else:
            if self.server_state == self.state_stream_response_body:
                self._attempts.broke_off(response_failure(event, True))
            self._disarm()
            yield from super().handle_protocol_error(event)

    def send_response(self, already_streamed: bool = False) -> CommandGenerator[None]:
        """As stock, unless an addon whose failure fails the request has failed on this response."""
        self._disarm()
        self._answered = True
        exchange = self._exchange
        if "closed_by" in exchange and not already_streamed and not exchange.get("answered"):
            self.flow.response = as_response(addon_failed_answer(exchange["closed_by"]), self.flow)
            exchange["answered"] = True
        yield from super().send_response(already_streamed)

    @property
    def _awaiting_response(self) -> bool:
        return self.client_state != self.state_errored and self.server_state in (
            self.state_wait_for_response_headers,
            self.state_consume_response_body,
            self.state_consume_failed_response,
        )

    def _response_failed(self, failure: Failure) -> CommandGenerator[None]:
        """The attempt broke off after the request had been sent: its connection is of no further use."""
        yield GiveUpConnection(self.context.server)
        self.flow.response = None
        self.response_body_buf.clear()
        yield from self._retry_or_answer(failure)

    def _retry_or_answer(self, failure: Failure) -> CommandGenerator[None]:
        if (yield from self._attempt_failed(failure)):
            yield from self._resend()

    # -- time -------------------------------------------------------------------------------------------------------

    def _arm(self, delay: float) -> None:
        """At most `delay` seconds for what comes next, and never beyond the deadline while there is one."""
        self._disarm()
        if self.server_state != self.state_stream_response_body:
            delay = min(delay, self._attempts.deadline_at - self._leg.clock())
        self._timer = self._leg.timers.arm(self.context.client.id, self.stream_id, self.timer_generation, delay)

    def _disarm(self) -> None:
        self.timer_generation += 1
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> CommandGenerator[None]:
        in_body = self.server_state in (self.state_consume_response_body, self.state_consume_failed_response)
        streaming = self.server_state == self.state_stream_response_body
        now, limits = self._leg.clock(), self._leg.limits
        if (
            streaming or (in_body and now < self._attempts.deadline_at)
        ) and now - self._progress_at < limits.read_timeout:
            self._arm(limits.read_timeout - (now - self._progress_at))
            return
        if self._awaiting_response:
            token = "connection_read_timeout" if in_body else "http_response_timeout"
            detail = "the upstream stopped sending the body" if in_body else "no answer within response_timeout"
            if now >= self._attempts.deadline_at:
                detail = "the deadline over all attempts has passed"
            yield from self._response_failed(Failure(token, detail))
        elif streaming:
            self._attempts.broke_off(Failure("connection_read_timeout", "the upstream stopped sending the body"))
            yield GiveUpConnection(self.context.server)
            message = ResponseProtocolError(self.stream_id, "upstream read timeout", ErrorCode.GENERIC_SERVER_ERROR)
            yield from super().handle_protocol_error(message)

    def _drop_stale_events(self) -> None:
        """What the failed attempt still sent while this stream was busy must not be taken for the next one's."""
        kept = [e for e in self._paused_event_queue if not isinstance(e, _RESPONSE_EVENTS)]
        self._paused_event_queue.clear()
        self._paused_event_queue.extend(kept)
