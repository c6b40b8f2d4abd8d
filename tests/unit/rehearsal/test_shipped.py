"""The tests of the shipped profiles: they hold, and each fails where the profile does not do what it tells of."""

from __future__ import annotations

import pytest

from holdfast.profile.load import load_profile
from holdfast.profile.shipped import shipped_profiles
from tests.unit.rehearsal.played import ENVIRONMENT, misses, played

# (profile, what is laid over it, the tests of it that then fail)
BROKEN = [
    (
        "minimal",
        "upstream: {retry: {attempts: 1}}",
        [
            "a GET whose connection breaks is tried again",
            "a POST that has reached nobody is tried again",
            "an application that hangs does not make its clients hang",
        ],
    ),
    ("minimal", "upstream: {retry: {methods: [GET, POST]}}", ["a POST that may have arrived is not repeated"]),
    (
        "minimal",
        "upstream: {breaker: {max_fails: 0}}",
        ["an application that fails again and again is left alone for a while"],
    ),
    (
        "minimal",
        "upstream: {breaker: {fail_timeout: 2m}}",
        ["an application that fails again and again is left alone for a while"],
    ),
    ("minimal", "upstream: {forwarded: false}", ["requests are given an id, and say who has asked"]),
    (
        "sidecar",
        "addons: [{interceptor: false}]",
        [
            "a request that the application fails to answer is kept",
            "what is kept is delivered once the application is back",
            "credentials are not written to the disk",
        ],
    ),
    (
        "sidecar",
        "addons: [{interceptor: {retry_after: 6s}}]",
        ["a request that the application fails to answer is kept"],
    ),
    (
        "sidecar",
        "addons: [{replayer: {delivered: ['204'], attempts: 1}}]",
        ["what is kept is delivered once the application is back"],
    ),
    (
        "sidecar",
        "addons: [{failure_sink: {redact: {headers: [content-length]}}}]",
        ["credentials are not written to the disk"],
    ),
    ("sidecar", "upstream: {retry: {attempts: 1}}", ["what can be mended by trying again is not kept"]),
    ("sidecar", "limits: {max_response: 1}", ["an answer of the application's own is passed on"]),
    (
        "webhook",
        "addons: [{interceptor: {routes: {webhooks: {mode: on_failure}}}}]",
        ["a webhook is accepted before the application has seen it"],
    ),
    ("webhook", "addons: [{replayer: {attempts: 1}}]", ["it is delivered until the application takes it"]),
    ("webhook", "addons: [{replayer: {delivered: ['400']}}]", ["what the application will never take is given up"]),
    ("webhook", "limits: {max_response: 1}", ["a question is not put off"]),
    ("cache", "addons: [{cache: {max_body: 1}}]", ["an answer that may be kept is fetched once"]),
    ("cache", "addons: [{cache: {grace_on_error: 0s}}]", ["an old answer is better than none"]),
    ("cache", "addons: [{cache: {grace_on_error: 3h}}]", ["an old answer is better than none"]),
    ("cache", "addons: [{surrogate: false}]", ["a purge by tag takes out what has it, and nothing else"]),
    ("cache", "addons: [{cache: {default_lifetime: 1m}}]", ["what the application does not mark is not kept"]),
    ("cache", "addons: [{cache: {skip: []}}]", ["the application's health is always asked for"]),
    ("debug", "addons: [{understudy: false}]", ["while the application is away a recording answers"]),
    ("debug", "addons: [{interceptor: false}]", ["what would change something is kept all the same"]),
    (
        "debug",
        "addons: [{faults: {rules: [{name: x, at: upstream, fault: status, status: 500}]}}]",
        ["without a fault nothing fails"],
    ),
    ("gateway", "addons: [{cache: {grace_on_error: 0s}}]", ["a stale answer is better than a captured request"]),
    ("gateway", "addons: [{interceptor: false}]", ["what no cache can answer is kept, and delivered later"]),
    ("gateway", "addons: [{surrogate: false}]", ["a purge by tag reaches what the routes have tagged"]),
    (
        "kafka",
        "addons: [{failure_sink: {key: route}}]",
        [
            "a request that fails goes to the outbox, with its path for a key",
            "a request is kept also when nobody listens",
        ],
    ),
    ("kafka", "addons: [{interceptor: {on: [timeout]}}]", ["credentials never get to Kafka"]),
]


@pytest.mark.parametrize("name", [name for name, _ in shipped_profiles()])
def test_a_shipped_profile_keeps_its_promises(tmp_path, name):
    """Three of them at least."""
    found = played(tmp_path, f"version: 1\nextends: {name}\n", *_tests_of(name), inherited=True)
    assert len(found) >= 3
    assert {test: misses(result) for test, result in found.items() if not result.ok} == {}


@pytest.mark.parametrize(("name", "change", "tests"), BROKEN, ids=range(len(BROKEN)))
def test_a_promise_that_is_broken_is_noticed(tmp_path, name, change, tests):
    """A test that cannot fail shows nothing."""
    found = played(tmp_path, f"version: 1\nextends: {name}\n{change}\n", *tests, inherited=True)
    assert {test: result.ok for test, result in found.items()} == dict.fromkeys(tests, False)


def test_each_test_of_a_shipped_profile_has_been_seen_to_fail():
    """By the table above."""
    seen = {(name, test) for name, _, tests in BROKEN for test in tests}
    assert {(name, test) for name, _ in shipped_profiles() for test in _tests_of(name)} == seen


def _tests_of(name: str) -> list[str]:
    return [case.name for case in load_profile(name, env=ENVIRONMENT, tests="own").tests]
