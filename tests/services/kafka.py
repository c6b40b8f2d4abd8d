"""A real Kafka broker in KRaft mode, from the jars that `scripts/kafka/pom.xml` names, in a Java of 512 MB.

And a cluster of several, in which every message is on three of them, to be broken one by one:

    with KafkaCluster(libs, tmp_path / "cluster") as cluster:
        cluster.nodes[0].kill()
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.services.process import LOOPBACK, Service, ServiceError, free_port

JVM = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]

# A short broker session: after `kill` the broker may register again only when its former session has run out.
PROPERTIES = """\
process.roles=broker,controller
node.id={node}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters={voters}
log.dirs={logs}
num.partitions=1
auto.create.topics.enable=true
default.replication.factor={copies}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={copies}
transaction.state.log.num.partitions=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
controlled.shutdown.enable=true
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
num.network.threads=2
num.io.threads=2
log.cleaner.dedupe.buffer.size=4194304
log.cleaner.threads=1
log.segment.bytes=16777216
"""

# Warnings only: the log is shown when a start fails, and then it should be short enough to read.
LOG4J = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1}: %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""


def java() -> str:
    """The Java to run: `JAVA_HOME`'s, else the one on the PATH."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    found = found or shutil.which("java")
    if found is None:
        raise ServiceError("no java found: install a Java 17 runtime, e.g. Debian's openjdk-17-jre-headless")
    return found


@dataclass(frozen=True)
class Membership:
    """Which node of which cluster: its number, all controllers as "1@host:port,...", how many copies there are."""

    cluster: str
    node: int
    controller: int  # its port as a controller
    voters: str
    copies: int
    heap: str  # as for -Xmx


def new_cluster_id() -> str:
    """A cluster's id, as the storage tool takes it."""
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


class KafkaServer(Service):
    """One broker that is a controller too. `libs` is the folder of jars (`HOLDFAST_TEST_KAFKA_LIBS`).

    Without a `membership` it is a cluster of its own.
    """

    name = "Kafka"

    def __init__(self, libs: Path, data: Path, port: int, membership: Membership | None = None) -> None:
        super().__init__(data, port)
        self.libs = libs.absolute()
        self.membership = membership

    @property
    def config_file(self) -> Path:
        """server.properties; written once, so a restart keeps the controller's port too."""
        return self.data / "server.properties"

    def prepare(self) -> None:
        """Write the configuration and format the log folder, once."""
        logs = self.data / "logs"
        if (logs / "meta.properties").exists():
            return
        (self.data / "log4j2.properties").write_text(LOG4J)
        at = self.membership or self._alone(free_port())
        self.config_file.write_text(
            PROPERTIES.format(
                host=LOOPBACK,
                port=self.port,
                controller=at.controller,
                node=at.node,
                voters=at.voters,
                copies=at.copies,
                in_sync=max(1, at.copies - 1),
                logs=logs,
            )
        )
        self._format(f"--cluster-id={at.cluster}")

    def command(self) -> list[str]:
        """The broker in the foreground."""
        return self._java("kafka.Kafka", str(self.config_file))

    def answers(self) -> bool:
        """Whether the broker shows up in its own metadata, which it does only once it serves requests."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        client = AdminClient({"bootstrap.servers": self.address, "log_level": 0, "socket.timeout.ms": 2000})
        try:
            return bool(client.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    @staticmethod
    def _alone(controller: int) -> Membership:
        return Membership(new_cluster_id(), 1, controller, f"1@{LOOPBACK}:{controller}", copies=1, heap="512m")

    def _java(self, main: str, *args: str) -> list[str]:
        log4j = f"-Dlog4j2.configurationFile={self.data / 'log4j2.properties'}"
        heap = f"-Xmx{self.membership.heap if self.membership else '512m'}"
        return [java(), "-Xms256m", heap, *JVM, log4j, "-cp", f"{self.libs}/*", main, *args]

    def _format(self, *options: str) -> None:
        done = subprocess.run(
            self._java("kafka.tools.StorageTool", "format", "--config", str(self.config_file), *options),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise ServiceError(f"Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}")


class KafkaCluster:
    """Brokers that are controllers too, with up to three copies of everything, of which one may be missing."""

    def __init__(self, libs: Path, data: Path, brokers: int = 3) -> None:
        self.libs = libs
        self.data = data
        self.brokers = brokers
        self.nodes: list[KafkaServer] = []

    @property
    def address(self) -> str:
        """host:port,host:port,..."""
        return ",".join(node.address for node in self.nodes)

    def start(self) -> Self:
        """All nodes; ready when this returns."""
        for attempt in range(3):
            self.nodes = self._new_nodes(self.data / str(attempt))
            try:
                for node in self.nodes:
                    node.start()
                return self.wait_ready()
            except ServiceError:  # many ports at once: now and then another process is quicker
                self.stop()
                if attempt == 2:
                    raise
        return self

    def wait_ready(self, within: float = 90.0) -> Self:
        """Until every node that runs serves requests, and knows of all others that run."""
        deadline = time.monotonic() + within
        running = [node for node in self.nodes if node.pid is not None]
        for node in running:
            node.wait_ready(max(1.0, deadline - time.monotonic()))
        while not all(self._knows(node) >= len(running) for node in running):
            if time.monotonic() > deadline:
                raise ServiceError(f"Kafka's nodes did not find each other:\n{self.nodes[0].log_tail()}")
            time.sleep(0.2)
        return self

    def stop(self) -> None:
        """All nodes; not in order, as the last of them would wait for the others."""
        for node in self.nodes:
            node.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _new_nodes(self, data: Path) -> list[KafkaServer]:
        controllers = [free_port() for _ in range(self.brokers)]
        voters = ",".join(f"{number}@{LOOPBACK}:{port}" for number, port in enumerate(controllers, 1))
        cluster, copies = new_cluster_id(), min(3, self.brokers)
        return [
            KafkaServer(
                self.libs,
                data / str(number),
                free_port(),
                Membership(cluster, number, controller, voters, copies, heap="256m"),
            )
            for number, controller in enumerate(controllers, 1)
        ]

    @staticmethod
    def _knows(node: KafkaServer) -> int:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        client = AdminClient({"bootstrap.servers": node.address, "log_level": 0, "socket.timeout.ms": 2000})
        try:
            return len(client.list_topics(timeout=2).brokers)
        except KafkaException:
            return 0
