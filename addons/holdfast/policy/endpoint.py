"""One upstream server as an address: what a URL such as `http://127.0.0.1:3000` says."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Scheme (`http` or `https`), host without brackets, port."""

    scheme: str
    host: str
    port: int

    @property
    def tls(self) -> bool:
        return self.scheme == "https"

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """ValueError, saying what to write, for anything but scheme, host and an optional port."""
    parts = urlsplit(text)
    wanted = "write it like http://127.0.0.1:3000 or https://backend.example"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is no server address: {wanted}")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError(f"{text!r} has more than scheme, host and port: {wanted}")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"{text!r} has a port out of range: {wanted}") from None
    if port == 0:
        raise ValueError(f"{text!r} has port 0: {wanted}")
    return Endpoint(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80))


def parse_listen(text: str) -> tuple[str, int]:
    """`[HOST:]PORT` as (host, port); the host defaults to 127.0.0.1. IPv6 hosts in brackets. ValueError otherwise."""
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is no address: write it like 127.0.0.1:8080 or 8080")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: put an IPv6 address in brackets, like [::1]:8080")
    return host or "127.0.0.1", int(port)
