"""`holdfast captures redrive` with a real Kafka: what is dead is published once more, for the replayers to find."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path

import yaml

from holdfast.audit import Record
from holdfast.audit.opening import open_audit
from holdfast.replay.kafka.messages import read_arrival
from tests.e2e.captured import captures, made_for
from tests.e2e.harness import addon
from tests.integration.replay_kafka import capture, capture_id, create, messages_in


async def dead_ones(folder: Path, count: int) -> None:
    """In the audit store, each with its message; the outbox of another machine had them."""
    audit = open_audit(str(folder / "audit.db"), time.time)
    await audit.open()
    for number in range(count):
        value, headers = capture(number, f"/k/{number}"), (("holdfast-id", capture_id(number).encode()),)
        await audit.arrive([read_arrival(f"/k/{number}".encode(), value, headers)], "me", 60)
        late = (*headers, ("holdfast-due", b"99"), ("holdfast-reason", b"why"))
        await audit.record([Record(id=capture_id(number), outcome="dead", value=value, headers=late)], "me")
    await audit.close()


async def test_a_redrive_publishes_the_message_as_it_was_with_its_number(kafka_url: str, tmp_path: Path) -> None:
    """The same key and value; `holdfast-redrive` lets the replayer open it anew, and nothing says that it must wait."""
    topic = f"redriven-{uuid.uuid4()}"
    create(kafka_url, topic)
    made = addon(made_for("http://127.0.0.1:1", tmp_path), "failure_sink", broker=f"kafka://{kafka_url}", topic=topic)
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(made))
    await dead_ones(tmp_path, 12)
    profile = ("--profile", str(tmp_path / "profile.yaml"))
    code, out, err = await captures("redrive", "--yes", "--limit", "10", "--rate", "40", *profile)
    assert code == 0, err
    assert json.loads(out.splitlines()[-1]) == {"redriven": 10, "of": 10}
    found = messages_in(kafka_url, topic)
    assert [message.value() for message in found] == [capture(number, f"/k/{number}") for number in range(10)]
    for number, message in enumerate(found):
        assert message.key() == f"/k/{number}".encode()
        assert message.headers() == [("holdfast-id", capture_id(number).encode()), ("holdfast-redrive", b"1")]
        assert read_arrival(message.key(), message.value(), message.headers() or []).redrive == 1


async def test_a_redrive_without_kafka_says_so(tmp_path: Path) -> None:
    """Exit code 1, and everything is as it was."""
    made = addon(made_for("http://127.0.0.1:1", tmp_path), "failure_sink", broker="kafka://127.0.0.1:1")
    made = addon(made, "failure_sink", kafka={"message.timeout.ms": "500"})
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(made))
    await dead_ones(tmp_path, 1)
    profile = ("--profile", str(tmp_path / "profile.yaml"))
    code, out, err = await captures("redrive", "--yes", *profile)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    (listed,) = json.loads((await captures("list", "--json", *profile))[1])
    assert (listed["state"], listed["redrive"]) == ("dead", 0)
