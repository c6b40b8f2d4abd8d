"""One topic and one consumer group of Kafka: there, with enough copies, with room for captures, with our rights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from holdfast.doctor.finding import PATIENCE, Finding
from holdfast.profile.values import Size

_MISSING = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)
_REFUSED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic that is written to. `largest`: bytes of a message; `reads`: it is consumed too."""

    name: str
    largest: int = 0
    reads: bool = False
    made_by_us: bool = False
    grown_from: str = ""  # the key of the profile that `largest` is from


def examined_topic(name: str, admin: AdminClient, wanted: Wanted) -> list[Finding]:
    """What is wrong with it, or that nothing is."""
    title = f"{name} {wanted.name}"
    try:
        asked = admin.describe_topics(
            TopicCollection([wanted.name]), include_authorized_operations=True, request_timeout=PATIENCE
        )
        topic = asked[wanted.name].result(timeout=PATIENCE)
    except (KafkaException, TimeoutError) as error:
        return [_absent(title, admin, wanted, error)]
    found = [*_rights(title, topic, wanted), *_copies(title, admin, topic), *_room(title, admin, wanted)]
    if found:
        return found
    count, copies = len(topic.partitions), min((len(each.replicas) for each in topic.partitions), default=0)
    told = f"{_counted(count, 'partition', 'partitions')}, {_counted(copies, 'copy', 'copies')} of each"
    return [Finding(title, "ok", told)]


def examined_group(name: str, admin: AdminClient, group: str) -> list[Finding]:
    """Whether somebody replays. A group is asked about only if it is there: to look for one makes Kafka's own topic."""
    title = f"{name} {group}"
    try:
        listed = admin.list_consumer_groups(request_timeout=PATIENCE).result(timeout=PATIENCE)
        if group not in {each.group_id for each in listed.valid}:
            return [_nobody(title)]
        asked = admin.describe_consumer_groups([group], include_authorized_operations=True, request_timeout=PATIENCE)
        found = asked[group].result(timeout=PATIENCE)
    except (KafkaException, TimeoutError) as error:
        if isinstance(error, KafkaException) and error.args[0].code() in _REFUSED:
            return [Finding(title, "failing", "this user may not ask about it", _group_acl(group))]
        return [Finding(title, "warning", f"cannot be asked about: {_said(error)}", "try again")]
    allowed = {each.name for each in found.authorized_operations or ()}
    if allowed and not allowed & {"READ", "ALL"}:
        return [Finding(title, "failing", "this user may not READ with it", _group_acl(group))]
    members = len(found.members)
    return [Finding(title, "ok", _counted(members, "consumer", "consumers"))] if members else [_nobody(title)]


def _group_acl(group: str) -> str:
    return f"allow it: `kafka-acls.sh --add --allow-principal User:NAME --operation READ --group {group}`"


def _nobody(title: str) -> Finding:
    told = "nobody consumes: what is captured is not sent again"
    return Finding(title, "warning", told, "start `holdfast consume` with this profile, beside the gateway")


def _absent(title: str, admin: AdminClient, wanted: Wanted, error: Exception) -> Finding:
    code = error.args[0].code() if isinstance(error, KafkaException) else None
    command = f"`kafka-topics.sh --bootstrap-server ... --create --topic {wanted.name} --partitions 6`"
    if code in _REFUSED:
        return Finding(title, "failing", "this user may not ask about it", _acl(wanted))
    if code not in _MISSING:
        return Finding(title, "failing", f"cannot be asked about: {_said(error)}", "try again")
    if wanted.made_by_us:
        return Finding(title, "ok", "does not exist; `holdfast consume` makes it")
    settings = _broker_settings(admin)
    if settings.get("auto.create.topics.enable") == "false":
        told = "does not exist, and the brokers create none by themselves: captures wait in the outbox"
        return Finding(title, "failing", told, f"create it: {command}")
    if not settings:
        told = "does not exist, or this user may not see it"
        return Finding(title, "failing", told, f"create it: {command}; or let the user see it: {_acl(wanted)}")
    partitions = settings.get("num.partitions", "1")
    copies = settings.get("default.replication.factor", "1")
    told = f"does not exist; the brokers will make it, with partitions: {partitions}, copies of each: {copies}"
    return Finding(title, "warning", told, f"create it as you want it to be: {command}")


