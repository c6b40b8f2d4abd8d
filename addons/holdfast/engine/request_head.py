"""The header of a request as bytes: found whole in what has arrived, before anybody has parsed it."""

from __future__ import annotations

import re

from h11._receivebuffer import ReceiveBuffer, blank_line_regex

_EMPTY_LINES = re.compile(rb"(?:\r\n)+")


class HeadBuffer(ReceiveBuffer):
    """h11's buffer, which also gives out a header as it came: line by line it has lost how the lines ended."""

    def maybe_extract_head(self) -> bytes | None:
        """Up to and with the empty line; None until that is there. Empty lines before it go (RFC 9112, section 2.2)."""
        before = _EMPTY_LINES.match(self._data)
        if before:
            self._extract(before.end())
        found = blank_line_regex.search(self._data, self._multiple_lines_search)
        if found is None:
            self._multiple_lines_search = max(0, len(self._data) - 2)
            return None
        return bytes(self._extract(found.end()))

    @property
    def in_first_line(self) -> bool:
        """Whether the first line is not whole."""
        return self._data.find(b"\n") < 0

    @property
    def begins_oddly(self) -> bool:
        """Whether no request begins like this, and there is nothing to be waited for: TLS, for example."""
        return bytes(self._data[:1]) not in (b"", b"\r") and self.is_next_line_obviously_invalid_request_line()


def lines_of(head: bytes) -> list[bytes]:
    """As mitmproxy's parser wants them: without their ends, and without the empty one."""
    return head.split(b"\r\n")[:-2]
