"""What is wrong with the header of a request: each rule a token, a status, and a sentence with its section of the RFC.

Stricter than a server need be, on purpose: where a message can be read in two ways, the gateway and the server behind
it might read it differently, and then one of them finds a request that nobody has sent (request smuggling). What
passes here has one reading. The same rules hold for what HTTP/2 brings, for it may go on over HTTP/1.1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.policy.answer import Answer, problem, proxy_status

MAX_FIELDS = 1000
"""Fields of one header, or lines of one trailer."""

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e\x80-\xff]+) (HTTP/[0-9]\.[0-9])")
_FIELD_LINES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
_DECISIVE = re.compile(rb"^(host|content-length|transfer-encoding):[ \t]*([^\r]*)", re.IGNORECASE | re.MULTILINE)
_BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_NOT_IN_A_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_IN_A_TARGET = re.compile(rb"[\x00-\x20\x7f#]")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?")
_ABSOLUTE = re.compile(rb"(https?)://([^/]*)(?:/.*)?", re.IGNORECASE | re.DOTALL)
_DEFAULT_PORTS = {b"http": b"80", b"https": b"443"}
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

Fields = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request is refused: a word for logs and programs, a sentence for people, the status of the answer."""

    token: str
    sentence: str
    status: int = 400


# What is found out while the request arrives, and not by looking at its header.
HEADER_TOO_LARGE = Fault("header_too_large", "the header is larger than the limit", 431)
TARGET_TOO_LONG = Fault("target_too_long", "the request line is longer than the limit of the header", 414)
TOO_MANY_FIELDS = Fault("too_many_fields", f"the header has more than {MAX_FIELDS} fields", 431)
HEADER_TIMEOUT = Fault("header_timeout", "the header has not arrived in time", 408)
BAD_BODY = Fault("body", "the body cannot be told from what follows it (RFC 9112, sections 6.3 and 7.1)")
UNREADABLE = Fault("unreadable", "this is no HTTP request (RFC 9112, section 3)")
CANNOT_PASS = Fault("cannot_pass", "the upstream's answer cannot be passed on", 502)

_TITLES = {
    400: "Malformed request",
    405: "Method not allowed",
    408: "Request timed out",
    413: "Body too large",
    414: "URI too long",
    431: "Header too large",
    501: "Not implemented",
    502: "Upstream failed",
    505: "HTTP version not supported",
}


def fault_answer(fault: Fault) -> Answer:
    """The answer to a request with this fault; the connection ends with it."""
    fields = {"Proxy-Status": proxy_status("http_request_error", None, fault.token), "Connection": "close"}
    if fault.status == 405:
        fields["Allow"] = _METHODS
    title = _TITLES.get(fault.status, "Request refused")
    return problem(fault.status, "request-refused", title, fault.sentence, headers=fields, extra={"fault": fault.token})


# -- HTTP/1 ---------------------------------------------------------------------------------------------------------


def http1_fault(head: bytes) -> Fault | None:
    """Of the bytes from the request line up to and including the empty line."""
    after_first = head.find(b"\r\n") + 2
    found = _REQUEST_LINE.fullmatch(head, 0, max(0, after_first - 2))
    in_order = _FIELD_LINES.fullmatch(head, after_first)
    if (not found or not in_order) and _BARE_LINE_END.search(head):
        return Fault("bare_line_end", "a line does not end with CR LF (RFC 9112, section 2.2)")
    if not found:
        return Fault("request_line", "the request line is not 'METHOD target HTTP/x.y' (RFC 9112, section 3)")
    method, target, version = found.groups()
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        return Fault("http_version", "only HTTP/1.1, HTTP/1.0 and HTTP/2 are spoken (RFC 9110, section 15.6.6)", 505)
    if head.count(b"\r\n") > MAX_FIELDS + 2:
        return TOO_MANY_FIELDS
    if not in_order:
        return next(filter(None, map(_line_fault, head[after_first:].split(b"\r\n")[:-2])), UNREADABLE)
    fields = [(name.lower(), value.rstrip(b" \t")) for name, value in _DECISIVE.findall(head, after_first)]
    return (
        _method_fault(method)
        or _framing_fault(fields, version)
        or _host_fault(_all(fields, b"host"), required=version == b"HTTP/1.1")
        or _target_fault(method, target, _all(fields, b"host"))
    )


