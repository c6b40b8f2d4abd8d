"""The Redis of the cache: there, let in, new enough, fast enough, and with nothing that would lose purges.

Only questions are asked; whether a command may be run is asked by `ACL DRYRUN`, where that may be.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel

from holdfast.doctor.case import Case, OtherClock
from holdfast.doctor.finding import PATIENCE, Finding, Job
from holdfast.stores.opening import redis_options
from holdfast.stores.options import StoreOptions
from holdfast.stores.redis_record import Keys
from holdfast.stores.redis_url import RedisPlace, parse_redis_url
from holdfast.stores.redis_wants import COMMANDS, LEAST_VERSION, eviction_notice, fills_up, parse_version

_PINGS = 5
_SAMPLE = "GET http://doctor.invalid/"  # what nobody has stored


def jobs(case: Case) -> list[Job]:
    stores = [settings.store for settings in case.settings("cache")]
    if not stores:
        return [Job("redis", lambda: [Finding("redis", "skipped", "the profile has no cache")])]
    if stores[0].startswith("memory://"):
        return [Job("redis", lambda: [Finding("redis", "skipped", "the cache is in the gateway's memory")])]
    return [Job("redis", lambda: _examined(stores[0], case))]


def _examined(url: str, case: Case) -> list[Finding]:
    place, options = parse_redis_url(url), redis_options(url, StoreOptions())
    failing = f"Redis at {place.title}"
    try:
        client, ahead = _connected(place)
    except NoPermissionError as error:
        return [Finding("redis", "failing", f"{failing}: {error}", _acl_advice(options.prefix))]
    except (AuthenticationError, ResponseError) as error:
        advice = "correct user and password in `cache.store`: redis://USER:PASSWORD@HOST:PORT/0"
        return [Finding("redis", "failing", f"{failing} does not let us in: {error}", advice)]
    except (RedisError, OSError) as error:
        correct = "correct `cache.store`" + (" (redis:// if it does not speak TLS)" if place.tls else "")
        advice = f"start it, or {correct}; meanwhile the cache is this gateway's memory alone"
        return [Finding("redis", "failing", f"{failing} cannot be reached: {_said(error)}", advice)]
    case.clocks.append(ahead)
    facts = _info(client)
    found = [
        *_version(facts),
        *_role(facts, place),
        *_eviction(facts),
        *_rights(client, place, options),
        *_latency(client, options.timeout),
    ]
    client.close()
    if found:
        return found
    room = int(facts.get("maxmemory", 0) or 0)
    told = f"{place.title}, version {facts.get('redis_version', '?')}"
    bound = f"{facts.get('maxmemory_policy')} at {room >> 20}MiB" if room else "no bound of memory (maxmemory)"
    return [Finding("redis", "ok", f"{told}, {bound}")]


def _connected(place: RedisPlace) -> tuple[Any, OtherClock]:
    """A client that has told its time; in a cluster that of the first node that answers. Raises what redis-py does."""
    for number, address in enumerate(place.servers, 1):
        client = _client(place, address)
        try:
            began = time.time()
            seconds, microseconds = client.time()
            ended = time.time()
        except (RedisError, OSError):
            if place.kind != "cluster" or number == len(place.servers):
                raise
            continue
        ahead = seconds + microseconds / 1e6 - (began + ended) / 2
        return client, OtherClock("Redis", ahead, (ended - began) / 2)
    raise ValueError(f"{place.title} names no server")


def _client(place: RedisPlace, address: tuple[str, int]) -> Any:
    limits: dict[str, Any] = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
    limits |= {"retry": Retry(NoBackoff(), 0), "protocol": 2}
    if place.kind == "sentinel":
        login = {name: place.extra.get(f"sentinel_{name}") for name in ("username", "password")}
        tls = {**place.tls_options(), "ssl": place.tls}
        sentinels: Any = Sentinel(place.servers, sentinel_kwargs={**limits, **login, **tls})  # type: ignore[no-untyped-call]
        return sentinels.master_for(place.service, db=place.database, **place.credentials(), **limits, **tls)
    host, port = address
    options = {**place.credentials(), **place.tls_options(), **limits, "ssl": place.tls, "db": place.database}
    return redis.Redis(host=host, port=port, **options)


def _info(client: Any) -> Mapping[str, Any]:
    """All sections; empty where INFO may not be asked."""
    try:
        found: Mapping[str, Any] = client.info()
        return found
    except RedisError:
        return {}


def _version(facts: Mapping[str, Any]) -> list[Finding]:
    version = str(facts.get("redis_version", ""))
    if not version or parse_version(version) >= LEAST_VERSION:
        return []
    return [Finding("redis", "failing", f"is version {version}", "upgrade it: 6.2 is the oldest that will do")]


def _role(facts: Mapping[str, Any], place: RedisPlace) -> list[Finding]:
    found, is_cluster = [], facts.get("redis_mode") == "cluster"
    if facts.get("role") == "slave" and not is_cluster:
        master = f"{facts.get('master_host')}:{facts.get('master_port')}"
        advice = f"name its master in `cache.store` ({master}), or let Sentinels find it: redis+sentinel://"
        found.append(Finding("redis", "failing", f"{place.title} is a read-only replica", advice))
    servers = ",".join(f"{host}:{port}" for host, port in place.servers)
    if is_cluster and place.kind != "cluster":
        told = f"{place.title} is a node of a cluster, and `cache.store` names a single server"
        found.append(Finding("redis", "warning", told, f"write redis+cluster://{servers}"))
    if facts and not is_cluster and place.kind == "cluster":
        told = f"{place.title} is no cluster, and `cache.store` says so"
        found.append(Finding("redis", "failing", told, f"write redis://{servers.partition(',')[0]}/0"))
    return found


def _eviction(facts: Mapping[str, Any]) -> list[Finding]:
    if not facts:
        told = "INFO is not allowed: after a restart from an older snapshot purged responses may be back"
        return [Finding("redis", "warning", told, "allow it: ACL SETUSER ... +info")]
    notice = eviction_notice(facts)
    if notice:
        told, _, advice = notice.rpartition(": ")
        return [Finding("redis", "warning", told, f"{advice}: `redis-cli CONFIG SET maxmemory-policy volatile-lru`")]
    if fills_up(facts):
        told = "maxmemory-policy is noeviction: once memory is full, nothing new is cached"
        return [Finding("redis", "warning", told, "`redis-cli CONFIG SET maxmemory-policy volatile-lru`")]
    return []


def _rights(client: Any, place: RedisPlace, options: StoreOptions) -> list[Finding]:
    """What this user would be refused."""
    keys = Keys(options.prefix, place.database)
    names = {"{key}": keys.entry(_SAMPLE), "{channel}": keys.channel}
    wanted = [tuple(names.get(part, part) for part in command) for command in COMMANDS]
    refused = []
    try:
        user = client.execute_command("ACL", "WHOAMI")
        for command in wanted:
            answer = client.execute_command("ACL", "DRYRUN", user, *command)
            if answer not in (b"OK", "OK"):
                refused.append(command[0])
    except RedisError:  # an older one, or one that does not let us ask: the two that say most, as they are
        refused = [name for name, ask in _harmless(client, names["{key}"]) if not _may(ask)]
    if not refused:
        return []
    told = f"its user may not run {', '.join(dict.fromkeys(refused))} on {options.prefix}:*"
    return [Finding("redis", "failing", told, _acl_advice(options.prefix))]


def _harmless(client: Any, key: str) -> list[tuple[str, Any]]:
    return [
        ("EVAL", lambda: client.execute_command("EVAL", "return 1", 1, key)),
        ("HMGET", lambda: client.execute_command("HMGET", key, "v")),
        ("ZMSCORE", lambda: client.execute_command("ZMSCORE", key, "c")),
    ]


def _may(ask: Any) -> bool:
    try:
        ask()
    except NoPermissionError:
        return False
    except RedisError:
        return True
    return True


def _latency(client: Any, timeout: float) -> list[Finding]:
    """Against the time that a question to Redis gets."""
    took = []
    for _ in range(_PINGS):
        began = time.monotonic()
        try:
            client.ping()
        except RedisError:
            return []  # the rights have told
        took.append(time.monotonic() - began)
    middle = statistics.median(took)
    if middle < timeout / 2:
        return []
    told = f"answers in {middle * 1000:.0f} ms, and a question to it gets {timeout * 1000:.0f} ms"
    return [
        Finding("redis", "warning", told, "move it closer, or raise ?timeout= in `cache.store`, such as ?timeout=1s")
    ]


def _acl_advice(prefix: str) -> str:
    return f"let its user do so: `ACL SETUSER NAME ~{prefix}:* &{prefix}:* +@all -@dangerous +info`"


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
