"""The servers behind the gateway: a name that resolves, a port that answers, the right protocol, and not ourselves.

Each is asked for the path of its health check, or by `HEAD /`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any

from holdfast.doctor.case import Case, OtherClock
from holdfast.doctor.finding import PATIENCE, Finding, Job
from holdfast.doctor.ports import why_not
from holdfast.doctor.waiting import in_time
from holdfast.policy.endpoint import Endpoint, parse_endpoint, parse_listen
from holdfast.profile.settings import Profile

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # RFC 9113, 3.4 and 6.5
_SETTINGS = 4
_HTTP2 = "speaks HTTP/2 over TLS"
_TCP = socket.SOCK_STREAM
_OTHERWISE = 1.0  # seconds for each other protocol that is tried where the one of the profile is not spoken
_EXPIRES_SOON = 14 * 86400


@dataclass(frozen=True, slots=True)
class Server:
    """One of the profile's, and how it is to be asked."""

    endpoint: Endpoint
    connect_timeout: float
    path: str | None

    @property
    def title(self) -> str:
        return f"upstream {self.endpoint.name}"


def jobs(case: Case) -> list[Job]:
    profile = case.profile
    assert profile
    servers = {server.endpoint.name: server for server in reversed(list(_servers(profile)))}
    return [Job(each.title, partial(_examined, each, profile, case)) for each in reversed(servers.values())]


def _servers(profile: Profile) -> Iterator[Server]:
    for section in (profile.upstream, *profile.upstream.routes.values()):
        path = section.health_check.path if section.health_check else None
        for each in section.each_server():
            yield Server(parse_endpoint(each.url), min(PATIENCE, float(section.connect_timeout)), path)


def _examined(server: Server, profile: Profile, case: Case) -> list[Finding]:
    endpoint = server.endpoint
    try:
        found = in_time(lambda: socket.getaddrinfo(endpoint.host, endpoint.port, type=_TCP), PATIENCE)
    except OSError as error:
        if profile.upstream.dns.servers:
            return [Finding(server.title, "skipped", "the name servers of the profile know its name, perhaps")]
        told = f"its name cannot be resolved: {error.strerror or error}"
        return [Finding(server.title, "failing", told, "correct the name in `upstream.servers`, or see to the DNS")]
    own = _own_listener(profile, sorted({str(each[4][0]) for each in found}), endpoint.port)
    if own:
        told = f"is the gateway itself (`{own}`): every request would go round in a circle"
        return [Finding(server.title, "failing", told, "name the application's own port in `upstream.servers`")]
    began = time.monotonic()
    try:
        socket.create_connection((endpoint.host, endpoint.port), timeout=server.connect_timeout).close()
    except OSError as error:
        told = f"cannot be reached: {'no answer' if isinstance(error, TimeoutError) else error.strerror or error}"
        return [
            Finding(server.title, "failing", told, f"start it, or correct its port; try `nc -vz {_words(endpoint)}`")
        ]
    took = time.monotonic() - began
    finding = _spoken(server, profile, case)
    if finding.status == "ok" and took > server.connect_timeout / 2:
        told = f"takes {took:.1f} s to connect, and `connect_timeout` is {server.connect_timeout:g} s"
        return [Finding(server.title, "warning", told, "raise connect_timeout, or see what is slow")]
    return [finding]


def _own_listener(profile: Profile, addresses: list[str], port: int) -> str:
    """Which of the gateway's own listeners this is."""
    listeners = {"listen": profile.listen, "admin.listen": profile.admin.listen}
    for name, listen in listeners.items():
        if not listen or parse_listen(listen)[1] != port:
            continue
        host = parse_listen(listen)[0]
        with contextlib.suppress(OSError):
            here = {str(each[4][0]) for each in socket.getaddrinfo(host, port, type=_TCP)}
            if here & set(addresses) or (here & {"0.0.0.0", "::"} and any(why_not(a, 0) is None for a in addresses)):
                return name
    return ""


def _spoken(server: Server, profile: Profile, case: Case) -> Finding:
    """Whether it speaks what the profile says."""
    endpoint = server.endpoint
    if endpoint.http2_only:
        if _speaks_h2c(endpoint):
            return Finding(server.title, "ok", "speaks HTTP/2 without TLS")
        advice = "write http:// for a server of HTTP/1.1, https:// for one with TLS"
        return Finding(server.title, "failing", "does not speak HTTP/2 without TLS", advice)
    try:
        context = _context(profile) if endpoint.tls else None
    except OSError as error:  # ssl.SSLError is one
        told = f"`upstream.ca_file` {profile.upstream.ca_file} cannot be used: {error.strerror or error}"
        return Finding(server.title, "failing", told, "name a PEM file of certificates that this user can read")
    try:
        answer, began, certificate = _asked(server, context)
    except ssl.SSLCertVerificationError as error:
        told = f"its certificate is not accepted: {error.verify_message or error}"
        advice = "name the authority that has signed it in `upstream.ca_file`, or correct the host's name"
        return Finding(server.title, "failing", told, advice)
    except ssl.SSLError as error:
        if _speaks_tls(endpoint, "h2"):
            return Finding(server.title, "ok", _HTTP2)
        told = f"does not speak TLS: {error.reason or error}"
        return Finding(server.title, "failing", told, f"write http://{_address(endpoint)} if it is a plain HTTP port")
    except (OSError, HTTPException) as error:
        return _not_http(server, error)
    _note_clock(server, answer, began, case)
    if not endpoint.tls and answer.status == 400 and _speaks_tls(endpoint):
        advice = f"write https://{_address(endpoint)}"
        return Finding(server.title, "failing", "speaks TLS, and the profile says http://", advice)
    return _answered(server, answer, certificate)


