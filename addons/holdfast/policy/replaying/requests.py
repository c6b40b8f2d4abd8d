"""From a captured request to the one that is sent again.

It is the same request, byte for byte, without what belonged to its connection (RFC 9110, section 7.6.1) and without the
fields that carry the framing, which whoever sends it writes anew; `Host` is the sender's too. `TE: trailers` stays for
gRPC, whose servers look for it to detect proxies that lose trailers.

A mark of redaction is never sent. A masked field is left out, or what is configured is attached in its place; a request
whose target or body has a mask in it would be another request, and is not sent at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal

from holdfast.policy.envelope import CapturedRequest
from holdfast.policy.grpc import is_grpc
from holdfast.policy.hop_by_hop import end_to_end
from holdfast.policy.redaction import MASK
from holdfast.policy.trace_context import parse_traceparent
from holdfast.policy.wire import first_value, header_fields, wire_bytes

_NOT_SENT = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect", b"trailer"})
_OF_A_CONNECTION = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade"})
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})  # RFC 9110, section 9.2.2
_NOT_IN_WHAT_IS_SENT = ("header:", "response.", "backend_url:")  # beginnings of names in `redacted`

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_NAME = re.compile(_TOKEN.pattern.encode())
_NOT_IN_A_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TARGET = re.compile(r"/[\x21\x22\x24-\x7e\x80-\xff]*")  # origin-form, with any byte that does no harm; no fragment
_SPAN_ID = re.compile(r"(?!0{16})[0-9a-f]{16}")

type Fields = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRules:
    """`attach`: fields (name, value) in the place of masked ones of that name; a request that had none gets none.

    `idempotency_key`: whether a request without one gets one, made from its capture's id, if its method is not
    idempotent anyway. `quoted` is the string of draft-ietf-httpapi-idempotency-key-header (section 2.1), `plain` what
    many services expect. It joins the replays to each other, not to the first request, which had none.

    ValueError for a field that cannot be sent; it never quotes a value.
    """

    attach: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    idempotency_key: Literal["keep", "quoted", "plain"] = "keep"

    def __post_init__(self) -> None:
        for name, value in self.attach:
            raw = wire_bytes(name.lower())
            if not _NAME.fullmatch(raw) or raw in _NOT_SENT | _OF_A_CONNECTION:
                raise ValueError(f"{name!r} cannot be attached: write the name of a field like authorization")
            if _NOT_IN_A_VALUE.search(wire_bytes(value)):
                raise ValueError(f"the value to attach as {name} has a control character: write it in one line")


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What is sent. `target` is wire text (`wire_bytes` makes bytes of it); `headers` in order, without the framing."""

    method: str
    target: str = field(repr=False)
    headers: Fields = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Unsendable:
    """No replay can be made of the record. `reason`: `malformed`, `truncated` or `redacted`."""

    reason: str


def replay_request(
    record: CapturedRequest, rules: RequestRules, *, number: int, parent_id: str
) -> ReplayRequest | Unsendable:
    """The request to send. `number` of the replay, from 1; `parent_id` is the new span's, 16 hexadecimal digits.

    ValueError for another `parent_id`.
    """
    if not _SPAN_ID.fullmatch(parent_id):
        raise ValueError("a span id is 16 hexadecimal digits in lower case, and not all zero")
    headers = _fields(record, rules, number, parent_id)
    try:
        body = record.body_bytes()
    except ValueError:
        return Unsendable("malformed")
    if not has_sendable_line(record.method, record.uri) or not all(is_sendable(*each) for each in headers):
        return Unsendable("malformed")
    if record.body_truncated:
        return Unsendable("truncated")
    if not all(name.startswith(_NOT_IN_WHAT_IS_SENT) for name in record.redacted):
        return Unsendable("redacted")
    return ReplayRequest(record.method, record.uri, headers, body)


def has_sendable_line(method: str, target: str) -> bool:
    """Whether a request may begin so. RFC 9112, section 3. There is no CONNECT: its target is no path."""
    if not _TOKEN.fullmatch(method) or method.upper() == "CONNECT":
        return False
    return _TARGET.fullmatch(target) is not None or (method == "OPTIONS" and target == "*")


def is_sendable(name: bytes, value: bytes) -> bool:
    """A record may have been changed on its way: a line end in a value would be another field, or another request."""
    return _NAME.fullmatch(name) is not None and not _NOT_IN_A_VALUE.search(value)


def _fields(record: CapturedRequest, rules: RequestRules, number: int, parent_id: str) -> Fields:
    sent: dict[bytes, list[bytes]] = {}
    for name, value in end_to_end(header_fields(record.headers)):
        sent.setdefault(name.lower(), []).append(value)
    for name in _NOT_SENT:
        sent.pop(name, None)
    if not is_grpc(first_value(record.headers, "content-type")):
        sent.pop(b"te", None)
    _without_marks(sent, record.redacted, rules)
    _continue_trace(sent, parent_id)
    if record.request_id:
        sent.setdefault(b"x-request-id", [wire_bytes(record.request_id)])
    if rules.idempotency_key != "keep" and record.method not in _IDEMPOTENT:
        minted = f'"{record.id}"' if rules.idempotency_key == "quoted" else record.id
        sent.setdefault(b"idempotency-key", [wire_bytes(minted)])
    # A replay that failed in a gateway and was captured there again has these already.
    sent[b"holdfast-replay"] = [str(number).encode()]
    sent[b"holdfast-capture-id"] = [wire_bytes(record.id)]
    return tuple((name, value) for name, values in sent.items() for value in values)


def _without_marks(sent: dict[bytes, list[bytes]], redacted: tuple[str, ...], rules: RequestRules) -> None:
    """A field that `redacted` names is not what was captured, even if a part of it is (a URL without its token)."""
    changed = {wire_bytes(name.split(":")[1]) for name in redacted if name.startswith("header:")}
    for name, values in list(sent.items()):
        kept = [] if name in changed else [value for value in values if value != MASK.encode()]
        if len(kept) == len(values):
            continue
        attached = [wire_bytes(value) for each, value in rules.attach if wire_bytes(each.lower()) == name]
        if kept or attached:
            sent[name] = attached or kept
        else:
            del sent[name]


def _continue_trace(sent: dict[bytes, list[bytes]], parent_id: str) -> None:
    """The same trace under a new parent. Without one that is valid, `tracestate` has no meaning (W3C, section 3.3)."""
    given = sent.get(b"traceparent", [])
    parent = parse_traceparent(given[0].decode("latin-1")) if len(given) == 1 else None
    if parent:
        sent[b"traceparent"] = [str(replace(parent, span_id=parent_id)).encode()]
    else:
        sent.pop(b"traceparent", None)
        sent.pop(b"tracestate", None)
