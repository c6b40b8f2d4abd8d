"""Why an answer of the upstream's is not recorded, and which requests a recording may answer."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

from holdfast.policy.grpc import is_grpc

type Refusal = Literal["streamed", "too_large", "no_store", "partial"]

_NO_STORE = re.compile(r"(?:^|[,\s])no-store(?:$|[,\s;])", re.IGNORECASE)
_STATUS = re.compile(r"[2-5]xx|[2-5][0-9]{2}")
_ENDLESS = ("text/event-stream", "multipart/x-mixed-replace")


def check_statuses(statuses: Collection[str]) -> None:
    """ValueError for what names no status."""
    for each in statuses:
        if not _STATUS.fullmatch(each):
            raise ValueError(f"statuses: {each!r} is none: write 200, or 2xx for all from 200 to 299")


def is_good(status: int, statuses: Collection[str]) -> bool:
    """Whether answers of this status are recorded. A 304 says nothing without what its client has."""
    return status != 304 and (str(status) in statuses or f"{status // 100}xx" in statuses)


def refusal(
    *,
    status: int,
    content_type: str,
    cache_control: str,
    length: int | None,
    streamed: bool,
    max_body: int,
    obey_no_store: bool,
) -> Refusal | None:
    """Why a good answer is not recorded; None if it is. `length` is that of its body, None if it was not held."""
    if streamed or length is None or content_type.lower().startswith(_ENDLESS) or is_grpc(content_type):
        return "streamed"
    if status == 206:
        return "partial"
    if length > max_body:
        return "too_large"
    if obey_no_store and _NO_STORE.search(cache_control):
        return "no_store"
    return None
