"""A stream that takes and gives messages in one piece, where they are.

The way of a message is the same as in `ResilientStream`, by the same steps, but for those that only wait for what is
there already. Where anything is unusual the message is taken apart, and goes by those.
"""

from __future__ import annotations

import time

from mitmproxy.proxy import events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    DropStream,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
    RequestHeaders,
    ResponseData,
    ResponseEndOfMessage,
    ResponseTrailers,
    SendHttp,
)

from holdfast.engine.framing import has_known_names, is_small
from holdfast.engine.stream import TOO_LARGE, ResilientStream
from holdfast.engine.whole import WholeRequest, WholeResponse
from holdfast.policy.hop_by_hop import end_to_end


class WholeStream(ResilientStream):
    """`ResilientStream` for whole messages as well."""

    _sound = False  # the request's header has been read by stricter rules than mitmproxy's

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if type(event) is WholeResponse:
            return self._whole_response(event)
        if type(event) is WholeRequest:
            return self._whole_request(event)
        return super()._handle_event(event)

    # -- the request ------------------------------------------------------------------------------------------------

    def _whole_request(self, event: WholeRequest) -> CommandGenerator[None]:
        self._sound = True  # `http1_fault` has
        yield from self.state_wait_for_request_headers(RequestHeaders(self.stream_id, event.request, not event.content))
        if self.client_state != self.state_consume_request_body:
            for part in event.rest():
                yield from self.client_state(part)
            return
        if event.content:
            self._client_alarm.disarm()
        request = self.flow.request
        request.timestamp_end = time.time()
        request.data.content = event.content
        self.client_state = self.state_done
        yield HttpRequestHook(self.flow)
        if (yield from self.check_killed(True)):
            return
        if self.flow.response:
            yield from self._respond()
        elif (yield from self.make_server_connection()):
            yield from self._send_request()

    def check_invalid(self, request: bool) -> CommandGenerator[bool]:
        """As stock, once."""
        return False if request and self._sound else (yield from super().check_invalid(request))

    def _send_request(self) -> CommandGenerator[None]:
        request = self.flow.request
        if request.trailers or self.context.server.alpn == b"h2":
            yield from super()._send_request()
        else:
            whole = WholeRequest(self.stream_id, request, request.raw_content or b"")
            yield SendHttp(whole, self.context.server)

    # -- the response -----------------------------------------------------------------------------------------------

    def _whole_response(self, event: WholeResponse) -> CommandGenerator[None]:
        if self.server_state != self.state_wait_for_response_headers:
            return  # nobody waits for it any more
        self.upstream_alarm.disarm()
        self._progress_at = self._leg.clock()
        response, content = event.response, event.content
        # In place, and in no copy: whoever has read it does not look at it again.
        response.data.headers.fields = tuple(end_to_end(response.data.headers.fields))
        self.flow.response = response
        if self._is_gateway_failure(response, not content):
            self.server_state = self.state_consume_failed_response
            yield from self._go_on(content)
            return
        if self._must_stream(response):
            response.stream = True
        small = not content or is_small(self.context.options, content, response)
        if not small and (yield from self.check_body_size(False)):
            return
        if not has_known_names(response) and (yield from self.check_invalid(False)):
            return
        yield HttpResponseHeadersHook(self.flow)
        if (yield from self.check_killed(True)):
            return
        response = self.flow.response
        if response.stream and content:
            yield from self.start_response_stream()
            yield from self._go_on(content)
        elif self._exceeds_limit(len(content)):
            self.server_state = self.state_consume_response_body
            yield from self._response_failed(TOO_LARGE)
        else:
            self.server_state = self.state_consume_response_body
            self._attempts.ended(None)
            self._delimit(len(content))
            response.data.content = content
            yield from self.send_response()

    def _go_on(self, content: bytes) -> CommandGenerator[None]:
        """What follows the header, unless the attempt ends before."""
        state = self.server_state
        if content:
            yield from state(ResponseData(self.stream_id, content))
        if self.server_state == state:
            yield from state(ResponseEndOfMessage(self.stream_id))

    def _send_out(self, already_streamed: bool) -> CommandGenerator[None]:
        response = self.flow.response
        assert response
        if already_streamed or response.status_code == 101 or self.flow.request.is_http2:
            yield from super()._send_out(already_streamed)
            return
        response.timestamp_end = time.time()
        yield HttpResponseHook(self.flow)
        self.server_state = self.state_done
        if (yield from self.check_killed(False)):
            return
        response = self.flow.response
        assert response
        whole = WholeResponse(self.stream_id, response, response.raw_content or b"")
        if self.client_state == self.state_done and not response.trailers and response.status_code != 101:
            self.flow.live = False
            yield DropStream(self.stream_id)
            yield SendHttp(whole, self.context.client)
            return
        for part in whole.parts():
            if type(part) is not ResponseEndOfMessage:
                yield SendHttp(part, self.context.client)
        if response.trailers:
            yield SendHttp(ResponseTrailers(self.stream_id, response.trailers), self.context.client)
        if self.client_state == self.state_done:
            yield from self.flow_done()
