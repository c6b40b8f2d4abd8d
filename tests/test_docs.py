"""What README and CONTRIBUTING show is run: the profile, the addon, its test."""

import re
import sys
import types
from pathlib import Path

import pytest

from holdfast.commands.check import chain_text
from holdfast.live import Live
from holdfast.profile.load import load_profile
from holdfast.profile.settings import Profile
from holdfast.recordings.form import read_form
from holdfast.workbench.commands import Workbench

ROOT = Path(__file__).resolve().parent.parent


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of this language, without the indentation of a list."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


@pytest.fixture
def mypackage(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """CONTRIBUTING's addon, where its profile and its test look for it."""
    package, module = types.ModuleType("mypackage"), types.ModuleType("mypackage.addons")
    exec(compile(blocks("CONTRIBUTING.md", "python")[0], "CONTRIBUTING.md", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "mypackage", package)
    monkeypatch.setitem(sys.modules, "mypackage.addons", module)
    return module


def loaded(folder: Path, block: str) -> Profile:
    """The profile of this block, copied as it stands."""
    file = folder / "my-profile.yaml"
    file.write_text(block)
    return load_profile(str(file))


def test_the_profiles_of_the_documents_load(tmp_path: Path) -> None:
    """Copied as it stands."""
    found = blocks("README.md", "yaml") + blocks("docs/protocols.md", "yaml")
    assert len(found) == 4
    for block in found:
        assert "interceptor" in chain_text(loaded(tmp_path, block))


def test_the_profile_of_store_and_forward_loads(tmp_path: Path) -> None:
    """With what its page says of the keys."""
    (block,) = blocks("docs/store-and-forward.md", "yaml")
    routes = next(e for e in loaded(tmp_path, block).addons if e.name == "interceptor").settings.routes
    assert (routes["webhooks"].mode, routes["orders"].order) == ("always", True)


def test_the_profile_and_the_recording_of_the_understudy_are_read(tmp_path: Path) -> None:
    """Copied as they stand; but for the `written` of a file that has more fields, it is what the page shows."""
    made, shown = blocks("docs/understudy.md", "yaml")
    assert loaded(tmp_path, made).addons[-1].name == "understudy"
    recording = read_form(shown.encode()).recording
    assert (recording.request, recording.status) == ("GET /api/users/1", 200)
    assert recording.body.startswith(b'{\n  "id": 1,')


def test_the_profile_of_faults_loads(tmp_path: Path) -> None:
    """With the rules that its page talks of."""
    (block,) = blocks("docs/faults.md", "yaml")
    settings = next(e for e in loaded(tmp_path, block).addons if e.name == "faults").settings
    assert [(rule.name, rule.at) for rule in settings.rules] == [("flaky", "upstream"), ("late", "client")]


def test_the_contributors_addon_loads_by_its_profile(tmp_path: Path, mypackage: types.ModuleType) -> None:
    """Step two."""
    (block,) = blocks("CONTRIBUTING.md", "yaml")
    file = tmp_path / "my-profile.yaml"
    file.write_text(block)
    assert load_profile(str(file)).addons[-1].name == "Polite"


def test_the_contributors_test_passes(mypackage: types.ModuleType) -> None:
    """Step four; its assertions run here."""
    block = blocks("CONTRIBUTING.md", "python")[1]
    assert block.count("assert") >= 2
    scope: dict[str, object] = {}
    exec(compile(block, "CONTRIBUTING.md", "exec"), scope)
    tests = [value for name, value in scope.items() if name.startswith("test_") and callable(value)]
    assert len(tests) == 1
    tests[0]()


PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "profiles/README.md"]
PAGES += [f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_somewhere(page: str) -> None:
    """Relative links only; the others are not ours."""
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in t]
    missing = [t for t in targets if not ((ROOT / page).parent / t).exists()]
    assert missing == []


def test_the_commands_of_the_page_on_debugging_are_all_there_are() -> None:
    """As mitmproxy collects them."""
    shown = {
        line.split()[0]
        for block in blocks("docs/debugging.md", "")
        for line in block.splitlines()
        if "." in line.split()[0]
    }
    addons = (Workbench, Live)
    known = {
        member.command_name for addon in addons for member in vars(addon).values() if hasattr(member, "command_name")
    }
    assert shown == known
