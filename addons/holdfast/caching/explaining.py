"""What the cache would do with a request, in words and in figures (`holdfast explain`)."""

from __future__ import annotations

from holdfast.caching.filling import SERVED
from holdfast.gateway import WouldDo
from holdfast.policy.caching.model import StoredResponse
from holdfast.policy.caching.reuse import GatewayTimeout, Reuse, StaleIfError
from holdfast.stores import Lookup

_DECISIONS = {
    "Fresh": "a hit: answered from what is stored",
    "StaleAllowed": "answered from what is stored, which is stale: the client takes it",
    "StaleWhileRevalidate": "answered at once from what is stored, which is stale, and fetched anew in the background",
    "StaleIfError": "answered from what is stored, which is stale: the upstream is failing",
    "Validate": "the upstream is asked whether what is stored is still good",
    "Miss": "a miss: the upstream is asked",
    "GatewayTimeout": "answered 504: the client wants only what is stored",
    "Pass": "passes by the cache: the upstream is asked, and its answer is not stored",
}
_REASONS = {
    "nothing-stored": "nothing is stored for it",
    "stale": "it is stale, and nothing allows its use",
    "soft-purge": "a soft purge has made it stale",
    "only-if-cached": "the request's Cache-Control says only-if-cached",
    "default": "the profile's default_lifetime",
    "grace": "the profile's grace or grace_on_error",
    "none": "neither the response nor the profile gives it a lifetime",
    "heuristic": "a guess from Last-Modified",
    "method": "only GET and HEAD are answered from the cache",
    "body": "a GET with a body",
    "upgrade": "it asks for another protocol",
    "host": "its Host is not written the usual way",
    "target": "its path or query has characters that belong encoded",
    "path_encoding": "its path is not encoded correctly",
    "path_delimiter": "its path hides a delimiter",
    "path_dots": "its path has dot segments",
    "path_form": "its path encodes what need not be encoded",
    "method_override": "a header field would replace its method",
    "url_override": "a header field would replace its URL",
    "host_override": "a header field would replace its host",
    "field_value": "a header field has control characters",
    "oversized": "its header is too large",
    "skip": "the profile's `skip` names its route",
}


def passed_by(because: str) -> WouldDo:
    """The cache has no part in it."""
    details: dict[str, object] = {"decision": "Pass", "because": because}
    return WouldDo(False, _in_words("Pass", because), details)


def explained(key: str, lookup: Lookup, decision: Reuse, if_failed: StaleIfError | None = None) -> WouldDo:
    """The key, what is stored, what would be done, and which directive decides; `if_failed`: for a failed upstream."""
    name = type(decision).__name__
    told: dict[str, object] = {"key": key, "decision": name, "because": decision.because}
    told |= {each: getattr(decision, each) for each in ("age", "ttl", "fwd") if hasattr(decision, each)}
    told["stored"] = _described(lookup.response) if lookup.response else None
    told["soft_purged"], told["store"] = lookup.soft, lookup.degraded or lookup.level or "nothing stored"
    answers = isinstance(decision, (*SERVED, GatewayTimeout))
    says = _in_words(name, decision.because)
    if if_failed and not answers:
        told["if_failed"] = if_failed.because
        says += f"; if the upstream fails, what is stored is the answer, by {if_failed.because}"
    return WouldDo(name != "Pass", says, told, answers=answers)


def _in_words(decision: str, because: str) -> str:
    return f"{_DECISIONS[decision]}; decided by {because}" + (f": {_REASONS[because]}" if because in _REASONS else "")


def _described(stored: StoredResponse) -> dict[str, object]:
    """What a person is told of a stored response; its body only by length."""
    return {
        "status": stored.status,
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in stored.headers],
        "bytes": len(stored.body),
        "arrived": stored.response_time,
        "vary": dict(stored.selecting),
        "tags": list(stored.tags),
    }
