"""Between mitmproxy's flows and what the caching rules speak about: requests asked, responses stored, answers made."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mitmproxy.http import Headers, HTTPFlow, Response

from holdfast.exchange import Exchange, exchange_of, route_of
from holdfast.policy.caching.freshness import current_age, lifetime, with_date
from holdfast.policy.caching.key import doubtful_path
from holdfast.policy.caching.model import CacheRules, Fields, StoredResponse
from holdfast.policy.caching.ranges import part_of
from holdfast.policy.caching.status import CacheStatus, member
from holdfast.policy.caching.targeted import policy_of
from holdfast.policy.caching.validation import head_fields, not_modified, not_modified_fields
from holdfast.policy.caching.vary import selecting_values, vary_names
from holdfast.policy.hop_by_hop import end_to_end
from holdfast.policy.wire import wire_text


@dataclass(slots=True)  # one for each request, and a frozen one takes three times as long to make
class Asked:
    """A request as the client meant it: reverse mode has replaced its host by the upstream's."""

    method: str
    scheme: str
    host: str
    target: str
    fields: Fields
    has_body: bool
    route: str = "unrouted"


def asked_by(flow: HTTPFlow) -> Asked:
    """What the client asked for."""
    request = flow.request
    host = exchange_of(flow).get("original_host") or request.host_header or ""
    others = [field for field in request.headers.fields if len(field[0]) != 4 or field[0].lower() != b"host"]
    return Asked(
        method=request.data.method.decode("latin-1"),  # as it was written: `get` is not GET (RFC 9110, section 9.1)
        scheme="https" if flow.client_conn.tls else "http",
        host=host,
        target=wire_text(request.data.path),
        fields=[(b"Host", host.encode("latin-1", "replace")), *others],
        has_body=bool(request.raw_content),
        route=route_of(flow),
    )


def storable(flow: HTTPFlow, asked: Asked, times: tuple[float, float], as_of: int) -> StoredResponse:
    """The response of this flow as a cache would keep it; `times` are those of the request and of the response."""
    response = flow.response
    assert response
    headers = tuple(
        (name, value)
        for name, value in end_to_end(response.headers.fields)
        if name.lower() not in (b"transfer-encoding", b"x-request-id")
    )
    headers = with_date(headers, times[1])
    return StoredResponse(
        status=response.status_code,
        headers=headers,
        body=response.raw_content or b"",
        request_time=times[0],
        response_time=times[1],
        selecting=selecting_values(vary_names(headers) or (), asked.fields),
        tags=tuple(exchange_of(flow).get("tags", ())),
        as_of=as_of,
        reason=response.reason,
    )


def unsaid(asked: Asked, stored: StoredResponse, rules: CacheRules) -> str | None:
    """Why a response may not be kept although it might: it may be one user's, and nothing in it says that it is not."""
    policy = policy_of(stored.headers, rules)
    said = policy.directives
    if lifetime(stored, policy, rules).explicit or said.public or said.no_cache is True:
        return None
    return "cookie" if any(n.lower() == b"cookie" for n, _ in asked.fields) else doubtful_path(asked.target)


def unkept(exchange: Exchange) -> str | None:
    """Why a response may not be kept whatever it says: a purge could not find it, or no server sent it like that."""
    if "untaggable" in exchange:
        return f"tags-{exchange['untaggable']}"
    return "injected-fault" if "distorted" in exchange else None


def without(stored: StoredResponse, withheld: frozenset[str]) -> StoredResponse:
    """What `private=` and `no-cache=` name is not kept (RFC 9111, section 5.2.2)."""
    if not withheld:
        return stored
    kept = tuple((n, v) for n, v in stored.headers if n.decode("latin-1").lower() not in withheld)
    return replace(stored, headers=kept)


def ttl_of(stored: StoredResponse, rules: CacheRules, now: float) -> float:
    """For how many seconds more it is fresh; negative once it is stale."""
    return lifetime(stored, policy_of(stored.headers, rules), rules).seconds - current_age(stored, now)


def answer_from(stored: StoredResponse, asked: Asked, now: float) -> Response:
    """What this client gets of it: 304, a part, the header alone, or the whole (RFC 9110, section 13.2.2)."""
    status, fields, body = stored.status, stored.headers, stored.body
    if not_modified(asked.fields, stored):
        status, fields, body = 304, tuple(not_modified_fields(stored)), b""
    elif part := part_of(asked.method, asked.fields, stored):
        status, fields, body = part.status, tuple(part.headers), part.body
    elif asked.method == "HEAD":
        fields, body = tuple(head_fields(stored)), b""
    headers = Headers([(name, value) for name, value in fields if name.lower() != b"age"])
    if status != 416:
        headers["Age"] = str(int(current_age(stored, now)))
    if asked.method != "HEAD" and status not in (204, 304):
        headers["Content-Length"] = str(len(body))
    reason = stored.reason.encode("latin-1", "replace") if status == stored.status else b""
    return Response(b"HTTP/1.1", status, reason, headers, body, None, now, now)


def tell(response: Response, status: CacheStatus) -> None:
    """Say in Cache-Status what part the cache had in this answer."""
    response.headers.add("Cache-Status", member(status))
