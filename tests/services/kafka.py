"""A real Kafka broker in KRaft mode, from the jars that `scripts/kafka/pom.xml` names, in a Java of 512 MB."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from tests.services.process import LOOPBACK, Service, ServiceError, free_port

HEAP = ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]

# A short broker session: after `kill` the broker may register again only when its former session has run out.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters=1@{host}:{controller}
log.dirs={logs}
num.partitions=1
auto.create.topics.enable=true
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
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


class KafkaServer(Service):
    """One broker that is its own controller. `libs` is the folder of jars (`HOLDFAST_TEST_KAFKA_LIBS`)."""

    name = "Kafka"

    def __init__(self, libs: Path, data: Path, port: int) -> None:
        super().__init__(data, port)
        self.libs = libs.absolute()

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
        self.config_file.write_text(PROPERTIES.format(host=LOOPBACK, port=self.port, controller=free_port(), logs=logs))
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self._format(f"--cluster-id={cluster}")

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

    def _java(self, main: str, *args: str) -> list[str]:
        log4j = f"-Dlog4j2.configurationFile={self.data / 'log4j2.properties'}"
        return [java(), *HEAP, log4j, "-cp", f"{self.libs}/*", main, *args]

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
