"""policy.hop_by_hop: what belongs to one connection is not passed on."""

import pytest

from holdfast.policy.hop_by_hop import Fields, asks_for_upgrade, binds, end_to_end


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ([(b"Connection", b"close, X-Hop"), (b"X-Hop", b"1"), (b"X-End", b"2")], [(b"X-End", b"2")]),
        ([(b"Keep-Alive", b"timeout=1"), (b"Proxy-Connection", b"keep-alive")], []),
        ([(b"Upgrade", b"h2c"), (b"Accept", b"*/*")], [(b"Accept", b"*/*")]),
        ([(b"TE", b"trailers")], [(b"TE", b"trailers")]),
        ([(b"te", b"gzip")], []),
        (
            [(b"Connection", b"content-length, Transfer-Encoding, host"), (b"Content-Length", b"1"), (b"Host", b"a")],
            [(b"Content-Length", b"1"), (b"Host", b"a")],
        ),
    ],
)
def test_fields_of_the_connection_end_here(fields: Fields, kept: Fields) -> None:
    """RFC 9110, section 7.6.1; framing cannot be talked away."""
    assert end_to_end(fields) == kept


def test_without_such_fields_nothing_is_copied() -> None:
    """The usual case costs one look."""
    fields = [(b"Accept", b"*/*")]
    assert end_to_end(fields) is fields


def test_an_upgrade_passes() -> None:
    """WebSocket: RFC 6455, section 4.1."""
    fields = [(b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"websocket"), (b"Keep-Alive", b"1")]
    assert asks_for_upgrade(fields)
    assert end_to_end(fields, upgrading=True) == [(b"Upgrade", b"websocket"), (b"Connection", b"upgrade")]
    assert not asks_for_upgrade([(b"Upgrade", b"websocket")])


@pytest.mark.parametrize("protocols", [b"h2c", b"H2C", b"websocket, h2c"])
def test_nobody_is_switched_to_h2c(protocols: bytes) -> None:
    """RFC 9113, section 3.1: obsolete, and a way past the gateway."""
    fields = [(b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", protocols), (b"HTTP2-Settings", b"AAMAAABk")]
    assert not asks_for_upgrade(fields)
    assert end_to_end(fields) == []


@pytest.mark.parametrize(
    ("field", "bound"),
    [
        ((b"Authorization", b"NTLM TlRMTVNTUAAB"), True),
        ((b"authorization", b"negotiate YII="), True),
        ((b"WWW-Authenticate", b"Basic realm=x, Negotiate"), True),
        ((b"Authorization", b"Bearer abc"), False),
        ((b"X-Authorizatio", b"ntlm"), False),
    ],
)
def test_who_is_authenticated_on_the_connection_has_it_alone(field: tuple[bytes, bytes], bound: bool) -> None:
    """NTLM and Negotiate mean everything that follows on the connection."""
    assert binds([(b"Accept", b"*/*"), field]) is bound
