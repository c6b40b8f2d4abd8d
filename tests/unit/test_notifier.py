"""notifier: which requests and outcomes it takes for what, and what it hands to its couriers; with a fixed clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from holdfast import notifier
from holdfast.chain import build_chain
from holdfast.exchange import exchange_of
from holdfast.gateway import OutcomeListener, Settled
from holdfast.notifier import Notifier, NotifierSettings, urls_of
from holdfast.notifying.posting import NotTaken
from holdfast.policy.signature import parse_signing_keys, verify
from holdfast.profile.load import load_profile
from holdfast.profile.mask import masked
from holdfast.profile.values import Duration
from holdfast.testing import FixedClock, make_flow

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REFUSED = {"error": "connection_refused", "detail": "nobody listens", "reason": "connection_refused"}
URL = "https://hooks.test/T0/s3cret"


class Place:
    """The addon with receivers in memory. The leg's clock starts at 100, the wall clock at 1,700,000,000."""

    def __init__(self, patch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.clock, self.registry = FixedClock(100.0), CollectorRegistry()
        self.posts: list[tuple[str, Mapping[str, str], bytes]] = []
        self.fault: Exception | None = None
        patch.setattr(notifier, "poster", lambda timeout: self._post)
        patch.setattr(notifier, "LOOK_EVERY", 0.005)
        self.gateway: Any = SimpleNamespace(
            registry=self.registry,
            leg=SimpleNamespace(clock=self.clock),
            wall_clock=lambda: 1_700_000_000.0 - 100.0 + self.clock(),
            profile=SimpleNamespace(shutdown_grace=10.0),
            checks={},
        )
        self.addon = Notifier(
            NotifierSettings(**{"webhook": URL, "key": SECRET, "repeat": (), **settings}), self.gateway
        )
        self.addon.running()

    async def _post(self, url: str, fields: Mapping[str, str], body: bytes) -> None:
        if self.fault:
            raise self.fault
        verify(parse_signing_keys(SECRET), fields, body, self.gateway.wall_clock())
        self.posts.append((url, fields, body))

    def ended(self, fate: str, reason: str = "", route: str = "users", **exchange: Any) -> None:
        """A request has ended so."""
        flow = make_flow("POST", "http://o.test/api/users?q=s3cret", headers={"traceparent": TRACE, "x-a": "s3cret"})
        exchange_of(flow).update({"fate": fate, "reason": reason, "route": route, **exchange})  # type: ignore[typeddict-item]
        self.addon.observe(flow, exchange_of(flow), 0.1)

    async def told(self) -> list[dict[str, Any]]:
        """The documents so far; what has been handed to the courier has arrived."""
        async with asyncio.timeout(5):
            for courier in self.addon._couriers.values():
                await courier._waiting.join()
        return [json.loads(body) for _, _, body in self.posts]

    async def types(self) -> list[str]:
        return [document["type"].rpartition(".")[2] for document in await self.told()]

    def counted(self, type_: str, outcome: str) -> float | None:
        return self.registry.get_sample_value("holdfast_notices_total", {"type": type_, "outcome": outcome})


def settled(outcome: Any, **changes: Any) -> Settled:
    values: dict[str, Any] = {
        "id": "c-1",
        "key": "k",
        "route": "users",
        "method": "POST",
        "path": "/api/users",
        "error": "http_503",
        "captured": 1.0,
        "reason": "attempts",
        "attempts": 12,
        "status": 503,
        "last_error": None,
        "settled": 2.0,
        "redrive": 0,
        "traceparent": TRACE,
    }
    return Settled(outcome=outcome, **(values | changes))


async def test_a_failed_request_is_told_with_its_trace_and_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signed, under an id of its own."""
    place = Place(monkeypatch)
    place.ended("captured", **REFUSED, capture_id="c-1", attempts=[{}])
    (document,) = await place.told()
    assert document["timestamp"] == "2023-11-14T22:13:20.000Z"
    data = document["data"]
    assert (data["route"], data["fate"], data["error"]) == ("users", "captured", "connection_refused")
    assert (data["reason"], data["capture_ids"], data["traceparent"]) == ("nobody listens", ["c-1"], TRACE)
    assert b"s3cret" not in place.posts[0][2]
    assert place.counted("failing", "sent") == 1


@pytest.mark.parametrize(
    ("fate", "exchange", "is_failure"),
    [
        ("captured", REFUSED | {"capture_id": "c-1"}, True),
        ("failed", REFUSED, True),
        ("failed", {"reason": "addon:banner"}, True),
        ("failed", {"reason": "client_disconnected"}, False),
        ("failed", {"reason": "killed"}, False),
        ("failed", {"reason": "fault:asked-for"}, False),
        ("captured", {"error": "accepted", "reason": "accepted", "capture_id": "c-1"}, False),
        ("captured", {"error": "queued", "reason": "queued", "capture_id": "c-1"}, False),
        ("failed", REFUSED | {"refresh": "key"}, False),
        ("failed", REFUSED | {"replay": "c-1"}, False),
        ("failed", REFUSED | {"by_hand": ""}, False),
        ("stale", REFUSED, False),
        ("rejected", {"reason": "body_too_large"}, False),
        ("hit", {}, False),
        ("ok", {}, False),
    ],
)
async def test_what_a_failure_is(
    monkeypatch: pytest.MonkeyPatch, fate: str, exchange: dict[str, Any], is_failure: bool
) -> None:
    """Of the route: not what the client did, what the profile wants, or what the gateway asked for itself."""
    place = Place(monkeypatch)
    place.ended(fate, **exchange)
    assert await place.types() == ["failing"] * is_failure


@pytest.mark.parametrize(
    ("fate", "exchange", "is_good"),
    [
        ("ok", {"attempts": [{}]}, True),
        ("retried", {"attempts": [{}, {}]}, True),
        ("ok", {"attempts": []}, False),
        ("hit", {"attempts": [{}]}, False),
        ("stale", {"attempts": [{}]}, False),
        ("rejected", {}, False),
        ("ok", {"attempts": [{}], "replay": "c-1"}, False),
    ],
)
async def test_what_a_good_answer_is(
    monkeypatch: pytest.MonkeyPatch, fate: str, exchange: dict[str, Any], is_good: bool
) -> None:
    """The upstream's own, to a client."""
    place = Place(monkeypatch, good_answers=1)
    place.ended("failed", **REFUSED)
    place.ended(fate, **exchange)
    assert await place.types() == ["failing"] + ["recovered"] * is_good


async def test_a_stale_answer_in_need_is_no_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client was served, but the upstream had failed."""
    place = Place(monkeypatch, good_answers=2)
    place.ended("failed", **REFUSED)
    place.ended("ok", attempts=[{}])
    place.ended("stale", **REFUSED)
    place.ended("ok", attempts=[{}])
    assert await place.types() == ["failing"]
    place.ended("stale", reason="stale-while-revalidate")  # nothing has failed here
    place.ended("ok", attempts=[{}])
    assert await place.types() == ["failing", "recovered"]


async def test_a_request_that_could_not_be_stored_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is worse than one that was captured."""
    place = Place(monkeypatch)
    place.ended("failed", **REFUSED, capture_failed="outbox_full")
    (document,) = await place.told()
    assert document["data"]["reason"] == "nobody listens; not stored: outbox_full"


async def test_outcomes_are_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead letter with the command that replays it; a delivered replay is the route's recovery."""
    place = Place(monkeypatch)
    assert isinstance(place.addon, OutcomeListener)
    place.ended("captured", **REFUSED, capture_id="c-9")
    place.addon.capture_settled(settled("dead", last_error="connection_refused"))
    place.addon.capture_settled(settled("discarded", id="c-2"))
    place.addon.capture_settled(settled("delivered", id="c-9", status=200))
    failing, dead, recovered = await place.told()
    assert dead["type"] == "holdfast.capture.dead_letter"
    assert dead["data"]["command"] == "holdfast captures replay c-1"
    assert (dead["data"]["attempts"], dead["data"]["status"]) == (12, 503)
    assert (dead["data"]["last_error"], dead["data"]["trace_id"]) == ("connection_refused", TRACE.split("-")[1])
    assert (recovered["data"]["fate"], recovered["data"]["counts"]["unsettled"]) == ("delivered", 0)
    assert failing["data"]["counts"]["unsettled"] is None


async def test_what_is_held_back_is_counted_and_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without another request: the addon looks by itself."""
    place = Place(monkeypatch, rate=1)
    place.ended("failed", **REFUSED)
    for _ in range(3):
        place.ended("ok", attempts=[{}])
    assert await place.types() == ["failing"]
    assert (place.counted("recovered", "suppressed"), place.counted("failing", "suppressed")) == (1, 0)
    place.clock.advance(60.0)
    async with asyncio.timeout(5):
        while len(place.posts) < 2:
            await asyncio.sleep(0.001)
    _, recovered = await place.told()
    assert (recovered["type"], recovered["data"]["counts"]["suppressed"]) == ("holdfast.route.recovered", 1)
    await asyncio.sleep(0.02)
    assert place.addon._timer is None


async def test_health_shows_a_receiver_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until one notice gets through; its path is not shown."""
    place = Place(monkeypatch)
    check = place.gateway.checks["notifier"]
    assert (await check()).status == "ok"
    place.fault = NotTaken("answered 500")
    place.ended("failed", **REFUSED)
    await place.told()
    health = await check()
    assert (health.status, health.detail) == ("failing", "https://hooks.test: answered 500")
    assert place.counted("failing", "failed") == 1
    place.fault = None
    place.ended("failed", **REFUSED, route="user")
    await place.told()
    assert (await check()).status == "ok"
    assert (await Place(monkeypatch, webhook="").gateway.checks["notifier"]()).status == "not_configured"


async def test_changed_settings_keep_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A route that was told to fail is not told again to the new receiver, but its recovery is."""
    place = Place(monkeypatch)
    place.ended("failed", **REFUSED)
    await place.told()
    other = "https://other.test/x"
    place.addon.reload(NotifierSettings(webhook=(other,), key=SECRET, repeat=(Duration("1s"),), good_answers=1))
    place.ended("failed", **REFUSED)
    place.ended("ok", attempts=[{}])
    assert await place.types() == ["failing", "recovered"]
    assert [url for url, _, _ in place.posts] == [URL, other]


async def test_a_stop_delivers_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once more, and shortly."""
    place = Place(monkeypatch, webhook=(URL, "https://other.test/x"))
    place.ended("failed", **REFUSED)
    await place.addon.done()
    assert sorted(url for url, _, _ in place.posts) == [URL, "https://other.test/x"]


async def test_the_environments_key_signs_where_the_profile_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """HOLDFAST_WEBHOOK_KEY."""
    monkeypatch.setenv("HOLDFAST_WEBHOOK_KEY", SECRET)
    place = Place(monkeypatch, key="")
    place.ended("failed", **REFUSED)
    assert await place.types() == ["failing"]


# -- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"webhook": "hooks.test"},
        {"webhook": ("https://ok.test", "ftp://x")},
        {"key": "short"},
        {"kafka": "localhost:9092"},
        {"kafka": "embedded://"},
        {"events": ()},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    """When the profile is read."""
    with pytest.raises(ValueError, match=r"receiver|webhook key 1|kafka://|empty"):
        NotifierSettings(**settings)


def test_a_url_counts_once_and_an_empty_one_not() -> None:
    """`${WEBHOOK_URL:-}` may be unset."""
    assert urls_of(NotifierSettings(webhook="")) == ()
    assert urls_of(NotifierSettings(webhook=("http://a", "", "http://b", "http://a"))) == ("http://a", "http://b")


async def test_a_profile_names_it_and_shows_none_of_its_secrets(tmp_path: Any) -> None:
    """The chain knows it as an observer and as a listener; routes are those of the router."""
    file = tmp_path / "p.yaml"
    router = "router: {routes: [{name: users, path: /users}]}"
    settings = f"webhook: '{URL}', key: {SECRET}, routes: [users]"
    file.write_text(f"version: 1\naddons: [{{{router}}}, {{notifier: {{{settings}}}}}]\n")
    profile = load_profile(str(file))
    shown = json.dumps(masked(profile))
    assert "s3cret" not in shown
    assert SECRET not in shown
    chain = build_chain(profile)
    (member,) = [each for each in chain.members if isinstance(each.addon, Notifier)]
    assert chain.gateway.listeners == [member.addon]
    assert [observe.__self__ for observe in chain.observers][1:] == [member.addon]  # type: ignore[attr-defined]
    file.write_text(file.read_text().replace("routes: [users]", "routes: [usres]"))
    with pytest.raises(Exception, match="the router gives no route this name"):
        load_profile(str(file))
