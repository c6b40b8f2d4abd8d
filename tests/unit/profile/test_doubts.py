"""What a profile may say and can hardly mean: the order of addons, and values against each other."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from holdfast.profile.doubts import doubts_about
from holdfast.profile.load import read_profile
from holdfast.profile.placing import BEFORE, NEEDS
from holdfast.profile.reading import Reading
from holdfast.profile.shipped import shipped_profiles
from holdfast.registry import BUILT_IN

ROUTER = {"router": {"routes": [{"name": "users", "path": "/users"}, {"name": "slow", "path": "/slow"}]}}


def doubts(folder: Path, *addons: object, **top: object) -> list[str]:
    """`path: message` of each, those about the order first."""
    file = folder / "p.yaml"
    file.write_text(yaml.safe_dump({"version": 1, **top, "addons": list(addons)}, sort_keys=False))
    reading = Reading({})
    found = doubts_about(read_profile(str(file), reading, {}), reading)
    return [f"{each.path}: {each.what}; {each.advice}" for each in (*found.order, *found.values)]


@pytest.mark.parametrize("name", [name for name, _ in shipped_profiles()])
def test_a_shipped_profile_raises_no_doubts(name: str) -> None:
    """Nor does a word about it cry wolf."""
    reading = Reading({"KAFKA_URL": "kafka://127.0.0.1:9092"})
    found = doubts_about(read_profile(name, reading, {}), reading)
    assert (found.order, found.values) == ((), ())


def test_the_order_that_the_reference_lists_raises_none(tmp_path: Path) -> None:
    """Which is that of a usual chain, and which the table must not contradict."""
    names = [name for name in BUILT_IN if name not in ("router", "notifier")]
    assert doubts(tmp_path, ROUTER, *names) == []


@pytest.mark.parametrize("rule", BEFORE, ids=lambda rule: f"{rule[0]} before {rule[1][0]}")
def test_each_rule_of_the_order_is_about_addons_that_there_are(
    rule: tuple[str, tuple[str, ...], str],
) -> None:
    """A name that nobody has would be a rule that never speaks."""
    assert {rule[0], *rule[1]} <= set(BUILT_IN)
    assert rule[0] not in rule[1]


def test_an_addon_that_overtakes_several_is_told_once_with_the_first(tmp_path: Path) -> None:
    """One sentence for one move."""
    told = doubts(tmp_path, "interceptor", "failure_sink", "cache")
    assert [each for each in told if each.startswith("addons.cache")] == [
        "addons.cache: stands behind `interceptor`: a failed request is captured, and answered 503, before the cache "
        "can answer it with what it has stored; move it up, before `interceptor`"
    ]


def test_an_addon_is_named_as_the_profile_names_it(tmp_path: Path) -> None:
    """By its name, and the line is that of its entry."""
    named = {"use": "cache", "name": "near"}
    (told,) = doubts(tmp_path, "interceptor", named, "failure_sink")
    assert told.startswith("addons.near: stands behind `interceptor`")


@pytest.mark.parametrize("rule", NEEDS, ids=lambda rule: rule[0])
def test_an_addon_that_is_of_no_use_alone_is_told(rule: tuple[str, tuple[str, ...], str, str], tmp_path: Path) -> None:
    """With what to add; anybody's class may be what it needs, and then nothing is said."""
    addon, _, what, advice = rule
    assert f"addons.{addon}: {what}; {advice}" in doubts(tmp_path, addon)
    assert doubts(tmp_path, addon, {"use": "tests.unit.profile.standins:Banner", "with": {"text": "hello"}}) == []


