"""Messages as they are passed on: without the header fields that belong to the connection they came on."""

from __future__ import annotations

from mitmproxy.http import Headers, Message, Response

from holdfast.policy.hop_by_hop import asks_for_upgrade, end_to_end, has_connection_fields


def passed_on[M: Message](message: M) -> M:
    """The message itself where it has no such fields, else a copy without them.

    A copy, because mitmproxy's reader of the connection looks at the original to know whether to close it.
    """
    fields = message.headers.fields
    old = isinstance(message, Response) and message.http_version == "HTTP/1.0"
    if not old and not has_connection_fields(fields):
        return message
    grants = not isinstance(message, Response) or message.status_code == 101
    upgrading = grants and asks_for_upgrade(fields)
    copy = _shallow(message)
    copy.data = _shallow(message.data)
    copy.headers = Headers(end_to_end(fields, upgrading=upgrading))
    if old:
        copy.http_version = "HTTP/1.1"  # a proxy speaks its own version to the client (RFC 9110, section 2.5)
    return copy


def _shallow[T](made: T) -> T:
    """Another one with the same attributes; what `copy.copy` would do, without looking for how to."""
    copy = object.__new__(type(made))
    vars(copy).update(vars(made))
    return copy
