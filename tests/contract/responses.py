"""Responses and requests for the tests of stores."""

from __future__ import annotations

import time
import uuid

from holdfast.policy.caching.model import Fields, StoredResponse
from holdfast.policy.caching.vary import selecting_values, vary_names
from holdfast.stores import Lookup, Store

PLAIN: Fields = ((b"host", b"origin.test"), (b"accept", b"*/*"))


def new_key() -> str:
    return f"GET http://origin.test/{uuid.uuid4().hex}"


def make_response(
    as_of: int,
    body: bytes = b"hello",
    *,
    tags: tuple[str, ...] = (),
    vary: str = "",
    request: Fields = PLAIN,
    arrived: float | None = None,
    headers: Fields = (),
) -> StoredResponse:
    """What a fill that noted `as_of` would keep of an answer to this request."""
    fields = (*headers, *(((b"vary", vary.encode()),) if vary else ()))
    now = time.time() if arrived is None else arrived
    return StoredResponse(
        status=200,
        headers=tuple(fields),
        body=body,
        request_time=now - 0.1,
        response_time=now,
        selecting=selecting_values(vary_names(fields) or (), request),
        tags=tags,
        as_of=as_of,
        reason="OK",
    )


async def fill(
    store: Store,
    key: str,
    body: bytes = b"hello",
    *,
    tags: tuple[str, ...] = (),
    vary: str = "",
    request: Fields = PLAIN,
    keep: float = 60.0,
    arrived: float | None = None,
) -> StoredResponse:
    """A whole fill: note the clock, ask the origin, keep it."""
    as_of = (await store.get(key, request)).as_of
    response = make_response(as_of, body, tags=tags, vary=vary, request=request, arrived=arrived)
    assert await store.put(key, response, keep=keep) == ""
    return response


async def body_of(store: Store, key: str, request: Fields = PLAIN) -> bytes | None:
    found: Lookup = await store.get(key, request)
    return found.response.body if found.response else None
