"""Kafka: reachable, with the topics that are written to and read from, and the rights to do so.

Every question is one of the admin client's. None of them makes a topic, as asking for the metadata of one would where
the brokers create topics by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from holdfast.brokers.kafka import check_servers
from holdfast.doctor.case import Case
from holdfast.doctor.finding import PATIENCE, Finding, Job
from holdfast.doctor.kafka_topics import Wanted, examined_group, examined_topic
from holdfast.replay.kafka.options import Quiet, made
from holdfast.replay.kafka.topics import name_topics

_MEANWHILE = "meanwhile captures wait in the outbox"
_NO_ANSWER = (
    "see whether it runs there, whether its TLS and SASL settings are in the profile's options for Kafka, and whether "
    "it advertises an address that this machine can reach"
)


def jobs(case: Case) -> list[Job]:
    """One for each cluster that the profile names."""
    found = []
    for sink in case.settings("failure_sink"):
        if sink.broker.startswith("kafka://"):
            found.append(Job("kafka", partial(_sink, case, sink)))
    for notifier in case.settings("notifier"):
        if notifier.kafka and notifier.kafka.startswith("kafka://"):
            found.append(Job("kafka (notifier)", partial(_notifier, notifier)))
    return found or [Job("kafka", lambda: [Finding("kafka", "skipped", "the profile publishes nothing to Kafka")])]


def _sink(case: Case, sink: Any) -> list[Finding]:
    servers = sink.broker.removeprefix("kafka://")
    admin, cluster = _asked("kafka", servers, sink.kafka)
    if cluster.status != "ok":
        return [cluster]
    replayers = case.settings("replayer")
    wanted = [Wanted(sink.topic, largest=int(sink.max_record), reads=bool(replayers), grown_from="max_record")]
    groups = []
    for replayer in replayers:
        kafka = replayer.kafka
        topics = name_topics(sink.topic, [float(each) for each in kafka.retry_delays], kafka.dead_letters)
        wanted += [Wanted(name, reads=True, made_by_us=kafka.create_topics) for name in topics.ours]
        groups.append(kafka.group)
    found = [cluster]
    for each in wanted:
        found += examined_topic("kafka topic", admin, each)
    for group in groups:
        found += examined_group("kafka group", admin, group)
    return found


def _notifier(notifier: Any) -> list[Finding]:
    servers = notifier.kafka.removeprefix("kafka://")
    admin, cluster = _asked("kafka (notifier)", servers, notifier.options)
    if cluster.status != "ok":
        return [cluster]
    return [cluster, *examined_topic("kafka topic (notifier)", admin, Wanted(notifier.topic))]


def _asked(name: str, servers: str, options: Mapping[str, str]) -> tuple[AdminClient, Finding]:
    """A client, and what it finds of the cluster's brokers; failing if none answers. ValueError for options."""
    check_servers(servers)
    errors: list[KafkaError] = []
    config: dict[str, Any] = {"client.id": "holdfast-doctor", "bootstrap.servers": servers, "logger": Quiet()}
    admin = made(AdminClient, {**config, **options, "error_cb": errors.append})
    try:
        cluster = admin.describe_cluster(request_timeout=PATIENCE).result(timeout=PATIENCE)
    except (KafkaException, TimeoutError) as error:
        admin.poll(0.1)  # which reports what happened meanwhile
        return admin, Finding(name, "failing", f"{servers} {_reason(error, errors)}; {_MEANWHILE}", _NO_ANSWER)
    count = len(cluster.nodes)
    return admin, Finding(name, "ok", f"{servers}: {count} broker{'' if count == 1 else 's'}")


def _reason(error: Exception, errors: list[KafkaError]) -> str:
    """What the client has met, where it tells more than that the time was up."""
    told = [each.str() for each in errors if each.code() != KafkaError._ALL_BROKERS_DOWN]
    if told:
        return f"cannot be reached: {told[-1]}"
    if isinstance(error, KafkaException) and error.args[0].code() != KafkaError._TIMED_OUT:
        return f"cannot be asked: {error.args[0].str()}"
    return f"does not answer within {PATIENCE:g} s"
