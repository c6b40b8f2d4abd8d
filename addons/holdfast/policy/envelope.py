"""The captured request: the JSON that is kept on disk, published to the broker and read back by the replayer.

How bytes become text in it, header fields and bodies above all, is `policy/wire.py`.

A reader ignores fields it does not know and refuses a newer schema: what it means cannot be guessed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any

import msgspec

from holdfast.errors import PoisonRecord
from holdfast.policy.uuid7 import is_uuid
from holdfast.policy.wire import HeaderMap, decode_body, encode_body, header_map, wire_text

SCHEMA = 1
CONTENT_TYPE = "application/json"
__all__ = [
    "SCHEMA",
    "AttemptRecord",
    "CapturedRequest",
    "HeaderMap",
    "UpstreamAnswer",
    "encode_body",
    "from_json",
    "header_map",
    "message_headers",
    "to_json",
    "wire_text",
]

_UPPER = re.compile("[A-Z]")  # of ASCII only: what else is in a name are bytes, not letters
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One try at the upstream: `error` is an RFC 9209 token or None, `status` what the upstream answered, if it did."""

    server: str
    error: str | None = None
    status: int | None = None
    duration_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamAnswer:
    """The last answer of the upstream, if there was one."""

    status: int
    headers: HeaderMap = field(default_factory=dict, repr=False)
    body: str = field(default="", repr=False)
    body_encoding: str = "utf-8"
    body_truncated: bool = False

    def body_bytes(self) -> bytes:
        """The body as it was received; ValueError where text and encoding do not fit."""
        return decode_body(self.body, self.body_encoding)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedRequest:
    """A request that the upstream could not answer, and why. Times in epoch seconds, durations in milliseconds.

    What may hold secrets is left out of `repr`, so that a record can be named in a log line.
    """

    id: str  # UUIDv7
    schema: int = SCHEMA
    timestamp: float
    method: str
    uri: str = field(repr=False)
    path: str
    query_string: str = field(repr=False)
    headers: HeaderMap = field(repr=False)
    body: str = field(repr=False)
    body_encoding: str = "utf-8"
    body_truncated: bool = False
    remote_addr: str
    backend_url: str = field(repr=False)
    error: str  # RFC 9209 token, or http_502 and the like
    error_reason: str  # the same for people
    request_id: str
    route: str
    attempts: tuple[AttemptRecord, ...] = ()
    duration_ms: float = 0.0
    response: UpstreamAnswer | None = field(default=None, repr=False)
    redacted: tuple[str, ...] = ()
    sealed: Mapping[str, str] | None = field(default=None, repr=False)
    idempotency_key: str | None = None

    def body_bytes(self) -> bytes:
        """The body as it was received; ValueError where text and encoding do not fit."""
        return decode_body(self.body, self.body_encoding)


def message_headers(record: CapturedRequest, traceparent: str | None = None) -> tuple[tuple[str, bytes], ...]:
    """The broker message's headers. A `traceparent` that is not one (W3C Trace Context) is left out, not passed on."""
    headers = [
        ("holdfast-id", record.id.encode()),
        ("holdfast-schema", str(record.schema).encode()),
        ("content-type", CONTENT_TYPE.encode()),
    ]
    if traceparent and _TRACEPARENT.fullmatch(traceparent):
        headers.append(("traceparent", traceparent.encode()))
    return tuple(headers)


def to_json(record: CapturedRequest) -> bytes:
    """Compact UTF-8 JSON. ValueError only for a number that is not finite: a capture is never lost over odd text."""
    times = (record.timestamp, record.duration_ms, *(attempt.duration_ms for attempt in record.attempts))
    if not all(map(math.isfinite, times)):
        raise ValueError("a captured request holds no number that is not finite")  # msgspec would write null
    try:
        return msgspec.json.encode(record)
    except (UnicodeEncodeError, OverflowError, TypeError):
        # Half a surrogate pair has no UTF-8, but a JSON escape keeps it; so it is with what else only `json` takes.
        return _dump(record)


def _dump(record: CapturedRequest) -> bytes:
    return json.dumps(record, default=_plain, separators=(",", ":")).encode()


def _plain(value: object) -> object:
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a captured request holds no {type(value).__name__}")


def from_json(data: bytes) -> CapturedRequest:
    """Read a record back, strictly. PoisonRecord names the field that is wrong, and never quotes its value."""
    try:
        document = json.loads(data.decode("utf-8"))  # json would take UTF-16 as well
    except (ValueError, RecursionError) as exc:
        raise PoisonRecord("the record is not JSON in UTF-8, or is cut short") from exc
    if not isinstance(document, dict):
        raise PoisonRecord(f"the record is {_kind(document)}, not an object")
    _schema(document.get("schema"), "schema")  # first: under another schema the other fields may mean something else
    return _build(CapturedRequest, document, "")


# --- reading: one function for each kind of field, each given the value and where it stands ---


