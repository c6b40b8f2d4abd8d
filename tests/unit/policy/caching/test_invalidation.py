"""policy.caching.invalidation: what an unsafe request makes unusable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.caching.invalidation import Resource, invalidated, is_safe, origin

HERE = Resource("https", "a.example", "/api/users?x=1")


def urls(*response: tuple[bytes, bytes], method: str = "POST", status: int = 200) -> list[str]:
    return [each.target for each in invalidated(method, status, HERE, response)]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "get", ""])
def test_a_method_that_is_not_known_to_be_safe_invalidates(method: str) -> None:
    """RFC 9111, section 4.4: including methods whose safety is unknown."""
    assert not is_safe(method)
    assert invalidated(method, 204, HERE, []) == [HERE]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_a_safe_method_invalidates_nothing(method: str) -> None:
    """RFC 9110, section 9.2.1; or anyone could have anything purged."""
    assert invalidated(method, 200, HERE, [(b"Location", b"/x")]) == []


@pytest.mark.parametrize(
    ("status", "expected"), [(200, 1), (201, 1), (303, 1), (399, 1), (400, 0), (404, 0), (500, 0), (101, 0)]
)
def test_an_error_invalidates_nothing(status: int, expected: int) -> None:
    """RFC 9111, section 4.4: a non-error status code is a 2xx or 3xx."""
    assert len(invalidated("POST", status, HERE, [])) == expected


@pytest.mark.parametrize("name", [b"Location", b"content-location"])
@pytest.mark.parametrize(
    ("value", "target"),
    [
        (b"https://a.example/api/users/7", "/api/users/7"),
        (b"https://A.EXAMPLE:443/x", "/x"),
        (b"//a.example/x", "/x"),
        (b"/x?y=1#z", "/x?y=1"),
        (b"7", "/api/7"),
        (b"../x", "/x"),
        (b"?page=2", "/api/users?page=2"),
        (b" /x ", "/x"),
        (b"https://a.example", "/"),
        (b"/a%2Fb", "/a%2Fb"),
    ],
)
def test_what_the_response_names_is_invalidated_too(name: bytes, value: bytes, target: str) -> None:
    """RFC 9111, section 4.4; relative to the request's own URL (RFC 3986, section 5)."""
    assert urls((name, value)) == [HERE.target, target]


@pytest.mark.parametrize(
    "value",
    [
        *(b"https://b.example/x", b"http://a.example/x", b"https://a.example:8443/x", b"//b.example/x", b"\\\\b/x"),
        *(b"https://a.example@b.example/x", b"https://u@a.example/x", b"https://[::1/x", b"javascript:alert(1)"),
        *(b"https://a.example.b/", b"/a\x00b", b"/caf\xe9", b"/" + b"x" * 9000, b"mailto:a@a.example"),
    ],
)
def test_another_origin_has_no_say(value: bytes) -> None:
    """RFC 9111, section 4.4: it must not be a means of denying service."""
    assert urls((b"Location", value)) == [HERE.target]


def test_each_is_named_once() -> None:
    """Location and Content-Location often agree."""
    assert urls((b"Location", b"/x"), (b"Content-Location", b"/x"), (b"location", b"")) == [HERE.target, "/x"]


def test_an_origin_may_have_another_name_in_front() -> None:
    """Where a proxy ends TLS, Location says https and the gateway is asked by http."""
    here = Resource("http", "a.example", "/users")
    response = [(b"Location", b"https://a.example/users/7")]
    assert invalidated("POST", 201, here, response) == [here]
    found = invalidated("POST", 201, here, response, also_ours=["https://a.example"])
    assert found == [here, Resource("http", "a.example", "/users/7")]


def test_an_origin_is_scheme_host_and_port() -> None:
    """RFC 9110, section 4.3.1."""
    assert origin(Resource("HTTPS", "A.example.:443", "/")) == "https://a.example"
    assert origin(Resource("http", "a.example:443", "/")) == "http://a.example:443"


@given(st.binary(max_size=40), st.sampled_from(["/", "//x", "/a/../b", "/a?b#c", "*", ""]))
def test_whatever_is_named_belongs_to_the_origin(value: bytes, target: str) -> None:
    """And nothing is raised."""
    here = Resource("https", "a.example", target)
    for each in invalidated("POST", 200, here, [(b"Location", value)]):
        assert (each.scheme, each.host) == ("https", "a.example")
