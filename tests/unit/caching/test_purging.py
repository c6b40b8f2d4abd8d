"""purging: what a purge makes unusable, and whose PURGE is obeyed."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from mitmproxy.http import HTTPFlow
from prometheus_client import CollectorRegistry

from holdfast.caching.flow import Asked
from holdfast.caching.purging import Purging
from holdfast.exchange import exchange_of
from holdfast.policy.caching.invalidation import Resource
from holdfast.policy.caching.key import KeyRules, QueryRules
from holdfast.stores import Purged
from holdfast.testing import FixedClock, make_flow
from tests.unit.caching.rig import HOST, Moody, Named, encoded

ASKED = Asked("PURGE", "http", HOST, "/a", [], has_body=False)
BOTH = (f"url:http://{HOST}/a", f"url:https://{HOST}/a")


class Desk:
    """Purges, the store that they are about, and what they count."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.store = Moody(FixedClock())
        self.purging = Purging(self.store, self.registry)

    def counted(self) -> dict[str, float]:
        samples = [each for metric in self.registry.collect() for each in metric.samples]
        return {each.labels["kind"]: each.value for each in samples if each.name.endswith("_total")}

    async def answered(self, *fields: Named, peer: str = "127.0.0.1", asked: Asked = ASKED) -> HTTPFlow:
        """A PURGE with these header fields."""
        flow = make_flow("PURGE", exchange={"request_id": "r1"})
        flow.client_conn.peername = (peer, 1)
        await self.purging.answer(flow, replace(asked, fields=encoded(fields)))
        assert exchange_of(flow)["answered"] is True
        return flow


@pytest.fixture
def desk() -> Desk:
    """With an empty store that works."""
    return Desk()


def told(flow: HTTPFlow) -> tuple[int, dict[str, Any]]:
    assert flow.response and flow.response.content and flow.response.headers["cache-control"] == "no-store"
    return flow.response.status_code, json.loads(flow.response.content)


# -- purges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "tags", "keys", "counted"),
    [
        ({"tags": ["a", "b"]}, ("a", "b"), 2, {"tag": 2}),
        ({"urls": [f"http://{HOST}/a"]}, BOTH, 1, {"url": 1}),
        ({"urls": [f"https://{HOST}/a"]}, BOTH, 1, {"url": 1}),
        ({"urls": [f"http://{HOST}/a", f"https://{HOST}/a#x"]}, BOTH, 2, {"url": 2}),
        ({"everything": True}, ("*",), 1, {"all": 1}),
        ({"tags": ["a"], "urls": [f"http://{HOST}/a"], "everything": True}, ("a", *BOTH, "*"), 3, None),
        ({}, (), 0, {}),
    ],
)
@pytest.mark.parametrize("soft", [False, True])
async def test_a_purge_names_tags_urls_or_everything(
    desk: Desk, named: dict[str, Any], tags: tuple[str, ...], keys: int, counted: dict[str, float] | None, soft: bool
) -> None:
    """A URL as http and as https, since a proxy in front may end TLS; each is counted by its kind."""
    assert await desk.purging.purge(**named, soft=soft) == Purged(keys, soft)
    assert desk.store.purges == [(tags, soft)]
    assert desk.counted() == ({"tag": 1, "url": 1, "all": 1} if counted is None else counted)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"tags": ["a", "*"]}, '"\\*" is no tag'),
        ({"urls": ["/a"]}, "is no URL"),
        ({"urls": ["ftp://h/a"]}, "is no URL"),
        ({"tags": ["a"], "urls": ["http:///a"]}, "is no URL"),
    ],
)
async def test_what_is_no_tag_and_no_url_is_refused(desk: Desk, named: dict[str, Any], message: str) -> None:
    """Everything is not purged by accident; and nothing of a purge that is refused is done."""
    with pytest.raises(ValueError, match=message):
        await desk.purging.purge(**named)
    assert (desk.store.purges, desk.counted()) == ([], {})


async def test_a_url_is_purged_by_its_key(desk: Desk) -> None:
    """However it is written, and under the rules for queries."""
    desk.purging.key_rules = KeyRules(query=QueryRules(ignore=("x",)))
    await desk.purging.purge(urls=[f"HTTP://{HOST.upper()}:80/%61?x=1"])
    assert desk.store.purges[0][0][0] == BOTH[0]


async def test_answers_to_unsafe_requests_invalidate(desk: Desk) -> None:
    """RFC 9111, section 4.4: by the keys of GET; it is no purge that somebody asked for."""
    desk.purging.key_rules = KeyRules(query=QueryRules(ignore=("x",)))
    await desk.purging.invalidate([Resource("http", HOST, "/a?x=1"), Resource("https", HOST, "/a")])
    assert desk.store.purges == [(BOTH, False)]
    assert desk.counted() == {}


