"""What newcomers get wrong, and the sentence that says what to do: the table of docs/doctor.md.

    python -m tests.e2e.mistakes > docs/doctor.md

`tests/e2e/test_mistakes.py` makes each of them on purpose, with real servers, and looks for the sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """`says` is what is found and, behind an arrow, what to do; `…` stands for what differs from machine to machine."""

    what: str
    says: str
    by: str = "doctor"  # and by `check`, where it stands in WORDING
    status: str = "failing"


WORDING = (
    Mistake(
        "a misspelt key",
        "upstream.response_timout: unknown key: did you mean 'response_timeout'?",
    ),
    Mistake(
        "a misspelt addon",
        "there is no addon named 'interceptr': did you mean 'interceptor'?",
    ),
    Mistake(
        "a duration in words",
        "'5 seconds' is not a duration: the units are ms, s, m, h and d, as in 50ms or 5s",
    ),
    Mistake(
        "a regular expression that is none",
        "'…' is no regular expression: missing ), unterminated subpattern …",
    ),
    Mistake(
        "a variable of the environment that is not set",
        "the environment variable KAFKA_URL is not set: set it, or write ${KAFKA_URL:-default}",
    ),
    Mistake(
        "a tab in the YAML",
        "is not valid YAML: … indent with blanks, not with tabs",
    ),
    Mistake(
        "the control surface open to everybody, without a token",
        "`listen` is not a loopback address and there is no token: set admin.token, …",
    ),
    Mistake(
        "a path behind the upstream's address",
        "has a path, a query or a fragment, and those are always the request's: write it like http://127.0.0.1:3000 …",
    ),
    Mistake(
        "settings for a route that the router does not know",
        "upstream.routes.user: the router gives no route this name: there are other, users",
    ),
    Mistake(
        "a shipped profile's name misspelt",
        "there is no shipped profile 'sidecart': did you mean 'sidecar'?",
    ),
    Mistake(
        "the cache behind the interceptor",
        "addons.cache: stands behind `interceptor`: a failed request is captured, and answered 503, before the cache "
        "can answer it with what it has stored → move it up, before `interceptor`",
        status="warning",
    ),
    Mistake(
        "the router behind what asks for the route",
        "addons.router: stands behind `cache`: what stands before it does not know the route while the header of a "
        "request arrives → move it up, before `cache`",
        status="warning",
    ),
    Mistake(
        "the replayer behind the failure sink",
        "addons.replayer: stands behind `failure_sink`: … → move it up, before `failure_sink`",
        status="warning",
    ),
    Mistake(
        "an interceptor, and nothing that stores",
        "addons.interceptor: failed requests are answered 503, and lost: nothing stores them → add `- failure_sink` "
        "behind it",
        status="warning",
    ),
    Mistake(
        "surrogate keys without a cache",
        "addons.surrogate: its tags are of no use: nothing is stored that they could purge → add `- cache` before it, "
        "or take it out",
        status="warning",
    ),
    Mistake(
        "a response timeout beyond the deadline",
        "upstream.response_timeout: is 30s, and never reached: `deadline` ends everything after 15s → raise deadline "
        "or lower response_timeout",
        status="warning",
    ),
    Mistake(
        "retries configured, and one attempt",
        "upstream.retry.attempts: is 1, the first attempt: what `on` and `methods` say is of no use → set attempts to "
        "2 or more",
        status="warning",
    ),
    Mistake(
        "a token that is easily guessed",
        "admin.token: is easily guessed → make one with `openssl rand -hex 24`",
        status="warning",
    ),
    Mistake(
        "one port for clients and for the control surface",
        "admin.listen: has the port of `listen` (127.0.0.1:…) → choose another, such as 127.0.0.1:9900",
        status="warning",
    ),
)
MACHINE = (
    Mistake(
        "a password in a profile that everybody can read",
        "… holds a secret in the clear, and everybody on this machine can read it → `chmod 640 …`, or take it from the "
        "environment: ${NAME}",
        status="warning",
    ),
    Mistake(
        "an old Python",
        "Holdfast needs Python 3.12 or newer, and … is …: install a newer one, and start holdfast with it",
        by="any command",
    ),
    Mistake(
        "an old mitmproxy",
        "11.0.2, and the engine needs 12.2 → install the one it was written for: "
        '`… -m pip install "mitmproxy~=12.2.0"`',
    ),
    Mistake(
        "`connection_strategy: eager` in ~/.mitmproxy/config.yaml",
        "… sets connection_strategy: the gateway does not start: with eager, a request to a dead upstream is never "
        "seen → take connection_strategy out of it",
    ),
    Mistake(
        "`stream_large_bodies` in ~/.mitmproxy/config.yaml",
        "… sets stream_large_bodies: it wins over the profile's `limits.buffer_body` → take stream_large_bodies out of "
        "it",
        status="warning",
    ),
    Mistake(
        "`ulimit -n 64`",
        "at most 64 at once, too few for the gateway itself and some clients → allow more: `ulimit -n 65536`, …",
    ),
    Mistake(
        "a proxy in the environment",
        "http_proxy is set, and no_proxy does not name 127.0.0.1: curl and others ask that proxy for the gateway → "
        "export no_proxy=127.0.0.1,localhost",
        status="warning",
    ),
    Mistake(
        "a clock that is off",
        "differs from others': … is … s ahead → set whichever is wrong: `timedatectl set-ntp true`, here or there",
        status="warning",
    ),
    Mistake(
        "a port that is taken",
        "127.0.0.1:… is taken by … (process …) → stop that, or choose another port: `--listen …`",
    ),
    Mistake(
        "an address that this machine does not have",
        "192.0.2.7:8080: this machine has no such address → write 127.0.0.1 for this machine only, or 0.0.0.0 for "
        "everybody",
    ),
)
UPSTREAM = (
    Mistake(
        "the upstream is not running, or the port is wrong",
        "cannot be reached: Connection refused → start it, or correct its port; try `nc -vz 127.0.0.1 …`",
    ),
    Mistake(
        "the upstream is the gateway itself",
        "is the gateway itself (`listen`): every request would go round in a circle → name the application's own port "
        "in `upstream.servers`",
    ),
    Mistake(
        "the upstream's name is misspelt",
        "its name cannot be resolved: … → correct the name in `upstream.servers`, or see to the DNS",
    ),
    Mistake(
        "https:// to a plain HTTP port",
        "does not speak TLS: … → write http://… if it is a plain HTTP port",
    ),
    Mistake(
        "http:// to a port with TLS",
        "speaks TLS, and the profile says http:// → write https://…",
    ),
    Mistake(
        "a certificate that nobody has signed",
        "its certificate is not accepted: … → name the authority that has signed it in `upstream.ca_file`, or correct "
        "the host's name",
    ),
    Mistake(
        "the port of a database as upstream",
        "accepts connections, and does not speak HTTP (…) → see whether this is the application's port, and not that "
        "of a database or a broker",
    ),
    Mistake(
        "an upstream that hangs",
        "accepts connections, and does not answer within 3 s (HEAD /) → see whether the application hangs",
        status="warning",
    ),
)
STORES = (
    Mistake(
        "the outbox in a folder that may not be written to",
        "… is not writable → give this user write permission there",
    ),
    Mistake(
        "the outbox on tmpfs",
        "… free on tmpfs, which is memory: a restart of the machine empties it → choose a folder on a disk: what is "
        "captured has to survive a power cut",
        status="warning",
    ),
    Mistake(
        "another program's database as outbox",
        "… is another program's database → choose another file",
    ),
    Mistake(
        "an outbox that was damaged",
        "… is damaged: … → the gateway salvages what it can when it starts; keep a copy of the file before that",
    ),
    Mistake(
        "Redis is not running",
        "Redis at … cannot be reached: … → start it, or correct `cache.store`; …",
    ),
    Mistake(
        "Redis wants another password",
        "Redis at … does not let us in: … → correct user and password in `cache.store`: redis://USER:PASSWORD@HOST:PORT/0",
    ),
    Mistake(
        "a Redis user that may not do what the cache does",
        "its user may not run EVAL… on holdfast:* → let its user do so: `ACL SETUSER NAME …`",
    ),
    Mistake(
        "a Redis that evicts what it likes",
        "maxmemory-policy allkeys-lru may evict the purge records, and with them everything → use volatile-lru: …",
        status="warning",
    ),
    Mistake(
        "a Redis that evicts nothing",
        "maxmemory-policy is noeviction: once memory is full, nothing new is cached → `redis-cli CONFIG SET "
        "maxmemory-policy volatile-lru`",
        status="warning",
    ),
    Mistake(
        "redis:// to a node of a cluster",
        "… is a node of a cluster, and `cache.store` names a single server → write redis+cluster://…",
        status="warning",
    ),
    Mistake(
        "a replica of Redis",
        "… is a read-only replica → name its master in `cache.store` (…), or let Sentinels find it: redis+sentinel://",
    ),
    Mistake(
        "PostgreSQL is not running",
        "the audit at PostgreSQL … cannot be reached: … → start it, or correct user, password, host and database in "
        "`audit`",
    ),
    Mistake(
        "a user of PostgreSQL that may not make tables",
        "the audit at PostgreSQL … does not let its user make tables → GRANT CREATE ON SCHEMA ... TO ..., or start "
        "once as its owner",
    ),
)
KAFKA = (
    Mistake(
        "Kafka is not running",
        "… cannot be reached: … Connection refused …; meanwhile captures wait in the outbox → see whether it runs "
        "there, …",
    ),
    Mistake(
        "Kafka wants another password",
        "… cannot be reached: … Authentication failed … → see whether it runs there, whether its TLS and SASL settings "
        "are in the profile's options for Kafka, …",
    ),
    Mistake(
        "a topic that does not exist",
        "does not exist, and the brokers create none by themselves: captures wait in the outbox → create it: "
        "`kafka-topics.sh …`",
    ),
    Mistake(
        "a topic that does not exist, where the brokers make them",
        "does not exist; the brokers will make it, with partitions: 1, copies of each: 1 → create it as you want it to "
        "be: `kafka-topics.sh …`",
        status="warning",
    ),
    Mistake(
        "a user of Kafka that may not write",
        "this user may not WRITE … it → `kafka-acls.sh --add --allow-principal User:NAME --operation WRITE …`",
    ),
    Mistake(
        "captures larger than the topic takes",
        "takes messages of … (max.message.bytes), and `max_record` is 16MiB: captures that are too large are put "
        "aside, and not published → `kafka-configs.sh …`, or lower `max_record`",
        status="warning",
    ),
    Mistake(
        "a compacted topic",
        "is compacted: of the captures of a path only the last is kept → set its cleanup.policy to delete",
        status="warning",
    ),
    Mistake(
        "nobody replays",
        "nobody consumes: what is captured is not sent again → start `holdfast consume` with this profile, beside the "
        "gateway",
        status="warning",
    ),
)
MISTAKES = (*WORDING, *MACHINE, *UPSTREAM, *STORES, *KAFKA)

_HEAD = """\
# What is wrong, and what to do