def _rights(title: str, topic: Any, wanted: Wanted) -> list[Finding]:
    if topic.authorized_operations is None:
        return []
    allowed = {each.name for each in topic.authorized_operations}
    needed = ["WRITE", "READ"] if wanted.reads else ["WRITE"]
    missing = [each for each in needed if each not in allowed and "ALL" not in allowed]
    if not missing:
        return []
    return [Finding(title, "failing", f"this user may not {' or '.join(missing)} it", _acl(wanted))]


def _copies(title: str, admin: AdminClient, topic: Any) -> list[Finding]:
    """Whether a message is stored, and survives the loss of a broker."""
    headless = [str(each.id) for each in topic.partitions if each.leader is None]
    if headless:
        told = f"has no leader for partition {', '.join(headless)}: what belongs there waits in the outbox"
        return [Finding(title, "failing", told, "start the brokers that have it")]
    least = int(_topic_settings(admin, topic.name).get("min.insync.replicas") or 1)
    copies = min((len(each.replicas) for each in topic.partitions), default=0)
    in_sync = min((len(each.isr) for each in topic.partitions), default=0)
    if in_sync < least:
        told = f"has {in_sync} of {copies} copies in sync, and min.insync.replicas is {least}: it takes nothing"
        return [Finding(title, "failing", told, "start the brokers that are missing, or lower min.insync.replicas")]
    if copies > 1 and least == copies:
        told = f"min.insync.replicas is {least}, and so many copies there are: without one broker it takes nothing"
        return [Finding(title, "warning", told, f"set it to {least - 1}, or add a copy")]
    if copies == 1 and len(_brokers(admin)) > 1:
        told = "has one copy of each message, which is lost with its broker"
        return [Finding(title, "warning", told, "give it three: `kafka-reassign-partitions.sh`, or create it anew")]
    return []


def _room(title: str, admin: AdminClient, wanted: Wanted) -> list[Finding]:
    settings = _topic_settings(admin, wanted.name)
    found = []
    bound = settings.get("max.message.bytes", "")
    if wanted.largest and bound.isdigit() and int(bound) < wanted.largest:
        told = f"takes messages of {_size(int(bound))} (max.message.bytes), and `{wanted.grown_from}` is "
        told += f"{_size(wanted.largest)}: captures that are too large are put aside, and not published"
        advice = f"`kafka-configs.sh --alter --entity-type topics --entity-name {wanted.name} --add-config "
        advice += f"max.message.bytes={wanted.largest + 65536}`, or lower `{wanted.grown_from}`"
        found.append(Finding(title, "warning", told, advice))
    if "compact" in settings.get("cleanup.policy", ""):
        told = "is compacted: of the captures of a path only the last is kept"
        found.append(Finding(title, "warning", told, "set its cleanup.policy to delete"))
    return found


def _acl(wanted: Wanted) -> str:
    operations = "--operation WRITE --operation DESCRIBE" + (" --operation READ" if wanted.reads else "")
    return f"`kafka-acls.sh --add --allow-principal User:NAME {operations} --topic {wanted.name}`"


def _topic_settings(admin: AdminClient, topic: str) -> Mapping[str, str]:
    return _settings(admin, ConfigResource(ResourceType.TOPIC, topic))


def _broker_settings(admin: AdminClient) -> Mapping[str, str]:
    """Of any broker; empty if they may not be asked."""
    brokers = _brokers(admin)
    return _settings(admin, ConfigResource(ResourceType.BROKER, str(brokers[0]))) if brokers else {}


def _brokers(admin: AdminClient) -> list[int]:
    try:
        cluster = admin.describe_cluster(request_timeout=PATIENCE).result(timeout=PATIENCE)
        return [node.id for node in cluster.nodes]
    except (KafkaException, TimeoutError):
        return []


def _settings(admin: AdminClient, resource: ConfigResource) -> Mapping[str, str]:
    """Empty if they may not be asked."""
    try:
        asked = admin.describe_configs([resource], request_timeout=PATIENCE)
        found: Mapping[str, Any] = asked[resource].result(timeout=PATIENCE)
    except (KafkaException, TimeoutError):
        return {}
    return {name: str(entry.value) for name, entry in found.items()}


def _said(error: Exception) -> str:
    return str(error.args[0].str()) if isinstance(error, KafkaException) else f"no answer within {PATIENCE:g} s"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _size(size: int) -> str:
    return str(Size(size >> 10 << 10)) if size >= 1 << 20 else str(size)
