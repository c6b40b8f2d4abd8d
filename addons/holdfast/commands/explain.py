"""`holdfast explain URL`: what the chain of the gateway that runs would do with this request, and why."""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from holdfast.commands.control import call, printable

WIDTH = 100
_CLASSES = {
    "never": "no attempt is repeated: the profile allows only one",
    "unreached": "repeated only where no server can have seen it, since {method} is not in retry.methods and there is "
    "no Idempotency-Key",
    "repeatable": "repeated after a failure",
}


def explain(args: argparse.Namespace) -> int:
    """Nothing is sent to the upstream. ValueError for a header field that is none."""
    for field in args.header:
        if not field.partition(":")[0].strip() or ":" not in field:
            raise ValueError(f"{field!r} is no header field: write it like 'Accept-Language: de'")
    asked = [("url", args.target), ("method", args.method.upper()), *(("header", each) for each in args.header)]
    told = call(args, "GET", f"/explain?{urlencode(asked)}")
    print(json.dumps(told, indent=2) if args.json else told_to_people(told))
    return 0


def told_to_people(told: dict[str, Any]) -> str:
    """A block for each part of the answer, one line or more for each thing that is known."""
    request, lines = told["request"], list[tuple[str, str]]()
    params = "".join(f", {name}={value}" for name, value in request["params"].items())
    lines += [("request", f"{request['method']} {request['url']}"), ("route", request["route"] + params), ("", "")]
    lines += [("" if step["acts"] else "-", f"{step['addon']}: {step['does']}") for step in told["chain"]]
    lines += [("", ""), ("answered by", _answered_by(told)), *_upstream(told["upstream"], request["method"])]
    cache = told["details"].get("cache", {})
    if "key" in cache:
        lines += [("", ""), ("cache key", cache["key"]), *_stored(cache)]
    kept = told["details"].get("failure_sink")
    if kept and told["details"].get("interceptor", {}).get("captures"):
        fields = kept["request"]["headers"].items()
        shown = ", ".join(f"{name}: {value}" for name, value in fields if f"header:{name}" in kept["redacted"])
        lines += [("", ""), ("capture key", kept["key"]), ("redacted", ", ".join(kept["redacted"]) or "nothing")]
        lines += [("shown as", shown)] if shown else []
    return "\n".join(_laid_out(lines))


def _laid_out(lines: list[tuple[str, str]]) -> Iterator[str]:
    """In two columns. The addons have no name of their own on the left: a dash marks those that would not act."""
    width = max(len(name) for name, _ in lines) + 2
    for name, text in lines:
        if not (name or text):
            yield ""
            continue
        first, *rest = textwrap.wrap(printable(text), WIDTH - width, break_on_hyphens=False) or [""]
        yield f"{name:<{width}}{first}".rstrip()
        yield from (f"{'':<{width}}  {more}" for more in rest)


def _answered_by(told: dict[str, Any]) -> str:
    by = str(told["answered_by"])
    if by != "upstream":
        return f"{by}: no server is asked"
    upstream = told["upstream"]
    if upstream["available"]:
        return "the upstream"
    if all(server["forced_open"] for server in upstream["servers"]):
        return "the gateway: a person holds the circuit of every server open"
    return f"the gateway: every server is held back, the next may be asked in {upstream['retry_in']:.1f} s"


def _upstream(upstream: dict[str, Any], method: str) -> Iterator[tuple[str, str]]:
    for number, server in enumerate(upstream["servers"]):
        states = ["in service" if server["available"] else "held back", f"circuit {server['circuit']}"]
        states += ["opened by a person"] if server["forced_open"] else []
        states += ["the health check fails"] if not server["healthy"] else []
        states += ["a backup"] if server["backup"] else []
        states += [f"{server['consecutive_failures']} failures in a row"] if server["consecutive_failures"] else []
        states += [f"last error {server['last_error']}"] if server["last_error"] else []
        yield "" if number else "upstream", f"{server['server']}: {', '.join(states)}"
    retry = upstream["retry"]
    text = _CLASSES[retry["class"]].format(method=method)
    if retry["class"] != "never":
        text += f"; {retry['attempts']} attempts at most, after {', '.join(retry['on'])}"
    yield "retry", text + {"idempotency_key": "; its Idempotency-Key allows it"}.get(retry["because"], "")


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