```
$ holdfast doctor --profile my-profile.yaml
```

examines this machine and a profile, and says what to do about each thing that is wrong. It only asks and reads: nothing
is written, created or changed, here or on any server. All examinations run at once; a question that is not answered
within 3 seconds is a finding, and so is an examination that takes more than 15.

- **This machine**: the interpreter, mitmproxy and whatever the engine relies on in it, open files, memory, proxy
  variables, `~/.mitmproxy/config.yaml`.
- **The profile**: every fault with its line, the order of the addons, values that make no sense together, secrets in
  files that everybody can read.
- **Ports**: `listen` and `admin.listen` are free, or taken, and by whom; a gateway of Holdfast that runs there is
  recognised.
- **Files** of outbox, audit and spool: the version of SQLite, whether they may be written to, the file system, locks
  and flushes, free space, damage.
- **Redis**: reachable, version, role, cluster or not, `maxmemory-policy`, what its user may run, how fast it answers.
- **Kafka**: reachable; each topic's leaders, copies in sync, `max.message.bytes`, `cleanup.policy`, what the user may
  do with it; whether somebody consumes.
- **PostgreSQL**: reachable, version, encoding, primary or replica, the tables and their version, what the user may do.
- **The servers**: name, port, HTTP or TLS or HTTP/2, certificate, and that they are not the gateway itself.
- **The clock**: not set while we look, and the same as that of Redis, of PostgreSQL and in the servers' `Date`.

