"""Which addon has which name."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from holdfast import registry
from holdfast.registry import BUILT_IN, known_names, resolve, settings_class
from tests.unit.profile.standins import HERE, Banner, Router, RouterSettings, ready_made


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package's entry points, one of them under a name of ours."""
    group = registry.ENTRY_POINT_GROUP
    points = metadata.EntryPoints(
        [
            metadata.EntryPoint("banner", f"{HERE}:Banner", group),
            metadata.EntryPoint("metrics", f"{HERE}:Banner", group),
            metadata.EntryPoint("broken", f"{HERE}:Nothing", group),
        ]
    )
    monkeypatch.setattr(metadata, "entry_points", points.select)


@pytest.mark.parametrize("name", list(BUILT_IN))
def test_every_built_in_addon_has_settings_and_a_docstring(name):
    """What the profile reference is made from."""
    addon = resolve(name)
    settings = settings_class(addon)
    assert settings is not None
    assert settings.__doc__
    assert addon.__doc__


def test_an_addon_is_found_by_its_dotted_path():
    """Nested attributes too."""
    assert resolve(f"{HERE}:Banner") is Banner
    assert resolve(f"{HERE}:Router.Settings") is RouterSettings


@pytest.mark.usefixtures("announced")
def test_an_addon_is_found_by_its_entry_point():
    """The group `holdfast.addons`; a built-in name stays built in."""
    assert resolve("banner") is Banner
    assert resolve("metrics") is not Banner
    assert known_names() == [*BUILT_IN, "banner", "broken"]


def test_an_unknown_name_is_a_lookup_error():
    """The loader adds what was perhaps meant."""
    with pytest.raises(LookupError, match="there is no addon named 'metricz'"):
        resolve("metricz")


@pytest.mark.usefixtures("announced")
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere_at_all:X", "ModuleNotFoundError.*put its folder on PYTHONPATH"),
        (f"{HERE}:Nothing", "AttributeError"),
        ("broken", "AttributeError"),
        ("x:", "package.module:Class"),
        (":x", "package.module:Class"),
    ],
)
def test_what_cannot_be_imported_is_an_import_error_with_its_cause(target, message):
    """The operator sees why."""
    with pytest.raises(ImportError, match=message) as caught:
        resolve(target)
    assert caught.value.__cause__ is not None


def test_a_module_that_exits_on_import_does_not_end_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A script given in place of a module."""
    (tmp_path / "leaving_at_once.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="SystemExit: 3"):
        resolve("leaving_at_once:X")


def test_only_a_class_with_a_struct_of_settings_has_its_settings_checked():
    """Anybody may have an attribute of that name."""

    class Odd:
        Settings = "mine"

    assert settings_class(Router) is RouterSettings
    assert settings_class(Banner) is None
    assert settings_class(Odd) is None
    assert settings_class(ready_made) is None


def test_nothing_is_imported_before_it_is_asked_for():
    """A profile pays only for what it names."""
    code = (
        "import sys, holdfast.registry, holdfast.profile.load; "
        "print([m for m in sys.modules if m.startswith(('mitmproxy', 'confluent', 'holdfast.metrics'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_path())
    assert result.stdout.strip() == "[]"


def _path() -> dict[str, str]:
    return {"PYTHONPATH": str(Path(registry.__file__).parents[1])}
