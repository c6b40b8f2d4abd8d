"""The rules for addresses in a profile: where to listen, which servers to call. Pure.

A ValueError says what to write instead. No message repeats the value, as it may hold credentials.
"""

from __future__ import annotations

import ipaddress
import re

from holdfast.policy.endpoint import parse_endpoint, parse_listen
from holdfast.policy.names import parse_name_server

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]+")
_SERVER = "write it like http://127.0.0.1:3000 or https://backend.example"


def check_listen(text: str) -> None:
    """`[HOST:]PORT`."""
    try:
        host, _ = parse_listen(text)
    except ValueError:
        host = ""
    if not _is_host(host) or (text.startswith("[") and ":" not in host):
        raise ValueError("is not an address to listen on: write HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080")


def is_loopback(listen: str) -> bool:
    """Whether only this machine can reach a listener at this `[HOST:]PORT`."""
    host, _ = parse_listen(listen)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def check_server(text: str) -> None:
    """http or https, a host, maybe a port, and nothing else."""
    if "@" in text:
        raise ValueError(f"holds credentials, and the gateway passes on those of the client: {_SERVER}")
    if re.match(r"https?://[^/?#]+(/.|/?[?#])", text):
        raise ValueError(f"has a path, a query or a fragment, and those are always the request's: {_SERVER}")
    try:
        endpoint = parse_endpoint(text)
    except ValueError:
        endpoint = None
    # urlsplit drops tabs and line breaks without a word.
    if endpoint is None or not _is_host(endpoint.host) or re.search(r"[\s\\]|:/?$", text):
        raise ValueError(f"is not a server's base URL: {_SERVER}")


def check_name_server(text: str) -> None:
    """`HOST[:PORT]` of a DNS server."""
    try:
        host, _ = parse_name_server(text)
    except ValueError:
        host = ""
    if not _is_host(host):
        raise ValueError("is not the address of a name server: write HOST:PORT, such as 10.0.0.2:8600 or [::1]:53")


def check_method(text: str) -> None:
    """An HTTP method; they are case-sensitive (RFC 9110, section 9.1) and upper case in practice."""
    if not _METHOD.fullmatch(text):
        raise ValueError("is not an HTTP method: write it in upper case, as in GET")


def check_path(text: str) -> None:
    """A path that the gateway itself answers."""
    if not re.fullmatch(r"/[!-~]*", text) or "?" in text or "#" in text:
        raise ValueError('is not a path: it starts with "/" and holds neither blanks, a query nor a fragment')


def _is_host(host: str) -> bool:
    if _HOST.fullmatch(host):
        return True
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
