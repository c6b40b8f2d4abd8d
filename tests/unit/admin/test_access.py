"""admin.access: who may call the control surface."""

import pytest
from tornado.httputil import HTTPHeaders

from holdfast.admin.access import refusal


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        ("s3cret", 401),
        ("Bearer s3cret", None),
        ("Bearer s3cret!", 401),
        ("bearer s3cret", 401),
    ],
)
def test_with_a_token_only_the_token_opens(given: str | None, status: int | None) -> None:
    """RFC 6750, section 2.1."""
    headers = HTTPHeaders({"Host": "anything"} | ({"Authorization": given} if given else {}))
    refused = refusal("s3cret", "GET", headers)
    assert (refused[0] if refused else None) == status


def test_a_token_outside_ascii_is_compared_too() -> None:
    """compare_digest refuses text that is not ASCII; bytes are fine."""
    assert refusal("gehéim", "GET", HTTPHeaders({"Authorization": "Bearer gehéim"})) is None


@pytest.mark.parametrize(
    ("method", "fields", "status"),
    [
        ("GET", {"Host": "127.0.0.1:9900"}, None),
        ("GET", {"Host": "localhost"}, None),
        ("GET", {"Host": "[::1]:9900"}, None),
        ("GET", {"Host": "evil.example:9900"}, 403),
        ("GET", {}, 403),
        ("POST", {"Host": "localhost:9900"}, None),
        ("POST", {"Host": "localhost:9900", "Origin": "http://evil.example"}, 403),
    ],
)
def test_without_a_token_a_web_page_cannot_reach_it(method: str, fields: dict[str, str], status: int | None) -> None:
    """DNS rebinding shows in Host, a cross-site request in Origin."""
    refused = refusal("", method, HTTPHeaders(fields))
    assert (refused[0] if refused else None) == status
