"""The profile as it is played: nothing of it leads outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from holdfast.profile.load import load_profile
from holdfast.profile.settings import Profile
from holdfast.profile.shapes import fields_of
from holdfast.registry import BUILT_IN, resolve, settings_class
from holdfast.rehearsal.standins import SILENT, is_store, stood_in

TEXT = """
version: 1
extends: gateway
listen: 0.0.0.0:80
admin: {listen: 0.0.0.0:9900, token: s3cret, health_path: /up}
upstream:
  servers: [https://a.example, {url: https://b.example, weight: 3, backup: true}]
  ca_file: /etc/ca.pem
  health_check: {path: /}
  dns: {servers: ["10.0.0.2:53"]}
  routes: {user: {servers: [h2c://c.example:9000]}}
addons:
  - cache: {store: "redis://r.example:6379/0"}
  - replayer:
      audit: postgresql://u@p.example/db
      callback_key: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
      routes: {user: {callback_url: "https://cb.example"}}
  - failure_sink:
      broker: kafka://k.example:9092
      outbox: /var/outbox.db
      spool: {folder: /var/spool, max_body: 1MiB}
  - notifier: {webhook: "https://hook.example"}
  - tracing: {endpoint: "https://otlp.example"}
"""
SERVERS = {
    "https://a.example:443": "https://127.0.0.1:1",
    "https://b.example:443": "https://127.0.0.1:2",
    "h2c://c.example:9000": "h2c://127.0.0.1:3",
}


def played(tmp_path: Path, **choices: bool) -> Profile:
    file = tmp_path / "p.yaml"
    file.write_text(TEXT, encoding="utf-8")
    given = {"with_stores": False, "replays": True} | choices
    return stood_in(load_profile(str(file), env={}), SERVERS, Path("/t/ca.pem"), Path("/t"), **given)


def settings(profile: Profile) -> dict[str, Any]:
    return {entry.name: entry.settings for entry in profile.addons}


def test_nothing_of_it_leads_outside(tmp_path):
    """Not a host, not a file, nowhere in it."""
    profile = played(tmp_path)
    found = settings(profile)
    told = repr((profile.upstream, profile.listen, profile.admin, found))
    assert ".example" not in told
    assert "/var/" not in told
    assert profile.admin.listen is None
    assert not {"notifier", "tracing"} & set(found)


def test_the_rest_of_it_stays_as_it_is(tmp_path):
    """Weights and backups, the trust that is asked for, the order of the addons."""
    profile = played(tmp_path)
    assert [(s.url, s.weight, s.backup) for s in profile.upstream.each_server()] == [
        ("https://127.0.0.1:1", 1, False),
        ("https://127.0.0.1:2", 3, True),
    ]
    assert profile.upstream.routes["user"].each_server()[0].url == "h2c://127.0.0.1:3"
    assert (profile.upstream.ca_file, profile.upstream.verify_tls) == ("/t/ca.pem", True)
    assert profile.admin.health_path == "/up"
    order = ["metrics", "router", "cache", "surrogate", "interceptor", "replayer", "failure_sink"]
    assert list(settings(profile)) == order
    assert settings(profile)["failure_sink"].outbox == "/t/outbox.db"
    assert float(settings(profile)["interceptor"].retry_after) == 5


def test_with_stores_keeps_what_others_run(tmp_path):
    """Redis, Kafka, PostgreSQL; files and callbacks are no stores of that kind."""
    found = settings(played(tmp_path, with_stores=True))
    assert found["cache"].store == "redis://r.example:6379/0"
    assert found["failure_sink"].broker == "kafka://k.example:9092"
    assert found["replayer"].audit == "postgresql://u@p.example/db"
    assert found["failure_sink"].outbox == "/t/outbox.db"
    assert found["replayer"].routes["user"].callback_url is None


def test_nothing_is_sent_again_unless_a_test_says_so(tmp_path):
    """A replay in the middle of a script would be a matter of luck."""
    assert "replayer" not in settings(played(tmp_path, replays=False))


def places(cls: type[Struct], path: str) -> Iterator[str]:
    """The keys that name a place by their name, and have no stand-in."""
    telling = {"folder", "file", "path", "url", "endpoint", "outbox", "store", "broker", "audit", "webhook"}
    for item in fields_of(cls):
        inner = item.shape.struct or (item.shape.entry and item.shape.entry.struct)
        if inner:
            yield from places(inner, f"{path}.{item.name}")
        stand_ins = [meta for meta in item.shape.metas if meta.extra and "in_tests" in meta.extra]
        if item.shape.takes_text and telling & set(item.name.split("_")) and not stand_ins:
            yield f"{path}.{item.name}"


def test_every_setting_that_names_a_place_has_a_stand_in():
    """Whoever adds an addon that writes or posts somewhere says beside the key what stands there in tests."""
    classes = {name: settings_class(resolve(name)) for name in BUILT_IN if name not in SILENT}
    assert [each for name, cls in classes.items() for each in places(cls, name)] == []


def test_what_a_store_of_others_is():
    """By its address."""
    assert [is_store(each) for each in ("redis://h", "kafka://h", "postgresql://h")] == [True] * 3
    ours = ("memory://", "embedded://", "file:///x", "./x.db", "https://h", None, "")
    assert not any(is_store(each) for each in ours)
