"""The addresses that the gateway would listen on: free, or somebody's, perhaps its own."""

from __future__ import annotations

import errno
import json
import socket
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request

from holdfast.commands.control import direct
from holdfast.doctor.case import Case
from holdfast.doctor.finding import Finding, Job
from holdfast.doctor.listeners import who_listens
from holdfast.policy.endpoint import base_url, parse_listen

_PRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")

_PATIENCE = 1.0  # seconds for what listens there to show that it is a gateway


def jobs(case: Case) -> list[Job]:
    profile = case.profile
    assert profile
    admin, health = profile.admin, profile.admin.health_path
    token = {"Authorization": f"Bearer {admin.token}"} if admin.token else {}
    made = [Job("listen", lambda: [_examined("listen", "--listen", profile.listen, health, {})])]
    if admin.listen:
        listen = admin.listen
        made.append(Job("admin.listen", lambda: [_examined("admin.listen", "--admin", listen, "/health", token)]))
    else:
        made.append(
            Job("admin.listen", lambda: [Finding("admin.listen", "skipped", "null: there is no control surface")])
        )
    return made


def _examined(name: str, option: str, listen: str, health: str | None, headers: dict[str, str]) -> Finding:
    host, port = parse_listen(listen)
    if port == 0:
        return Finding(name, "ok", f"{listen}: any free port")
    problem = why_not(host, port)
    if problem is None:
        return Finding(name, "ok", f"{listen} is free")
    if problem == errno.EADDRINUSE:
        return _taken(name, option, listen, port, health, headers)
    if problem in (errno.EACCES, errno.EPERM):
        told = f"{listen}: ports below {_first_unprivileged()} are for root"
        return Finding(
            name, "failing", told, f"choose one above, such as `{option} 8080`, or give CAP_NET_BIND_SERVICE"
        )
    if problem in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, -1):
        told = f"{listen}: this machine has no such address"
        return Finding(name, "failing", told, "write 127.0.0.1 for this machine only, or 0.0.0.0 for everybody")
    return Finding(name, "failing", f"{listen}: {errno.errorcode.get(problem, problem)}", "choose another address")


def _taken(name: str, option: str, listen: str, port: int, health: str | None, headers: dict[str, str]) -> Finding:
    who = who_listens(port)
    if health and _is_gateway(base_url(listen) + health, headers):
        told = f"{listen}: a gateway of Holdfast listens there already" + (f", {who}" if who else "")
        return Finding(name, "ok", told, "a second one needs another port")
    told = f"{listen} is taken" + (f" by {who}" if who else " by a process of another user, or of another container")
    return Finding(name, "failing", told, f"stop that, or choose another port: `{option} {_next_port(listen)}`")


def why_not(host: str, port: int) -> int | None:
    """The error number with which a socket refuses this address, -1 for a name that has none; None if it takes it.

    It is bound and closed again at once; it never listens.
    """
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError:
        return -1
    with socket.socket(kind, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            return error.errno
    return None


def _is_gateway(url: str, headers: dict[str, str]) -> bool:
    """Whether what answers is a health page of ours."""
    try:
        with direct().open(Request(url, headers=headers), timeout=_PATIENCE) as answer:  # noqa: S310 - http
            body = answer.read(1 << 20)
    except HTTPError as error:
        body = error.read(1 << 20)
        if error.code == 401 and b"admin.token" in body:
            return True  # with another token
    except (OSError, ValueError):
        return False
    try:
        found = json.loads(body)
    except ValueError:
        return False
    return isinstance(found, dict) and {"status", "gateway", "outbox", "upstream"} <= set(found)


def _first_unprivileged() -> int:
    try:
        return int(_PRIVILEGED.read_text())
    except (OSError, ValueError):
        return 1024


def _next_port(listen: str) -> str:
    """The next one that is free."""
    host, port = parse_listen(listen)
    free = next((each for each in range(port + 1, min(port + 100, 65535)) if why_not(host, each) is None), port + 1)
    return str(free) if host == "127.0.0.1" else f"{f'[{host}]' if ':' in host else host}:{free}"
