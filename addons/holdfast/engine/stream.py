"""One request through the gateway: attempts at the upstream, each bounded in time, and one answer whatever happens.

The stock stream gives up at the first error and closes the client's connection. This one turns every failure into a
`Failure`, asks `policy.retry` whether to try again, and after the last one lets the addons answer (`upstream_failed`)
and keeps the client's connection. What stock does well (hooks, streaming, upgrades) is left to it.
"""

from __future__ import annotations

from functools import cached_property

from mitmproxy.connection import Server
from mitmproxy.http import Headers, Response
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
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
from holdfast.engine.commands import AbandonAttempt, GetUpstream, InterimResponse
from holdfast.engine.connection_fields import passed_on
from holdfast.engine.failures import CLOSED, is_endless, is_gateway_failure, response_failure
from holdfast.engine.framing import is_small
from holdfast.engine.hooks import ResponseGrownHook, UpstreamFailedHook, UpstreamRetryHook
from holdfast.engine.leg import Leg
from holdfast.engine.request_side import RequestSide
from holdfast.engine.whole import WholeResponse
from holdfast.policy.answer import addon_failed_answer, upstream_failed_answer
from holdfast.policy.endpoint import Endpoint
from holdfast.policy.failure import NO_SERVER, Failure, answered_with, connect_failure
from holdfast.policy.grpc import Messages
from holdfast.policy.retry import Retry, repeated_because

TOO_LARGE = Failure("http_response_body_size", "the response is larger than max_response")
_RESPONSE_EVENTS = (
    WholeResponse,
    ResponseHeaders,
    ResponseData,
    ResponseTrailers,
    ResponseEndOfMessage,
    ResponseProtocolError,
    InterimResponse,
)


