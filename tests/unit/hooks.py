"""Hooks that are called by hand."""

from __future__ import annotations

from collections.abc import Awaitable


async def finished(rest: Awaitable[None] | None) -> None:
    """A hook that is no `async def` gives back None, or what is left to wait for."""
    if rest is not None:
        await rest
