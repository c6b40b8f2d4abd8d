"""A stream whose attempts or answer are made to fail as somebody has asked (`policy.faults`).

`at: upstream` stands in for the server: a fault before any answer means that no server is asked, and the stream gets
the events that a failing one would have caused; one of the answer lets the real answer through, late, slow, broken off
or damaged. Everything behind that point cannot tell the difference. `at: client` changes what goes out, whoever has
made the answer: addons see, store and log it as it was.

A delay is a `Pause`, so that the end of the client and the time limits of the upstream are heard of meanwhile.
"""

from __future__ import annotations

from dataclasses import replace

from mitmproxy import flow
from mitmproxy.connection import Server
from mitmproxy.http import Response
from mitmproxy.proxy import events
from mitmproxy.proxy.commands import Command
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    DropStream,
    HttpErrorHook,
    HttpResponseHook,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
    SendHttp,
)
from mitmproxy.proxy.layers.http._base import HttpEvent
from mitmproxy.proxy.layers.http._events import ErrorCode

from holdfast.answering import as_response
from holdfast.engine.commands import AbandonAttempt, Pause
from holdfast.engine.leg import Leg
from holdfast.engine.stream import ResilientStream
from holdfast.engine.timers import Alarm, TimerFired
from holdfast.policy.answer import Answer, injected_answer
from holdfast.policy.endpoint import Endpoint
from holdfast.policy.failure import Failure
from holdfast.policy.faults import LONGEST, Injection, Rule, said

_IN_PLACE = frozenset({"status", "reset", "hang"})
"""Kinds for which no server is asked, though the stream believes that one is."""


