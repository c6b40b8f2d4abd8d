"""Chunked bodies, in whatever pieces they come; and what is none."""

from __future__ import annotations

from itertools import pairwise

import pytest
from h11 import Data, EndOfMessage, LocalProtocolError, RemoteProtocolError
from h11._receivebuffer import ReceiveBuffer
from hypothesis import given
from hypothesis import strategies as st

from holdfast.engine.chunks import MAX_LINE, MAX_TRAILER, Chunks


def read(pieces: list[bytes]) -> tuple[bytes, bool, bytes]:
    """The body, whether it came to its end, and what is left behind it."""
    reader, buffer, body = Chunks(), ReceiveBuffer(), b""
    for piece in pieces:
        buffer += piece
        while (event := reader(buffer)) is not None:
            if isinstance(event, EndOfMessage):
                return body, True, bytes(buffer)
            assert isinstance(event, Data)
            body += bytes(event.data)
    return body, False, bytes(buffer)


@given(
    chunks=st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.sampled_from([b"", b";a", b' ; a="b"', b" "]))),
    trailers=st.lists(st.sampled_from([b"X: y\r\n", b"Content-Length: 3\r\n", b"X:\r\n"]), max_size=3),
    cuts=st.lists(st.integers(0, 400)),
)
def test_a_body_is_the_same_in_whatever_pieces_it_comes(
    chunks: list[tuple[bytes, bytes]], trailers: list[bytes], cuts: list[int]
) -> None:
    """RFC 9112, section 7.1; what follows it is the next request's."""
    wire = b"".join(b"%X%b\r\n%b\r\n" % (len(data), extension, data) for data, extension in chunks)
    wire += b"0\r\n" + b"".join(trailers) + b"\r\nGET"
    places = sorted({0, len(wire), *(cut % len(wire) for cut in cuts)})
    pieces = [wire[one:other] for one, other in pairwise(places)]
    body, whole, rest = read(pieces)
    assert (body, whole) == (b"".join(data for data, _ in chunks), True)
    assert b"GET".startswith(rest)


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"g\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1\n",
        b"1;a\nb\r\n",
        b"1;a\rb\r\n",
        b"f" * 16 + b"\r\n",
        b"1\r\nab",
        b"1\r\na\r0",
        b"1\r\na\n",
        b"0\r\nX\r\n",
        b"0\r\n X: y\r\n",
        b"0\r\nX: y\n\r\n",
        b"1;" + b"a" * MAX_LINE + b"\r\n",
        b"1;" + b"a" * MAX_LINE,
        b"0\r\n" + b"X: y\r\n" * (MAX_TRAILER // 6 + 1),
    ],
    ids=lambda wire: str(wire[:20]),
)
def test_what_is_no_chunk_is_refused(wire: bytes) -> None:
    """As soon as that can be seen, and before it grows."""
    with pytest.raises(LocalProtocolError):
        read([wire, b"\r\n\r\n"])


def test_small_chunks_that_have_come_together_are_handed_over_together() -> None:
    """A body of single bytes is not a thousand events."""
    buffer = ReceiveBuffer()
    buffer += b"1\r\na\r\n" * 1000
    event = Chunks()(buffer)
    assert isinstance(event, Data)
    assert bytes(event.data) == b"a" * 1000


def test_a_connection_that_ends_leaves_no_whole_body() -> None:
    """RFC 9112, section 8."""
    with pytest.raises(RemoteProtocolError):
        Chunks().read_eof()
