"""Which Redis a profile's URL means.

    redis://[user:password@]host[:6379][/0]                          one server; rediss:// with TLS
    redis+sentinel://[user:password@]host[:26379],host/SERVICE[/0]   the master that Sentinels name
    redis+cluster://[user:password@]host[:6379],host                 a cluster, found by any of its nodes

`rediss+sentinel://` and `rediss+cluster://` are the same with TLS. User and password are Redis's own; for the
Sentinels they are `sentinel_username` and `sentinel_password` in the query. A TLS server is verified; `ca`, `cert`
and `key` are paths, and `verify=none` does without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES = (
    *("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"),
)  # fmt: skip
_TLS_FILES = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"}
CONNECTION_KEYS = (*_TLS_FILES, "verify", "sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """Where it is, and how to be let in. `kind`: single, sentinel or cluster."""

    kind: str
    tls: bool
    servers: tuple[tuple[str, int], ...]
    database: int = 0
    service: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    extra: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def title(self) -> str:
        """For people: without credentials."""
        servers = ",".join(f"{host}:{port}" for host, port in self.servers)
        return f"{self.service} of {servers}" if self.service else servers

    def credentials(self) -> dict[str, str | None]:
        return {"username": self.username, "password": self.password}

    def tls_options(self) -> dict[str, object]:
        """redis-py's keywords; empty without TLS."""
        if not self.tls:
            return {}
        options: dict[str, object] = {ours: self.extra[name] for name, ours in _TLS_FILES.items() if name in self.extra}
        if self.extra.get("verify") == "none":
            options |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
        else:
            options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        return options


def parse_redis_url(url: str) -> RedisPlace:
    """ValueError, with what to write instead. Keys of the query that are not about the connection are left alone."""
    try:
        return _parsed(url)
    except ValueError:
        if "@" in url and "@" not in urlsplit(url).netloc:  # what would be shown is a part of the password
            raise ValueError("write / ? and # in user and password as %2F, %3F and %23") from None
        raise


def _parsed(url: str) -> RedisPlace:
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{parts.scheme}:// is no Redis: write one of {', '.join(f'{each}://' for each in SCHEMES)}")
    tls, kind = parts.scheme.startswith("rediss"), parts.scheme.partition("+")[2] or "single"
    login, _, hosts = parts.netloc.rpartition("@")
    servers = tuple(_server(each.strip(), 26379 if kind == "sentinel" else 6379) for each in hosts.split(","))
    if kind == "single" and len(servers) > 1:
        raise ValueError("redis:// takes one server: write redis+sentinel:// or redis+cluster:// for several")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if query.get("verify", "full") not in ("full", "none"):
        raise ValueError(f"verify={query['verify']} is neither full nor none")
    if not tls and (wrong := [name for name in (*_TLS_FILES, "verify") if name in query]):
        raise ValueError(f"{', '.join(wrong)} in the URL needs rediss://")
    service, database = _path(kind, parts.path)
    username, found, password = login.partition(":")
    return RedisPlace(
        kind=kind,
        tls=tls,
        servers=servers,
        database=database,
        service=service,
        username=unquote(username) or None,
        password=unquote(password) if found else None,
        extra={name: query[name] for name in CONNECTION_KEYS if name in query},
    )


def _server(text: str, default_port: int) -> tuple[str, int]:
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif ":" in text:
        host, _, port = text.rpartition(":")
    if not host or (port and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise ValueError(f"{text!r} is not a Redis server: write host:port")
    return host, int(port) if port else default_port


def _path(kind: str, path: str) -> tuple[str, int]:
    """(the Sentinels' name of the service, the number of the database)."""
    parts = [unquote(part) for part in path.split("/") if part]
    service = ""
    if kind == "sentinel":
        if not parts:
            raise ValueError("redis+sentinel:// needs the name of the service: redis+sentinel://host:26379/mymaster")
        service = parts.pop(0)
    if kind == "cluster" and parts not in ([], ["0"]):
        raise ValueError("a Redis cluster has one database: write nothing behind its servers")
    if len(parts) > 1 or (parts and not parts[0].isdecimal()):
        raise ValueError(f"{path!r} names no database of Redis: write a number, as in redis://host:6379/0")
    return service, int(parts[0]) if parts else 0
