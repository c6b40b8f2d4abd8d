"""The notifier: tells people, by webhook and Kafka, when a route begins to fail, when it recovers, and of dead letters.

It may stand anywhere in the chain: requests are looked at when they have ended, with the fate that the access log
shows, and outcomes of captures come from whoever replays them. What is told when is in `policy.notices`; the first
failure of a route is, the next thousand are not. Notices leave in the background: a receiver that is away, slow or
wrong costs no request anything. Webhooks follow the Standard Webhooks specification. No notice has a header field's
value or a body in it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from typing import Annotated, Literal

from mitmproxy.http import HTTPFlow
from mitmproxy.utils import asyncio_utils
from msgspec import Meta, Struct, field
from prometheus_client import Counter

from holdfast.brokers import open_broker
from holdfast.exchange import Exchange, route_of
from holdfast.gateway import Gateway, Health, Settled, WouldDo
from holdfast.notifying.courier import Courier, Delivery
from holdfast.notifying.documents import TYPES, notice_document
from holdfast.notifying.posting import parse_receiver, poster
from holdfast.notifying.targets import Event, Topic, Webhook
from holdfast.policy.notices import Notice, NoticeRules, Notices, Trouble
from holdfast.policy.signature import parse_signing_keys
from holdfast.policy.uuid7 import Uuid7Source
from holdfast.profile.values import Duration

FLUSH = 2.0  # seconds that a stop waits for receivers
LOOK_EVERY = 1.0  # seconds between two looks at what is to be told later
_RESTART = {"restart": True}
_OUR_OWN = ("refresh", "replay", "by_hand")  # requests that no client has made
_CLIENTS_END = frozenset({"client_disconnected", "killed"})
_NO_FAILURE = frozenset({"accepted", "queued"})  # captured because the profile says so


class NotifierSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Notices of failing and recovered routes and of dead letters, by webhook and by Kafka."""

    webhook: Annotated[
        str | tuple[str, ...],
        Meta(description="URL, or list of URLs, that notices are posted to.", extra={"secret": True}),
    ] = ()
    key: Annotated[
        str,
        Meta(
            description="Keys that sign, comma-separated: `whsec_` and base64, or texts of 16 characters and more. "
            "Default: the environment's HOLDFAST_WEBHOOK_KEY; without any nothing is signed.",
            extra={"secret": True},
        ),
    ] = ""
    kafka: Annotated[
        str | None,
        Meta(description="`kafka://HOST:PORT[,HOST:PORT]` that notices are published to.", extra=_RESTART),
    ] = None
    topic: Annotated[str, Meta(description="Topic there; the message key is the route.", extra=_RESTART)] = (
        "failed-requests.events"
    )
    options: Annotated[
        dict[str, str], Meta(description="Any librdkafka setting, SASL and TLS among them.", extra=_RESTART)
    ] = field(default_factory=dict)
    events: Annotated[tuple[Literal["failing", "dead_letter", "recovered"], ...], Meta(description="What is told.")] = (
        "failing",
        "dead_letter",
        "recovered",
    )
    routes: Annotated[tuple[str, ...], Meta(description="Only these, by the router's names; none listed: all.")] = ()
    every: Annotated[
        Duration,
        Meta(description="Between two notices of dead letters of a route, or of failures of one that flaps."),
    ] = Duration("5m")
    quiet: Annotated[Duration, Meta(description="A route that fails again so soon after its recovery flaps.")] = (
        Duration("1m")
    )
    good_answers: Annotated[
        int, Meta(description="So many good answers in a row are a recovery; a delivered replay is one, too.", ge=1)
    ] = 3
    rate: Annotated[int, Meta(description="Notices in any minute at most.", ge=1, le=1000)] = 10
    timeout: Annotated[Duration, Meta(description="For one try to deliver one notice.", extra={"gt": 0})] = Duration(
        "5s"
    )
    repeat: Annotated[
        tuple[Duration, ...], Meta(description="Pauses between the tries to deliver a notice; none: one try.")
    ] = (Duration("15s"), Duration("45s"))

    def __post_init__(self) -> None:
        for url in urls_of(self):
            parse_receiver(url)
        parse_signing_keys(self.key)
        if self.kafka is not None and not self.kafka.startswith(("kafka://", "file://")):
            raise ValueError("`kafka` is written kafka://HOST:PORT")
        if not self.events:
            raise ValueError("`events` is empty: leave the addon out instead")


def urls_of(settings: NotifierSettings) -> tuple[str, ...]:
    """Each once; an empty text is none, as that of a variable of the environment that is not set."""
    listed = (settings.webhook,) if isinstance(settings.webhook, str) else settings.webhook
    return tuple(dict.fromkeys(url for url in listed if url))


def rules_of(settings: NotifierSettings) -> NoticeRules:
    """As the policy takes them."""
    return NoticeRules(
        types=frozenset(settings.events),
        routes=frozenset(settings.routes) or None,
        every=float(settings.every),
        quiet=float(settings.quiet),
        per_minute=settings.rate,
        good_answers=settings.good_answers,
    )


