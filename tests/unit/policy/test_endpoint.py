"""policy.endpoint: server and listening addresses as people write them."""

import pytest

from holdfast.policy.endpoint import Endpoint, parse_endpoint, parse_listen


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("http://127.0.0.1:3000", Endpoint("http", "127.0.0.1", 3000)),
        ("http://backend/", Endpoint("http", "backend", 80)),
        ("https://backend.example", Endpoint("https", "backend.example", 443)),
        ("http://[::1]:8000", Endpoint("http", "::1", 8000)),
    ],
)
def test_a_server_address(text: str, endpoint: Endpoint) -> None:
    """The default port follows the scheme."""
    assert parse_endpoint(text) == endpoint
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:3000",
        "ftp://a",
        "http://",
        "http://a/path",
        "http://a?x",
        "http://u:p@a",
        "http://a:0",
        "http://a:99999",
    ],
)
def test_what_is_no_server_address_is_refused_with_an_example(text: str) -> None:
    """The message says what to write."""
    with pytest.raises(ValueError, match="write it like"):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:9900", ("::1", 9900)),
    ],
)
def test_a_listening_address(text: str, address: tuple[str, int]) -> None:
    """The host may be left out, and is loopback then."""
    assert parse_listen(text) == address


@pytest.mark.parametrize("text", ["", "host", "a:b", "1.2.3.4:70000", "::1:80", "a:-1"])
def test_what_is_no_listening_address_is_refused(text: str) -> None:
    """With an example of one."""
    with pytest.raises(ValueError, match="like"):
        parse_listen(text)
