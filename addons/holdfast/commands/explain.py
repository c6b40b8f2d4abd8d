"""`holdfast explain URL`: what the cache of the gateway that runs would do with this request, and why."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any
from urllib.parse import urlencode

from holdfast.commands.control import call, printable

DECISIONS = {
    "Fresh": "a hit: answered from what is stored",
    "StaleAllowed": "answered from what is stored, which is stale: the client takes it",
    "StaleWhileRevalidate": "answered at once from what is stored, which is stale, and fetched anew in the background",
    "StaleIfError": "answered from what is stored, which is stale: the upstream is failing",
    "Validate": "the upstream is asked whether what is stored is still good",
    "Miss": "a miss: the upstream is asked",
    "GatewayTimeout": "answered 504: the client wants only what is stored",
    "Pass": "passes by the cache: the upstream is asked, and its answer is not stored",
}
REASONS = {
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


def explain(args: argparse.Namespace) -> int:
    """Nothing is sent to the upstream. ValueError for a header field that is none."""
    for field in args.header:
        if not field.partition(":")[0].strip() or ":" not in field:
            raise ValueError(f"{field!r} is no header field: write it like 'Accept-Language: de'")
    asked = [("url", args.target), ("method", args.method.upper()), *(("header", each) for each in args.header)]
    told = call(args, "GET", f"/explain?{urlencode(asked)}")
    print(json.dumps(told, indent=2) if args.json else told_to_people(args.method.upper(), args.target, told))
    return 0


def told_to_people(method: str, url: str, told: dict[str, Any]) -> str:
    """A few lines, one for each thing that is known."""
    decision, because = str(told["decision"]), str(told["because"])
    lines = [
        ("request", f"{method} {url}"),
        ("decision", DECISIONS.get(decision.capitalize() if decision == "pass" else decision, decision)),
        ("decided by", because + (f" ({REASONS[because]})" if because in REASONS else "")),
    ]
    if "key" in told:
        lines += [("key", told["key"]), *_stored(told)]
    width = max(len(name) for name, _ in lines)
    return "\n".join(printable(f"{name:<{width}}  {text}") for name, text in lines)


def _stored(told: dict[str, Any]) -> list[tuple[str, str]]:
    stored = told.get("stored")
    if not stored:
        return [("stored", f"nothing ({told['store']})" if told["store"] != "nothing stored" else "nothing")]
    when = time.strftime("%H:%M:%S", time.localtime(stored["arrived"]))
    lines = [("stored", f"status {stored['status']}, {stored['bytes']} bytes, arrived {when}, in {told['store']}")]
    if "age" in told:
        lines.append(("age", f"{told['age']:.0f} s, {_left(told['ttl'])}"))
    if told.get("soft_purged"):
        lines.append(("purged", "softly: stale"))
    plain = [tag for tag in stored["tags"] if "\t" not in tag]  # the others are of Cache-Groups, with their origin
    lines.append(("tags", " ".join(plain) or "none"))
    named = [f"{n}: {'(none)' if v is None else v}" for n, v in stored["vary"].items() if not n.startswith(":")]
    if named:
        lines.append(("vary", ", ".join(named)))
    return lines


def _left(ttl: float) -> str:
    return f"fresh for {ttl:.0f} s more" if ttl > 0 else f"stale for {max(0.0, -ttl):.0f} s"
