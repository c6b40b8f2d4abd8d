"""What can go wrong with an upstream, in the terms of RFC 9209, and which class of `retry.on` each belongs to."""

from __future__ import annotations

from dataclasses import dataclass

GATEWAY_STATUSES = frozenset({502, 503, 504})

# RFC 9209, section 2.3. `reached` is False only where no byte of the request can have arrived.
_NEVER_REACHED = {
    "dns_error": "connect",
    "dns_timeout": "connect",
    "connection_refused": "connect",
    "connection_timeout": "connect",
    "connection_limit_reached": "connect",
    "destination_unavailable": "connect",
    "destination_ip_unroutable": "connect",
    "tls_protocol_error": "connect",
    "tls_certificate_error": "connect",
    "proxy_loop_detected": "loop",
}
_MAY_HAVE_ARRIVED = {
    "connection_terminated": "reset",
    "http_response_incomplete": "reset",
    "http_protocol_error": "reset",
    "http_response_timeout": "timeout",
    "connection_read_timeout": "timeout",
    "http_response_body_size": "size",
    "grpc_unavailable": "503",
}
_TIMEOUTS = frozenset({"connection_timeout", "http_response_timeout", "connection_read_timeout", "dns_timeout"})


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt. `error` is an RFC 9209 token, or with `status` set `http_502` and the like.

    `grpc_unavailable` is the answer of a gRPC server that could not take the call, with the HTTP status 200.
    """

    error: str
    detail: str
    status: int | None = None

    @property
    def kind(self) -> str:
        """The class in `retry.on` and `interceptor.on`: connect, reset, timeout, 502, 503, 504. `WITHHELD` has none."""
        known = _NEVER_REACHED.get(self.error) or _MAY_HAVE_ARRIVED.get(self.error)
        if known:
            return known
        assert self.status is not None
        return str(self.status)

    @property
    def reached(self) -> bool:
        """Whether the upstream may have seen the request: then a non-idempotent one must not be repeated."""
        return self.error not in _NEVER_REACHED

    @property
    def timed_out(self) -> bool:
        """Answered with 504 rather than 502 where nothing else was configured (RFC 9110, section 15.6)."""
        return self.error in _TIMEOUTS or self.status == 504


# RFC 9209: "recent attempts to communicate with it may have failed, or a health check may indicate that it is down".
NO_SERVER = Failure("destination_unavailable", "every upstream server is held back after failures")


# The server said that it has not processed the request (RFC 9113, section 8.7): it may go to another one.
NOT_PROCESSED = Failure("destination_unavailable", "the upstream did not take the request")


# What makes a server that speaks HTTP/1.1 only answer in it on a connection for HTTP/2.
NO_HTTP2 = "the upstream does not speak HTTP/2"


def named_status(error: str) -> int | None:
    """The status in `http_502` and the like, which is still known where the answer itself has been let go."""
    digits = error.removeprefix("http_")
    return int(digits) if digits.isdigit() else None


# RFC 9209, section 2.3.12. It says nothing of the server.
NO_TURN = Failure("connection_limit_reached", "as many requests are under way as the server is to have at once")


def answered_with(status: int) -> Failure:
    """The upstream answered, with a status that counts as a failure."""
    return Failure(f"http_{status}", f"the upstream answered {status}", status)


def connect_failure(message: str, timed_out: bool) -> Failure:
    """The failure behind an error text of the connection attempt (the operating system's or the TLS layer's)."""
    if timed_out:
        return Failure("connection_timeout", "no connection within connect_timeout")
    if message == NO_TURN.detail:
        return NO_TURN
    if message == NO_HTTP2:
        return Failure("destination_unavailable", NO_HTTP2)
    token = _connect_token(message.lower())
    return Failure(token, _CONNECT_TEXTS[token])


def _connect_token(text: str) -> str:
    for token, marks in _CONNECT_MARKS:
        if any(mark in text for mark in marks):
            return token
    return "destination_unavailable"


# No failures at all: what is said of a request that is stored before any server was asked.
WITHHELD = {
    "accepted": Failure("accepted", "accepted without trying the upstream"),
    "queued": Failure("queued", "an older request of the same key is not settled yet"),
}

# The client sees these: the operating system's text would tell it the upstream's address.
_CONNECT_TEXTS = {
    "proxy_loop_detected": "the upstream address is the gateway's own",
    "tls_certificate_error": "the upstream's certificate is not trusted",
    "tls_protocol_error": "the TLS handshake with the upstream failed",
    "connection_refused": "the upstream refused the connection",
    "dns_error": "the upstream's name could not be resolved",
    "destination_ip_unroutable": "there is no route to the upstream",
    "destination_unavailable": "the upstream could not be reached",
}
_CONNECT_MARKS = (
    ("proxy_loop_detected", ("request destination unknown", "killed")),
    ("tls_certificate_error", ("certificate",)),
    ("tls_protocol_error", ("tls", "ssl", "handshake", "connection closed")),
    ("connection_refused", ("refused", "connect call failed", "errno 111", "multiple exceptions")),
    ("dns_error", ("name or service", "getaddrinfo", "nodename", "name resolution", "no address associated")),
    ("destination_ip_unroutable", ("unreachable", "no route")),
)
