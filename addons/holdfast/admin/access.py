"""Who may call the control surface.

With a token, every page but the two probes wants `Authorization: Bearer TOKEN`. Without one the listener is on a
loopback address, and what has to be kept out is a web page in a browser of this machine: it cannot forge `Host`, and
its requests that change anything carry `Origin`.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


def refusal(token: str, method: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
    """(status, what to do about it), or None if the call may go on. `headers` finds names in any case."""
    if token:
        given = headers.get("Authorization", "")
        if hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return None
        return 401, "send the profile's admin.token as 'Authorization: Bearer TOKEN'"
    if _host_name(headers.get("Host", "")) not in _LOCAL:
        return 403, "without admin.token the control surface answers only to localhost and 127.0.0.1 as Host"
    if method not in ("GET", "HEAD") and headers.get("Origin"):
        return 403, "a call from a web page needs admin.token to be set"
    return None


def _host_name(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()
