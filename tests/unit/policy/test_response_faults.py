"""The rules for a response's header: what is refused, what is mended, and which 101 is wanted."""

import pytest

from holdfast.policy.response_faults import grants_what_was_asked, mended, response_fault

OK = b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    "lines",
    [
        [OK],
        [b"HTTP/1.0 404"],
        [b"HTTP/1.1 200 "],
        [b"HTTP/1.1 999 caf\xe9"],
        [OK, b"X: a", b"  b"],
        [OK, b"X : \x01"],
    ],
)
def test_what_can_be_borne_with(lines: list[bytes]) -> None:
    """Servers have sent it for decades."""
    assert response_fault(lines) is None


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"HTTP/2.0 200 OK"],
        [b"HTTP/1.1  200 OK"],
        [b"HTTP/1.1 20 OK"],
        [b"HTTP/1.1 2000"],
        [b"HTTP/1.1 099 OK"],
        [b"http/1.1 200 OK"],
        [b"HTTP/1.1 200 O\rK"],
        [OK, b"X: a\x00"],
        [OK, b"X: a\x0b"],
        [OK, b"nonsense"],
        [OK, b" "],
        [OK, b"\tno line before it", b"X: y"],
        [OK, *[b"X: y"] * 1001],
    ],
)
def test_what_is_no_response(lines: list[bytes]) -> None:
    """RFC 9112, section 4; RFC 9110, section 5.5."""
    assert response_fault(lines)


def test_folded_lines_are_joined_and_spaces_before_colons_go() -> None:
    """RFC 9112, sections 5.2 and 5.1."""
    lines = [OK, b"X: a ", b"\t b", b" ", b"Y \t: c"]
    assert mended(lines) == [OK, b"X: a b ", b"Y: c"]
    assert mended([OK, b" X: y"]) == [OK, b" X: y"]


@pytest.mark.parametrize(
    ("asked", "granted", "wanted"),
    [
        ("websocket", "WebSocket", True),
        ("a, b", "b", True),
        ("", "websocket", False),
        ("websocket", "", False),
        ("websocket", "websocket, h2c", False),
    ],
)
def test_a_protocol_is_switched_to_only_if_it_was_asked_for(asked: str, granted: str, wanted: bool) -> None:
    """RFC 9110, section 7.8."""
    assert grants_what_was_asked(asked, granted) is wanted
