"""One upstream server as an address: what a URL such as `http://127.0.0.1:3000` says."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # where they listen, and where to find them


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Scheme (`http`, `https`, or `h2c`: HTTP/2 without TLS), host without brackets, port.

    `ip` is one of the addresses that the host's name stands for, where each is a server of its own.
    """

    scheme: str
    host: str
    port: int
    ip: str = ""
    name: str = field(init=False, repr=False, compare=False, default="")
    """The URL in the profile."""
    tls: bool = field(init=False, repr=False, compare=False, default=False)
    http2_only: bool = field(init=False, repr=False, compare=False, default=False)
    """Whether HTTP/2 is spoken without asking (prior knowledge, RFC 9113, section 3.3)."""

    def __post_init__(self) -> None:
        # Each is asked for several times a request.
        object.__setattr__(self, "name", f"{self.scheme}://{_bracketed(self.host)}:{self.port}")
        object.__setattr__(self, "tls", self.scheme == "https")
        object.__setattr__(self, "http2_only", self.scheme == "h2c")

    @property
    def uri_scheme(self) -> str:
        """The scheme of its requests' URIs: h2c is a way to speak, not a scheme."""
        return "https" if self.tls else "http"

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect to."""
        return self.ip or self.host, self.port

    def __str__(self) -> str:
        return f"{self.name}#{self.ip}" if self.ip else self.name


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def parse_endpoint(text: str) -> Endpoint:
    """ValueError, saying what to write, for anything but scheme, host and an optional port."""
    parts = urlsplit(text)
    wanted = "write it like http://127.0.0.1:3000 or https://backend.example"
    if parts.scheme not in ("http", "https", "h2c") or not parts.hostname:
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


def base_url(listen: str) -> str:
    """The URL to find what listens there by."""
    host, port = parse_listen(listen)
    host = _WILDCARDS.get(host, host)
    return f"http://{_bracketed(host)}:{port}"