def _build[T: (CapturedRequest, UpstreamAnswer, AttemptRecord)](cls: type[T], value: object, at: str) -> T:
    if not isinstance(value, dict):
        raise _wrong(at, "an object", value)
    prefix = f"{at}." if at else ""
    held: dict[str, Any] = {}
    for each in fields(cls):
        if each.name in value:
            held[each.name] = _READERS[cls][each.name](value[each.name], prefix + each.name)
        elif each.default is MISSING and each.default_factory is MISSING:
            raise PoisonRecord(f"{prefix}{each.name}: is missing")
    built = cls(**held)
    if not isinstance(built, AttemptRecord):
        _check_body(built, prefix)
    return built


def _check_body(message: CapturedRequest | UpstreamAnswer, prefix: str) -> None:
    try:
        message.body_bytes()
    except ValueError as exc:
        raise PoisonRecord(f"{prefix}body: is not {message.body_encoding}") from exc


def _text(value: object, at: str) -> str:
    if not isinstance(value, str):
        raise _wrong(at, "text", value)
    return value


def _whole(value: object, at: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(at, "a whole number", value)
    return value


def _number(value: object, at: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong(at, "a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise PoisonRecord(f"{at}: is not a finite number")
    return number


def _flag(value: object, at: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(at, "true or false", value)
    return value


def _id(value: object, at: str) -> str:
    if not is_uuid(_text(value, at)):
        raise PoisonRecord(f"{at}: is not a UUID in lower case")
    return str(value)


def _schema(value: object, at: str) -> int:
    if value is None:
        raise PoisonRecord(f"{at}: is missing")
    schema = _whole(value, at)
    if schema > SCHEMA:
        raise PoisonRecord(f"{at}: {schema} is newer than {SCHEMA}, the newest this version reads: upgrade the reader")
    if schema < 1:
        raise PoisonRecord(f"{at}: there is no schema {schema}")
    return schema


def _encoding(value: object, at: str) -> str:
    if _text(value, at) not in ("utf-8", "base64"):
        raise PoisonRecord(f"{at}: is neither utf-8 nor base64")
    return str(value)


def _texts(value: object, at: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _wrong(at, "a list", value)
    return tuple(_text(each, f"{at}[{index}]") for index, each in enumerate(value))


def _headers(value: object, at: str) -> dict[str, str | tuple[str, ...]]:
    if not isinstance(value, dict):
        raise _wrong(at, "an object", value)
    if any(_UPPER.search(name) for name in value):
        raise PoisonRecord(f"{at}: a name is not in lower case")
    return {
        name: _texts(each, f"{at}.{name}") if isinstance(each, list) else _text(each, f"{at}.{name}")
        for name, each in value.items()
    }


def _sealed(value: object, at: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _wrong(at, "an object", value)
    return {name: _text(each, f"{at}.{name}") for name, each in value.items()}


def _attempts(value: object, at: str) -> tuple[AttemptRecord, ...]:
    if not isinstance(value, list):
        raise _wrong(at, "a list", value)
    return tuple(_build(AttemptRecord, each, f"{at}[{index}]") for index, each in enumerate(value))


def _answer(value: object, at: str) -> UpstreamAnswer:
    return _build(UpstreamAnswer, value, at)


def _or_null[T](reader: Callable[[object, str], T]) -> Callable[[object, str], T | None]:
    return lambda value, at: None if value is None else reader(value, at)


def _wrong(at: str, wanted: str, value: object) -> PoisonRecord:
    return PoisonRecord(f"{at}: expected {wanted}, found {_kind(value)}")


def _kind(value: object) -> str:
    """JSON's word for a value."""
    if value is None:
        return "null"
    names = ((bool, "true or false"), (int | float, "a number"), (str, "text"), (list, "a list"))
    return next((name for kind, name in names if isinstance(value, kind)), "an object")


_READERS: Mapping[type, Mapping[str, Callable[[object, str], object]]] = {
    AttemptRecord: {"server": _text, "error": _or_null(_text), "status": _or_null(_whole), "duration_ms": _number},
    UpstreamAnswer: {
        "status": _whole,
        "headers": _headers,
        "body": _text,
        "body_encoding": _encoding,
        "body_truncated": _flag,
    },
    CapturedRequest: {
        "id": _id,
        "schema": _schema,
        "timestamp": _number,
        "method": _text,
        "uri": _text,
        "path": _text,
        "query_string": _text,
        "headers": _headers,
        "body": _text,
        "body_encoding": _encoding,
        "body_truncated": _flag,
        "remote_addr": _text,
        "backend_url": _text,
        "error": _text,
        "error_reason": _text,
        "request_id": _text,
        "route": _text,
        "attempts": _attempts,
        "duration_ms": _number,
        "response": _or_null(_answer),
        "redacted": _texts,
        "sealed": _or_null(_sealed),
        "idempotency_key": _or_null(_text),
    },
}
