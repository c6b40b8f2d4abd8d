"""A recording, and which header fields of an answer are part of one.

Left out is what holds for one connection, one moment or one coding of the body, and so would be wrong of a recording:
lengths, codings, validators, ages, ids of requests. Left out, too, are credentials: `set-cookie` and its kin are never
recorded, whatever the profile says.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from holdfast.policy.caching.tags import FOR_CACHES
from holdfast.policy.hop_by_hop import end_to_end
from holdfast.policy.redaction import RedactionRules, mask_url
from holdfast.policy.understudy.key import Pairs
from holdfast.policy.wire import wire_text

_OF_THE_MESSAGE = frozenset({
    "connection", "keep-alive", "proxy-connection", "upgrade", "te", "trailer", "transfer-encoding",
    "content-length", "content-encoding", "content-range", "accept-ranges", "alt-svc"
})  # fmt: skip
_OF_THE_BYTES = frozenset({
    "etag", "last-modified", "content-md5", "digest", "content-digest", "repr-digest", "signature", "signature-input"
})  # fmt: skip
_OF_THE_MOMENT = frozenset({
    "date", "age", "expires", "cache-control", "pragma", "warning", "cdn-cache-control", "surrogate-control",
    "cache-status", "proxy-status", "via", "retry-after", "server-timing", "x-cache", "x-cache-hits", "x-served-by",
    "x-timer", "x-runtime", "x-response-time", "x-process-time", "x-envoy-upstream-service-time", "x-request-id",
    "request-id", "x-correlation-id", "correlation-id", "x-trace-id", "trace-id", "traceparent", "tracestate",
    "traceresponse", "x-amzn-requestid", "x-amzn-trace-id", "x-amz-request-id", "x-amz-id-2", "x-amz-cf-id", "cf-ray",
    "x-cloud-trace-context", "x-github-request-id", "x-vercel-id", "fly-request-id", "nel", "report-to"
})  # fmt: skip
_NEVER = _OF_THE_MESSAGE | _OF_THE_BYTES | _OF_THE_MOMENT | {wire_text(name) for name in FOR_CACHES}
_KINDS = ("x-b3-", "x-ratelimit-", "ratelimit", "x-rate-limit-", "holdfast-")
_INNER_URLS = {"link": re.compile(r"(<)([^<>]*)"), "refresh": re.compile(r"(?i)^([^;,]*[;,]\s*url\s*=\s*[\"']?)(.*)")}
_URLS = ("location", "content-location", "refresh", "link")
# What a person may write into a file and what would still be untrue of the answer, or take its marks away.
_OURS = _OF_THE_MESSAGE | {"age", "warning", "cache-control", "pragma", "expires", "proxy-status", "x-request-id"}


@dataclass(frozen=True, slots=True)
class Recording:
    """An answer as a file holds it. Header names as the origin wrote them, wire text; the body without any coding.

    `request` is its request line, `recorded` epoch seconds: either may be missing from a file written by hand.
    `edited`: somebody has changed what the gateway wrote, or has written all of it. `name` is that of the file.
    """

    status: int
    headers: Pairs
    body: bytes = field(repr=False)
    request: str = ""
    when: Pairs = ()
    recorded: float | None = None
    edited: bool = False
    name: str = ""

    @property
    def path(self) -> str:
        """Of its request, without the query; empty if it is not known."""
        return self.request.partition(" ")[2].partition("?")[0]

    @property
    def content_type(self) -> str:
        return next((value for name, value in self.headers if name.lower() == "content-type"), "")


def recorded_fields(fields: Sequence[tuple[bytes, bytes]], rules: RedactionRules) -> Pairs:
    """Those fields of an answer that are recorded."""
    named = ((wire_text(name), wire_text(value)) for name, value in end_to_end(fields))
    kept = [(name, value) for name, value in named if not _is_left_out(name.lower(), rules)]
    return tuple((n, _masked(n.lower(), v, rules) if n.lower() in _URLS else v) for n, v in kept)


def _masked(name: str, value: str, rules: RedactionRules) -> str:
    """A field without the secrets in its URL, or in its URLs: `Link` has several (RFC 8288)."""
    inner = _INNER_URLS.get(name)
    if inner is None or not inner.search(value):
        return mask_url(value, rules)[0]
    return inner.sub(lambda found: found[1] + mask_url(found[2], rules)[0], value)


def _is_left_out(name: str, rules: RedactionRules) -> bool:
    return name in _NEVER or name in rules.headers or name.startswith(_KINDS)


def is_ours(name: str) -> bool:
    """Whether a field of an answer is the gateway's to write, whatever a file says."""
    lower = name.lower()
    return lower in _OURS or lower.startswith("holdfast-")


def fingerprint(recording: Recording) -> str:
    """What changes if somebody edits what counts of a file."""
    fields = sorted((name.lower(), value) for name, value in recording.headers)
    body = hashlib.sha256(recording.body).hexdigest()
    whole = [recording.request, recording.when, recording.status, fields, body]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:32]


def is_json(content_type: str) -> bool:
    """By its name."""
    media = content_type.partition(";")[0].strip().lower()
    return media.endswith(("/json", "+json"))


def same_but_for(old: Recording, new: Recording, bodies: tuple[object, object]) -> bool:
    """Whether nothing has changed that is worth writing. `bodies` are what is compared in place of the bytes."""
    one, other = (replace(each, body=b"", recorded=None, edited=False, name="") for each in (old, new))
    return fingerprint(one) == fingerprint(other) and bodies[0] == bodies[1]
