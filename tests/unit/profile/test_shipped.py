"""The profiles that come with Holdfast."""

from __future__ import annotations

import pytest

from holdfast.errors import ProfileError
from holdfast.profile import shipped
from holdfast.profile.load import load_profile, shipped_profiles

ENV = {"KAFKA_URL": "kafka://127.0.0.1:9092"}


def addon(profile, name):
    return next(entry.settings for entry in profile.addons if entry.name == name)


def test_each_has_a_story():
    """The comment on its first line is what `holdfast profiles` shows."""
    stories = dict(shipped_profiles())
    assert list(stories) == ["cache", "debug", "gateway", "kafka", "minimal", "sidecar", "webhook"]
    assert all(story.endswith(".") and len(story) > 40 for story in stories.values())


@pytest.mark.parametrize("name", [name for name, _ in shipped_profiles()])
def test_each_loads(name):
    """With Kafka's address in the environment, which only one of them insists on."""
    profile = load_profile(name, env=ENV)
    assert profile.source == name
    assert profile.addons[0].name == "metrics"


def test_minimal_needs_and_stores_nothing():
    """Metrics only."""
    profile = load_profile("minimal", env={})
    assert [entry.name for entry in profile.addons] == ["metrics"]
    assert profile.upstream.servers == ("http://127.0.0.1:3000",)


def test_sidecar_needs_nothing_and_keeps_what_fails():
    """Embedded until KAFKA_URL says otherwise; the server comes from HOLDFAST_UPSTREAM."""
    profile = load_profile("sidecar", env={})
    assert [entry.name for entry in profile.addons] == ["metrics", "router", "interceptor", "replayer", "failure_sink"]
    assert addon(profile, "failure_sink").broker == "embedded://"
    elsewhere = load_profile("sidecar", env={**ENV, "HOLDFAST_UPSTREAM": "https://app.example"})
    assert addon(elsewhere, "failure_sink").broker == "kafka://127.0.0.1:9092"
    assert elsewhere.upstream.servers == ("https://app.example",)


def test_cache_needs_nothing_and_keeps_no_requests():
    """In memory until REDIS_URL says otherwise."""
    profile = load_profile("cache", env={})
    assert [entry.name for entry in profile.addons] == ["metrics", "router", "cache", "surrogate"]
    assert addon(profile, "cache").store == "memory://"
    shared = load_profile("cache", env={"REDIS_URL": "redis://127.0.0.1:6379/0"})
    assert addon(shared, "cache").store == "redis://127.0.0.1:6379/0"
    assert addon(profile, "surrogate").tags["user"] == ("users", "user-{id}")


def test_gateway_asks_the_cache_before_it_captures():
    """All of it, in that order."""
    names = [entry.name for entry in load_profile("gateway", env={}).addons]
    assert names == ["metrics", "router", "cache", "surrogate", "interceptor", "replayer", "failure_sink"]


def test_webhook_accepts_at_once_what_it_has_stored_and_repeats_no_post():
    """202 below /webhooks, 503 elsewhere; and somebody delivers what was accepted."""
    profile = load_profile("webhook", env={})
    interceptor = addon(profile, "interceptor")
    assert (interceptor.mode, interceptor.answer) == ("on_failure", 503)
    webhooks = interceptor.routes["webhooks"]
    assert (webhooks.mode, webhooks.answer) == ("always", 202)
    assert "replayer" in [entry.name for entry in profile.addons]
    assert [route.name for route in addon(profile, "router").routes] == ["webhooks"]
    assert "POST" not in profile.upstream.retry.methods


def test_kafka_will_not_start_without_kafka():
    """Its story would not be true."""
    with pytest.raises(
        ProfileError, match=r"addons\.failure_sink\.broker: the environment variable KAFKA_URL is not set"
    ):
        load_profile("kafka", env={})
    assert addon(load_profile("kafka", env=ENV), "failure_sink").kafka["linger.ms"] == "20"


def test_a_remote_admin_surface_takes_its_token_from_the_environment():
    """One variable, and `--admin 0.0.0.0:9900` works with any of them."""
    reachable = {"admin.listen": "0.0.0.0:9900"}
    assert load_profile("minimal", env={"HOLDFAST_ADMIN_TOKEN": "x"}, overrides=reachable).admin.token == "x"
    with pytest.raises(ProfileError, match=r"set admin\.token"):
        load_profile("minimal", env={}, overrides=reachable)


def test_an_installed_package_brings_its_profiles_along(monkeypatch, tmp_path):
    """In a wheel they are the package data `_profiles`."""
    folder = tmp_path / "holdfast" / "_profiles"
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text("# A story.\nversion: 1\n")
    (folder / "mute.yaml").write_text("version: 1\n")
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "holdfast")
    assert shipped_profiles() == [("mute", ""), ("tiny", "A story.")]
    assert load_profile("tiny", env={}).version == 1
