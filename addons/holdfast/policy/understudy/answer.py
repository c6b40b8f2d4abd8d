"""What a client gets of a recording: all of it, a part, the header alone, or 304; always marked, never to be stored."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Literal

from holdfast.policy.answer import Answer, problem, proxy_status
from holdfast.policy.caching import dates
from holdfast.policy.caching.model import Fields, StoredResponse
from holdfast.policy.caching.ranges import part_of
from holdfast.policy.caching.validation import head_fields, not_modified, not_modified_fields
from holdfast.policy.failure import Failure
from holdfast.policy.understudy.model import Recording, is_ours
from holdfast.policy.wire import wire_bytes

type Match = Literal["exact", "route"]

_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_NOT_ASKED = "answered by a recording, no server was asked"


@dataclass(frozen=True, slots=True)
class StandIn:
    """The answer as plain values."""

    status: int
    headers: Fields
    body: bytes = field(repr=False)


def stand_in(
    recording: Recording,
    match: Match,
    route: str,
    *,
    method: str,
    asked: Fields,
    failure: Failure | None,
    not_retried: str = "",
) -> StandIn:
    """The recording as the answer to a request with these fields. No `failure`: no server was asked."""
    stored = StoredResponse(
        status=recording.status,
        headers=tuple(_fields(recording)),
        body=recording.body,
        request_time=recording.recorded or 0.0,
        response_time=recording.recorded or 0.0,
    )
    status, fields, body = stored.status, list(stored.headers), stored.body
    safe = method in ("GET", "HEAD")
    if safe and not_modified(asked, stored):
        status, fields, body = 304, list(not_modified_fields(stored)), b""
    elif part := part_of(method, asked, stored):
        status, fields, body = part.status, list(part.headers), part.body
    elif status in (204, 205, 304):
        body = b""
    elif method == "HEAD":
        fields, body = list(head_fields(stored)), b""
    else:
        fields.append((b"Content-Length", b"%d" % len(body)))
    return StandIn(status, [*fields, *_marks(recording, match, route, failure, not_retried)], body)


def not_recorded(route: str, wanted: str) -> Answer:
    """For a request that is to be answered from recordings only, and none is there. `wanted`: the file it would be."""
    detail = f"no server is asked on this route (understudy.answer: always), and there is no recording {wanted}"
    fields = {"Holdfast-Understudy": f"{_bare(route)}; missing", "Proxy-Status": proxy_status("", None, detail)}
    return problem(504, "not-recorded", "Not recorded", detail, headers=fields)


def mark(recording: Recording, match: Match, route: str) -> str:
    """The value of `Holdfast-Understudy`, an item of RFC 9651: the route, and where the answer comes from."""
    parts = [_bare(route)]
    if recording.recorded is not None:
        parts.append(f'recorded="{dates.written(recording.recorded).decode()}"')
    if recording.edited:
        parts.append("edited")
    if match == "route":
        parts.append("match=route")
        if recording.path:
            parts.append(f"of={_quoted(recording.path)}")
    return "; ".join(parts)


def _fields(recording: Recording) -> list[tuple[bytes, bytes]]:
    """Those of the file, with a validator of what is really sent: the origin's would be of other bytes."""
    fields = [(wire_bytes(name), wire_bytes(value)) for name, value in recording.headers if not is_ours(name)]
    if recording.status == 200 and not any(name.lower() == b"etag" for name, _ in fields):
        fields.append((b"ETag", b'"%s"' % hashlib.sha256(recording.body).hexdigest()[:20].encode()))
    return fields


def _marks(recording: Recording, match: Match, route: str, failure: Failure | None, not_retried: str) -> Fields:
    if failure is None:
        status = proxy_status("", None, _NOT_ASKED)
    else:
        detail = f"{failure.detail}; answered by a recording"
        status = proxy_status(failure.error, failure.status, detail, not_retried)
    named = {
        "Cache-Control": "no-store",
        "Holdfast-Understudy": mark(recording, match, route),
        "Proxy-Status": status,
    }
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in named.items()]


def _bare(text: str) -> str:
    return text if _TOKEN.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    clean = _UNPRINTABLE.sub("?", text)[:200].replace("\\", "\\\\").replace('"', '\\"')
    return f'"{clean}"'
