"""The mistakes of docs/doctor.md that need a server: each is made with a real one, and found."""

from __future__ import annotations

import os
import re
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from redis import Redis

from tests.e2e import mistakes
from tests.e2e.bench import Bench, matches, sentence
from tests.e2e.mistakes import Mistake
from tests.services.kafka import KafkaServer
from tests.services.process import free_port
from tests.services.redis import RedisServer

pytestmark = pytest.mark.any_engine

MADE: dict[str, Callable[[Bench], Path]] = {}


def makes(what: str) -> Callable[[Callable[[Bench], Path]], Callable[[Bench], Path]]:
    """Registers how a mistake is made."""

    def registered(make: Callable[[Bench], Path]) -> Callable[[Bench], Path]:
        MADE[what] = make
        return make

    return registered


# --- upstream ---


def in_front_of(bench: Bench, server: str, **top: Any) -> Path:
    return bench.profile(**{**top, "upstream": {"servers": [server]}})


@makes("the upstream is not running, or the port is wrong")
def not_running(bench: Bench) -> Path:
    return in_front_of(bench, f"http://127.0.0.1:{free_port()}")


@makes("the upstream is the gateway itself")
def itself(bench: Bench) -> Path:
    port = free_port()
    return in_front_of(bench, f"http://localhost:{port}", listen=f"0.0.0.0:{port}")


@makes("the upstream's name is misspelt")
def misspelt(bench: Bench) -> Path:
    return in_front_of(bench, "http://backend.invalid:3000")


@makes("https:// to a plain HTTP port")
def https_to_http(bench: Bench) -> Path:
    return in_front_of(bench, f"https://127.0.0.1:{bench.server()}")


@makes("http:// to a port with TLS")
def http_to_https(bench: Bench) -> Path:
    return in_front_of(bench, f"http://127.0.0.1:{bench.server(tls=True)}")


@makes("a certificate that nobody has signed")
def self_signed(bench: Bench) -> Path:
    return in_front_of(bench, f"https://127.0.0.1:{bench.server(tls=True)}")


@makes("the port of a database as upstream")
def database(bench: Bench) -> Path:
    return in_front_of(bench, f"http://{bench.fixture('own_redis').address}")


@makes("an upstream that hangs")
def hanging(bench: Bench) -> Path:
    return in_front_of(bench, f"http://127.0.0.1:{bench.server(hang=True)}")


# --- files ---


@makes("the outbox in a folder that may not be written to")
def unwritable(bench: Bench) -> Path:
    folder = bench.folder / "read-only"
    folder.mkdir(mode=0o555)
    if os.geteuid() == 0:  # who may write everywhere; for everybody else this is the answer
        allowed = os.access
        bench.patch.setattr("os.access", lambda path, mode: Path(path) != folder and allowed(path, mode))
    return bench.profile("interceptor", bench.sink(outbox=str(folder / "outbox.db")))


@makes("the outbox on tmpfs")
def in_memory(bench: Bench) -> Path:
    shared = Path("/dev/shm")
    if not shared.is_dir():
        pytest.skip("this machine has no /dev/shm")
    return bench.profile("interceptor", bench.sink(outbox=str(shared / "holdfast-doctor" / "outbox.db")))


@makes("another program's database as outbox")
def others_database(bench: Bench) -> Path:
    with sqlite3.connect(bench.folder / "app.db") as db:
        db.execute("CREATE TABLE users (name TEXT)")
        db.execute("PRAGMA application_id = 4711")
    db.close()
    return bench.profile("interceptor", bench.sink(outbox=str(bench.folder / "app.db")))


@makes("an outbox that was damaged")
def damaged(bench: Bench) -> Path:
    file = bench.folder / "outbox.db"
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA page_size = 4096")
        db.execute("CREATE TABLE captures (seq INTEGER PRIMARY KEY, value BLOB)")
        db.executemany("INSERT INTO captures (value) VALUES (?)", [(b"x" * 900,)] * 50)
        db.execute(f"PRAGMA application_id = {0x484F4C44}")
    db.close()
    with file.open("r+b") as raw:
        raw.seek(2 * 4096)
        raw.write(b"\xff" * 4096)
    return bench.profile("interceptor", bench.sink(outbox=str(file)))


# --- Redis ---


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One to be configured badly; `redis_of` puts it right again first."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), free_port(), ["--requirepass", "opensesame"])
    with server:
        yield server


