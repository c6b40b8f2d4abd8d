"""The failure sink: keeps failed requests on disk, and passes them on to the broker.

Place it after `interceptor`, which asks it to store. `capture` returns only once the record is durable; relaying to
the broker happens beside the traffic and may be hours behind. If the outbox cannot be opened or written the gateway
goes on without it: captures are refused with a reason, the health page says so, and opening is tried again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from mitmproxy.http import HTTPFlow
from msgspec import Meta, Struct, field
from prometheus_client import Counter

from holdfast.brokers import Broker, open_broker
from holdfast.captured import captured_request
from holdfast.errors import CaptureRefused, StoreUnavailable
from holdfast.exchange import exchange_of, route_of
from holdfast.gateway import HAS_ANSWER, Gateway, Health, WouldDo
from holdfast.order import holds_up, siblings_hold_up
from holdfast.outbox import Outbox, OutboxLimits, OutboxReader, OutboxRecord, Relay
from holdfast.outbox.share import beside_this_thread
from holdfast.outbox_metrics import OutboxMetrics
from holdfast.policy.capture_key import key_in_body, parse_key, refuse_secret_key
from holdfast.policy.endpoint import Endpoint
from holdfast.policy.envelope import CapturedRequest, message_headers, to_json, wire_text
from holdfast.policy.failure import NO_SERVER, Failure
from holdfast.policy.hop_by_hop import asks_for_upgrade
from holdfast.policy.redaction import DEFAULT_HEADERS, DEFAULT_QUERY, RedactionRules, redact
from holdfast.policy.uuid7 import Uuid7Source
from holdfast.profile.settings import Profile
from holdfast.profile.values import Duration, Size
from holdfast.request_ids import random_bytes
from holdfast.sealing import Sealer, parse_keys
from holdfast.spool import SpoolRoom

logger = logging.getLogger(__name__)
FLUSH = 3.0  # seconds that a stop waits for the broker's confirmations
LARGE_BODY = 256 * 1024  # characters
REOPEN_EVERY = 5.0  # seconds between two attempts to open an outbox that could not be opened
_RESTART = {"restart": True}
_COMPANY = 8  # requests under way, from which on several are likely to fail at about the same time


class RedactionSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is taken out of a request before it touches the disk, besides what always is."""

    headers: Annotated[tuple[str, ...], Meta(description="More header fields, besides authorization, cookie ...")] = ()
    query: Annotated[
        tuple[str, ...], Meta(description="More query parameters, besides token, api_key, password ...")
    ] = ()
    json_paths: Annotated[
        tuple[str, ...],
        Meta(description="Values in JSON bodies, like `$.user.password`, `$.items[*].pin`, `$..secret`."),
    ] = ()
    other_bodies: Annotated[
        Literal["mask", "keep"],
        Meta(description="Bodies in which `json_paths` find no JSON: masked whole, or kept if they do not claim it."),
    ] = "mask"


class SpoolSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Request bodies larger than `limits.buffer_body`, kept on disk until the upstream has answered."""

    max_body: Annotated[Size, Meta(description="Larger bodies are not kept, and so not captured.")] = Size("64MiB")
    max_total: Annotated[Size, Meta(description="Disk space for all of them together.")] = Size("1GiB")
    folder: Annotated[
        str | None, Meta(description="Where; `null`: beside the outbox.", extra={"in_tests": "{folder}/spool"})
    ] = None


class FailureSinkSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where failed requests are kept and where they are published."""

    broker: Annotated[
        str,
        Meta(
            description="`kafka://HOST:PORT[,HOST:PORT]`, `file:///PATH.jsonl`, or `embedded://`: kept in the outbox.",
            extra={**_RESTART, "in_tests": "embedded://"},
        ),
    ] = "embedded://"
    topic: Annotated[str, Meta(description="Topic that captured requests are published to.", extra=_RESTART)] = (
        "failed-requests"
    )
    kafka: Annotated[
        dict[str, str], Meta(description="Any librdkafka setting, SASL and TLS among them.", extra=_RESTART)
    ] = field(default_factory=dict)
    outbox: Annotated[
        str,
        Meta(
            description="SQLite file of the outbox; its folder is made if it is missing.",
            extra={**_RESTART, "in_tests": "{folder}/outbox.db"},
        ),
    ] = "./holdfast.db"
    key: Annotated[
        str,
        Meta(
            description="Message key, which orders: `path`, `route`, `header:NAME`, or `json:$.order.id`, a value in a "
            "JSON body (the path where it is missing, and for bodies larger than `limits.buffer_body`).",
            pattern=r"^(path|route|header:[A-Za-z0-9-]+|json:\$.+)$",
        ),
    ] = "path"
    max_records: Annotated[
        int, Meta(description="Records the outbox holds; at the bound captures are refused.", ge=1)
    ] = 1_000_000
    max_bytes: Annotated[Size, Meta(description="Bytes the outbox holds; at the bound captures are refused.")] = Size(
        "1GiB"
    )
    max_age: Annotated[
        Duration | None,
        Meta(
            description="While the oldest unpublished record is older, captures are refused; `null`: no bound.",
            extra={"gt": 0},
        ),
    ] = None
    max_record: Annotated[Size, Meta(description="Largest single record; a larger one is refused.")] = Size("16MiB")
    spool: Annotated[
        SpoolSettings | None,
        Meta(
            description="Capture streamed requests too: their bodies are kept on disk meanwhile; `null`: they are not."
        ),
    ] = None
    retention: Annotated[Duration, Meta(description="How long a record is kept after it was published.")] = Duration(
        "1d"
    )
    answer_body: Annotated[Size, Meta(description="How much of the upstream's last answer is kept.")] = Size("64KiB")
    redact: Annotated[RedactionSettings, Meta(description="What is masked, or sealed where there is a key.")] = (
        RedactionSettings()
    )
    seal_key: Annotated[
        str,
        Meta(
            description="Keys that seal what is redacted, comma-separated: the first seals, all open. "
            "Default: the environment's HOLDFAST_SEAL_KEY.",
            extra={"secret": True},
        ),
    ] = ""

    def __post_init__(self) -> None:
        parse_keys(self.seal_key)
        # A record holds the body in base64, beside the header and the attempts.
        if self.spool and self.max_record < self.spool.max_body * 4 // 3 + Size("64KiB"):
            raise ValueError(
                f"a body of spool.max_body ({self.spool.max_body}) does not fit into `max_record` ({self.max_record}): "
                "raise max_record to one and a half times spool.max_body, and max_bytes above that"
            )
        rules = redaction_rules(self.redact)
        refuse_secret_key(parse_key(self.key), rules.headers, rules.paths)


def redaction_rules(settings: RedactionSettings) -> RedactionRules:
    """The profile's names added to those that are always redacted. ValueError for a path that cannot be read."""
    return RedactionRules(
        headers=DEFAULT_HEADERS | frozenset(settings.headers),
        query=DEFAULT_QUERY | frozenset(settings.query),
        json_paths=settings.json_paths,
        other_bodies=settings.other_bodies,
    )


def settings_in(profile: Profile) -> FailureSinkSettings | None:
    """Those of the profile's failure sink, if it has one."""
    return next((e.settings for e in profile.addons if isinstance(e.settings, FailureSinkSettings)), None)


