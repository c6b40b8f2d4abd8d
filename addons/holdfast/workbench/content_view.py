"""Captures and messages of Kafka, readably, wherever mitmproxy shows a body: `policy.capture_text` says how."""

from __future__ import annotations

from mitmproxy.contentviews import Contentview, Metadata, SyntaxHighlight

from holdfast.policy.capture_text import capture_text, looks_like_one

_ABOVE_ALL = 10.0  # mitmproxy's own views of JSON say 1 or 2


class CaptureView(Contentview):
    """Chosen by itself for a body with a capture in it."""

    @property
    def name(self) -> str:
        """In the menu."""
        return "Holdfast capture"

    @property
    def syntax_highlight(self) -> SyntaxHighlight:
        """None: it is made for people already."""
        return "none"

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        """ValueError for what is none."""
        return capture_text(data).replace("\n\n", "\n \n")  # mitmweb leaves empty lines out

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """Asked for every body that is shown."""
        if not looks_like_one(data):
            return -1.0
        try:
            capture_text(data)
        except ValueError:
            return -1.0
        return _ABOVE_ALL