def redis_of(bench: Bench, login: str = ":opensesame@", **settings: str) -> Path:
    """A profile with that Redis, which has these settings."""
    server: RedisServer = bench.fixture("own_redis")
    with Redis(host="127.0.0.1", port=server.port, password="opensesame") as client:
        client.replicaof("NO", "ONE")
        given = {"maxmemory": "0", "maxmemory-policy": "noeviction", **settings}
        for name, value in given.items():
            client.config_set(name, value)
        client.execute_command("ACL", "SETUSER", "weak", "on", ">opensesame", "~*", "&*", "+@read", "+info", "+time")
    return bench.profile({"cache": {"store": f"redis://{login}{server.address}/0"}})


@makes("Redis is not running")
def no_redis(bench: Bench) -> Path:
    return bench.profile({"cache": {"store": f"redis://127.0.0.1:{free_port()}/0"}})


@makes("Redis wants another password")
def wrong_password(bench: Bench) -> Path:
    return redis_of(bench, ":wrong@")


@makes("a Redis user that may not do what the cache does")
def weak_user(bench: Bench) -> Path:
    return redis_of(bench, "weak:opensesame@")


@makes("a Redis that evicts what it likes")
def evicting(bench: Bench) -> Path:
    return redis_of(bench, maxmemory="32mb", **{"maxmemory-policy": "allkeys-lru"})


@makes("a Redis that evicts nothing")
def full(bench: Bench) -> Path:
    return redis_of(bench, maxmemory="32mb")


@makes("redis:// to a node of a cluster")
def node(bench: Bench) -> Path:
    options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    server = bench.stack.enter_context(RedisServer(bench.folder / "node", free_port(), options))
    return bench.profile({"cache": {"store": server.url}})


@makes("a replica of Redis")
def replica(bench: Bench) -> Path:
    profile = redis_of(bench)
    bench.fixture("own_redis")
    with Redis(host="127.0.0.1", port=bench.fixture("own_redis").port, password="opensesame") as client:
        client.replicaof("127.0.0.1", "1")
    return profile


# --- PostgreSQL ---


def audited(bench: Bench, url: str) -> Path:
    return bench.profile("interceptor", {"replayer": {"audit": url}}, bench.sink())


@makes("PostgreSQL is not running")
def no_postgres(bench: Bench) -> Path:
    return audited(bench, f"postgresql://postgres:opensesame@127.0.0.1:{free_port()}/postgres")


@makes("a user of PostgreSQL that may not make tables")
def poor_user(bench: Bench) -> Path:
    url, name = bench.fixture("postgres_url"), f"poor_{uuid.uuid4().hex[:8]}"

    def tell(*statements: str) -> None:
        with psycopg.connect(url, autocommit=True) as conn:
            for each in statements:
                conn.execute(each)  # type: ignore[arg-type]

    tell(f"CREATE ROLE {name} LOGIN", f"CREATE SCHEMA {name}", f"GRANT USAGE ON SCHEMA {name} TO {name}")
    bench.stack.callback(tell, f"DROP SCHEMA {name}", f"DROP ROLE {name}")
    return audited(bench, url.replace("postgres@", f"{name}@") + f"?options=-csearch_path%3D{name}")


# --- Kafka ---


def published(bench: Bench, servers: str, topic: str, *addons: object, **options: str) -> Path:
    return bench.profile("interceptor", *addons, bench.sink(broker=f"kafka://{servers}", topic=topic, kafka=options))


def topic_with(servers: str, **config: str) -> str:
    """A new one."""
    name = f"doctor-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(name, num_partitions=1, config=config)])[name].result(10)
    return name


@makes("Kafka is not running")
def no_kafka(bench: Bench) -> Path:
    return published(bench, f"127.0.0.1:{free_port()}", "failed-requests")


@makes("a topic that does not exist, where the brokers make them")
def topic_to_come(bench: Bench) -> Path:
    return published(bench, bench.fixture("kafka_url"), f"doctor-{uuid.uuid4().hex[:8]}")


@makes("captures larger than the topic takes")
def narrow_topic(bench: Bench) -> Path:
    servers = bench.fixture("kafka_url")
    return published(bench, servers, topic_with(servers))


@makes("a compacted topic")
def compacted(bench: Bench) -> Path:
    servers = bench.fixture("kafka_url")
    return published(bench, servers, topic_with(servers, **{"cleanup.policy": "compact"}))


@makes("nobody replays")
def no_consumer(bench: Bench) -> Path:
    servers = bench.fixture("kafka_url")
    audit = str(bench.folder / "audit.db")
    replayer = {"replayer": {"audit": audit, "kafka": {"group": f"doctor-{uuid.uuid4().hex[:8]}"}}}
    return published(bench, servers, topic_with(servers), replayer)


