"""Header fields that belong to one connection and must not be passed on (RFC 9110, section 7.6.1).

Those that carry the framing stay: whoever writes the message out needs them.
"""

from __future__ import annotations

from collections.abc import Sequence

Fields = Sequence[tuple[bytes, bytes]]
_ALWAYS = frozenset({b"connection", b"keep-alive", b"proxy-connection"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"host"})
_UPGRADE = frozenset({b"upgrade"})
_CREDENTIALS = {len(name): name for name in (b"authorization", b"www-authenticate")}
_SUSPECTS = _ALWAYS | _UPGRADE | {b"te"}


def has_connection_fields(fields: Fields) -> bool:
    """Whether any of them may belong to the connection; most messages have none."""
    for name, _ in fields:  # noqa: SIM110  # asked of every message: a loop is quicker than a generator
        if name.lower() in _SUSPECTS:
            return True
    return False


def end_to_end(fields: Fields, *, upgrading: bool = False) -> Fields:
    """The fields without those of the connection; the same object where there are none.

    `upgrading`: the message asks for or grants another protocol, and `Connection: upgrade` and `Upgrade` must pass.
    """
    if not has_connection_fields(fields):
        return fields
    named = {option.strip().lower() for n, v in fields if n.lower() == b"connection" for option in v.split(b",")}
    dropped = (_ALWAYS | _UPGRADE | named) - _FRAMING
    kept = [(name, value) for name, value in fields if _passes(name.lower(), value, dropped, upgrading)]
    if upgrading:
        kept.append((b"Connection", b"upgrade"))
    return kept


def asks_for_upgrade(fields: Fields) -> bool:
    """Whether `Connection` names `upgrade` and there is an `Upgrade` to name a protocol.

    Never to h2c, which is obsolete (RFC 9113, section 3.1) and would be a way past everything the gateway does.
    """
    upgrades = [value.lower() for name, value in fields if len(name) == 7 and name.lower() == b"upgrade"]
    if not upgrades:
        return False
    options = [o.strip() for n, v in fields if n.lower() == b"connection" for o in v.lower().split(b",")]
    protocols = [protocol.strip() for value in upgrades for protocol in value.split(b",")]
    return b"upgrade" in options and b"h2c" not in protocols


def binds(fields: Fields) -> bool:
    """Whether somebody is being authenticated here for the connection and not for the request (RFC 4559, section 6)."""
    for name, value in fields:
        # By length first: this is asked of every request.
        if len(name) in _CREDENTIALS and name.lower() == _CREDENTIALS[len(name)]:
            schemes = value.lower()
            if b"ntlm" in schemes or b"negotiate" in schemes:
                return True
    return False


def _passes(name: bytes, value: bytes, dropped: frozenset[bytes] | set[bytes], upgrading: bool) -> bool:
    if name == b"upgrade":
        return upgrading
    if name == b"te":
        # gRPC asks for trailers by it, and it is the one value that may go on (RFC 9113, section 8.2.2).
        return value.strip().lower() == b"trailers"
    return name not in dropped
