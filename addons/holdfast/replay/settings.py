"""What can be set about replays, and how that reads as rules of the policy."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from holdfast.policy.replaying.requests import RequestRules
from holdfast.policy.replaying.schedule import Exponential, Listed, Schedule
from holdfast.policy.replaying.verdict import ReplayRules, Statuses
from holdfast.policy.signature import parse_signing_keys
from holdfast.profile.values import Duration, Size
from holdfast.replay.pace import PaceRules

_RESTART = {"restart": True}


class ScheduleSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a replay that failed is repeated: delays one after the other, or ones that grow."""

    delays: Annotated[tuple[Duration, ...], Meta(description="One after the other, the last again and again.")] = ()
    base: Annotated[Duration, Meta(description="Without `delays`: the first one.", extra={"gt": 0})] = Duration("2s")
    factor: Annotated[float, Meta(description="By which they grow.", ge=1)] = 2.0
    longest: Annotated[Duration, Meta(description="Bound of their growth.", extra={"gt": 0})] = Duration("10m")

    def schedule(self) -> Schedule:
        """As the policy takes it."""
        if self.delays:
            return Listed(tuple(float(each) for each in self.delays))
        return Exponential(float(self.base), self.factor, float(self.longest))


class RouteReplay(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What differs on one route; what is left out is as for all."""

    delivered: Annotated[tuple[str, ...] | None, Meta(description="Statuses that settle it as delivered.")] = None
    retry: Annotated[tuple[str, ...] | None, Meta(description="Statuses after which it is tried again.")] = None
    attempts: Annotated[int | None, Meta(description="Replays at most.", ge=1)] = None
    expires_after: Annotated[Duration | None, Meta(description="Older captures are dead letters, not sent.")] = None
    schedule: Annotated[ScheduleSettings | None, Meta(description="When it is tried again.")] = None
    show_answer: Annotated[bool | None, Meta(description="Whether the status page shows the answer.")] = None
    callback_url: Annotated[
        str | None,
        Meta(
            description="The outcome is posted there, signed; see `callback_key`.",
            pattern="^https?://",
            extra={"in_tests": None},
        ),
    ] = None


class KafkaReplay(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How captures are consumed from Kafka."""

    group: Annotated[str, Meta(description="Consumer group.")] = "holdfast-replay"
    instance_id: Annotated[
        str | None, Meta(description="Static membership: a restart moves no partition; one for each consumer.")
    ] = None
    retry_delays: Annotated[
        tuple[Duration, ...],
        Meta(description="One topic of retries for each, like `failed-requests.retry.30s`; none: all wait in memory."),
    ] = (Duration("30s"), Duration("2m"), Duration("10m"), Duration("1h"))
    dead_letters: Annotated[str | None, Meta(description="Topic; `null`: the topic's name and `.dlq`.")] = None
    create_topics: Annotated[bool, Meta(description="Make the topics of retries and dead letters if missing.")] = True


class ReplayerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sends captured requests again, in order, once it is safe."""

    audit: Annotated[
        str,
        Meta(
            description="Where outcomes are kept: an SQLite file, or `postgresql://USER@HOST/DB` to share.",
            extra={**_RESTART, "secret": True, "in_tests": "{folder}/audit.db"},
        ),
    ] = "./holdfast-audit.db"
    embedded: Annotated[
        Literal["auto", "on", "off"],
        Meta(
            description="Whether the gateway itself replays: `auto`, if the broker is `embedded://`.",
            extra={**_RESTART, "in_tests": "auto"},
        ),
    ] = "auto"
    delivered: Annotated[tuple[str, ...], Meta(description="Statuses that settle it as delivered.")] = ("2xx", "3xx")
    retry: Annotated[tuple[str, ...], Meta(description="Statuses after which it is tried again; others are final.")] = (
        "408",
        "425",
        "429",
        "5xx",
    )
    attempts: Annotated[
        int, Meta(description="Replays that a server has answered, or may have got, at most.", ge=1)
    ] = 12
    expires_after: Annotated[
        Duration | None, Meta(description="Older captures are dead letters, not sent; `null`: none is too old.")
    ] = None
    schedule: Annotated[ScheduleSettings, Meta(description="When a replay that failed is repeated.")] = (
        ScheduleSettings()
    )
    hold: Annotated[
        Duration, Meta(description="With Kafka: what waits longer goes to a topic of retries.", extra=_RESTART)
    ] = Duration("10s")
    concurrency: Annotated[int, Meta(description="Replays under way at once.", ge=1, le=1000)] = 8
    rate: Annotated[float | None, Meta(description="Replays a second at most; `null`: no bound.", gt=0)] = None
    slow_start: Annotated[
        Duration, Meta(description="From one at a time to all, after the upstream has come back.")
    ] = Duration("10s")
    give_way: Annotated[
        int, Meta(description="While clients have more requests under way, one replay at a time.", ge=0)
    ] = 64
    idempotency_key: Annotated[
        Literal["keep", "quoted", "plain"],
        Meta(
            description="Whether a request that is not idempotent and has no `Idempotency-Key` gets one, made from the "
            "capture's id: `quoted` as in the IETF's draft (\"...\"), `plain` as many services expect it."
        ),
    ] = "quoted"
    attach: Annotated[
        dict[str, str],
        Meta(
            description="Header fields for replays, such as credentials in place of redacted ones.",
            extra={"secret": True},
        ),
    ] = field(default_factory=dict)
    answer_body: Annotated[Size, Meta(description="How much of an answer is kept.")] = Size("64KiB")
    show_answer: Annotated[
        bool, Meta(description="Whether the status page shows the stored answer to whoever has the id.")
    ] = False
    retention: Annotated[
        Duration, Meta(description="How long delivered and discarded captures are remembered, and known as duplicates.")
    ] = Duration("30d")
    keep_dead: Annotated[Duration, Meta(description="How long dead and parked captures are kept.")] = Duration("90d")
    callback_key: Annotated[
        str,
        Meta(
            description="Secrets that sign callbacks (Standard Webhooks), comma-separated. "
            "Default: the environment's HOLDFAST_WEBHOOK_KEY.",
            extra={"secret": True},
        ),
    ] = ""
    routes: Annotated[dict[str, RouteReplay], Meta(description="What differs per route, by the router's names.")] = (
        field(default_factory=dict)
    )
    kafka: Annotated[KafkaReplay, Meta(description="How captures are consumed from Kafka.", extra=_RESTART)] = (
        KafkaReplay()
    )

    def __post_init__(self) -> None:
        self.request_rules()
        self.rules()

    def request_rules(self) -> RequestRules:
        """How a record becomes a request again. ValueError for a field that cannot be attached."""
        return RequestRules(attach=tuple(self.attach.items()), idempotency_key=self.idempotency_key)

    def rules(self) -> dict[str, ReplayRules]:
        """By route; those of all other routes under the empty name."""
        return {"": self._rules(RouteReplay()), **{name: self._rules(own) for name, own in self.routes.items()}}

    def _rules(self, own: RouteReplay) -> ReplayRules:
        expires = self.expires_after if own.expires_after is None else own.expires_after
        return ReplayRules(
            delivered=Statuses(self.delivered if own.delivered is None else own.delivered),
            retry=Statuses(self.retry if own.retry is None else own.retry),
            attempts=own.attempts or self.attempts,
            expires_after=None if expires is None else float(expires),
            schedule=(own.schedule or self.schedule).schedule(),
        )

    def shows_answer(self, route: str) -> bool:
        """Whether the status page of this route's captures shows the answer."""
        own = self.routes.get(route)
        return self.show_answer if own is None or own.show_answer is None else own.show_answer

    def callback_url(self, route: str) -> str | None:
        """Where outcomes of this route's captures are posted."""
        own = self.routes.get(route)
        return own.callback_url if own else None

    def signing_keys(self) -> list[bytes]:
        """What callbacks are signed with. ValueError for what is no key, and without any where there are callbacks."""
        keys = list(parse_signing_keys(self.callback_key or os.environ.get("HOLDFAST_WEBHOOK_KEY", "")))
        if not keys and any(each.callback_url for each in self.routes.values()):
            raise ValueError("callbacks are signed: set callback_key, or HOLDFAST_WEBHOOK_KEY in the environment")
        return keys

    def pace(self) -> PaceRules:
        """As the pace takes it."""
        return PaceRules(self.concurrency, self.rate, float(self.slow_start), self.give_way)
