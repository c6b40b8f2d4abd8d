"""speed: what makes mitmproxy faster is left out where it does not fit, or where somebody asks for that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from mitmproxy.addonmanager import AddonManager
from mitmproxy.master import Master
from mitmproxy.options import Options

from holdfast.engine import speed
from holdfast.errors import HoldfastError


def is_stock(master: Master) -> bool:
    stock: Callable[..., Any] = AddonManager.trigger_event
    return getattr(master.addons.trigger_event, "__func__", None) is stock


async def test_every_part_fits_the_installed_mitmproxy() -> None:
    """And is put onto it."""
    master = Master(Options())
    assert speed.make_fast(master, {}) == [name for name, _, _ in speed.PARTS]
    assert not is_stock(master)


async def test_the_plain_engine_has_none_of_them() -> None:
    """`HOLDFAST_ENGINE=plain`."""
    master = Master(Options())
    assert speed.make_fast(master, {"HOLDFAST_ENGINE": "plain"}) == []
    assert is_stock(master)


async def test_a_mode_that_there_is_not_is_refused() -> None:
    """With what to write instead."""
    with pytest.raises(HoldfastError, match="HOLDFAST_ENGINE=slow: write `plain`"):
        speed.make_fast(Master(Options()), {"HOLDFAST_ENGINE": "slow"})


async def test_a_part_that_does_not_fit_is_left_out_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The gateway is slower, and works."""

    async def other(self: AddonManager, event: object, more: object) -> None: ...

    parts = tuple(
        (name, put, tuple((other if f is AddonManager.trigger_event else f, p) for f, p in expected))
        for name, put, expected in speed.PARTS
    )
    monkeypatch.setattr(speed, "PARTS", parts)
    master = Master(Options())
    with caplog.at_level(logging.WARNING):
        assert "events by a table" not in speed.make_fast(master, {})
    assert is_stock(master)
    assert "does not fit" in caplog.text
