"""changes: what differs between two profiles, by path, and what of it needs a restart."""

from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.profile.changes import changes_of
from holdfast.profile.load import load_profile
from holdfast.profile.settings import Profile

ROUTER = "{router: {routes: [{name: user, path: /u}]}}"


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[[str], Profile]:
    """A profile from its keys."""

    def load(text: str) -> Profile:
        file = tmp_path / "p.yaml"
        file.write_text(f"version: 1\n{text}\n")
        return load_profile(str(file))

    return load


CASES = [
    ("", "", set()),
    ("listen: 127.0.0.1:1", "listen: 127.0.0.1:2", {("listen", True)}),
    ("", "admin: {token: x, health_path: /up}", {("admin.token", True), ("admin.health_path", False)}),
    ("", "upstream: {retry: {backoff: {max: 2s}}}", {("upstream.retry.backoff.max", False)}),
    ("", "upstream: {health_check: {}}", {("upstream.health_check", False)}),
    ("upstream: {servers: ['http://a']}", "upstream: {servers: ['http://b']}", {("upstream.servers", False)}),
    (
        f"upstream: {{routes: {{user: {{deadline: 1s}}}}}}\naddons: [{ROUTER}]",
        f"upstream: {{routes: {{user: {{deadline: 2s}}}}}}\naddons: [{ROUTER}]",
        {("upstream.routes.user.deadline", False)},
    ),
    (
        f"addons: [{ROUTER}]",
        f"limits: {{routes: {{user: {{max_body: 1}}}}}}\naddons: [{ROUTER}]",
        {("limits.routes.user", False)},
    ),
    ("addons: [metrics]", "addons: []", set()),
    ("addons: [metrics]", "addons: [{metrics: {buckets: [1]}}]", {("addons.metrics.buckets", True)}),
    ("addons: [metrics]", "\n\naddons: [{metrics: {}, on_error: closed}]", {("addons.metrics.on_error", False)}),
    (
        "addons: [{failure_sink: {kafka: {acks: all}}}]",
        "addons: [{failure_sink: {kafka: {acks: '1'}, retention: 2d}}]",
        {("addons.failure_sink.kafka.acks", True), ("addons.failure_sink.retention", False)},
    ),
]


@pytest.mark.parametrize(("before", "after", "expected"), CASES)
def test_each_key_that_differs_is_named(
    loaded: Callable[[str], Profile], before: str, after: str, expected: set[tuple[str, bool]]
) -> None:
    """Lines that move are no change, and neither is the order of anything but the addons, which is told elsewhere."""
    found = changes_of(loaded(before), loaded(after))
    assert {(change.path, change.restart) for change in found} == expected
