"""Messages as they are passed on: without the header fields that belong to the connection they came on."""

from __future__ import annotations

from mitmproxy.http import Headers, Message, Response

from holdfast.policy.hop_by_hop import asks_for_upgrade, end_to_end


def passed_on[M: Message](message: M) -> M:
    """The message itself where it has no such fields, else a copy without them.

    A copy, because mitmproxy's reader of the connection looks at the original to know whether to close it.
    """
    fields = message.headers.fields
    grants = not isinstance(message, Response) or message.status_code == 101
    upgrading = grants and asks_for_upgrade(fields)
    kept = end_to_end(fields, upgrading=upgrading)
    old = isinstance(message, Response) and message.http_version == "HTTP/1.0"
    if kept is fields and not old:
        return message
    copy = message.copy()
    copy.headers = Headers(kept)
    if old:
        copy.http_version = "HTTP/1.1"  # a proxy speaks its own version to the client (RFC 9110, section 2.5)
    return copy
