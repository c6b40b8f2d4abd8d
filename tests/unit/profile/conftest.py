"""What the profile tests share: stand-in addons in place of the built-in ones, and profiles written to a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from holdfast.errors import ProfileError
from holdfast.profile.load import load_profile
from holdfast.profile.settings import Profile
from tests.unit.profile import standins

Load = Callable[..., Profile]
Faults = Callable[..., list[str]]


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in addons are those of `standins`."""
    for module in ("holdfast.registry", "holdfast.profile.schema", "holdfast.profile.reference"):
        monkeypatch.setattr(f"{module}.BUILT_IN", standins.BUILT_IN)


@pytest.fixture
def load(tmp_path: Path, stand_ins: None) -> Load:
    """Loads a text as `p.yaml`; further files beside it by keyword, as in `base="version: 1"` for `base.yaml`."""

    def loaded(
        text: str, *, env: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None, **files: str
    ) -> Profile:
        for name, content in {"p": text, **files}.items():
            (tmp_path / f"{name}.yaml").write_text(content, encoding="utf-8")
        return load_profile(str(tmp_path / "p.yaml"), env=env or {}, overrides=overrides)

    return loaded


@pytest.fixture
def faults(load: Load, tmp_path: Path) -> Faults:
    """What is wrong with a profile, as `p.yaml:line: path: message`."""

    def found(text: str, **more: object) -> list[str]:
        with pytest.raises(ProfileError) as caught:
            load(text, **more)
        return [str(fault).replace(f"{tmp_path}/", "") for fault in caught.value.faults]

    return found