@pytest.mark.parametrize(
    ("upstream", "told"),
    [
        ({"connect_timeout": "20s"}, "upstream.connect_timeout: is 20s, and never reached"),
        ({"response_timeout": "15s"}, "upstream.response_timeout: is 15s, as `deadline` is: after a timeout no time"),
        ({"response_timeout": "15s", "retry": {"attempts": 1}}, ""),
        ({"retry": {"on": []}}, "upstream.retry.on: is empty, so nothing is ever retried"),
        ({"retry": {"attempts": 1, "on": []}}, "upstream.retry.attempts: is 1, the first attempt"),
        ({"retry": {"backoff": {"base": "20s", "max": "30s"}}}, "upstream.retry.backoff.base: waits up to 20s"),
        ({"health_check": {"interval": "1s", "timeout": "2s"}}, "upstream.health_check.timeout: is 2s, longer than"),
        ({"breaker": {"failure_rate": "50%", "keep": "100%"}}, "upstream.breaker.keep: is 100%"),
        ({"breaker": {"failure_rate": "0%"}}, "upstream.breaker.failure_rate: is 0%"),
        ({"servers": ["http://a:1", "http://a:1"]}, "upstream.servers: name a:1 twice"),
        ({"servers": [{"url": "http://a:1", "backup": True}]}, "upstream.servers: are all `backup: true`"),
        ({"ca_file": "ca.pem"}, "upstream.ca_file: is of no use: none of the servers is https://"),
        ({"servers": ["https://a:1"], "verify_tls": False}, "upstream.verify_tls: is false"),
        (
            {"servers": ["https://a:1"], "verify_tls": False, "ca_file": "ca.pem"},
            "upstream.ca_file: is not looked at with `verify_tls: false`",
        ),
        ({"routes": {"slow": {"deadline": "3s"}}}, "upstream.routes.slow.connect_timeout: is 5s, and never reached"),
        ({"routes": {"slow": {"retry": {"attempts": 1}}}}, ""),
        ({"retry": {"methods": ["GET"]}, "routes": {"slow": {"retry": {"attempts": 1}}}}, ""),
        (
            {"retry": {"attempts": 1, "methods": ["GET"]}, "routes": {"slow": {"retry": {"attempts": 2}}}},
            "",
        ),
    ],
)
def test_values_of_the_upstream_that_make_no_sense_together(
    upstream: dict[str, object], told: str, tmp_path: Path
) -> None:
    """Each by its path; what a route takes over is not told again."""
    found = doubts(tmp_path, ROUTER, upstream=upstream)
    assert found[0].startswith(told) if told else found == [], found


def test_a_doubt_about_all_routes_is_told_once(tmp_path: Path) -> None:
    """A route that changes something else says nothing new."""
    upstream = {"response_timeout": "30s", "routes": {"slow": {"read_timeout": "5s"}}}
    assert len(doubts(tmp_path, ROUTER, upstream=upstream)) == 1


@pytest.mark.parametrize(
    ("top", "told"),
    [
        ({"admin": {"token": "changeme"}}, "admin.token: is easily guessed"),
        ({"admin": {"token": "Secret1!"}}, "admin.token: is easily guessed"),
        ({"admin": {"token": "aaaaaaaaaaaaaaaaaaaa"}}, "admin.token: is easily guessed"),
        ({"admin": {"token": "x7Gq2m"}}, "admin.token: has 6 characters"),
        ({"admin": {"token": "cf1f3a9d5a7e4f0b9d3c"}}, ""),
        ({"listen": "0.0.0.0:8080", "admin": {"listen": "127.0.0.1:8080"}}, "admin.listen: has the port of `listen`"),
        ({"listen": "127.0.0.1:8080", "admin": {"listen": "127.0.0.2:8080"}}, ""),
        ({"listen": "127.0.0.1:0", "admin": {"listen": "127.0.0.1:0"}}, ""),
    ],
)
def test_values_of_the_listeners_that_make_no_sense(top: dict[str, object], told: str, tmp_path: Path) -> None:
    """A token that can be guessed is none, and no sentence repeats it."""
    found = doubts(tmp_path, **top)
    assert found[0].startswith(told) if told else found == [], found
    assert not any("changeme" in each for each in found)


@pytest.mark.parametrize(
    ("addon", "told"),
    [
        ({"cache": {"max_body": "128MiB"}}, "addons.cache.max_body: is 128MiB, and all of the memory is 64MiB"),
        ({"failure_sink": {"max_bytes": "1MiB"}}, "addons.failure_sink.max_record: is 16MiB, more than the outbox"),
        ({"failure_sink": {"max_record": "8MiB"}}, "addons.failure_sink.max_record: is 8MiB: bodies of"),
        ("notifier", "addons.notifier: tells nobody"),
    ],
)
def test_values_of_addons_that_make_no_sense(addon: object, told: str, tmp_path: Path) -> None:
    """By the path of the key, or of the addon where one is missing."""
    assert any(each.startswith(told) for each in doubts(tmp_path, addon))
