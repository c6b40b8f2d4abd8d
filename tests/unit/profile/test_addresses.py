"""The rules for addresses."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.profile.addresses import check_listen, check_method, check_path, check_server, is_loopback


@pytest.mark.parametrize("text", ["127.0.0.1:8080", "8080", "0.0.0.0:0", "[::1]:8080", "localhost:80", "gw.example:1"])
def test_addresses_to_listen_on_are_taken(text):
    """`[HOST:]PORT`."""
    check_listen(text)


@pytest.mark.parametrize("text", ["", "host", "host:", "a b:80", "::1:80", "1.2.3.4:70000", "[x]:80", "http://h:80"])
def test_what_is_no_address_is_refused(text):
    """The message says what to write."""
    with pytest.raises(ValueError, match="write HOST:PORT"):
        check_listen(text)


@pytest.mark.parametrize(
    ("listen", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("9900", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example:1", False),
    ],
)
def test_a_listener_that_others_can_reach_is_recognised(listen, loopback):
    """What decides whether a token is needed."""
    assert is_loopback(listen) is loopback


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:3000", "https://backend.example", "http://h:80/", "http://[::1]:3000", "http://my_app:1"]
)
def test_base_urls_of_servers_are_taken(text):
    """Scheme, host, maybe a port."""
    check_server(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("127.0.0.1:3000", "not a server's base URL"),
        ("ftp://h", "not a server's base URL"),
        ("http://", "not a server's base URL"),
        ("http://h:99999", "not a server's base URL"),
        ("http://h:0", "not a server's base URL"),
        ("http://h:", "not a server's base URL"),
        ("http://[::1", "not a server's base URL"),
        ("http://a b", "not a server's base URL"),
        ("http://h\n", "not a server's base URL"),
        ("http://h/api", "has a path"),
        ("http://h?", "has a path, a query"),
        ("http://h/#x", "has a path, a query or a fragment"),
        ("http://user:hunter2@h", "holds credentials"),
    ],
)
def test_what_is_no_base_url_is_refused_without_repeating_it(text, message):
    """Credentials in a URL must not reach a log."""
    with pytest.raises(ValueError, match=message) as caught:
        check_server(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("rule", "text"), [(check_method, "get"), (check_method, ""), (check_path, "health")])
def test_methods_are_upper_case_and_paths_begin_with_a_slash(rule, text):
    """RFC 9110, section 9.1: methods are case-sensitive."""
    with pytest.raises(ValueError, match="is not a"):
        rule(text)


@given(st.text(), st.sampled_from([check_listen, check_server, check_method, check_path]))
def test_no_text_raises_anything_but_value_error(text, rule):
    """The rules are shown whatever a file holds."""
    with suppress(ValueError):
        rule(text)