class FailureSink:
    """Builds the record, redacts it, stores it; runs the relay."""

    Settings = FailureSinkSettings

    def __init__(self, settings: FailureSinkSettings, gateway: Gateway) -> None:
        self._gateway = gateway
        self._parts = gateway.worker.count if gateway.worker else 1
        self._ids = Uuid7Source(gateway.wall_clock, random_bytes)
        self._broker: Broker = open_broker(settings.broker, settings.topic, settings.kafka)
        self._relay: Relay | None = None
        self._outbox: Outbox | None = None
        self._room: SpoolRoom | None = None
        self._siblings = OutboxReader(settings.outbox) if gateway.worker else None
        self.reload(settings)
        self._fault = "not open yet"
        self._refusing = ""  # why the last capture was refused; empty once one succeeds
        self._reopening: asyncio.Task[None] | None = None
        self._one_large = asyncio.Lock()  # a spooled body is in memory several times while its record is made
        self._captured = Counter(
            "holdfast_captures", "Requests captured durably.", ["route", "error"], registry=gateway.registry
        )
        self._refused = Counter(
            "holdfast_capture_failures", "Captures refused, by reason.", ["reason"], registry=gateway.registry
        )
        gateway.registry.register(OutboxMetrics(lambda: self._outbox, lambda: self._relay))
        if gateway.role == "gateway":
            gateway.checks["outbox"] = self._check_outbox
        if self._broker.publishes:
            gateway.checks["kafka"] = self._check_broker

    def reload(self, settings: FailureSinkSettings) -> None:
        """These hold for captures from now on; where they are kept and published stays as it was."""
        self._settings = settings
        self._rules = redaction_rules(settings.redact)
        self._key = parse_key(settings.key)
        keys = parse_keys(settings.seal_key or os.environ.get("HOLDFAST_SEAL_KEY", ""))
        self._sealer = Sealer(keys, secrets.token_bytes) if keys else None
        if settings.spool:
            folder = Path(settings.spool.folder) if settings.spool.folder else Path(settings.outbox).parent
            bounds = folder, int(settings.spool.max_body), int(settings.spool.max_total) // self._parts
            self._room = self._room or SpoolRoom(*bounds)
            self._room.follow(*bounds)
        if self._outbox:
            self._outbox.follow(self._limits(settings))

    # -- life -------------------------------------------------------------------------------------------------------

    async def running(self) -> None:
        if self._gateway.role == "gateway":  # a consumer captures nothing: the outbox is the gateway's
            await self._open()

    async def done(self) -> None:
        """Seal the outbox, and give the producer a moment to bring out what it has."""
        if self._reopening:
            self._reopening.cancel()
        if self._relay:
            # What is not confirmed by then is on the disk, and is published after the next start.
            await asyncio.to_thread(self._relay.stop, min(FLUSH, float(self._gateway.profile.shutdown_grace)))
        if self._siblings:
            self._siblings.close()
        if self._outbox:
            await asyncio.to_thread(self._outbox.close)

    # -- what the interceptor asks for ------------------------------------------------------------------------------

    @property
    def outbox(self) -> Outbox | None:
        """The store, once it is open."""
        return self._outbox

    @property
    def spooling(self) -> SpoolRoom | None:
        """Where streamed bodies are to be kept meanwhile, if they are."""
        return self._room if self._settings.spool else None

    async def capture(self, flow: HTTPFlow, failure: Failure) -> str:
        """Store the request; its id, once it is durable. CaptureRefused with the reason otherwise."""
        try:
            if asks_for_upgrade(flow.request.headers.fields):
                raise CaptureRefused("upgrade", "a replay could not carry what was to follow the handshake")
            if self._outbox is None:
                raise CaptureRefused("outbox_unavailable", self._fault)
            await self._check_age(self._outbox)
            if exchange_of(flow).get("request_streamed"):
                record = await self._append_spooled(self._outbox, flow, failure)
            else:
                record = await self._record(flow, failure)
                await self._outbox.append(record, in_company=self._gateway.in_flight >= _COMPANY)
        except CaptureRefused as refused:
            self._refused.labels(refused.reason).inc()
            if refused.reason not in ("too_large", "upgrade"):  # those are about the request, not about the outbox
                self._refusing = f"{refused.reason}: {refused}"
            raise
        self._refusing = ""
        self._captured.labels(record.route, record.error).inc()
        return record.id

    async def key_of(self, flow: HTTPFlow) -> str:
        """What orders this request, as it is or would be captured: looked up once."""
        exchange = exchange_of(flow)
        if "key" not in exchange:
            # As the outbox keeps it: a lone surrogate has no form in UTF-8.
            exchange["key"] = (await self._find_key(flow)).encode("utf-8", "backslashreplace").decode()
        return exchange["key"]

    async def waits(self, key: str) -> bool:
        """Whether an older capture of this key is not settled: not published, or by the replayer's word not done with.

        StoreUnavailable if that cannot be known.
        """
        outbox, replays = self._outbox, self._gateway.replays
        if outbox is None:
            return False
        if await holds_up(outbox, key, replays):
            return True
        return self._siblings is not None and await siblings_hold_up(self._siblings, outbox, key, replays)

    async def would_do(self, flow: HTTPFlow) -> WouldDo:
        """What a capture of it would hold. Whether there is one is the interceptor's decision."""
        if flow.response and "withheld" not in exchange_of(flow):
            return HAS_ANSWER
        if asks_for_upgrade(flow.request.headers.fields):
            return WouldDo(False, "cannot keep a request that asks for another protocol")
        if self._outbox is None:
            return WouldDo(False, f"refuses captures: {self._fault}")
        record, _ = self._sealed(captured_request(flow, NO_SERVER, "", self._gateway.leg.clock(), 0))
        key, sealed = await self.key_of(flow), record.sealed is not None
        taken = ", ".join(record.redacted) or "nothing"
        how = " and sealed" if sealed else " and lost: there is no seal_key" if record.redacted else ""
        request = {"method": record.method, "uri": record.uri, "headers": record.headers}
        details = {"key": key, "redacted": list(record.redacted), "sealed": sealed, "request": request}
        if self._broker.publishes:
            details["topic"] = self._settings.topic
        return WouldDo(True, f"keeps a capture under the key {key}; redacted{how}: {taken}", details)

    # -- parts ------------------------------------------------------------------------------------------------------

    async def _append_spooled(self, outbox: Outbox, flow: HTTPFlow, failure: Failure) -> OutboxRecord:
        # Not of `spooling`: a body may have been spooled before that was switched off.
        spool = self._room.of(flow.id) if self._room else None
        if spool is None:
            why = "was not spooled: it, or all together, is over the bound" if self.spooling else "was not held"
            raise CaptureRefused("too_large", f"the body was larger than limits.buffer_body and {why}")
        async with self._one_large:
            try:
                body = await asyncio.to_thread(spool.read)
            except OSError as e:
                raise CaptureRefused("spool_unreadable", str(e)) from e
            record = await self._record(flow, failure, body)
            await outbox.append(record)
        return record

    async def _check_age(self, outbox: Outbox) -> None:
        bound = self._settings.max_age
        if bound is not None and (await asyncio.to_thread(outbox.stats)).oldest_pending_seconds > bound:
            raise CaptureRefused("outbox_age", f"the oldest record has been waiting for more than {bound}")

    async def _record(self, flow: HTTPFlow, failure: Failure, spooled: bytes | None = None) -> OutboxRecord:
        """The envelope without its secrets, and what the outbox files it under."""
        now, answer_body = self._gateway.leg.clock(), int(self._settings.answer_body)
        plain = captured_request(flow, failure, self._ids.next(), now, answer_body, spooled)
        if not plain.attempts:
            plain = replace(plain, backend_url=self._first_server(flow))
        # Masking and encoding take seconds for the largest bodies; small ones are not worth a thread.
        large = len(plain.body) > LARGE_BODY
        record, value = await asyncio.to_thread(self._sealed, plain) if large else self._sealed(plain)
        return OutboxRecord(
            id=record.id,
            created=record.timestamp,
            key=await self.key_of(flow),
            route=record.route,
            method=record.method,
            path=record.path,
            error=record.error,
            status=record.response.status if record.response else None,
            value=value,
            headers=message_headers(record, flow.request.headers.get("traceparent")),
        )

    def _sealed(self, plain: CapturedRequest) -> tuple[CapturedRequest, bytes]:
        """The record without its secrets, which are sealed in it where there is a key, and its JSON."""
        record, taken, _ = redact(plain, self._rules)
        if taken and self._sealer:
            record = replace(record, sealed=self._sealer.seal(record.id, taken))
        return record, to_json(record)

    async def _find_key(self, flow: HTTPFlow) -> str:
        rule, request = self._key, flow.request
        path = wire_text(request.data.path).partition("?")[0]
        if rule.kind == "route":
            return route_of(flow)
        if rule.kind == "header":
            return str(request.headers.get(rule.name, path))
        body = request.raw_content if rule.place else None
        if not rule.place or not body:
            return path
        looked_up = body, request.headers.get_all("content-type"), rule.place
        if len(body) > LARGE_BODY:
            return await asyncio.to_thread(key_in_body, *looked_up) or path
        return key_in_body(*looked_up) or path

    def _first_server(self, flow: HTTPFlow) -> str:
        """Where a request that no server was asked for would have gone first."""
        leg = self._gateway.leg
        first = leg.pool_for(leg.plan(route_of(flow)), flow, flow.server_conn).given[0].endpoint
        return str(Endpoint(first.uri_scheme, first.host, first.port))

    async def _open(self) -> None:
        path, limits = Path(self._settings.outbox), self._limits(self._settings)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            outbox = await asyncio.to_thread(Outbox.open, path, limits, self._gateway.wall_clock)
        except (OSError, StoreUnavailable) as e:
            self._fault = str(e)
            logger.warning("outbox not open, captures are refused", extra={"path": str(path), "error": str(e)})
            self._reopening = asyncio.create_task(self._open_later())
            return
        self._outbox = outbox
        outbox.follow(self._limits(self._settings))  # which may have changed meanwhile
        self._relay = Relay(outbox, self._broker, share=beside_this_thread(outbox.pending))
        self._relay.start()

    async def _open_later(self) -> None:
        await asyncio.sleep(REOPEN_EVERY)
        await self._open()

    async def _check_outbox(self) -> Health:
        if self._outbox is None:
            return Health("failing", self._fault)
        stats = await asyncio.to_thread(self._outbox.stats)
        figures: dict[str, object] = {"pending": stats.pending, "quarantined": stats.quarantined, "bytes": stats.bytes}
        figures["oldest_seconds"] = round(stats.oldest_pending_seconds, 3)
        return Health("failing" if self._refusing else "ok", self._refusing, figures=figures)

    def _limits(self, settings: FailureSinkSettings) -> OutboxLimits:
        """Each of several workers has its part of what all may hold."""
        return OutboxLimits(
            max_records=max(1, settings.max_records // self._parts),
            max_bytes=int(settings.max_bytes) // self._parts,
            max_record=int(settings.max_record),
            retention=float(settings.retention),
        )

    async def _check_broker(self) -> Health:
        health = await asyncio.to_thread(self._broker.health, 1.5)
        return Health("ok" if health.ok else "failing", health.detail)
