"""settings: what a profile says about the cache, and the rules that this makes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec
import pytest

from holdfast.caching.settings import CacheSettings, QuerySettings, RewarmSettings, RouteCacheSettings
from holdfast.policy.caching.key import KeyRules, QueryRules
from holdfast.policy.caching.model import CacheRules
from holdfast.profile.values import Duration, Share, Size


def test_what_is_not_said_is_as_the_reference_has_it() -> None:
    """Nothing stale is served, nothing is guessed for what says nothing, and cookies are not shared."""
    assert CacheSettings().rules() == CacheRules(
        default_lifetime=None,
        heuristic_share=0.1,
        heuristic_max=86400.0,
        grace=0.0,
        grace_on_error=None,
        max_lifetime=30 * 86400.0,
        max_body=1024 * 1024,
        obey_requests=True,
        share_cookies=False,
    )
    assert CacheSettings().key_rules() == KeyRules()
    assert CacheSettings().rules_of_routes() == {}


@pytest.mark.parametrize(
    ("setting", "value", "rule", "expected"),
    [
        ("default_lifetime", Duration("1m"), "default_lifetime", 60.0),
        ("default_lifetime", Duration("0s"), "default_lifetime", 0.0),
        ("heuristic", Share("20%"), "heuristic_share", 0.2),
        ("heuristic_max", Duration("1h"), "heuristic_max", 3600.0),
        ("max_lifetime", Duration("1h"), "max_lifetime", 3600.0),
        ("grace", Duration("5s"), "grace", 5.0),
        ("grace_on_error", Duration("6s"), "grace_on_error", 6.0),
        ("grace_on_error", Duration("0s"), "grace_on_error", 0.0),
        ("max_body", Size("2KiB"), "max_body", 2048),
        ("obey_requests", False, "obey_requests", False),
        ("shared_cookies", True, "share_cookies", True),
    ],
)
def test_a_setting_is_one_rule(setting: str, value: Any, rule: str, expected: Any) -> None:
    """And changes no other."""
    assert changed(CacheSettings().rules(), CacheSettings(**{setting: value}).rules()) == {rule: expected}


def changed(before: CacheRules, after: CacheRules) -> dict[str, Any]:
    return {name: value for name, value in asdict(after).items() if value != asdict(before)[name]}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, {}),
        ({"max_body": Size("1KiB")}, {"max_body": 1024}),
        ({"max_body": Size(0)}, {"max_body": 0}),
        ({"default_lifetime": Duration("9s")}, {"default_lifetime": 9.0}),
        ({"default_lifetime": Duration("0s")}, {"default_lifetime": None}),
        ({"heuristic": Share("0%")}, {"heuristic_share": 0.0}),
        ({"max_lifetime": Duration("9s")}, {"max_lifetime": 9.0}),
        ({"grace": Duration("0s")}, {"grace": 0.0}),
        ({"grace_on_error": Duration("0s")}, {"grace_on_error": 0.0}),
        ({"shared_cookies": False}, {"share_cookies": False}),
        ({"obey_requests": True}, {"obey_requests": True}),
    ],
)
def test_a_route_has_the_rules_of_all_but_for_its_own(own: dict[str, Any], expected: dict[str, Any]) -> None:
    """Where the settings for all say otherwise: nothing, `0s` and `false` are said, too."""
    settings = CacheSettings(
        default_lifetime=Duration("1m"),
        grace=Duration("5s"),
        grace_on_error=Duration("6s"),
        shared_cookies=True,
        obey_requests=False,
        routes={"user": RouteCacheSettings(**own)},
    )
    found = settings.rules_of_routes()
    assert set(found) == {"user"}
    assert changed(settings.rules(), found["user"]) == expected


def test_what_of_the_query_counts_is_part_of_the_key() -> None:
    """`query`, as the policy takes it."""
    query = QuerySettings(ignore=("utm_*",), keep=("id",), sort=True)
    rules = QueryRules(ignore=("utm_*",), keep_only=("id",), sort=True)
    assert CacheSettings(query=query).key_rules() == KeyRules(query=rules)


@pytest.mark.parametrize("network", ["127.0.0.1", "10.0.0.0/8", "::1", "fd00::/8"])
def test_an_address_or_a_network_may_purge(network: str) -> None:
    """Of both families."""
    assert CacheSettings(purge_from=(network,)).purge_from == (network,)


@pytest.mark.parametrize("network", ["10.0.0.1/8", "localhost", "", "10.0.0.0/33", "*"])
def test_what_is_no_address_is_refused(network: str) -> None:
    """With what to write instead."""
    with pytest.raises(ValueError, match=r"no address or network: write 127\.0\.0\.1 or 10\.0\.0\.0/8"):
        CacheSettings(purge_from=("127.0.0.1", network))


@pytest.mark.parametrize(
    ("setting", "value"), [("rate", 0), ("rate", 1001), ("most", 0), ("remember", 0), ("remember", 100_001)]
)
def test_rewarming_is_bounded(setting: str, value: float) -> None:
    """It is kept from being an attack on the upstream, or on this gateway's memory."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({setting: value}, RewarmSettings)


def test_rewarming_is_gentle_by_default() -> None:
    """Ten a second, a hundred at once; and it is off."""
    found = RewarmSettings()
    assert (found.rate, found.most, found.remember) == (10, 100, 1000)
    assert CacheSettings().rewarm is None
