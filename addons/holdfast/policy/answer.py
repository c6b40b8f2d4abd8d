"""The gateway's own answers: problem documents (RFC 9457) and the header fields that go with them.

`Proxy-Status` (RFC 9209) is what tells the gateway's own 503 from the origin's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from holdfast.policy.failure import Failure

PROBLEM = "application/problem+json"
STATUS_PATH = "/.holdfast/captures/"  # on the proxied port: what became of an accepted request
BOUNDS = frozenset({"outbox_full", "outbox_age", "outbox_busy", "disk_full"})
"""Why a capture was refused for now: there is no room, and there will be."""
_UNSAFE = re.compile(r"[^\x20-\x7e]")
_json = json.JSONEncoder(ensure_ascii=False).encode  # `dumps` makes one each time


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as plain values: status, header fields in order, body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)


def problem(
    status: int,
    kind: str,
    title: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
) -> Answer:
    """A problem document; `kind` becomes the last part of its `type`, `extra` its extension members."""
    document = {"type": f"urn:holdfast:problem:{kind}", "title": title, "status": status, "detail": detail}
    body = _json(document | dict(extra or {})).encode() + b"\n"
    fields = {"Content-Type": PROBLEM, "Cache-Control": "no-store", **(headers or {})}
    return Answer(status, tuple(fields.items()), body)


def proxy_status(error: str, status: int | None, detail: str = "", not_retried: str = "") -> str:
    """The value of `Proxy-Status`. A status that the upstream sent is `received-status`, not an error of ours."""
    parts = ["holdfast"]
    if status is not None:
        parts.append(f"received-status={status}")
    elif error:
        parts.append(f"error={error}")
    if detail:
        parts.append(f"details={_string(detail)}")
    if not_retried:
        parts.append(f"holdfast-not-retried={not_retried}")
    return "; ".join(parts)


def with_fate(status: int, fate: str, reason: str) -> str:
    """The value of `Proxy-Status` for an answer of the upstream's that is not what it seems, such as a second one."""
    return f"{proxy_status('', status, reason)}; holdfast-fate={fate}"


def _string(text: str) -> str:
    """An RFC 9651 string: printable ASCII, quotes and backslashes escaped, of bounded length."""
    clean = _UNSAFE.sub("?", text)[:200]
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'


def upstream_failed_answer(failure: Failure, not_retried: str) -> Answer:
    """For a failed upstream where no addon answers: 504 after a timeout, else 502 (RFC 9110, 15.6.3 and 15.6.5)."""
    status = 504 if failure.timed_out else 502
    fields = {"Proxy-Status": proxy_status(failure.error, failure.status, failure.detail, not_retried)}
    title = "Upstream timed out" if failure.timed_out else "Upstream failed"
    return problem(status, "upstream-failed", title, failure.detail, headers=fields, extra={"error": failure.error})


def too_large_answer(limit: int) -> Answer:
    """For a request whose body is larger than `limits.max_body` (RFC 9110, section 15.5.14)."""
    fields = {"Proxy-Status": "holdfast; error=http_request_denied", "Connection": "close"}
    return problem(413, "body-too-large", "Body too large", f"the limit is {limit} bytes", headers=fields)


def too_slow_answer(limit: float) -> Answer:
    """For a request that stopped arriving, for `limit` seconds (RFC 9110, section 15.5.9)."""
    fields = {"Proxy-Status": "holdfast; error=http_request_error", "Connection": "close"}
    detail = f"nothing of the request has come for {limit:g} seconds"
    return problem(408, "request-timeout", "Request timed out", detail, headers=fields)


def only_if_cached_answer() -> Answer:
    """For a request that wants nothing but what is stored, and nothing is (RFC 9111, section 5.2.1.7)."""
    fields = {"Cache-Status": "holdfast;fwd=request;detail=only-if-cached"}
    return problem(504, "not-cached", "Not cached", "the request allows stored responses only", headers=fields)


