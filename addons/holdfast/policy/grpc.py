"""gRPC over HTTP/2, as far as a gateway must understand it: message boundaries, and a failure in its own words.

Sources: the protocol description "gRPC over HTTP2" (length-prefixed messages, Trailers-Only, percent-encoded
`grpc-message`), its table of status codes for HTTP errors, and google.rpc.Status, ErrorInfo and RetryInfo for details.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from holdfast.policy.answer import Answer

UNAVAILABLE = 14
_UNKNOWN = 2
_OF_HTTP = {
    202: UNAVAILABLE,  # there is no answer "accepted, and later": the call has not been made
    400: 13,  # INTERNAL
    401: 16,  # UNAUTHENTICATED
    403: 7,  # PERMISSION_DENIED
    404: 12,  # UNIMPLEMENTED
    408: 1,  # CANCELLED
    413: 8,  # RESOURCE_EXHAUSTED
    429: UNAVAILABLE,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: UNAVAILABLE,
}
_PREFIX = 5  # a byte of flags, four of length
_OF_THE_DOCUMENT = frozenset({"content-type", "cache-control", "connection"})


def is_grpc(content_type: str) -> bool:
    """`application/grpc` and what is built on it; not gRPC-Web, which keeps its trailers in the body."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/grpc" or kind.startswith("application/grpc+")


class Messages:
    """Follows a body's length-prefixed messages as it arrives in pieces, without keeping it."""

    def __init__(self) -> None:
        self.complete = 0  # messages that have arrived whole
        self._prefix = b""
        self._missing = 0  # bytes of the message whose prefix is known

    @property
    def between(self) -> bool:
        """Whether nothing of another message has come yet."""
        return not self._prefix

    def feed(self, data: bytes) -> None:
        """The next piece."""
        while data:
            if len(self._prefix) < _PREFIX:
                taken = _PREFIX - len(self._prefix)
                self._prefix, data = self._prefix + data[:taken], data[taken:]
                if len(self._prefix) < _PREFIX:
                    return
                self._missing = int.from_bytes(self._prefix[1:], "big")
            taken = min(self._missing, len(data))
            self._missing, data = self._missing - taken, data[taken:]
            if self._missing == 0:
                self._prefix = b""
                self.complete += 1


def grpc_answer(answer: Answer) -> Answer:
    """The same answer for a gRPC client: a Trailers-Only response, the problem document's members as its details."""
    document = json.loads(answer.body)
    code = _OF_HTTP.get(answer.status, _UNKNOWN)
    retry_after = next((int(value) for name, value in answer.headers if name.lower() == "retry-after"), None)
    fields = [
        ("content-type", "application/grpc"),
        *grpc_status(code, document["detail"], _details(document, retry_after)),
        *((name.lower(), value) for name, value in answer.headers if name.lower() not in _OF_THE_DOCUMENT),
    ]
    return Answer(200, tuple(fields), b"")


def grpc_status(code: int, message: str, details: Iterable[bytes] = ()) -> list[tuple[str, str]]:
    """The fields that end a call. `details` are google.protobuf.Any messages."""
    status = _number(1, code) + _bytes(2, message.encode()) + b"".join(_bytes(3, each) for each in details)
    encoded = base64.b64encode(status).decode().rstrip("=")
    return [
        ("grpc-status", str(code)),
        ("grpc-message", _percent(message)),
        ("grpc-status-details-bin", encoded),
    ]


def _details(document: dict[str, object], retry_after: int | None) -> list[bytes]:
    reason = str(document["type"]).rpartition(":")[2].upper().replace("-", "_")
    known = {key: str(document[key]) for key in ("capture_id", "error") if key in document}
    entries = b"".join(_bytes(3, _bytes(1, key.encode()) + _bytes(2, known[key].encode())) for key in known)
    info = _bytes(1, reason.encode()) + _bytes(2, b"holdfast") + entries
    made = [_any("google.rpc.ErrorInfo", info)]
    if retry_after is not None:
        made.append(_any("google.rpc.RetryInfo", _bytes(1, _number(1, retry_after))))
    return made


def _percent(text: str) -> str:
    """Printable ASCII but for `%`, everything else as bytes in hexadecimal."""
    return "".join(chr(b) if 0x20 <= b <= 0x7E and b != 0x25 else f"%{b:02X}" for b in text.encode())


# -- protocol buffers, the three wire forms that are needed ------------------------------------------------------------


def _any(name: str, message: bytes) -> bytes:
    return _bytes(1, f"type.googleapis.com/{name}".encode()) + _bytes(2, message)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
