"""chain: a profile's addons are made, wired and ordered; what is no addon is refused."""

import sys
import types
from pathlib import Path

import pytest

from holdfast.chain import build_chain
from holdfast.errors import ProfileError
from holdfast.failure_sink import FailureSink
from holdfast.guard import Guard
from holdfast.profile.load import load_profile


def profile_with(tmp_path: Path, addons: str) -> Path:
    file = tmp_path / "p.yaml"
    file.write_text(f"version: 1\naddons: {addons}\n")
    return file


async def test_the_chain_is_in_the_profiles_order_between_its_fixed_ends(tmp_path: Path) -> None:
    """Upstream leg, intake and status page first; access log, fast lane, commands, admin and gate last."""
    file = profile_with(tmp_path, "[{failure_sink: {outbox: x.db}}, metrics, interceptor]")
    chain = build_chain(load_profile(str(file)))
    names = [str(getattr(addon, "name", "")) for addon in chain.addons]
    assert names[:3] == ["holdfast-upstream", "holdfast-intake", "holdfast-status"]
    assert names[3:-5] == ["failure_sink", "metrics", "interceptor"]
    assert names[-5:-3] == ["holdfast-accesslog", "holdfast-lane"]
    assert names[-3:] == ["holdfast-workbench", "holdfast-admin", "holdfast-gate"]
    sinks = [a.inner for a in chain.addons if isinstance(a, Guard) and isinstance(a.inner, FailureSink)]
    assert [chain.gateway.sink] == sinks


@pytest.mark.parametrize("what", ["number", "function", "Empty"])
async def test_what_has_no_hook_is_no_addon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A typing error in `use:` must not end as an addon that does nothing."""
    module = types.ModuleType("some_module")
    module.number = 42  # type: ignore[attr-defined]
    module.function = lambda: None  # type: ignore[attr-defined]
    module.Empty = type("Empty", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_module", module)
    file = profile_with(tmp_path, f"[{{use: 'some_module:{what}'}}]")
    with pytest.raises(ProfileError, match=r"p\.yaml:2: .*is no addon"):
        build_chain(load_profile(str(file)))
