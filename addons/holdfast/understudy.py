"""The understudy: records good answers as files, and gives them in place of a failed upstream's, marked as such.

What the operator gets: a developer goes on working while the backend is away. Place it after `cache` and `surrogate`:
what the cache may answer, fresh or stale, is better than a recording. The interceptor asks here first, wherever it
stands: a request that a recording answers is not captured. Of unsafe methods the interceptor has the first word, unless
`unsafe: answer`; what it has captured, or could not capture, keeps its answer. Replays and other requests of the
gateway's own are never answered by a recording. The marks are `Holdfast-Understudy` (RFC 9651), `Proxy-Status` (RFC
9209) and `no-store`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal

from mitmproxy.http import Headers, HTTPFlow, Response
from mitmproxy.net.http.status_codes import RESPONSES
from prometheus_client import Counter, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from holdfast.answering import as_response
from holdfast.exchange import exchange_of, is_own, route_of
from holdfast.gateway import HAS_ANSWER, Gateway, Health, WouldDo
from holdfast.interceptor import REPLAY
from holdfast.policy.caching.invalidation import is_safe
from holdfast.policy.caching.validation import for_the_origin
from holdfast.policy.failure import Failure
from holdfast.policy.grpc import is_grpc
from holdfast.policy.hop_by_hop import asks_for_upgrade
from holdfast.policy.understudy.answer import not_recorded, stand_in
from holdfast.policy.understudy.key import RecordingKey, file_name, folder_name, key_of
from holdfast.policy.understudy.recordable import is_good, refusal
from holdfast.policy.wire import wire_text
from holdfast.recordings.folder import RecordingFolder, Room
from holdfast.recordings.lookup import Sought, look_up
from holdfast.recordings.recorder import Recorder, Sighting
from holdfast.recordings.settings import Rules, UnderstudySettings, recorder_rules, redaction_of, rules_of

logger = logging.getLogger(__name__)
READ_WITHIN = 2.0  # seconds: a disk that does not answer must not hold up the client
LAST_WORDS = 2.0  # seconds that a stop waits for the disk
LOOK_AGAIN = 2.0  # seconds in which an answer that has not changed is not compared with its file
_SEEN_MAX = 2048
_FAULTS_MAX = 100
_CONDITIONS = (b"if-none-match", b"if-modified-since", b"range", b"if-range")
_SETTLED = ("cached", "capture_id", "capture_failed", "rejected", "withheld", "closed_by", "understudy", "no_recording")


class Understudy:
    """Watches answers, and steps in when there is none."""

    Settings = UnderstudySettings

    def __init__(self, settings: UnderstudySettings, gateway: Gateway) -> None:
        self._gateway = gateway
        self._folder = RecordingFolder(Path(settings.folder), int(settings.max_body))
        self._count = Counter(
            "holdfast_understudy",
            "What was recorded, what was answered from recordings, and what was not.",
            ["route", "result"],
            registry=gateway.registry,
        )
        self._recorder = Recorder(self._folder, recorder_rules(settings), self._report)
        gateway.registry.register(_Figures(self._recorder))
        self._readers = ThreadPoolExecutor(2, "understudy reads")
        self._seen: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()
        self._faults: dict[Path, str] = {}  # files that cannot be used, as far as they were looked at
        if gateway.role == "gateway":
            gateway.checks["understudy"] = self._check
        self.reload(settings)

    def reload(self, settings: UnderstudySettings) -> None:
        """These hold for requests and answers from now on."""
        self._settings = settings
        self._redaction = redaction_of(settings)
        self._default = rules_of(settings, "")
        self._routes = {route: rules_of(settings, route) for route in settings.routes}
        self._recorder.rules = recorder_rules(settings)
        self._folder.max_body = int(settings.max_body)

    # -- for people -------------------------------------------------------------------------------------------------

    async def would_do(self, flow: HTTPFlow) -> WouldDo:
        """Whether it would be recorded, and which recording would answer it, and when."""
        if flow.response:
            return HAS_ANSWER
        rules, method = self._rules(flow), flow.request.data.method.decode("latin-1")
        always = rules.answer == "always"
        if method not in self._settings.methods:
            return WouldDo(False, f"{method} is not among its methods")
        records = "records a good answer" if rules.record == "good" and method != "HEAD" and not always else ""
        if not self._may_answer(flow, "always" if always else "on_failure"):
            return WouldDo(bool(records), records or "neither records nor answers it")
        key = self._key_of(flow)
        sought = await self._sought(route_of(flow), key, rules)
        file = str(self._file(route_of(flow), sought.recording.name if sought.recording else file_name(key)))
        details: dict[str, object] = {"file": file, "recording": sought.why or sought.match, "answers": rules.answer}
        if always:
            says = f"answers from {file}" if sought.recording else f"answers 504: there is no recording {file}"
            return WouldDo(True, f"{says}; no server is asked", details, answers=True)
        does = f"answers from {file} if the upstream fails"
        if not sought.recording:
            does = f"has no recording {file} ({sought.why}) to answer from"
        elif self._waits(flow):
            does += " and nothing was to be captured"
        else:
            details["if_failed"] = sought.match
        return WouldDo(True, "; ".join(filter(None, [records, does])), details)

    # -- life -------------------------------------------------------------------------------------------------------

    async def running(self) -> None:
        if self._gateway.role == "gateway":
            await self._beside(self._folder.tidy)
            await self._beside(self._recorder.look)

    async def done(self) -> None:
        await asyncio.to_thread(self._recorder.stop, LAST_WORDS)
        self._readers.shutdown(wait=False, cancel_futures=True)

    # -- traffic ----------------------------------------------------------------------------------------------------

    def requestheaders(self, flow: HTTPFlow) -> None:
        """The cache takes the client's conditions off, and may put its own in their place: these are the client's."""
        conditions = [(n, v) for n, v in flow.request.headers.fields if n.lower() in _CONDITIONS]
        if conditions:
            exchange_of(flow)["conditions"] = [[wire_text(n), wire_text(v)] for n, v in conditions]

    async def request_grown(self, flow: HTTPFlow) -> None:
        """A body that is not held: none of it has gone anywhere."""
        await self._answer_always(flow)

    async def request(self, flow: HTTPFlow) -> None:
        await self._answer_always(flow)

    async def upstream_failed(self, flow: HTTPFlow) -> None:
        """Every attempt has failed, or no server may be asked. Unsafe methods wait for what the interceptor says."""
        if not self._waits(flow):
            await self._answer_failed(flow)

    async def responseheaders(self, flow: HTTPFlow) -> None:
        if "cached" in exchange_of(flow):
            exchange_of(flow).pop("understudy", None)  # a cache behind this one had something better
        if "error" in exchange_of(flow):
            await self._answer_failed(flow)

    def response(self, flow: HTTPFlow) -> None:
        """A good answer is handed to the thread that writes, unless it has just been compared."""
        response, exchange, settings = flow.response, exchange_of(flow), self._settings
        route, method = route_of(flow), flow.request.data.method.decode("latin-1")
        ours = exchange.get("answered") or not exchange.get("attempts") or {"cached", "distorted"} & exchange.keys()
        if response is None or ours or "error" in exchange or is_own(flow) or REPLAY in flow.request.headers:
            return
        good = is_good(response.status_code, settings.statuses) and method in settings.methods and method != "HEAD"
        if not good or self._rules(flow).record == "never":
            return
        body = response.raw_content
        reason = refusal(
            status=response.status_code,
            content_type=response.headers.get("content-type", ""),
            cache_control=response.headers.get("cache-control", ""),
            length=None if body is None else len(body),
            streamed=bool(response.stream) or (settings.body and bool(exchange.get("request_streamed"))),
            max_body=int(settings.max_body),
            obey_no_store=settings.obey_no_store,
        )
        if reason or body is None:
            self._report(route, reason or "streamed")
            return
        fields, coding = response.headers.fields, response.headers.get("content-encoding", "")
        sighting = Sighting(
            route, self._key_of(flow), response.status_code, fields, body, coding, self._gateway.wall_clock()
        )
        if self._is_news(sighting) and not self._recorder.put(sighting):
            self._seen.pop((route, file_name(sighting.key)), None)
            self._report(route, "busy")

    # -- parts ------------------------------------------------------------------------------------------------------

    def _rules(self, flow: HTTPFlow) -> Rules:
        return self._routes.get(route_of(flow), self._default)

    def _waits(self, flow: HTTPFlow) -> bool:
        """Whether the interceptor has the first word on it."""
        return self._settings.unsafe == "capture" and not is_safe(flow.request.method)

    def _key_of(self, flow: HTTPFlow) -> RecordingKey:
        request, host = flow.request, exchange_of(flow).get("original_host", "")
        # Reverse mode has put the upstream's name into the Host field by now.
        others = [(name, value) for name, value in request.headers.fields if name.lower() != b"host"]
        fields = [(b"host", host.encode("latin-1", "replace")), *others]
        method, target = request.data.method.decode("latin-1"), wire_text(request.data.path)
        body = request.raw_content or b"" if self._settings.body else b""
        return key_of(method, target, fields, counting=self._settings.headers, rules=self._redaction, body=body)

    def _file(self, route: str, name: str) -> Path:
        return self._folder.file(folder_name(route), name)

    def _is_news(self, sighting: Sighting) -> bool:
        """Whether this answer differs from the last one for its key, or that was compared a while ago."""
        moment = time.monotonic()
        volatile = (b"date", b"x-request-id", b"age")
        fields = tuple(each for each in sighting.fields if each[0].lower() not in volatile)
        looks = hash((sighting.status, fields, sighting.body))
        key = sighting.route, file_name(sighting.key)  # short, however long the query is
        before = self._seen.get(key)
        if before and before[0] == looks and moment - before[1] < LOOK_AGAIN:
            return False
        self._seen[key] = (looks, moment)
        self._seen.move_to_end(key)
        if len(self._seen) > _SEEN_MAX:
            self._seen.popitem(last=False)
        return True

    def _may_answer(self, flow: HTTPFlow, when: Literal["on_failure", "always"]) -> bool:
        """Whether a recording may answer this request in such a moment. Conditions on a state are for the origin."""
        request, answer = flow.request, self._rules(flow).answer
        if answer == "never" or (when == "always" and answer != "always"):
            return False
        if request.data.method.decode("latin-1") not in self._settings.methods:
            return False
        if is_own(flow) or REPLAY in request.headers or any(key in exchange_of(flow) for key in _SETTLED):
            return False
        fields = request.headers.fields
        special = is_grpc(request.headers.get("content-type", "")) or asks_for_upgrade(fields) or for_the_origin(fields)
        return not special and not (self._settings.body and exchange_of(flow).get("request_streamed"))

    async def _answer_failed(self, flow: HTTPFlow) -> None:
        if not self._may_answer(flow, "on_failure"):
            return
        exchange = exchange_of(flow)
        status = exchange["error"].removeprefix("http_")  # of the upstream: the response may be the gateway's by now
        failure = Failure(exchange["error"], exchange["detail"], int(status) if status.isdigit() else None)
        if failure.kind in self._settings.on:
            await self._answer(flow, failure)

    async def _answer_always(self, flow: HTTPFlow) -> None:
        if flow.response or not self._may_answer(flow, "always"):
            return
        if not await self._answer(flow, None):
            exchange_of(flow)["answered"], exchange_of(flow)["rejected"] = True, "not_recorded"
            wanted = self._file(route_of(flow), file_name(self._key_of(flow))).relative_to(self._folder.path)
            flow.response = as_response(not_recorded(route_of(flow), str(wanted)), flow)

    async def _answer(self, flow: HTTPFlow, failure: Failure | None) -> bool:
        """Answer from a recording, if there is one. No `failure`: no server was asked."""
        route, exchange = route_of(flow), exchange_of(flow)
        sought = await self._sought(route, self._key_of(flow), self._rules(flow))
        if sought.recording is None:
            exchange["no_recording"] = sought.why
            self._report(route, sought.why)
            return False
        conditions = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in exchange.get("conditions", ())
        ]
        given = stand_in(
            *(sought.recording, sought.match, route),
            method=flow.request.method,
            asked=conditions,
            failure=failure,
            not_retried=exchange.get("not_retried", ""),
        )
        fields = [*given.headers, (b"X-Request-ID", exchange.get("request_id", "").encode("latin-1", "replace"))]
        now = self._gateway.wall_clock()
        reason = RESPONSES.get(given.status, "").encode()
        flow.response = Response(b"HTTP/1.1", given.status, reason, Headers(fields), given.body, None, now, now)
        exchange["understudy"], exchange["answered"] = sought.match, True
        self._report(route, "answered" if sought.match == "exact" else "answered_by_route")
        return True

    async def _sought(self, route: str, key: RecordingKey, rules: Rules) -> Sought:
        now = self._gateway.wall_clock()
        reading = self._beside(
            partial(look_up, self._folder, route, key, match=rules.match, now=now, max_age=rules.max_age)
        )
        try:
            sought = await asyncio.wait_for(reading, READ_WITHIN)
        except TimeoutError:
            logger.warning("recordings cannot be read", extra={"folder": str(self._folder.path)})
            return Sought(why="broken")
        for found in sought.looked_at:
            if found.fault and self._faults.get(found.file) != found.fault and len(self._faults) < _FAULTS_MAX:
                self._faults[found.file] = found.fault
                logger.warning("recording cannot be used, mend it or delete it", extra={"fault": found.fault})
            elif not found.fault:
                self._faults.pop(found.file, None)
        return sought

    def _report(self, route: str, result: str) -> None:
        self._count.labels(route, result).inc()

    async def _beside[T](self, work: Callable[[], T]) -> T:
        """In threads of its own: a disk that hangs must not take those that the outbox needs."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    def _look(self) -> tuple[Room, list[Path]]:
        """What there is, and which of the files that could not be used are gone."""
        return self._recorder.look(), [file for file in list(self._faults) if not file.exists()]

    async def _check(self) -> Health:
        room, gone = await self._beside(self._look)
        for file in gone:
            self._faults.pop(file, None)
        faults = list(self._faults.values())
        detail = "; ".join(
            [*([f"not recorded: {self._recorder.trouble}"] if self._recorder.trouble else []), *faults[:3]]
        )
        figures: dict[str, object] = {
            "recordings": room.recordings,
            "bytes": room.bytes,
            "folder": str(self._folder.path),
            "broken": len(faults),
        }
        return Health("failing" if detail else "ok", detail, figures)


class _Figures(Collector):
    """How much there is, as of the last look."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def collect(self) -> Iterator[Metric]:
        room: Room = self._recorder.room
        yield GaugeMetricFamily("holdfast_understudy_recordings", "Recordings in the folder.", room.recordings)
        yield GaugeMetricFamily("holdfast_understudy_bytes", "Bytes that they take.", room.bytes)
