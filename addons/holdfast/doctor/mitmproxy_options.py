"""What mitmproxy's own configuration file would do to the gateway: `holdfast run` reads it as mitmdump does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from holdfast.doctor.case import Case
from holdfast.doctor.finding import Finding, Job, Status

_NAME = "mitmproxy options"
_FILES = ("config.yaml", "config.yml")
# Option -> (values that do no harm, what the others do, the status). What `holdfast run` sets itself is not here.
_HARM: Mapping[str, tuple[tuple[object, ...], str, Status]] = {
    "connection_strategy": (
        ("lazy",),
        "the gateway does not start: with eager, a request to a dead upstream is never seen",
        "failing",
    ),
    "stream_large_bodies": ((None,), "it wins over the profile's `limits.buffer_body`", "warning"),
    "body_size_limit": ((None,), "it refuses bodies behind the gateway's back: use `limits.max_body`", "warning"),
    "anticache": ((False,), "it takes the clients' conditions off, so that everything is sent whole", "warning"),
    "ignore_hosts": (([],), "what it names passes without the gateway's addons", "warning"),
    "allow_hosts": (([],), "what it does not name passes without the gateway's addons", "warning"),
    "tcp_hosts": (([],), "what it names is no HTTP to the gateway", "warning"),
    "proxyauth": ((None, ""), "every client needs a password", "warning"),
    "http2": ((True,), "no client gets HTTP/2, and so no gRPC", "warning"),
    "modify_body": (([],), "it changes requests and answers behind the profile's back", "warning"),
    "modify_headers": (([],), "it changes requests and answers behind the profile's back", "warning"),
    "map_local": (([],), "it answers requests before the gateway does", "warning"),
    "map_remote": (([],), "it sends requests elsewhere than to `upstream.servers`", "warning"),
    "scripts": (([],), "they run in the gateway too, before its own addons", "warning"),
    "server_replay": (([],), "it answers requests before the gateway does", "warning"),
    "client_replay": (([],), "it sends requests of its own", "warning"),
    "ssl_insecure": ((False,), "certificates of https servers are not checked: use `upstream.verify_tls`", "warning"),
    "validate_inbound_headers": ((True,), "it lets malformed requests in", "warning"),
}


def jobs(case: Case) -> list[Job]:
    folder = Path(case.env.get("HOME") or Path.home()) / ".mitmproxy"
    return [Job(_NAME, lambda: examined(folder))]


def examined(folder: Path) -> list[Finding]:
    """A finding for each option that does harm, or one that none does."""
    file = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if file is None:
        return [Finding(_NAME, "ok", f"none are set in {folder}")]
    try:
        options = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        told = f"{file} cannot be read: {' '.join(str(error).split())}"
        return [Finding(_NAME, "failing", told, "mend it, or move it away: nothing starts with it")]
    if not isinstance(options, dict):
        return [Finding(_NAME, "failing", f"{file} is no mapping of options", "mend it, or move it away")]
    found = [each for name, value in options.items() if (each := _harm(file, str(name), value))]
    return found or [Finding(_NAME, "ok", f"{file} sets {len(options)}, none of which is in the way")]


def _harm(file: Path, name: str, value: Any) -> Finding | None:
    harmless, what, status = _HARM.get(name, ((value,), "", "ok"))
    if value in harmless or (value is None and None not in harmless):
        return None
    return Finding(_NAME, status, f"{file} sets {name}: {what}", f"take {name} out of it")