class Notifier:
    """Watches fates and outcomes, and has couriers carry what is to be told."""

    Settings = NotifierSettings

    def __init__(self, settings: NotifierSettings, gateway: Gateway) -> None:
        self._gateway = gateway
        self._notices = Notices(rules_of(settings))
        self._ids = Uuid7Source(gateway.wall_clock, secrets.token_bytes)
        self._host = socket.gethostname()
        self._count = Counter(
            "holdfast_notices",
            "Notices by what became of them, for each receiver: sent, failed, dropped; or suppressed by the rate.",
            ["type", "outcome"],
            registry=gateway.registry,
        )
        for type_ in TYPES:
            for outcome in ("sent", "failed", "dropped", "suppressed"):
                self._count.labels(type_, outcome)
        self._counted = dict(self._notices.suppressed)
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        self._couriers: dict[str, Courier] = {}
        if settings.kafka:
            topic = Topic(open_broker(settings.kafka, settings.topic, settings.options), float(settings.timeout))
            self._topic: Topic | None = topic
            self._couriers[settings.kafka] = Courier(topic, settings.repeat, self._counts)
        else:
            self._topic = None
        self.reload(settings)
        gateway.checks["notifier"] = self._check

    def reload(self, settings: NotifierSettings) -> None:
        """These hold from now on; what is known of the routes stays."""
        self._settings = settings
        self._notices.follow(rules_of(settings))
        keys = parse_signing_keys(settings.key or os.environ.get("HOLDFAST_WEBHOOK_KEY", ""))
        post, clock = poster(float(settings.timeout)), self._gateway.wall_clock
        hooks = {url: Webhook(url, keys, post, clock) for url in urls_of(settings)}
        for url in [each for each in self._couriers if each not in hooks and each != settings.kafka]:
            leaving = self._couriers.pop(url).close(FLUSH)
            asyncio_utils.create_task(leaving, name="last notices", keep_ref=True)
        for url, hook in hooks.items():
            if url in self._couriers:
                self._couriers[url].target = hook
            else:
                self._couriers[url] = Courier(hook, settings.repeat, self._counts)
                if self._running:
                    self._couriers[url].start()
        for courier in self._couriers.values():
            courier.pauses = settings.repeat
        if self._topic:
            self._topic.timeout = float(settings.timeout)

    # -- life -------------------------------------------------------------------------------------------------------

    def running(self) -> None:
        self._running = True
        for courier in self._couriers.values():
            courier.start()

    async def done(self) -> None:
        """Give the receivers a moment to take what is left."""
        if self._timer:
            self._timer.cancel()
        within = min(FLUSH, float(self._gateway.profile.shutdown_grace))
        await asyncio.gather(*(courier.close(within) for courier in self._couriers.values()))

    # -- what happens -----------------------------------------------------------------------------------------------

    def observe(self, flow: HTTPFlow, exchange: Exchange, seconds: float) -> None:
        """Called by the access log once a request. What the gateway asks for itself says nothing to clients."""
        if any(key in exchange for key in _OUR_OWN):
            return
        fate, route, now = exchange["fate"], route_of(flow), self._gateway.leg.clock()
        if fate in ("ok", "retried"):
            if exchange.get("attempts"):  # without any it was not the upstream that answered
                self._tell(self._notices.answered(route, now))
        elif fate == "stale" and "error" in exchange:
            self._notices.stumbled(route)
        elif exchange["reason"].startswith("fault:"):
            return  # somebody wanted the client to see that
        elif fate in ("captured", "failed") and exchange["reason"] not in _CLIENTS_END | _NO_FAILURE:
            self._tell(self._notices.failed(route, trouble_of(flow, exchange), now))

    def capture_settled(self, settled: Settled) -> None:
        """Called by whoever replays, once an outcome is stored."""
        trouble = Trouble(
            fate=settled.outcome,
            error=settled.error,
            reason=settled.reason,
            capture_id=settled.id,
            traceparent=settled.traceparent,
            attempts=settled.attempts,
            status=settled.status,
            last_error=settled.last_error,
        )
        self._tell(self._notices.settled(settled.route, settled.outcome, trouble, self._gateway.leg.clock()))

    async def would_do(self, flow: HTTPFlow) -> WouldDo:
        """If it fails, or goes well again."""
        route = route_of(flow)
        if self._settings.routes and route not in self._settings.routes:
            return WouldDo(False, f"tells nothing of `{route}`: it is not among its routes")
        return WouldDo(True, f"tells of `{route}`: {', '.join(self._settings.events)}")

    # -- parts ------------------------------------------------------------------------------------------------------

    def _tell(self, notices: list[Notice]) -> None:
        gateway = self._gateway
        for notice in notices:
            document = notice_document(notice, gateway.wall_clock() - gateway.leg.clock(), self._host)
            event = Event(self._ids.next(), notice.type, TYPES[notice.type], notice.route, document)
            for courier in self._couriers.values():
                courier.put(event)
        for type_, number in self._notices.suppressed.items():
            if number > self._counted[type_]:
                self._count.labels(type_, "suppressed").inc(number - self._counted[type_])
                self._counted[type_] = number
        if self._notices.waits and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look)

    def _look(self) -> None:
        """At what waits."""
        self._timer = None
        self._tell(self._notices.due(self._gateway.leg.clock()))

    def _counts(self, event: Event, outcome: Delivery) -> None:
        self._count.labels(event.type, outcome).inc()

    async def _check(self) -> Health:
        if not self._couriers:
            return Health("not_configured")
        trouble = [f"{each.target.name}: {each.trouble}" for each in self._couriers.values() if each.trouble]
        figures: dict[str, object] = {"waiting": sum(each.waiting for each in self._couriers.values())}
        return Health("failing" if trouble else "ok", "; ".join(trouble), figures)


def trouble_of(flow: HTTPFlow, exchange: Exchange) -> Trouble:
    """What may be told of a request that failed."""
    reason = exchange.get("detail", "")
    if "capture_failed" in exchange:
        reason = f"{reason}; not stored: {exchange['capture_failed']}".removeprefix("; ")
    return Trouble(
        fate=exchange["fate"],
        error=exchange.get("error") or exchange["reason"],
        reason=reason,
        capture_id=exchange.get("capture_id", ""),
        traceparent=flow.request.headers.get("traceparent", ""),
    )