def addon_failed_answer(addon: str) -> Answer:
    """For an addon that failed while the profile says `on_error: closed`."""
    fields = {"Proxy-Status": "holdfast; error=proxy_internal_error; holdfast-fate=failed"}
    detail = f"the addon {addon!r} failed and the profile says on_error: closed"
    return problem(500, "addon-failed", "The gateway failed", detail, headers=fields)


def injected_answer(
    rule: str, status: int, body: str | None, headers: tuple[tuple[str, str], ...], received: int | None
) -> Answer:
    """In place of another answer, because the fault `rule` says so: a text, or a problem.

    `received` is the status that the upstream sent, None where the other answer was not its own.
    """
    detail = f"injected by the fault {rule}"
    fields = {"Proxy-Status": f"{proxy_status('', received, detail)}; holdfast-fate=failed"}
    if body is None:
        fields |= dict(headers)
        return problem(status, "injected-fault", "Injected fault", detail, headers=fields, extra={"fault": rule})
    fields = {"Content-Type": "text/plain", "Cache-Control": "no-store"} | fields
    given = {name.lower() for name, _ in headers}
    kept = tuple((name, value) for name, value in fields.items() if name.lower() not in given)
    return Answer(status, (*kept, *headers), body.encode())


def captured_answer(failure: Failure, status: int, capture_id: str, retry_after: int, not_retried: str) -> Answer:
    """For a failed request that is durably stored; `status` 202 adds where to ask what became of it."""
    fields = _failure_fields(failure, retry_after, not_retried) | {"Holdfast-Capture-Id": capture_id}
    if status == 202:
        fields["Location"] = STATUS_PATH + capture_id
    detail = f"The upstream failed ({failure.detail}). The request is stored under this id."
    return problem(status, "captured", "Request captured", detail, headers=fields, extra={"capture_id": capture_id})


def not_captured_answer(failure: Failure, status: int, reason: str, retry_after: int, not_retried: str) -> Answer:
    """For a failed request that could not be stored: it says so, and names no id. Never 202."""
    fields = _failure_fields(failure, retry_after, not_retried)
    if reason:
        fields["Holdfast-Capture"] = f"failed; reason={reason}"
    lost = f" The request could not be stored ({reason}): send it again." if reason else ""
    detail = f"The upstream failed ({failure.detail}).{lost}"
    return problem(status, "upstream-failed", "Upstream failed", detail, headers=fields, extra={"error": failure.error})


def withheld_answer(why: Failure, status: int, capture_id: str, retry_after: int) -> Answer:
    """For a request that is durably stored and has gone to no server yet; `status` is 202 or 503."""
    fields = {"Holdfast-Capture-Id": capture_id, "Proxy-Status": proxy_status("", None, why.detail)}
    if status == 202:
        fields["Location"] = STATUS_PATH + capture_id
    else:
        fields["Retry-After"] = str(retry_after)
    detail = f"The request is stored under this id: {why.detail}."
    return problem(status, "captured", "Request captured", detail, headers=fields, extra={"capture_id": capture_id})


def not_stored_answer(status: int, reason: str, retry_after: int | None) -> Answer:
    """For a request that was to be stored before any server is asked, and could not be: nobody has it. Never 202."""
    fields = {
        "Holdfast-Capture": f"failed; reason={reason}",
        "Proxy-Status": proxy_status("http_request_denied", None, f"not stored: {reason}"),
    }
    if retry_after is not None:
        fields["Retry-After"] = str(retry_after)
    again = "." if retry_after is None else ": send it again."
    detail = f"The request could not be stored ({reason}), and no server has got it{again}"
    return problem(status, "not-stored", "Request not stored", detail, headers=fields)


def body_not_stored_answer(retry_after: int | None) -> Answer:
    """The same while the body is still arriving, as it cannot be kept (RFC 9110, section 15.5.14).

    With `retry_after` where it is not for its own size.
    """
    answer = not_stored_answer(413, "too_large", retry_after)
    return replace(answer, headers=(*answer.headers, ("Connection", "close")))


def _failure_fields(failure: Failure, retry_after: int, not_retried: str) -> dict[str, str]:
    return {
        "Retry-After": str(retry_after),
        "Proxy-Status": proxy_status(failure.error, failure.status, failure.detail, not_retried),
    }