class FaultyStream(ResilientStream):
    """`ResilientStream` where the profile has the addon `faults`."""

    def __init__(self, context: Context, stream_id: int, leg: Leg) -> None:
        super().__init__(context, stream_id, leg)
        client = context.client.id
        self.pause_alarm = Alarm(leg.timers, client, stream_id, "pause")
        self._play_alarm = Alarm(leg.timers, client, stream_id, "fault")
        self._busy = False
        self._of_attempt: Injection | None = None
        self._came = 0  # bytes of this attempt's body
        self._of_answer: Injection | None = None
        self._asked = False  # whether there is one for the answer has been decided
        self._replaced = False  # the client gets an answer of ours
        self._cut = False  # it gets no more
        self._went = 0  # bytes of the body

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if self._busy:  # stock hands itself what it has held so far; that has been through here
            yield from super()._handle_event(event)
            return
        self._busy = True
        try:
            yield from self._through_faults(event)
        finally:
            self._busy = False

    def _through_faults(self, event: events.Event) -> CommandGenerator[None]:
        steps, reply = self._from_upstream(event), None
        while True:
            try:
                command = steps.send(reply)
            except StopIteration:
                return
            reply, goes_on = None, True
            if isinstance(command, HttpResponseHook) or _is_answer(command):
                goes_on = yield from self._before_answer(streamed=isinstance(command, SendHttp))
            if goes_on and isinstance(command, SendHttp) and command.connection is self.context.client:
                goes_on = yield from self._to_client(command)
            elif goes_on:
                reply = yield command
            if not goes_on:
                steps.close()
                return

    # -- at: upstream -----------------------------------------------------------------------------------------------

    def _connect(self, endpoint: Endpoint) -> CommandGenerator[tuple[Server | None, str | None]]:
        """As without faults, unless one takes the server's place."""
        self._exchange.pop("distorted", None)
        self._came, faults = 0, self._leg.faults
        injection = self._of_attempt = faults.injection(self.flow, "upstream", endpoint.name) if faults else None
        if injection is None:
            return (yield from super()._connect(endpoint))
        kind = injection.rule.kind
        self._attempts.injected = kind == "refuse" or kind in _IN_PLACE
        if kind in ("status", "corrupt"):
            self._exchange["distorted"] = True
        if kind == "refuse":
            self._arm(self._plan.bounds.connect_timeout)
            self.connect_timed_out = (yield Pause(injection.delay)) == "late"
            self.upstream_alarm.disarm()
            return None, "connection refused"
        if kind not in _IN_PLACE:
            return (yield from super()._connect(endpoint))
        if kind != "hang":
            self._play_alarm.arm(injection.delay)
        return Server(address=endpoint.address), None  # nobody knows it: what is sent to it is dropped

    def _from_upstream(self, event: events.Event) -> CommandGenerator[None]:
        injection = self._of_attempt
        if injection and isinstance(event, TimerFired) and self._play_alarm.rang(event):
            self._play_alarm.disarm()
            yield from self._play(injection)
        elif injection and isinstance(event, ResponseHeaders):
            if (yield from self._wait(injection.delay, injection)):
                yield from super()._handle_event(event)
        elif injection and isinstance(event, ResponseData):
            yield from self._body_from_upstream(event, injection)
        elif injection and isinstance(event, ResponseEndOfMessage) and injection.rule.kind == "truncate" and self._came:
            yield from self._broken_by_upstream()
        else:
            yield from super()._handle_event(event)

    def _play(self, injection: Injection) -> CommandGenerator[None]:
        """What the server would have done. Each event may be the end of the attempt."""
        rule = injection.rule
        if rule.kind == "reset":
            lost = ResponseProtocolError(self.stream_id, "server closed connection", ErrorCode.GENERIC_SERVER_ERROR)
            yield from super()._handle_event(lost)
            return
        body = (f"injected by the fault {rule.name}\n" if rule.body is None else rule.body).encode()
        fields = [(name.encode(), value.encode()) for name, value in rule.headers]
        response = Response.make(rule.status, body, fields)
        response.headers.setdefault("content-type", "text/plain")
        if self.flow.request.method == "HEAD" or rule.status == 204:
            body = b""
        script = [ResponseHeaders(self.stream_id, response, not body), ResponseEndOfMessage(self.stream_id)]
        script[1:1] = [ResponseData(self.stream_id, body)] if body else []
        for event in script:
            if self._of_attempt is injection:
                yield from super()._handle_event(event)

    def _body_from_upstream(self, event: ResponseData, injection: Injection) -> CommandGenerator[None]:
        kind, data = injection.rule.kind, event.data
        self._came += len(data)
        if kind == "corrupt":
            yield from super()._handle_event(
                ResponseData(self.stream_id, injection.corrupted(data, self._came - len(data)))
            )
        elif kind == "slow":
            for piece, seconds in injection.pieces(data):
                if not (yield from self._wait(seconds, injection)):
                    return
                yield from super()._handle_event(ResponseData(self.stream_id, piece))
        elif kind == "truncate" and self._came > (cut := injection.cut(self._announced)):
            passed = data[: max(0, cut - (self._came - len(data)))]
            if passed:
                yield from super()._handle_event(ResponseData(self.stream_id, passed))
            if self._of_attempt is injection:
                yield from self._broken_by_upstream()
        else:
            yield from super()._handle_event(event)

    def _broken_by_upstream(self) -> CommandGenerator[None]:
        lost = ResponseProtocolError(
            self.stream_id, "peer closed connection, incomplete body", ErrorCode.GENERIC_SERVER_ERROR
        )
        yield from super()._handle_event(lost)

    @property
    def _announced(self) -> int | None:
        length = self.flow.response.headers.get("content-length", "") if self.flow.response else ""
        return int(length) if length.isascii() and length.isdigit() else None

    def _attempt_failed(self, failure: Failure, *, body_held: bool = True) -> CommandGenerator[bool]:
        """As without faults; the failure says so if one has made it."""
        failure = self._explained(failure)
        self._of_attempt = None
        self._play_alarm.disarm()
        return (yield from super()._attempt_failed(failure, body_held=body_held))

    def _break_off(self, failure: Failure, waited: float = 0.0) -> CommandGenerator[None]:
        failure = self._explained(failure)
        self._of_attempt = None
        yield from super()._break_off(failure, waited)

    def _explained(self, failure: Failure) -> Failure:
        injection = self._of_attempt
        if injection is None:
            return failure
        kind = injection.rule.kind
        late = kind in ("latency", "slow") and failure.timed_out
        if not (
            late or self._attempts.injected or (kind == "truncate" and failure.error == "http_response_incomplete")
        ):
            return failure
        self._attempts.injected = True
        return replace(failure, detail=f"{failure.detail} (injected by the fault {injection.rule.name})")

    # -- at: client -------------------------------------------------------------------------------------------------

    def _before_answer(self, *, streamed: bool) -> CommandGenerator[bool]:
        """Decide, once, and let the time pass that comes before an answer. False: there is none, or nobody for it."""
        if self._asked:
            return True
        self._asked, faults = True, self._leg.faults
        injection = self._of_answer = faults.injection(self.flow, "client") if faults else None
        if injection is None:
            return True
        kind = injection.rule.kind
        if kind == "hang":
            yield Pause(LONGEST, until_gone=True)
        elif not (yield from self._wait(injection.delay)):
            return False
        if kind in ("hang", "reset"):
            yield from self._end_unanswered(reset=kind == "reset", streamed=streamed)
            return False
        if kind == "status":
            self._exchange["sent_status"] = injection.rule.status
        return True

    def _end_unanswered(self, *, reset: bool, streamed: bool) -> CommandGenerator[None]:
        if streamed:
            yield AbandonAttempt(self.context.server, self.stream_id)
        if reset and not self.flow.request.is_http2:
            self._leg.timers.reset_at_close(self.context.client)
        yield from self._end_of_flow()
        end = ResponseProtocolError(self.stream_id, "an injected fault", ErrorCode.KILL)
        yield SendHttp(end, self.context.client)
        yield DropStream(self.stream_id)

    def _end_of_flow(self) -> CommandGenerator[None]:
        """For the addons it ends without an answer."""
        self.upstream_alarm.disarm()
        self._client_alarm.disarm()
        self._drop_spool()
        self._abandon()
        self.flow.error = flow.Error("the answer was held back by an injected fault")
        yield HttpErrorHook(self.flow)
        self.client_state = self.server_state = self.state_errored
        self.flow.live = False

    def _to_client(self, command: SendHttp) -> CommandGenerator[bool]:
        """Send it, or what becomes of it. False: nothing more comes of what is being done."""
        event, injection = command.event, self._of_answer
        if self._cut or (self._replaced and isinstance(event, ResponseData | ResponseTrailers)):
            return True
        if isinstance(event, ResponseHeaders) and _is_answer(command):
            return (yield from self._header_to_client(event))
        if injection and isinstance(event, ResponseData):
            return (yield from self._body_to_client(event.data, injection))
        if injection and injection.rule.kind == "truncate" and isinstance(event, ResponseEndOfMessage) and self._went:
            return (yield from self._cut_off())
        yield command
        return True

    def _header_to_client(self, event: ResponseHeaders) -> CommandGenerator[bool]:
        """Marked, in a copy: what is stored or shown elsewhere is the answer as it was."""
        injection, response, ends = self._of_answer, event.response.copy(), event.end_stream
        if injection and injection.rule.kind == "status" and response.status_code != 101:
            rule, self._replaced = injection.rule, True
            response = as_response(self._in_place_of(response, rule), self.flow)
            if self.flow.request.method == "HEAD" or rule.status == 204:
                response.data.content = b""
            ends = not response.raw_content
        told = [said(each["rule"], each["kind"], each["at"]) for each in self._exchange.get("faults", ())]
        if told:
            response.headers["Holdfast-Fault"] = ", ".join(dict.fromkeys(told))
        yield self._send(ResponseHeaders(self.stream_id, response, ends))
        if not self._replaced:
            return True
        if not ends:
            yield self._send(ResponseData(self.stream_id, response.raw_content or b""))
        return (yield from self._end_of_streamed(whole=True))

    def _in_place_of(self, response: Response, rule: Rule) -> Answer:
        exchange, body, headers = self._exchange, rule.body, rule.headers
        received = response.status_code if exchange.get("attempts") and not exchange.get("answered") else None
        if self._grpc:  # there the body of an answer is its status, and seconds are all that can be said
            body, headers = None, tuple(f for f in headers if f[0].lower() != "retry-after" or f[1].isdigit())
        return injected_answer(rule.name, rule.status, body, headers, received)

    def _body_to_client(self, data: bytes, injection: Injection) -> CommandGenerator[bool]:
        kind, before = injection.rule.kind, self._went
        self._went += len(data)
        if kind == "slow":
            for piece, seconds in injection.pieces(data):
                if not (yield from self._wait(seconds)):
                    return False
                yield self._send(ResponseData(self.stream_id, piece))
            return True
        if kind == "truncate" and self._went > (cut := injection.cut(self._length)):
            yield self._send(ResponseData(self.stream_id, data[: max(0, cut - before)]))
            return (yield from self._cut_off())
        if kind == "corrupt":
            data = injection.corrupted(data, before)
        yield self._send(ResponseData(self.stream_id, data))
        return True

    def _cut_off(self) -> CommandGenerator[bool]:
        yield self._send(ResponseProtocolError(self.stream_id, "an injected fault", ErrorCode.KILL))
        self._cut = True
        return (yield from self._end_of_streamed(whole=False))

    def _end_of_streamed(self, *, whole: bool) -> CommandGenerator[bool]:
        """Nothing more of an answer that is still coming in goes out: why have it. True: it had come before."""
        if self.server_state == self.state_done:
            return True
        yield AbandonAttempt(self.context.server, self.stream_id)
        yield from self._end_of_flow()
        if whole:
            yield self._send(ResponseEndOfMessage(self.stream_id))
        yield DropStream(self.stream_id)
        return False

    @property
    def _length(self) -> int | None:
        held = self.flow.response.raw_content if self.flow.response else None
        return len(held) if held else self._announced

    def _send(self, event: HttpEvent) -> SendHttp:
        return SendHttp(event, self.context.client)

    # -- time -------------------------------------------------------------------------------------------------------

    def _wait(self, seconds: float, attempt: Injection | None = None) -> CommandGenerator[bool]:
        """Whether to go on after so many seconds: not if the client is gone, or the attempt this is about is over."""
        clock = self._leg.clock
        until = clock() + seconds
        while (left := until - clock()) > 0:
            reply = yield Pause(left)
            if reply == "gone":
                self._drop_stale_events()  # what of the answer has come meanwhile: its beginning is not passed on
                return False
            if reply == "late":
                if attempt is None:
                    self.note_progress()  # it is not the server that is late
                yield from self._upstream_is_late()
                if attempt is not None and self._of_attempt is not attempt:
                    return False
        return True


def _is_answer(command: Command) -> bool:
    """Whether this is the header of an answer that is no interim one."""
    if not isinstance(command, SendHttp) or not isinstance(command.event, ResponseHeaders):
        return False
    return command.event.response.status_code == 101 or command.event.response.status_code >= 200