async def test_a_response_may_be_dropped_softly(desk: Desk) -> None:
    """What a HEAD has shown to be stale; nothing is done for nothing."""
    await desk.purging.drop(["k"], soft=True)
    await desk.purging.drop([])
    assert desk.store.purges == [(("url:k",), True)]


async def test_what_cannot_be_dropped_is_logged(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """The client gets its answer all the same."""
    desk.store.down = True
    with caplog.at_level(logging.WARNING):
        await desk.purging.drop(["k", "l"])
    (record,) = [vars(each) for each in caplog.records]
    assert (record["message"], record["keys"]) == ("stored responses not invalidated", 2)


# -- the method PURGE -------------------------------------------------------------------------------------------------


def test_purge_is_a_method_like_any_other_unless_the_profile_says_who_may(desk: Desk) -> None:
    """`purge_from`: none by default; and case counts (RFC 9110, section 9.1)."""
    assert not desk.purging.is_ours("PURGE")
    desk.purging.allow(["10.0.0.0/8"])
    assert [desk.purging.is_ours(each) for each in ("PURGE", "purge", "POST")] == [True, False, False]
    desk.purging.allow([])
    assert not desk.purging.is_ours("PURGE")


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("::ffff:10.1.2.3", True),
        ("::ffff:11.1.2.3", False),
        ("fd00::7", True),
        ("fe80::1%eth0", True),
        ("fe80::2%eth0", False),
        ("::1", False),
    ],
)
async def test_only_those_addresses_are_obeyed(desk: Desk, peer: str, allowed: bool) -> None:
    """Of the connection, whatever the header says; as IPv4 in IPv6, and with the zone of a link."""
    desk.purging.allow(["10.0.0.0/8", "192.0.2.1", "fd00::/8", "fe80::1"])
    flow = await desk.answered(("X-Forwarded-For", "10.0.0.1"), peer=peer)
    status, document = told(flow)
    assert (status, bool(desk.store.purges)) == ((200, True) if allowed else (403, False))
    if not allowed:
        assert document["type"] == "urn:holdfast:problem:purge-not-allowed"
        assert exchange_of(flow)["rejected"] == "purge_not_allowed"
        assert flow.response and "http_request_denied" in flow.response.headers["proxy-status"]


@pytest.mark.parametrize(
    ("fields", "tags", "soft", "keys"),
    [
        ([], BOTH, False, 1),
        ([("Surrogate-Key", "a b")], ("a", "b"), False, 2),
        ([("Cache-Tag", "a, b c"), ("xkey", "a")], ("a", "b c"), False, 2),
        ([("Surrogate-Key", " ")], BOTH, False, 1),
        ([("Holdfast-Soft-Purge", "1")], BOTH, True, 1),
        ([("Fastly-Soft-Purge", " 1 "), ("xkey", "a")], ("a",), True, 1),
        ([("Holdfast-Soft-Purge", "0")], BOTH, False, 1),
        ([("Soft-Purge", "1")], BOTH, False, 1),
    ],
)
async def test_a_purge_is_of_the_tags_in_its_header_or_else_of_its_url(
    desk: Desk, fields: list[Named], tags: tuple[str, ...], soft: bool, keys: int
) -> None:
    """Softly where it says so, by our name or by the one that plugins send."""
    desk.purging.allow(["127.0.0.1"])
    flow = await desk.answered(*fields)
    assert told(flow) == (200, {"purged": keys, "soft": soft})
    assert flow.response and flow.response.headers["x-request-id"] == "r1"
    assert flow.response.headers["content-type"] == "application/json"
    assert desk.store.purges == [(tags, soft)]


@pytest.mark.parametrize(
    ("fields", "asked"), [([("Surrogate-Key", "*")], ASKED), ([], replace(ASKED, host="")), ([("xkey", "a *")], ASKED)]
)
async def test_a_purge_that_names_nothing_usable_is_400(desk: Desk, fields: list[Named], asked: Asked) -> None:
    """Everything is nobody's tag; a request without a host names no URL."""
    desk.purging.allow(["127.0.0.1"])
    status, document = told(await desk.answered(*fields, asked=asked))
    assert (status, document["type"]) == (400, "urn:holdfast:problem:bad-purge")
    assert desk.store.purges == []


async def test_a_purge_that_did_not_happen_is_not_said_to_have(desk: Desk) -> None:
    """503: whoever asked has to ask again."""
    desk.purging.allow(["127.0.0.1"])
    desk.store.down = True
    status, document = told(await desk.answered())
    assert (status, document["detail"]) == (503, "nothing was purged: nobody is there")
    assert desk.counted() == {}