@makes("Kafka wants another password")
def wrong_kafka_password(bench: Bench) -> Path:
    server = bench.fixture("strict_kafka")
    return published(bench, server.for_users, "readable", **{**server.login, "sasl.password": "wrong"})


@makes("a topic that does not exist")
def no_topic(bench: Bench) -> Path:
    return published(bench, bench.fixture("strict_kafka").address, "failed-requests")


@makes("a user of Kafka that may not write")
def may_not_write(bench: Bench) -> Path:
    server = bench.fixture("strict_kafka")
    return published(bench, server.for_users, server.readable_topic, **server.login)


class StrictKafka(KafkaServer):
    """Creates no topics by itself, and lets the user `app` do only what it was allowed to do."""

    login: ClassVar = {
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "app",
        "sasl.password": "opensesame",
    }
    readable_topic = "readable"

    def __init__(self, libs: Path, data: Path, port: int) -> None:
        super().__init__(libs, data, port)
        self.for_users = f"127.0.0.1:{free_port()}"

    def prepare(self) -> None:
        """The same, with a second listener for `app`; whoever uses the first is allowed everything."""
        super().prepare()
        text = self.config_file.read_text()
        text = re.sub(
            r"^((advertised\.)?listeners=PLAINTEXT://[^,\n]*)", rf"\1,USERS://{self.for_users}", text, flags=re.M
        )
        text = text.replace("protocol.map=", "protocol.map=USERS:SASL_PLAINTEXT,")
        text = text.replace("auto.create.topics.enable=true", "auto.create.topics.enable=false")
        plain = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_app="opensesame";'
        text += "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
        text += "super.users=User:ANONYMOUS\nlistener.name.users.sasl.enabled.mechanisms=PLAIN\n"
        self.config_file.write_text(f"{text}listener.name.users.plain.sasl.jaas.config={plain}\n")


@pytest.fixture(scope="module")
def strict_kafka(kafka_libs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrictKafka]:
    """With one topic, which `app` may see."""
    with StrictKafka(kafka_libs, tmp_path_factory.mktemp("kafka"), free_port()) as server:
        admin = AdminClient({"bootstrap.servers": server.address})
        admin.create_topics([NewTopic(server.readable_topic, num_partitions=1)])[server.readable_topic].result(10)
        place = ResourceType.TOPIC, server.readable_topic, ResourcePatternType.LITERAL
        allowed = AclBinding(*place, "User:app", "*", AclOperation.DESCRIBE, AclPermissionType.ALLOW)
        admin.create_acls([allowed])[allowed].result(10)
        yield server


# --- the test ---


@pytest.mark.parametrize(
    "mistake", [*mistakes.UPSTREAM, *mistakes.STORES, *mistakes.KAFKA], ids=lambda mistake: mistake.what
)
def test_a_mistake_with_a_real_server_is_found(mistake: Mistake, bench: Bench) -> None:
    """Each row: the sentence, its status, and nothing was made in the folder or on the server to find it."""
    profile = MADE[mistake.what](bench)
    before = sorted(bench.folder.rglob("*"))
    found = bench.doctor(profile)
    told = [each for each in found if matches(mistake.says, sentence(each))]
    assert told, "\n".join(f"{each.status} {each.name}: {sentence(each)}" for each in found if each.status != "ok")
    assert told[0].status == mistake.status
    assert sorted(bench.folder.rglob("*")) == before
    everything = " ".join(f"{each.found} {each.advice}" for each in found)
    assert "opensesame" not in everything, "a secret was told"


def test_a_user_of_redis_is_asked_about_command_by_command(bench: Bench) -> None:
    """Where ACL DRYRUN may be asked; one with the rights that the advice names is refused nothing."""
    redis_of(bench)
    server: RedisServer = bench.fixture("own_redis")
    with Redis(host="127.0.0.1", port=server.port, password="opensesame") as client:
        given = ("on", ">opensesame", "~holdfast:*", "&holdfast:*", "+@all", "-@dangerous", "+info")
        client.execute_command("ACL", "SETUSER", "good", *given)
        client.execute_command("ACL", "SETUSER", "odd", *given, "+acl", "-hset", "-subscribe")
        keys = client.dbsize()
        statuses = {}
        for user in ("good", "odd"):
            profile = bench.profile({"cache": {"store": f"redis://{user}:opensesame@{server.address}/0"}})
            statuses[user] = [each for each in bench.doctor(profile) if each.name == "redis"]
        assert [each.status for each in statuses["good"]] == ["ok"]
        assert [each.found for each in statuses["odd"]] == ["its user may not run HSET, SUBSCRIBE on holdfast:*"]
        assert client.dbsize() == keys
