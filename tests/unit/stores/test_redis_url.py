"""Which Redis a URL means."""

from __future__ import annotations

import re
import traceback

import pytest

from holdfast.stores.redis_url import parse_redis_url


@pytest.mark.parametrize(
    ("url", "kind", "tls", "servers", "database", "service"),
    [
        ("redis://localhost", "single", False, (("localhost", 6379),), 0, ""),
        ("redis://10.0.0.1:6380/3", "single", False, (("10.0.0.1", 6380),), 3, ""),
        ("rediss://[2001:db8::1]:6380", "single", True, (("2001:db8::1", 6380),), 0, ""),
        ("redis://[::1]", "single", False, (("::1", 6379),), 0, ""),
        ("redis+sentinel://a,b:5000/main", "sentinel", False, (("a", 26379), ("b", 5000)), 0, "main"),
        ("rediss+sentinel://a/main/2", "sentinel", True, (("a", 26379),), 2, "main"),
        ("redis+cluster://a:1,b:2, c", "cluster", False, (("a", 1), ("b", 2), ("c", 6379)), 0, ""),
        ("rediss+cluster://a/0", "cluster", True, (("a", 6379),), 0, ""),
    ],
)
def test_a_url_names_servers(
    url: str, kind: str, tls: bool, servers: tuple[tuple[str, int], ...], database: int, service: str
) -> None:
    """Of one of three kinds, with or without TLS."""
    place = parse_redis_url(url)
    assert (place.kind, place.tls, place.servers) == (kind, tls, servers)
    assert (place.database, place.service) == (database, service)


@pytest.mark.parametrize(
    ("url", "username", "password"),
    [
        ("redis://h", None, None),
        ("redis://:secret@h", None, "secret"),
        ("redis://me:s%40c%2Fr%3At@h", "me", "s@c/r:t"),
        ("redis://me:@h", "me", ""),
        ("redis+cluster://me:secret@a,b", "me", "secret"),
    ],
)
def test_credentials_are_decoded_and_never_shown(url: str, username: str | None, password: str | None) -> None:
    """Neither in the title nor in what ends up in a log."""
    place = parse_redis_url(url)
    assert place.credentials() == {"username": username, "password": password}
    if password:
        assert password not in place.title + repr(place)


def test_tls_is_verified_unless_told_otherwise() -> None:
    """And the options have redis-py's names."""
    options = parse_redis_url("rediss://h?ca=/ca.pem&cert=/c.pem&key=/k.pem").tls_options()
    assert options == {
        "ssl_ca_certs": "/ca.pem",
        "ssl_certfile": "/c.pem",
        "ssl_keyfile": "/k.pem",
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
    }
    assert parse_redis_url("rediss://h?verify=none").tls_options()["ssl_cert_reqs"] == "none"
    assert parse_redis_url("redis://h").tls_options() == {}


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("http://h", "is no Redis"),
        ("redis://", "not a Redis server"),
        ("redis://h:port", "not a Redis server"),
        ("redis://h:70000", "not a Redis server"),
        ("redis://a,b", "redis+sentinel:// or redis+cluster://"),
        ("redis://h/first", "names no database"),
        ("redis://h/1/2", "names no database"),
        ("redis+sentinel://h", "name of the service"),
        ("redis+cluster://h/1", "one database"),
        ("redis://h?ca=/ca.pem", "needs rediss://"),
        ("rediss://h?verify=maybe", "neither full nor none"),
    ],
)
def test_nonsense_is_refused_with_what_to_write_instead(url: str, part: str) -> None:
    """At the profile's edge, not at three in the morning."""
    with pytest.raises(ValueError, match=re.escape(part)):
        parse_redis_url(url)


@pytest.mark.parametrize("password", ["hush/x", "hush#x", "hush?x", "1/hush"])
def test_a_password_that_ends_the_login_too_early_is_not_shown(password: str) -> None:
    """What is taken for the server then is a part of it."""
    with pytest.raises(ValueError, match="%2F") as caught:
        parse_redis_url(f"redis://me:{password}@host:6379/0")
    assert "hush" not in "".join(traceback.format_exception(caught.value))
