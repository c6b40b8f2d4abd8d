"""`holdfast doctor` as a user runs it: a healthy place, one with a gateway, a terminal, a broken profile."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import yaml
from confluent_kafka.admin import AdminClient, NewTopic
from redis import Redis

from holdfast.testing import MisbehavingOrigin, Protocol, self_signed
from tests.e2e.bench import Bench
from tests.e2e.conftest import SampleOrigin
from tests.e2e.harness import Gateway, environment, run_cli

pytestmark = pytest.mark.any_engine


async def test_a_place_where_all_is_well_is_told_so(
    sample: SampleOrigin, tmp_path: Path, redis_url: str, kafka_url: str, postgres_url: str
) -> None:
    """Real Redis, Kafka and PostgreSQL: exit status 0, nothing fails, and nothing is made anywhere."""
    topic = f"doctor-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka_url})
    largest = NewTopic(topic, num_partitions=3, config={"max.message.bytes": "20000000"})
    admin.create_topics([largest])[topic].result(10)
    topics = set(admin.list_topics(timeout=5).topics)
    made = {
        "version": 1,
        "extends": "gateway",
        "upstream": {"servers": [sample.url]},
        "addons": [
            {"cache": {"store": redis_url}},
            {"replayer": {"audit": postgres_url}},
            {"failure_sink": {"broker": f"kafka://{kafka_url}", "topic": topic, "outbox": "data/outbox.db"}},
        ],
    }
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(made))
    folder = {*tmp_path.rglob("*")}
    keys = set(Redis.from_url(redis_url).scan_iter())
    code, out, err = await run_cli("doctor", "--profile", "all.yaml", "--json", cwd=tmp_path)
    whole = json.loads(out)
    assert (code, err, whole["ok"]) == (0, "", True), out
    statuses = {each["name"]: each["status"] for each in whole["findings"]}
    assert {statuses[name] for name in ("redis", "kafka", "audit", f"upstream {sample.url}", "clock")} == {"ok"}
    assert statuses[f"kafka topic {topic}"] == "ok"
    assert statuses["outbox"] in ("ok", "warning")  # of a container's own layer it is told
    assert statuses["kafka group holdfast-replay"] in ("ok", "warning")
    assert {*tmp_path.rglob("*")} == folder
    assert set(admin.list_topics(timeout=5).topics) == topics
    assert set(Redis.from_url(redis_url).scan_iter()) <= keys


async def test_a_gateway_that_runs_there_is_recognised(sample: SampleOrigin, tmp_path: Path) -> None:
    """Its ports are taken by itself, and its outbox is in use; neither is a failure."""
    async with Gateway(tmp_path, sample.url) as gateway:
        code, out, _ = await run_cli("doctor", "--profile", gateway.profile, "--json", cwd=tmp_path)
        found = {each["name"]: each for each in json.loads(out)["findings"]}
        for name in ("listen", "admin.listen"):
            assert "a gateway of Holdfast listens there already, python" in found[name]["found"]
            assert f"(process {gateway.pid})" in found[name]["found"]
        assert code == 0, out
        assert "outbox.db, 4" in found["outbox"]["found"]  # kilobytes
        assert (await gateway.admin("/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("says", "protocol", "tls", "status", "told"),
    [
        ("h2c", "h2", False, "ok", "speaks HTTP/2 without TLS"),
        ("https", "h2", True, "ok", "speaks HTTP/2 over TLS"),
        ("https", "http/1.1", True, "warning", "its certificate ends in 1 days"),
        ("http", "h2", False, "failing", "speaks HTTP/2 only, and the profile says http://"),
        ("h2c", "http/1.1", False, "failing", "does not speak HTTP/2 without TLS"),
    ],
)
async def test_a_server_is_asked_in_the_protocol_of_the_profile(
    says: str, protocol: Protocol, tls: bool, status: str, told: str, bench: Bench
) -> None:
    """Those of HTTP/2 are not asked for a path: that they agree on the protocol is enough."""
    certificate = self_signed() if tls else None
    async with MisbehavingOrigin(protocol=protocol, tls=certificate) as origin:
        upstream: dict[str, object] = {"servers": [f"{says}://127.0.0.1:{origin.port}"]}
        if certificate:
            upstream["ca_file"] = str(certificate.write(bench.folder))
        found = await asyncio.to_thread(bench.doctor, bench.profile(upstream=upstream))
    (about,) = [each for each in found if each.name.startswith("upstream")]
    assert (about.status, about.found) == (status, told)


def test_a_terminal_gets_colours_and_nobody_else(tmp_path: Path) -> None:
    """Nor does a terminal that has said NO_COLOR."""

    def shown(**env: str) -> bytes:
        controller, terminal = pty.openpty()
        command = [sys.executable, "-m", "holdfast", "doctor", "--profile", "none.yaml"]
        whole = environment(tmp_path, {"TERM": "xterm", **env})
        done = subprocess.Popen(command, cwd=tmp_path, env=whole, stdout=terminal, stderr=terminal)
        os.close(terminal)
        parts = []
        try:
            while part := os.read(controller, 65536):
                parts.append(part)
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(controller)
        assert done.wait(30) == 1
        return b"".join(parts)

    coloured, plain = shown(), shown(NO_COLOR="1")
    assert b"\x1b[31mfailing" in coloured
    assert b"\x1b" not in plain
    assert b"none.yaml" in plain


@pytest.mark.parametrize("text", ["", "{", "version: 1\naddons: 3\n", "\x00", "[1, 2", "version: 1\nlisten: ${X"])
def test_rubbish_instead_of_a_profile_is_a_finding(text: str, bench: Bench) -> None:
    """And the machine is examined all the same."""
    found = bench.doctor(bench.text(text))
    assert any(each.name == "profile" and each.status == "failing" for each in found)
    assert any(each.name == "python" and each.status == "ok" for each in found)
