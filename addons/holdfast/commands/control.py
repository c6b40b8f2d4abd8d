"""How a command talks to the gateway that runs: one call of its control surface, and what is wrong where it fails."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from holdfast.errors import HoldfastError
from holdfast.policy.endpoint import base_url
from holdfast.profile.load import load_profile

PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Surface:
    """Where the control surface of the profile's gateway is, and what it wants to see."""

    base: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    def request(self, method: str, path: str, data: bytes | None = None) -> Request:
        """For `urlopen`."""
        return Request(f"{self.base}{path}", data, self.headers, method=method)  # noqa: S310 - http, as `base_url` has it


def surface(args: argparse.Namespace) -> Surface:
    """What the profile and the command line say of it. ValueError where the gateway has none."""
    profile = load_profile(args.profile)
    listen = args.admin or profile.admin.listen
    if not listen:
        raise ValueError(f"the profile {args.profile} has no admin.listen, so its gateway cannot be asked")
    headers = {"Content-Type": "application/json"}
    if profile.admin.token:
        headers["Authorization"] = f"Bearer {profile.admin.token}"
    return Surface(base_url(listen), headers)


def call(args: argparse.Namespace, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer's document. ValueError for what has to be said otherwise, HoldfastError for what may work later."""
    data = None if body is None else json.dumps(body).encode()
    return _answer(surface(args).request(method, path, data), args.profile)


def direct() -> OpenerDirector:
    """Opens requests to the gateway itself: a proxy of the environment is not for us."""
    return build_opener(ProxyHandler({}))


def _answer(request: Request, profile: str) -> dict[str, Any]:
    try:
        with direct().open(request, timeout=PATIENCE) as answer:
            return _document(answer.read())
    except HTTPError as e:
        detail = str(_document(e.read()).get("detail") or e.reason)
        if e.code in (401, 403):
            raise ValueError(f"the gateway at {request.host} refuses: {detail} (the profile is {profile})") from e
        if e.code in (400, 404):
            raise ValueError(detail) from e
        raise HoldfastError(detail) from e
    except (OSError, HTTPException) as e:  # URLError and TimeoutError are; what speaks no HTTP is no gateway either
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