A finding is `ok`, a `warning`, `failing` or `skipped`. The exit status is 0 where nothing fails, warnings or not, 1
where something does, and 2 for a wrong command line. `--json` prints an object with `ok`, `counts` and `findings`, each
with `name`, `status`, `found` and `advice`. A profile that cannot be loaded is a finding, and the machine is examined
all the same.

What is about the profile alone, `holdfast check` says too: faults with exit status 2, and, as warnings that do not
change it, the order of the addons and values that make no sense together.

To find all that out, each server gets one `HEAD /`, or a `GET` of its health check's path; a port is bound and closed
at once, without listening; what the user of Redis may run is asked by `ACL DRYRUN` or, where that is not allowed, by
commands that only read. Not seen are the version and the clock of Kafka's brokers, which they do not tell.

## Mistakes, and what is said about them

These tables are generated from `tests/e2e/mistakes.py` (`python -m tests.e2e.mistakes > docs/doctor.md`), and
`tests/e2e/test_mistakes.py` and `tests/e2e/test_mistakes_servers.py` make every one of these mistakes and look for the
sentence. `…` is what differs from machine to machine.
"""
_PARTS: Sequence[tuple[str, Sequence[Mistake]]] = (
    ("The profile", WORDING),
    ("The machine, and the files on it", MACHINE),
    ("The upstream", UPSTREAM),
    ("Files, Redis, PostgreSQL", STORES),
    ("Kafka", KAFKA),
)


def page() -> str:
    """docs/doctor.md."""
    return "\n".join([_HEAD, *(line for title, mistakes in _PARTS for line in _table(title, mistakes))])


def _table(title: str, mistakes: Iterable[Mistake]) -> Iterable[str]:
    yield f"### {title}\n"
    yield "| the mistake | found by | what is said, and what to do |"
    yield "| --- | --- | --- |"
    for each in mistakes:
        by = each.by if " " in each.by else f"`{each.by}`"
        by = f"`check`, {by}" if each in WORDING else by
        warned = " (warning)" if each.status == "warning" else ""
        yield f"| {each.what} | {by}{warned} | {each.says} |"
    yield ""


if __name__ == "__main__":
    print(page(), end="")
