"""How a command talks to the gateway that runs: one call of its control surface, and what is wrong where it fails."""

from __future__ import annotations

import argparse
import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from holdfast.errors import HoldfastError
from holdfast.policy.endpoint import parse_listen
from holdfast.profile.load import load_profile

PATIENCE = 30.0
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # where they listen, and where to find them


def call(args: argparse.Namespace, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer's document. ValueError for what has to be said otherwise, HoldfastError for what may work later."""
    profile = load_profile(args.profile)
    listen = args.admin or profile.admin.listen
    if not listen:
        raise ValueError(f"the profile {args.profile} has no admin.listen, so its gateway cannot be asked")
    headers = {"Content-Type": "application/json"}
    if profile.admin.token:
        headers["Authorization"] = f"Bearer {profile.admin.token}"
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{base_url(listen)}{path}", data, headers, method=method)  # noqa: S310 - http, as `base_url` has it
    return _answer(request, args.profile)


def base_url(listen: str) -> str:
    """Where to find what listens there."""
    host, port = parse_listen(listen)
    host = _WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _answer(request: Request, profile: str) -> dict[str, Any]:
    opener = build_opener(ProxyHandler({}))  # a proxy of the environment is not for us
    try:
        with opener.open(request, timeout=PATIENCE) as answer:
            return _document(answer.read())
    except HTTPError as e:
        detail = str(_document(e.read()).get("detail") or e.reason)
        if e.code in (401, 403):
            raise ValueError(f"the gateway at {request.host} refuses: {detail} (the profile is {profile})") from e
        if e.code in (400, 404):
            raise ValueError(detail) from e
        raise HoldfastError(detail) from e
    except OSError as e:  # URLError and TimeoutError are
        why = getattr(e, "reason", e)
        raise HoldfastError(
            f"no gateway answers at {request.host} ({why}): is one running with the profile {profile}? "
            "Name another by --profile, or its control surface by --admin"
        ) from e


def _document(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def printable(text: object) -> str:
    """Nothing that came from a client or an origin may reach the terminal as a control sequence."""
    return "".join(c if c.isprintable() else "?" for c in str(text))