class ResilientStream(RequestSide):
    """`HttpStream` with attempts."""

    connect_timed_out: bool = False

    def __init__(self, context: Context, stream_id: int, leg: Leg) -> None:
        super().__init__(context, stream_id, leg)
        self._last_failure: Failure | None = None
        self._received = 0  # bytes of the response's body
        self._kept = False  # the attempt goes over a connection that has served a request before
        self._stale = False  # it did, and the server had closed that

    @cached_property
    def _answer_messages(self) -> Messages:
        """Of a gRPC response, while it is held."""
        return Messages()

    # -- attempts ---------------------------------------------------------------------------------------------------

    def make_server_connection(self) -> CommandGenerator[bool]:
        """Connect to a server, as often as the rules allow. False: the request has been ended here."""
        while True:
            again, self._stale, self._kept = self._stale, False, False
            endpoint = self._attempts.endpoint if again else self._attempts.next(self.context.options.keep_host_header)
            if endpoint is None:
                yield from self._give_up(self._last_failure or NO_SERVER, "breaker")
                return False
            self.connect_timed_out = False
            connection, err = yield from (self._open(endpoint, new=True) if again else self._connect(endpoint))
            if connection:
                if (yield from self.check_killed(True)):
                    return False
                self.context.server = self.flow.server_conn = connection
                self._progress_at = self._leg.clock()
                self._arm(self._plan.bounds.response_timeout)
                return True
            failure = connect_failure(err or "", self.connect_timed_out)
            if not (yield from self._attempt_failed(failure)):
                return False

    def _connect(self, endpoint: Endpoint) -> CommandGenerator[tuple[Server | None, str | None]]:
        """The connection, or what was wrong with it."""
        return (yield from self._open(endpoint))

    def _open(self, endpoint: Endpoint, *, new: bool = False) -> CommandGenerator[tuple[Server | None, str | None]]:
        """`new`: not one that is kept."""
        wanted = GetUpstream(endpoint, http2=self._needs_http2(endpoint), careful=not self._repeatable, new=new)
        had = self.at_once(wanted) if self.at_once else wanted
        if type(had) is tuple:  # a kept one, which takes no time
            ((connection, err),) = had
        else:
            self._arm(self._plan.bounds.connect_timeout)
            connection, err = yield wanted
            self.upstream_alarm.disarm()
        self._kept = wanted.kept
        return connection, err

    @property
    def _repeatable(self) -> bool:
        """Whether it can be sent again although a server may have seen it."""
        key = "idempotency-key" in self.flow.request.headers
        held = not self._exchange.get("request_streamed", False)
        return held and bool(repeated_because(self._plan.retry, self.flow.request.method, idempotency_key=key))

    def _needs_http2(self, endpoint: Endpoint) -> bool:
        """There is no gRPC over HTTP/1.1: where nothing is negotiated, the server can only mean prior knowledge."""
        return endpoint.http2_only or (self._grpc and self.flow.request.is_http2)

    def _attempt_failed(self, failure: Failure, *, body_held: bool = True) -> CommandGenerator[bool]:
        """Account for it, then wait for the next attempt (True) or answer for good (False).

        `body_held`: nothing of the body has gone that another attempt would lack.
        """
        self.upstream_alarm.disarm()
        self._last_failure = failure
        self._attempts.ended(failure)
        self._drop_stale_events()
        verdict, exchange = self._attempts.verdict(failure, body_held), self._exchange
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
        """No further attempt, and why. A body that can still be kept whole is waited for."""
        self._exchange["not_retried"] = reason
        self._leg.not_retried(reason)
        self._last_failure = failure
        if self._spool and self.client_state != self.state_done:
            self.client_state = self.state_spool_request_body
        else:
            yield from self._finish(failure)

    def _body_is_in(self) -> CommandGenerator[None]:
        yield from self._finish(self._last_failure or NO_SERVER)

    def check_killed(self, emit_error_hook: bool) -> CommandGenerator[bool]:
        """As stock; an attempt under way ends with it."""
        if not self.flow.error and not self._paused_event_queue:
            return False
        killed = yield from super().check_killed(emit_error_hook)
        if killed:
            self._abandon()
        return killed

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
        if self.client_state in (self.state_stream_request_body, self.state_spool_request_body):
            self.client_state = self.state_discard_request_body
        yield from self._respond()

    def _resend(self) -> CommandGenerator[None]:
        """Another attempt after one that had reached the upstream."""
        self.server_state = self.state_wait_for_response_headers
        self._received = 0
        vars(self).pop("_answer_messages", None)
        if (yield from self.make_server_connection()):
            yield from self._send_request()

    def _send_request(self) -> CommandGenerator[None]:
        """All of it, which is held."""
        request, content = self.flow.request, self.flow.request.raw_content
        ends_with_headers = not (content or request.trailers)
        yield SendHttp(RequestHeaders(self.stream_id, request, ends_with_headers), self.context.server)
        if content:
            yield SendHttp(RequestData(self.stream_id, content), self.context.server)
        if request.trailers:
            yield SendHttp(RequestTrailers(self.stream_id, request.trailers), self.context.server)
        yield SendHttp(RequestEndOfMessage(self.stream_id), self.context.server)

    # -- the response -----------------------------------------------------------------------------------------------

    def state_wait_for_response_headers(self, event: events.Event) -> CommandGenerator[None]:
        """As stock, but 502, 503 and 504 are failures of the attempt, and so is a gRPC server's UNAVAILABLE."""
        if isinstance(event, InterimResponse):
            self._kept = False  # the server is there
            yield SendHttp(event, self.context.client)
            return
        assert isinstance(event, ResponseHeaders)
        self._progress_at = self._leg.clock()
        if self.client_state == self.state_stream_request_body:
            self._attempts.restart_deadline()
        self._arm(self._plan.bounds.read_timeout)
        response = event.response = passed_on(event.response)
        if self._is_gateway_failure(response, event.end_stream):
            self.flow.response = response
            self.server_state = self.state_consume_failed_response
            return
        if self._must_stream(response):
            response.stream = True
        yield from super().state_wait_for_response_headers(event)

    def _is_gateway_failure(self, response: Response, ends_with_headers: bool) -> bool:
        return is_gateway_failure(response, ends_with_headers) and not self._invalid(response)

    def _must_stream(self, response: Response) -> bool:
        """The client of a stream may wait for this header before it goes on."""
        return is_endless(response) and (self._exchange.get("request_streamed", False) or not self._grpc)

    def start_response_stream(self) -> CommandGenerator[None]:
        """From here on the client has seen the upstream's answer: nothing can be retried or replaced."""
        assert self.flow.response
        self._drop_spool()
        self._attempts.ended(None)
        if is_endless(self.flow.response):
            self.upstream_alarm.disarm()
        if self.server_state == self.state_consume_response_body:
            yield ResponseGrownHook(self.flow)
        yield from super().start_response_stream()

    def state_stream_response_body(self, event: events.Event) -> CommandGenerator[None]:
        """As stock; each piece is progress."""
        if isinstance(event, InterimResponse):
            return  # too late for the client
        self._progress_at = self._leg.clock()
        if isinstance(event, ResponseData) and self._over_limit(event):
            yield from self._break_off(TOO_LARGE)
            return
        yield from super().state_stream_response_body(event)

    def state_consume_response_body(self, event: events.Event) -> CommandGenerator[None]:
        """As stock; each piece is progress, and the end of it ends the attempt."""
        self._progress_at = self._leg.clock()
        if isinstance(event, ResponseData):
            if self._over_limit(event):
                yield from self._response_failed(TOO_LARGE)
                return
            if self._grpc:
                self._answer_messages.feed(event.data)
        elif isinstance(event, ResponseEndOfMessage):
            self._attempts.ended(None)
            self._delimit(len(self.response_body_buf))
        yield from super().state_consume_response_body(event)

    def check_body_size(self, request: bool) -> CommandGenerator[bool]:
        """As stock; and a gRPC response is held until its first message is whole, so that it can still be replaced."""
        complete = not request and self._grpc and self._answer_messages.complete
        if complete and self.response_body_buf and self.flow.response:
            self.flow.response.stream = True
            held = bytes(self.response_body_buf)
            self.response_body_buf.clear()
            yield from self.start_response_stream()
            yield from super().state_stream_response_body(ResponseData(self.stream_id, held))
            return False
        if not request and is_small(self.context.options, self.response_body_buf, self.flow.response):
            return False
        return (yield from super().check_body_size(request))

    def _over_limit(self, event: ResponseData) -> bool:
        self._received += len(event.data)
        return self._exceeds_limit(self._received)

    def _exceeds_limit(self, received: int) -> bool:
        limit = self._plan.bounds.max_response
        return limit is not None and received > limit

    def _delimit(self, received: int) -> None:
        """A body that the upstream ended by closing has a length now: the client's connection can stay."""
        assert self.flow.response
        headers, status = self.flow.response.headers, self.flow.response.status_code
        if "content-length" in headers or "transfer-encoding" in headers:
            return
        bodiless = self.flow.request.method == "HEAD" or status < 200 or status in (204, 304)
        if not (bodiless or self._grpc):
            headers["content-length"] = str(received)

    def state_consume_failed_response(self, event: events.Event) -> CommandGenerator[None]:
        """Hold the upstream's error answer: it is recorded, and passed on if nobody answers in its place."""
        assert self.flow.response
        self._progress_at = self._leg.clock()
        if isinstance(event, ResponseTrailers):
            self.flow.response.trailers = event.trailers
        elif isinstance(event, ResponseData):
            self.response_body_buf += event.data
            if len(self.response_body_buf) > self._leg.client.buffer_body:
                yield from self._response_failed(
                    Failure("http_protocol_error", "the body of the upstream's error answer exceeds buffer_body")
                )
        elif isinstance(event, ResponseEndOfMessage):
            self.flow.response.data.content = bytes(self.response_body_buf)
            self.response_body_buf.clear()
            if self.flow.response.status_code == 200:
                failure = Failure("grpc_unavailable", "the upstream answered with gRPC status UNAVAILABLE", 200)
            else:
                failure = answered_with(self.flow.response.status_code)
            yield from self._retry_or_answer(failure)

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
            self.upstream_alarm.disarm()
            self._client_alarm.disarm()
            self._abandon()
            self._drop_spool()
            yield from super().handle_protocol_error(event)
        elif self._awaiting_response and self._kept and event.message == CLOSED and self._repeatable:
            # That it is closing had been on its way when the request went out: no fault, and no attempt of its own.
            yield AbandonAttempt(self.context.server, self.stream_id)
            self._stale = True
            yield from self._resend()
        elif self._awaiting_response:
            yield from self._response_failed(response_failure(event, self.flow.response is not None))
        elif self.server_state == self.state_stream_response_body:
            yield from self._break_off(response_failure(event, True))
        else:
            yield from super().handle_protocol_error(event)

    def _break_off(self, failure: Failure, waited: float = 0.0) -> CommandGenerator[None]:
        """The client has read a part of the answer, and there will be no more of it."""
        self.upstream_alarm.disarm()
        self._client_alarm.disarm()
        self._attempts.broke_off(failure)
        yield AbandonAttempt(self.context.server, self.stream_id, waited)
        assert self.flow.response
        if self._grpc and self.flow.request.is_http2:
            # A call always ends with a status of its own.
            ending = as_response(upstream_failed_answer(failure, ""), self.flow).headers.fields
            self.flow.response.trailers = Headers([(n, v) for n, v in ending if n.startswith(b"grpc-")])
            if self.client_state != self.state_done:
                self.client_state = self.state_discard_request_body
            yield from self.send_response(already_streamed=True)
            return
        message = ResponseProtocolError(self.stream_id, failure.detail, ErrorCode.GENERIC_SERVER_ERROR)
        yield from super().handle_protocol_error(message)

    def send_response(self, already_streamed: bool = False) -> CommandGenerator[None]:
        """As stock, unless an addon whose failure fails the request has failed on this response."""
        self.upstream_alarm.disarm()
        self._drop_spool()
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

    def _response_failed(self, failure: Failure, waited: float = 0.0) -> CommandGenerator[None]:
        """The attempt broke off after the request had been sent: nothing more of it is of use."""
        yield AbandonAttempt(self.context.server, self.stream_id, waited)
        self.flow.response = None
        self.response_body_buf.clear()
        yield from self._retry_or_answer(failure)

    def _retry_or_answer(self, failure: Failure) -> CommandGenerator[None]:
        held = not self._exchange.get("request_streamed", False)
        if (yield from self._attempt_failed(failure, body_held=held)):
            yield from self._resend()

    # -- time -------------------------------------------------------------------------------------------------------

    def _upstream_is_late(self) -> CommandGenerator[None]:
        in_body = self.server_state in (self.state_consume_response_body, self.state_consume_failed_response)
        streaming = self.server_state == self.state_stream_response_body
        now, patience = self._leg.clock(), self._plan.bounds.read_timeout
        silent = now - self._progress_at
        if (streaming or (in_body and now < self._attempts.deadline_at)) and silent < patience:
            self._arm(patience - silent)
            return
        if self._awaiting_response:
            token = "connection_read_timeout" if in_body else "http_response_timeout"
            detail = "the upstream stopped sending the body" if in_body else "no answer within response_timeout"
            if now >= self._attempts.deadline_at:
                detail = "the deadline over all attempts has passed"
            # An upload is not silence, however long it took.
            waited = silent if in_body else min(silent, self._plan.bounds.response_timeout)
            yield from self._response_failed(Failure(token, detail), waited=waited)
        elif streaming:
            failure = Failure("connection_read_timeout", "the upstream stopped sending the body")
            yield from self._break_off(failure, waited=silent)

    def _drop_stale_events(self) -> None:
        """What the failed attempt still sent while this stream was busy must not be taken for the next one's."""
        kept = [e for e in self._paused_event_queue if not isinstance(e, _RESPONSE_EVENTS)]
        self._paused_event_queue.clear()
        self._paused_event_queue.extend(kept)