def _line_fault(line: bytes) -> Fault | None:
    if line[:1] in (b" ", b"\t"):
        return Fault("obs_fold", "a header field is continued on a second line (RFC 9112, section 5.2)")
    name, colon, value = line.partition(b":")
    if not colon:
        return Fault("field_line", "a header line has no colon (RFC 9112, section 5)")
    if not _TOKEN.fullmatch(name):
        return Fault("field_name", "a header name is empty or has a character that names have not (RFC 9112, 5.1)")
    if _NOT_IN_A_VALUE.search(value):
        return Fault("field_value", "a header value has a control character (RFC 9110, section 5.5)")
    return None


def _target_fault(method: bytes, target: bytes, hosts: list[bytes]) -> Fault | None:
    """RFC 9112, section 3.2. Without a path it is a target for proxies, and this is a gateway."""
    if b"#" in target:
        return Fault("target", "the request target has a fragment (RFC 9112, section 3.2)")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return None
    absolute = _ABSOLUTE.fullmatch(target)
    if not absolute or not _is_host(absolute[2]):
        return Fault("target", "the request target is neither a path nor an http URL (RFC 9112, section 3.2)")
    if hosts and _differ(absolute[2], hosts[0], absolute[1].lower()):
        return Fault("target_and_host", "the request target and Host name two hosts (RFC 9112, section 3.2.2)")
    return None


# -- HTTP/2 ---------------------------------------------------------------------------------------------------------

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_OF_A_CONNECTION = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path"})


def http2_fault(fields: Fields, ends: bool) -> Fault | None:
    """Of the fields of a request in their order, pseudo fields among them. `ends`: no body follows."""
    if len(fields) > MAX_FIELDS:
        return TOO_MANY_FIELDS
    pseudo: dict[bytes, bytes] = {}
    regular: list[tuple[bytes, bytes]] = []
    for name, value in fields:
        if name.startswith(b":"):
            if regular or name in pseudo or name not in _PSEUDO:
                return Fault("pseudo_field", "a pseudo field is unknown, twice there or late (RFC 9113, section 8.3)")
            pseudo[name] = value
        else:
            regular.append((name, value))
    fault = fields_fault(regular) or next(filter(None, map(_value_fault, pseudo.values())), None)
    if fault:
        return fault
    return _pseudo_fault(pseudo, _all(regular, b"host")) or _length_fault(_all(regular, b"content-length"), ends)


def fields_fault(fields: Fields) -> Fault | None:
    """Of the fields after the pseudo fields, or of a trailer."""
    for name, value in fields:
        if not _NAME.fullmatch(name):
            return Fault("field_name", "a field name is empty, in upper case, or no token (RFC 9113, section 8.2.1)")
        if name in _OF_A_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
            return Fault("connection_field", "a field belongs to connections of HTTP/1 (RFC 9113, section 8.2.2)")
        fault = _value_fault(value)
        if fault:
            return fault
    return None


def trailer_fault(fields: Fields) -> Fault | None:
    """Of the fields after a body: none of them may change how the message is read (RFC 9110, section 6.5.1)."""
    if len(fields) > MAX_FIELDS:
        return TOO_MANY_FIELDS
    if any(name in (b"content-length", b"host") for name, _ in fields):
        return Fault("trailer", "a trailer has a field that belongs into the header (RFC 9110, section 6.5.1)")
    return fields_fault(fields)


def _value_fault(value: bytes) -> Fault | None:
    if _NOT_IN_A_VALUE.search(value) or value != value.strip(b" \t"):
        return Fault("field_value", "a field value has a control character or outer spaces (RFC 9113, section 8.2.1)")
    return None


