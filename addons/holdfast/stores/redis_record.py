"""How a response lies in Redis, and under which names.

    PREFIX:e:{DIGEST}    a hash, one per primary key; it expires with the longest of its variants
        v                the sets of Vary names seen: names joined by commas, sets by line ends
        t                the tags of the variant that came last, a hint for the next reader's first question
        f, f..           a variant, by a digest of the request's fields that selected it
        b..              the body of a variant, by digests of both, where it is too large to lie in the variant
    PREFIX:l:{DIGEST}    the lock of whoever fills the key
    PREFIX:{tags}        a sorted set: the purge clock (c), the process it was found in (r..), and the purge records
                         (h.. hard, s.. soft), each with the clock's value

A variant is a head of fixed length, which the scripts read, and a MessagePack array.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from holdfast.policy.caching.model import StoredResponse
from holdfast.policy.caching.vary import Selecting
from holdfast.stores.selection import Names

FORMAT = 1
INLINE_BYTES = 256 * 1024  # a larger body is fetched by itself, and given the time that its size needs
HEAD = 48  # as_of and the name of the body's field, 16 and 32 characters


class Record(msgspec.Struct, array_like=True, frozen=True):
    """A variant without its head. Texts from the network are bytes: they need not be UTF-8."""

    format: int
    until: float  # epoch seconds
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    length: int
    request_time: float
    response_time: float
    selecting: tuple[tuple[bytes, bytes | None], ...]
    tags: tuple[bytes, ...]
    as_of: int
    method: str
    reason: bytes
    http_version: str
    body_field: str  # empty: the body is in here


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Record)


class Keys:
    """The names of keys under one prefix. What is in braces decides the slot in a cluster."""

    def __init__(self, prefix: str, database: int = 0) -> None:
        self.prefix = prefix
        self.purges = f"{prefix}:{{tags}}"
        self.channel = f"{prefix}:{database}:purges"  # channels know no databases

    def entry(self, key: str) -> str:
        return f"{self.prefix}:e:{{{digest(to_bytes(key))}}}"

    def lock(self, key: str) -> str:
        return f"{self.prefix}:l:{{{digest(to_bytes(key))}}}"


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def digest(data: bytes, size: int = 16) -> str:
    return hashlib.blake2b(data, digest_size=size).hexdigest()


def variant_field(selecting: Selecting) -> str:
    """The field of the variant that these selected; `f` where Vary named nothing."""
    if not selecting:
        return "f"
    # repr keeps apart what joining would mix up: a value with a separator in it, None and the empty text.
    return "f" + digest(to_bytes(repr(selecting)), 8)


def encode(response: StoredResponse, until: float) -> tuple[bytes, str]:
    """(the variant, the name of the field that its body belongs into or nothing)."""
    field = ""
    if len(response.body) > INLINE_BYTES:
        # By its content: a 304 that renews the header need not send it again.
        field = "b" + digest(response.body, 11) + digest(to_bytes(variant_field(response.selecting)), 4)
    record = Record(
        format=FORMAT,
        until=until,
        status=response.status,
        headers=tuple(response.headers),
        body=b"" if field else response.body,
        length=len(response.body),
        request_time=response.request_time,
        response_time=response.response_time,
        selecting=tuple((to_bytes(name), None if v is None else to_bytes(v)) for name, v in response.selecting),
        tags=tuple(map(to_bytes, response.tags)),
        as_of=response.as_of,
        method=response.method,
        reason=to_bytes(response.reason),
        http_version=response.http_version,
        body_field=field,
    )
    return f"{response.as_of:016x}{field:32}".encode() + _ENCODER.encode(record), field


def decode(data: bytes) -> Record | None:
    """None for what another version, or somebody else, has written."""
    try:
        record = _DECODER.decode(memoryview(data)[HEAD:])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return record if record.format == FORMAT else None


def to_response(record: Record, body: bytes) -> StoredResponse:
    return StoredResponse(
        status=record.status,
        headers=record.headers,
        body=body,
        request_time=record.request_time,
        response_time=record.response_time,
        selecting=tuple((to_text(name), None if v is None else to_text(v)) for name, v in record.selecting),
        tags=tuple(map(to_text, record.tags)),
        as_of=record.as_of,
        method=record.method,
        reason=to_text(record.reason),
        http_version=record.http_version,
    )


def encode_names(names: Names) -> str:
    return ",".join(names)


def decode_names(data: bytes) -> tuple[Names, ...]:
    """What the field `v` holds."""
    return tuple(tuple(line.split(",")) if line else () for line in to_text(data).split("\n"))


def encode_tags(tags: Sequence[str]) -> bytes:
    return _ENCODER.encode([to_bytes(tag) for tag in tags])


def decode_tags(data: bytes) -> tuple[str, ...]:
    try:
        return tuple(map(to_text, msgspec.msgpack.decode(data, type=tuple[bytes, ...])))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ()
