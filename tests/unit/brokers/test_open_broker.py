"""A broker's URL: what it may be, and what is said when it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.brokers import SCHEMES, open_broker
from holdfast.brokers.file import FileBroker


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("embedded://", "embedded"),
        ("file:///tmp/x.jsonl", "file"),
        ("kafka://localhost", "kafka"),
        ("kafka://a:9092,b-1.example.com:9093, [::1]:9092", "kafka"),
    ],
)
def test_a_url_names_a_broker(url: str, name: str) -> None:
    """Which does not connect before it is started."""
    assert open_broker(url, "failed-requests", {"client.id": "x"}).name == name


@pytest.mark.parametrize("url", ["", "kafka", "rabbit://x", "localhost:9092", "Kafka://a", "kafka:/a"])
def test_an_unknown_scheme_is_a_fault_that_names_the_known_ones(url: str) -> None:
    """So that a typing error can be put right at once."""
    with pytest.raises(ValueError, match="embedded://, file://, kafka://"):
        open_broker(url, "t")
    assert SCHEMES == ("embedded", "file", "kafka")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("embedded://x", "write embedded://"),
        ("file://relative/path", "absolute path"),
        ("file://", "absolute path"),
        ("kafka://", "write kafka://host:9092"),
        ("kafka://a:9092/topic", "write kafka://host:9092"),
        ("kafka://a:port", "write kafka://host:9092"),
        ("kafka://user:secret@a:9092", "credentials"),
    ],
)
def test_a_url_that_cannot_be_meant_says_what_to_write(url: str, message: str) -> None:
    """And never repeats a password."""
    with pytest.raises(ValueError, match=message) as caught:
        open_broker(url, "t")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("topic", ["", "a b", "ü", ".", "..", "x" * 250, "a/b"])
def test_a_topic_that_kafka_would_refuse_is_a_fault(topic: str) -> None:
    """At the start, not after the first failed request."""
    with pytest.raises(ValueError, match="not a Kafka topic"):
        open_broker("kafka://a", topic)


@pytest.mark.parametrize(
    ("place", "file"),
    [("/data/", "/data/topic.jsonl"), ("/data/x.jsonl", "/data/x.jsonl"), ("/da%20ta/x.log", "/da ta/x.log")],
)
def test_a_file_url_names_a_folder_or_a_file(place: str, file: str) -> None:
    """In a folder the file has the topic's name."""
    broker = open_broker(f"file://{place}", "topic")
    assert isinstance(broker, FileBroker)
    assert broker.path == Path(file)


def test_a_folder_that_exists_needs_no_slash(tmp_path: Path) -> None:
    """Even with a dot in its name."""
    (tmp_path / "a.d").mkdir()
    broker = open_broker(f"file://{tmp_path}/a.d", "../topic")
    assert isinstance(broker, FileBroker)
    assert broker.path == tmp_path / "a.d" / "topic.jsonl"


def test_without_kafka_its_library_is_not_loaded() -> None:
    """A gateway with embedded:// starts without it."""
    code = (
        "import sys; from holdfast.brokers import open_broker; open_broker('embedded://', 't'); "
        "open_broker('file:///tmp/x.jsonl', 't'); assert 'confluent_kafka' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
