"""imagined: a method, a URL and header fields as the addons of the chain would see them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.caching.flow import asked_by
from holdfast.exchange import exchange_of, route_of
from holdfast.explaining.imagined import imagined_flow
from holdfast.policy.endpoint import Endpoint

AIMED = Endpoint("http", "10.0.0.1", 3000)


@pytest.mark.parametrize(
    ("url", "scheme", "host", "target"),
    [
        ("http://h.test/a?b#c", "http", "h.test", "/a?b"),
        ("https://h.test", "https", "h.test", "/"),
        ("http://h.test:81?b", "http", "h.test:81", "/?b"),
        ("http://h.test#c", "http", "h.test", "/"),
        ("http://h.test:80/", "http", "h.test", "/"),
        ("https://[::1]:443/", "https", "[::1]", "/"),
        ("https://h.test:80/", "https", "h.test:80", "/"),
    ],
)
def test_a_url_is_a_request_for_it(url: str, scheme: str, host: str, target: str) -> None:
    """Without its fragment, and with a path; aimed at the upstream as reverse mode aims it."""
    flow = imagined_flow("GET", url, [], None, AIMED, forwarded=False)
    asked = asked_by(flow)
    assert (asked.scheme, asked.host, asked.target, asked.route) == (scheme, host, target, "unrouted")
    assert asked.fields == [(b"Host", host.encode())]
    assert (flow.request.host, flow.request.port, flow.server_conn.address) == ("10.0.0.1", 3000, ("10.0.0.1", 3000))


def test_it_has_what_the_intake_would_give_it_and_the_name_of_its_route() -> None:
    """`upstream.forwarded`; what the question says itself is not said twice."""
    said: list[tuple[str, str, str]] = []

    def route_for(method: str, host: str, target: str) -> tuple[str, dict[str, str]]:
        said.append((method, host, target))
        return "user", {"id": "7"}

    router: Any = SimpleNamespace(route_for=route_for)
    flow = imagined_flow("HEAD", "http://h.test/a", [(b"x-forwarded-proto", b"https")], router, AIMED, forwarded=True)
    assert (route_of(flow), exchange_of(flow)["route_params"]) == ("user", {"id": "7"})
    assert said == [("HEAD", "h.test", "/a")]
    assert flow.request.headers.fields == (
        (b"Host", b"h.test"),
        (b"x-forwarded-proto", b"https"),
        (b"X-Forwarded-Host", b"h.test"),
    )


def test_a_host_that_is_named_is_the_only_one() -> None:
    """As curl does it: the cache, the routes and a capture would else be told of another host than what is sent."""
    flow = imagined_flow("GET", "http://127.0.0.1:8080/a", [(b"host", b"h.test")], None, AIMED, forwarded=True)
    assert asked_by(flow).host == exchange_of(flow)["original_host"] == "h.test"
    assert flow.request.headers.get_all("host") == ["h.test"]
    assert flow.request.headers.get_all("x-forwarded-host") == ["h.test"]


@pytest.mark.parametrize(
    ("method", "url", "field", "told"),
    [
        ("GET", "ftp://h.test/", b"A", "is no URL"),
        ("GET", "http:///a", b"A", "is no URL"),
        ("GET", "", b"A", "is no URL"),
        ("GET", "http://ann:pw@h.test/", b"A", "no user in its URL"),
        ("G T", "http://h.test/", b"A", "is no HTTP method"),
        ("GET", "http://h.test/", b"A B", "is no name of a header field"),
        ("GET", "http://h.test/", b"", "is no name of a header field"),
    ],
)
def test_what_is_no_request_is_refused(method: str, url: str, field: bytes, told: str) -> None:
    """With a sentence that says what is wrong."""
    with pytest.raises(ValueError, match=told):
        imagined_flow(method, url, [(field, b"x")], None, AIMED, forwarded=True)