def _answered(server: Server, answer: HTTPResponse, certificate: Mapping[str, Any]) -> Finding:
    if server.path and answer.status >= 500:
        told = f"answers {answer.status} to {server.path}: the health check takes it out"
        return Finding(server.title, "failing", told, "see to the application, or correct `health_check.path`")
    told = f"answers ({answer.status} to {_request(server)})"
    if certificate:
        left = ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()
        if left < _EXPIRES_SOON:
            return Finding(server.title, "warning", f"its certificate ends in {left / 86400:.0f} days", "renew it")
    return Finding(server.title, "ok", told)


def _not_http(server: Server, error: Exception) -> Finding:
    endpoint = server.endpoint
    if isinstance(error, TimeoutError):
        told = f"accepts connections, and does not answer within {PATIENCE:g} s ({_request(server)})"
        return Finding(server.title, "warning", told, "see whether the application hangs")
    if not endpoint.tls and _speaks_tls(endpoint):
        told, advice = "speaks TLS, and the profile says http://", f"write https://{_address(endpoint)}"
    elif not endpoint.tls and _speaks_h2c(endpoint):
        told, advice = "speaks HTTP/2 only, and the profile says http://", f"write h2c://{_address(endpoint)}"
    elif endpoint.tls and _speaks_tls(endpoint, "h2"):
        return Finding(server.title, "ok", _HTTP2)
    else:
        told = f"accepts connections, and does not speak HTTP ({type(error).__name__})"
        advice = "see whether this is the application's port, and not that of a database or a broker"
    return Finding(server.title, "failing", told, advice)


def _asked(server: Server, context: ssl.SSLContext | None) -> tuple[HTTPResponse, float, Mapping[str, Any]]:
    """The answer's header, when it was asked for, and the certificate; empty where none was verified."""
    endpoint = server.endpoint
    plain = HTTPConnection(endpoint.host, endpoint.port, timeout=PATIENCE)
    connection = plain
    if context:
        connection = HTTPSConnection(endpoint.host, endpoint.port, timeout=PATIENCE, context=context)
    with contextlib.closing(connection):
        connection.connect()
        certificate = (connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None) or {}
        began = time.time()
        method, _, path = _request(server).partition(" ")
        connection.request(method, path, headers={"User-Agent": "holdfast-doctor", "Connection": "close"})
        return connection.getresponse(), began, certificate


def _request(server: Server) -> str:
    return f"GET {server.path}" if server.path else "HEAD /"


def _note_clock(server: Server, answer: HTTPResponse, began: float, case: Case) -> None:
    date = answer.getheader("Date")
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        theirs = parsedate_to_datetime(date or "").timestamp()
        ended = time.time()
        # The field has whole seconds, and may be cached for one.
        case.clocks.append(OtherClock(server.endpoint.name, theirs - (began + ended) / 2, (ended - began) / 2 + 2))


def _context(profile: Profile) -> ssl.SSLContext:
    if profile.upstream.ca_file:
        context = ssl.create_default_context(cafile=profile.upstream.ca_file)
    else:
        import certifi  # what mitmproxy trusts

        context = ssl.create_default_context(cafile=certifi.where())
    if not profile.upstream.verify_tls:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _speaks_tls(endpoint: Endpoint, protocol: str = "") -> bool:
    """Whether it does, and agrees on this protocol."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocol:
        context.set_alpn_protocols([protocol])
    try:
        raw = socket.create_connection(endpoint.address, timeout=_OTHERWISE)
        with raw, context.wrap_socket(raw, server_hostname=endpoint.host) as wrapped:
            return not protocol or wrapped.selected_alpn_protocol() == protocol
    except OSError:
        return False


def _speaks_h2c(endpoint: Endpoint) -> bool:
    """Whether it answers the preface with SETTINGS."""
    try:
        with socket.create_connection(endpoint.address, timeout=_OTHERWISE) as connection:
            connection.settimeout(_OTHERWISE)
            connection.sendall(_PREFACE)
            head = b""
            while len(head) < 9 and (more := connection.recv(9 - len(head))):
                head += more
            return len(head) == 9 and head[3] == _SETTINGS
    except OSError:
        return False


def _address(endpoint: Endpoint) -> str:
    return endpoint.name.partition("://")[2]


def _words(endpoint: Endpoint) -> str:
    return f"{endpoint.host} {endpoint.port}"
