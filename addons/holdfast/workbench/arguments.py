"""The types of the commands' arguments: what mitmproxy shows of them, and completes."""

from __future__ import annotations


class CaptureId(str):
    """Of a capture."""


class CaptureFilter(str):
    """NAME=VALUE."""


class ServerName(str):
    """As the profile and /health have it."""


class Sending(str):
    """`edit` or `send`."""
