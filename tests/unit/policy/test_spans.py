"""policy.spans: the words of the semantic conventions."""

from __future__ import annotations

import pytest

from holdfast.policy.spans import (
    LONGEST,
    Tried,
    attempt_attributes,
    method_attributes,
    plain,
    protocol_version,
    request_error,
    span_name,
)


@pytest.mark.parametrize(
    ("fate", "reason", "status", "error"),
    [
        ("ok", "", 200, None),
        ("ok", "", 404, None),
        ("ok", "", 500, "500"),
        ("retried", "attempts:2", 200, None),
        ("retried", "attempts:2", 500, "500"),
        ("captured", "connection_refused", 503, "connection_refused"),
        ("captured", "connection_refused", 202, "connection_refused"),
        ("captured", "accepted", 202, None),
        ("captured", "queued", 202, None),
        ("captured", "queued", 503, "503"),
        ("failed", "client_disconnected", None, "client_disconnected"),
        ("failed", "addon:Banner", 500, "addon:Banner"),
        ("rejected", "body_too_large", 413, None),
        ("rejected", "overloaded", 503, "overloaded"),
    ],
)
def test_which_requests_are_errors(fate: str, reason: str, status: int | None, error: str | None) -> None:
    """The conventions for servers: 5xx is an error, 4xx is the client's; what was sent and captured has failed."""
    assert request_error(fate, reason, status) == error


def test_an_attempt_that_never_got_an_answer() -> None:
    """Server, error and number, and nothing of the query or of an answer."""
    made = attempt_attributes(Tried(1, "http://10.0.0.1:3000", "connection_refused", None), "GET", "/api/users")
    assert made == {
        "http.request.method": "GET",
        "url.full": "http://10.0.0.1:3000/api/users",
        "server.address": "10.0.0.1",
        "server.port": 3000,
        "holdfast.attempt": 1,
        "error.type": "connection_refused",
    }


def test_a_repeated_attempt_at_one_address_of_a_name() -> None:
    """The name is the server's, the address the peer's; h2c is no scheme of a URL."""
    made = attempt_attributes(Tried(3, "h2c://backend:80#10.0.0.9", None, 404), "GET", "/")
    assert made["url.full"] == "http://backend:80/"
    assert (made["server.address"], made["network.peer.address"]) == ("backend", "10.0.0.9")
    assert (made["http.request.resend_count"], made["holdfast.attempt"]) == (2, 3)
    assert (made["http.response.status_code"], made["error.type"]) == (404, "404")


def test_an_attempt_that_succeeded_is_no_error() -> None:
    """No `error.type` at all."""
    assert "error.type" not in attempt_attributes(Tried(1, "http://a:1", None, 204), "GET", "/")


def test_a_method_of_the_clients_own_invention_makes_no_new_name() -> None:
    """Names are few, whatever is sent."""
    assert span_name("BREW", "users") == "HTTP users"
    assert span_name("GET", "users") == "GET users"
    assert span_name("GET", None) == "GET"
    assert method_attributes("BREW") == {"http.request.method": "_OTHER", "http.request.method_original": "BREW"}


@pytest.mark.parametrize(
    ("said", "written"), [("HTTP/1.1", "1.1"), ("HTTP/1.0", "1.0"), ("HTTP/2.0", "2"), ("HTTP/3", "3")]
)
def test_versions_are_written_as_the_conventions_do(said: str, written: str) -> None:
    """`1.1`, `2`, `3`."""
    assert protocol_version(said) == written


def test_any_bytes_of_a_client_become_text_of_bounded_length() -> None:
    """One value that cannot be encoded would lose the batch that it is in."""
    odd = plain("/caf\udcc3" + "x" * 10_000)
    assert len(odd) == LONGEST
    assert odd.encode("utf-8").startswith(b"/caf?x")