def _pseudo_fault(pseudo: dict[bytes, bytes], hosts: list[bytes]) -> Fault | None:
    method = pseudo.get(b":method", b"")
    if not _TOKEN.fullmatch(method):
        return Fault("pseudo_field", "the method is missing or no token (RFC 9113, section 8.3.1)")
    fault = _method_fault(method)
    if fault:
        return fault
    scheme, path = pseudo.get(b":scheme", b""), pseudo.get(b":path", b"")
    if scheme not in _DEFAULT_PORTS:
        return Fault("pseudo_field", "the scheme is missing, or neither http nor https (RFC 9113, section 8.3.1)")
    if _NOT_IN_A_TARGET.search(path) or not (path.startswith(b"/") or (path == b"*" and method == b"OPTIONS")):
        return Fault("target", "the path is missing, does not begin with a slash, or has a space (RFC 9113, 8.3.1)")
    named = [pseudo[b":authority"]] if b":authority" in pseudo else []
    fault = _host_fault(hosts, required=not named) or _host_fault(named, required=False)
    if not fault and named and hosts and _differ(named[0], hosts[0], scheme):
        return Fault("target_and_host", ":authority and host name two hosts (RFC 9113, section 8.3.1)")
    return fault


# -- both -----------------------------------------------------------------------------------------------------------


def _all(fields: Fields, wanted: bytes) -> list[bytes]:
    return [value for name, value in fields if name == wanted]


def _method_fault(method: bytes) -> Fault | None:
    if method == b"CONNECT":
        return Fault("connect", "this is a gateway, which opens no tunnels (RFC 9110, section 9.3.6)", 405)
    if method.upper() in (b"CONNECT", b"HEAD") and method != b"HEAD":
        # mitmproxy does not look at the case, the origin does: they would not agree on where the response ends.
        return Fault("method_case", "a method whose responses have no body is not in upper case (RFC 9110, 9.1)")
    return None


def _framing_fault(fields: Fields, version: bytes) -> Fault | None:
    """RFC 9112, sections 6.1 to 6.3."""
    lengths, codings = _all(fields, b"content-length"), _all(fields, b"transfer-encoding")
    if not codings:
        return _length_fault(lengths, ends=False)
    if lengths:
        return Fault("length_and_coding", "Content-Length beside Transfer-Encoding (RFC 9112, section 6.1)")
    if version == b"HTTP/1.0":
        return Fault("coding_in_http_1_0", "Transfer-Encoding in HTTP/1.0 (RFC 9112, section 6.1)")
    if len(codings) > 1:
        return Fault("coding_twice", "Transfer-Encoding is there twice (RFC 9112, section 6.1)")
    *before, last = [coding.strip(b" \t").lower() for coding in codings[0].split(b",")]
    if last != b"chunked" or b"chunked" in before:
        return Fault("transfer_encoding", "the last transfer coding, and it alone, must be chunked (RFC 9112, 6.3)")
    if before:
        return Fault("transfer_coding", "of the transfer codings only chunked is known (RFC 9112, section 6.1)", 501)
    return None


def _length_fault(lengths: list[bytes], ends: bool) -> Fault | None:
    if len(lengths) > 1:
        return Fault("length_twice", "Content-Length is there twice (RFC 9112, section 6.3)")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        return Fault("content_length", "Content-Length is not a number of reasonable size (RFC 9110, section 8.6)")
    if ends and lengths and lengths[0] != b"0":
        return Fault("content_length", "Content-Length announces a body that is not there (RFC 9113, section 8.1.1)")
    return None


def _host_fault(hosts: list[bytes], *, required: bool) -> Fault | None:
    if len(hosts) > 1:
        return Fault("host_twice", "Host is there twice (RFC 9112, section 3.2)")
    if required and not hosts:
        return Fault("no_host", "Host is missing (RFC 9112, section 3.2)")
    if hosts and not _is_host(hosts[0]):
        return Fault("host", "Host is not a host with or without a port (RFC 9110, section 7.2)")
    return None


def _is_host(value: bytes) -> bool:
    found = _HOST.fullmatch(value)
    return found is not None and int(found[1] or 0) < 2**16


def _differ(one: bytes, other: bytes, scheme: bytes) -> bool:
    return _host_and_port(one, scheme) != _host_and_port(other, scheme)


def _host_and_port(value: bytes, scheme: bytes) -> tuple[bytes, bytes]:
    host, colon, port = value.lower().rpartition(b":")
    if not colon or b"]" in port:
        return value.lower(), _DEFAULT_PORTS[scheme]
    return host, port or _DEFAULT_PORTS[scheme]
