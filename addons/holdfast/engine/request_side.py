"""The client's part of an exchange: reading its request, within bounds of size and time.

A body is held until it is whole, so that the request can be tried again and captured. One that is larger than
`limits.buffer_body` goes upstream as it arrives. A gRPC call cannot be told from a stream of messages by its header:
it is held for a moment, in which a single message arrives whole, and passed on as a stream if it goes on after that.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from functools import cached_property, lru_cache

from mitmproxy.http import HTTPFlow, Request, Response
from mitmproxy.net.http import url
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    DropStream,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
)
from mitmproxy.proxy.layers.http._events import ErrorCode

from holdfast.answering import as_response
from holdfast.engine.commands import AbandonAttempt
from holdfast.engine.connection_fields import passed_on
from holdfast.engine.hooks import RequestGrownHook
from holdfast.engine.leg import Leg
from holdfast.engine.timed_stream import TimedStream
from holdfast.policy.answer import Answer, body_not_stored_answer, too_large_answer, too_slow_answer
from holdfast.policy.grpc import Messages
from holdfast.spool import Spool

HOLD = 0.01
"""Seconds for which a gRPC request is held at a message boundary, in case it ends there. It delays the first message of
a stream, once; a client that sends one message sends its end in the same packet."""

_hostport = lru_cache(maxsize=64)(url.hostport)  # of the first of the servers, each time


class RequestSide(TimedStream):
    """Reads the request. What happens upstream is in `ResilientStream`."""

    def __init__(self, context: Context, stream_id: int, leg: Leg) -> None:
        super().__init__(context, stream_id, leg)
        self._discard_at_most: int | None = None
        self._spool: Spool | None = None

    @cached_property
    def _messages(self) -> Messages:
        """Of a gRPC request, while it is held."""
        return Messages()

    @abstractmethod
    def make_server_connection(self) -> CommandGenerator[bool]:
        """Connect to a server, as often as the rules allow. False: the request has been ended here."""

    # -- the header -------------------------------------------------------------------------------------------------

    def state_wait_for_request_headers(self, event: events.Event) -> CommandGenerator[None]:
        """As stock in reverse mode, but hop-by-hop fields end here, and a refusal is an answer that can be read."""
        assert isinstance(event, RequestHeaders)
        request = passed_on(event.request)
        self.flow = event.replay_flow or HTTPFlow(self.context.client, self.context.server)
        self.flow.request, self.flow.live = request, True
        if event.replay_flow is None:
            self._exchange["original_host"] = request.host_header or ""
        if (yield from self.check_invalid(True)):
            return
        self._aim(request)
        if not event.end_stream and (yield from self.check_body_size(True)):
            return
        yield HttpRequestHeadersHook(self.flow)
        if (yield from self.check_killed(True)):
            return
        self.server_state = self.state_wait_for_response_headers
        if not event.end_stream and self._too_large(0):
            yield from self._refuse_body()
            return
        yield from self._continue_if_asked(request)
        if not event.end_stream:
            self._client_progress_at = self._leg.clock()
            self._client_alarm.arm(self._client_patience)
        if request.stream and not event.end_stream:
            yield from self.start_request_stream()
        else:
            self.client_state = self.state_consume_request_body

    def _aim(self, request: Request) -> None:
        """At the first of the servers, as stock does in reverse mode; `Attempts` chooses another if need be."""
        server = self.context.server
        assert server.address
        request.data.host, request.data.port = server.address[:2]
        request.scheme = "https" if server.tls else "http"
        if not request.is_http2:
            request.authority = ""  # an absolute target is for proxies, and the origin is none of ours
        if not self.context.options.keep_host_header:
            request.host_header = _hostport(request.scheme, request.host, request.port)

    def _continue_if_asked(self, request: Request) -> CommandGenerator[None]:
        """`Expect: 100-continue` concerns this hop; the upstream gets the body at once (RFC 9110, section 10.1.1)."""
        if request.headers.get("expect", "").lower() != "100-continue":
            return
        del request.headers["expect"]
        if self.flow.response is None:
            interim = Response.make(100)
            interim.headers.clear()
            yield SendHttp(ResponseHeaders(self.stream_id, interim), self.context.client)

    # -- the body ---------------------------------------------------------------------------------------------------

    def state_consume_request_body(self, event: events.Event) -> CommandGenerator[None]:
        """As stock; each piece is progress."""
        self._client_progress_at = self._leg.clock()
        if isinstance(event, RequestEndOfMessage):
            self._client_alarm.disarm()
        if self._grpc and isinstance(event, RequestData):
            self._messages.feed(event.data)
            if self._messages.between:
                self._client_alarm.arm(HOLD)
        yield from super().state_consume_request_body(event)

    def start_request_stream(self) -> CommandGenerator[None]:
        """Send the body as it arrives. Only a failure to connect can be retried then."""
        self._exchange["request_streamed"] = True
        if self.flow.response is None:
            yield RequestGrownHook(self.flow)
            if (yield from self.check_killed(True)):
                return
        if self.flow.response:
            # Stock raises here and the client hangs: an addon has answered while the body is still arriving.
            self.client_state = self.state_discard_request_body
            return
        if "withheld" in self._exchange:
            yield from self._keep_back()
            return
        if self._leg.spooling and not self._grpc and self.flow.request.stream is True:
            self._spool = self._leg.spooling.open(self.flow.id)
        if not (yield from self.make_server_connection()):
            if self.client_state not in (self.state_errored, self.state_spool_request_body):
                self.client_state = self.state_discard_request_body
            return
        self.upstream_alarm.disarm()  # how long the upload takes is the client's affair
        yield SendHttp(RequestHeaders(self.stream_id, self.flow.request, end_stream=False), self.context.server)
        self.client_state = self.state_stream_request_body

    def _keep_back(self) -> CommandGenerator[None]:
        """An addon wants the request for itself: the body is kept, and goes to no server."""
        self._spool = self._leg.spooling.open(self.flow.id) if self._leg.spooling else None
        if self._spool:
            self.client_state = self.state_spool_request_body
        else:
            yield from self._body_is_lost()

    def _stream_from_here(self) -> CommandGenerator[None]:
        """What is held goes upstream now, and the rest as it arrives."""
        self.flow.request.stream = True
        held = bytes(self.request_body_buf)
        self.request_body_buf.clear()
        yield from self.start_request_stream()
        if held and self.client_state not in (self.state_errored, self.state_done):
            yield from self.client_state(RequestData(self.stream_id, held))

    def state_stream_request_body(self, event: events.Event) -> CommandGenerator[None]:
        """As stock; the upstream's time to answer starts when the client has sent the whole request."""
        self._client_progress_at = self._leg.clock()
        waiting = self.server_state == self.state_wait_for_response_headers
        if isinstance(event, RequestData):
            sent = self._note_sent(event)
            if waiting and self._too_large(sent):
                self.upstream_alarm.disarm()
                yield AbandonAttempt(self.context.server, self.stream_id)
                yield from self._refuse_body()
                return
        elif isinstance(event, RequestEndOfMessage):
            self._client_alarm.disarm()
            self._note_whole()
        yield from super().state_stream_request_body(event)
        if isinstance(event, RequestEndOfMessage) and self.server_state == self.state_wait_for_response_headers:
            self._attempts.restart_deadline()
            self._arm(self._plan.bounds.response_timeout)

    def _note_sent(self, event: RequestData) -> int:
        """How many bytes of the body have come so far, this piece included; it is kept if there is a spool."""
        if self._spool and not self._spool.write(event.data):
            self._spool = None
        sent = self._exchange["request_bytes"] = self._exchange.get("request_bytes", 0) + len(event.data)
        return sent

    def _note_whole(self) -> None:
        if self._spool:
            self._spool.whole = True

    def _drop_spool(self) -> None:
        if self._spool:
            self._spool.close()
            self._spool = None

    def state_spool_request_body(self, event: events.Event) -> CommandGenerator[None]:
        """The upstream has failed, or is not asked; the whole request can be captured once all of it is here."""
        self._client_progress_at = self._leg.clock()
        if isinstance(event, RequestData):
            if self._too_large(self._note_sent(event)):
                self._spool = None
                yield from self._refuse_body()
            elif self._spool is None:
                yield from self._body_is_lost()
        elif isinstance(event, RequestEndOfMessage):
            self._client_alarm.disarm()
            self._note_whole()
            self.client_state = self.state_done
            yield HttpRequestHook(self.flow)
            if (yield from self.check_killed(True)):
                return
            if self.flow.response and "withheld" in self._exchange:
                yield from self._respond()
            else:
                yield from self._body_is_in()

    def _body_is_lost(self) -> CommandGenerator[None]:
        """It could not be kept. Where nobody but the client has it, the client is told at once."""
        if "withheld" not in self._exchange:
            yield from self._body_is_in()
            return
        exchange, room = self._exchange, self._leg.spooling
        exchange["capture_failed"] = "too_large"
        for_now = room is not None and room.could_take(exchange.get("request_bytes", 0))
        retry_after = math.ceil(exchange.get("retry_in", 0.0)) if for_now else None
        yield from self._refuse("body_not_stored", body_not_stored_answer(retry_after))

    @abstractmethod
    def _body_is_in(self) -> CommandGenerator[None]:
        """Go on with a failure that waited for the rest of the request."""

    def state_discard_request_body(self, event: events.Event) -> CommandGenerator[None]:
        """The answer does not depend on the rest of the body: read it to its end, so that the connection can stay."""
        self._client_progress_at = self._leg.clock()
        if isinstance(event, RequestData) and self._discard_at_most is not None:
            self._discard_at_most -= len(event.data)
            if self._discard_at_most < 0:
                yield from self._stop_reading()
        if not isinstance(event, RequestEndOfMessage):
            return
        self._client_alarm.disarm()
        self.client_state = self.state_done
        if self.server_state == self.state_done:
            yield from self.flow_done()
            return
        yield HttpRequestHook(self.flow)
        if not (yield from self.check_killed(True)):
            yield from self._respond()

    # -- bounds -----------------------------------------------------------------------------------------------------

    def check_body_size(self, request: bool) -> CommandGenerator[bool]:
        """As stock, but a request above `limits.max_body` is refused with an answer that can be read."""
        if request and self.request_body_buf and self._too_large(len(self.request_body_buf)):
            self.request_body_buf.clear()
            yield from self._refuse_body()
            return True
        return (yield from super().check_body_size(request))

    def _too_large(self, received: int) -> bool:
        limit = self._plan.bounds.max_body
        if limit is None:
            return False
        announced = self.flow.request.headers.get("content-length", "")
        return received > limit or (announced.isdigit() and int(announced) > limit)

    def _refuse_body(self) -> CommandGenerator[None]:
        """Answer 413 at once. The client may still be sending: reset it only if it does not stop soon."""
        yield from self._refuse("body_too_large", too_large_answer(self._plan.bounds.max_body or 0))

    def _refuse(self, reason: str, answer: Answer) -> CommandGenerator[None]:
        """Answer while the request is still arriving."""
        self._exchange["rejected"] = reason
        self._exchange["answered"] = True
        self._discard_at_most = self._leg.client.buffer_body
        self.flow.response = as_response(answer, self.flow)
        self.client_state = self.state_discard_request_body
        yield from self._respond()
        if not self.flow.request.is_http2:
            yield commands.CloseTcpConnection(self.context.client, half_close=True)

    @property
    def _client_patience(self) -> float:
        return HOLD if self._grpc else self._plan.bounds.body_timeout

    def _client_is_late(self) -> CommandGenerator[None]:
        """Nothing has come from the client for too long: it is too slow, or this is a stream of messages."""
        now, patience = self._leg.clock(), self._plan.bounds.body_timeout
        if self._grpc:
            if self.client_state != self.state_consume_request_body:
                return
            if self._messages.between:
                yield from self._stream_from_here()
                return
        silent = now - self._client_progress_at
        if silent < patience:
            self._client_alarm.arm(patience - silent)
            return
        self.request_body_buf.clear()
        if self.client_state == self.state_stream_request_body:
            if self.server_state != self.state_wait_for_response_headers:
                return  # the response is on its way: its own limits hold
            self.upstream_alarm.disarm()
            self._abandon()
            yield AbandonAttempt(self.context.server, self.stream_id)
        if self.client_state == self.state_discard_request_body:
            yield from self._stop_reading()
        elif self.client_state not in (self.state_errored, self.state_done):
            yield from self._refuse("request_timeout", too_slow_answer(patience))
            yield from self._stop_reading()

    def _stop_reading(self) -> CommandGenerator[None]:
        """The client has its answer: whatever else it sends of this request is not waited for."""
        if self.flow.request.is_http2:
            end = ResponseProtocolError(self.stream_id, "the request was not read to its end", ErrorCode.CANCEL)
            yield SendHttp(end, self.context.client)
            self.client_state = self.state_errored
            yield DropStream(self.stream_id)
        else:
            yield commands.CloseConnection(self.context.client)

    # -- the answer -------------------------------------------------------------------------------------------------

    def send_response(self, already_streamed: bool = False) -> CommandGenerator[None]:
        """As stock, which would send the body to a HEAD as well, so that the next answer would be misread."""
        assert self.flow.response
        if self.flow.request.method == "HEAD" and not already_streamed:
            self.flow.response.raw_content = b""
        yield from self._send_out(already_streamed)

    def _send_out(self, already_streamed: bool) -> CommandGenerator[None]:
        yield from super().send_response(already_streamed)

    def _respond(self) -> CommandGenerator[None]:
        """Send `flow.response` as mitmproxy sends one that an addon has set."""
        assert self.flow.response
        self.flow.response.timestamp_start = time.time()
        yield HttpResponseHeadersHook(self.flow)
        if (yield from self.check_killed(True)):
            return
        yield from self.send_response()
        if self.flow.request.is_http2 and self.client_state != self.state_done:
            # The answer is whole, though the request is not.
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
