"""The rules of the house as assertions: what may import what, how long things may be, that everything is explained."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import shlex
import statistics
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Meta, Struct

from holdfast.cli import parser
from holdfast.profile.load import load_profile
from holdfast.profile.shipped import shipped_profiles
from holdfast.registry import BUILT_IN

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "addons" / "holdfast"
MODULES = sorted(PACKAGE.rglob("*.py"))
TEST_FILES = sorted((ROOT / "tests").rglob("test_*.py"))

# The clock, the dice, the disk and the wire are handed in: that is what makes a rule testable in microseconds.
NOT_IN_POLICY = {
    *("mitmproxy", "redis", "confluent_kafka", "apsw", "tornado", "prometheus_client", "yaml", "psycopg"),
    *("asyncio", "logging", "time", "random", "secrets", "os", "io", "pathlib", "socket", "threading", "subprocess"),
}
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "manager", "managers", "common", "misc"}
LONGEST_FILE, LONGEST_FUNCTION, MEDIAN_FUNCTION = 450, 60, 10


def name_of(file: Path) -> str:
    """The dotted module name of a file of the package."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports_of(file: Path) -> set[str]:
    """Every module a file imports, wherever in it; `from a import b` counts as a and a.b, since b may be a module."""
    found: set[str] = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative imports hide where something comes from"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def is_within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def functions_of(file: Path) -> Iterator[tuple[str, int]]:
    """(where, lines from `def` to the end) of every function of a file."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1


def each(files: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", files, ids=lambda file: str(file.relative_to(ROOT)))


# --- what may import what ---


@each(sorted((PACKAGE / "policy").rglob("*.py")))
def test_policy_is_pure(file: Path) -> None:
    """policy/ knows neither mitmproxy nor a store, nor the clock, nor the dice."""
    imported = imports_of(file)
    assert not {module for module in imported if module.split(".")[0] in NOT_IN_POLICY}
    ours = {module for module in imported if is_within(module, "holdfast")}
    assert not {module for module in ours if not is_within(module, "holdfast.policy", "holdfast.errors")}


@each(MODULES)
def test_only_the_engine_touches_the_internals_of_mitmproxy(file: Path) -> None:
    """A new mitmproxy is checked, and fallen back from, in one place."""
    if file.is_relative_to(PACKAGE / "engine"):
        return
    assert not {module for module in imports_of(file) if is_within(module, "mitmproxy.proxy")}


@each([file for part in ("stores", "brokers", "outbox") for file in sorted((PACKAGE / part).rglob("*.py"))])
def test_what_stores_does_not_know_who_uses_it(file: Path) -> None:
    """Stores, brokers and outbox implement Protocols; they import no addon, and nothing above the addons."""
    above = [f"holdfast.{part}" for part in ("cli", "commands", "chain", "gateway", "admin", "engine", "registry")]
    addons = [module for module, _ in BUILT_IN.values()]
    assert not {module for module in imports_of(file) if is_within(module, *above, *addons)}


def test_importing_the_package_imports_nothing() -> None:
    """`import holdfast` is free, and has no side effects to be had by accident."""
    assert imports_of(PACKAGE / "__init__.py") <= {"__future__", "__future__.annotations"}


# --- names and sizes ---


@each(MODULES)
def test_a_module_says_by_its_name_what_it_is_about(file: Path) -> None:
    """Not by the name of a module of the standard library, nor by one that would fit anything."""
    # `profile` is the word of the contract and of every user; the standard library's is a profiler nobody imports here.
    names = set(name_of(file).split(".")[1:]) - {"profile"}
    assert not names & (sys.stdlib_module_names - {"__main__"})
    assert not names & EMPTY_NAMES


@each([*MODULES, *TEST_FILES])
def test_no_file_is_too_long(file: Path) -> None:
    """Near 150 lines is the aim; this is where it has to be split."""
    assert len(file.read_text(encoding="utf-8").splitlines()) < LONGEST_FILE


@each([*MODULES, *TEST_FILES])
def test_no_function_is_too_long(file: Path) -> None:
    """60 lines, the signature and the docstring included."""
    assert not [(where, lines) for where, lines in functions_of(file) if lines > LONGEST_FUNCTION]


def test_most_functions_are_short() -> None:
    """The median is below ten lines."""
    assert statistics.median(lines for file in MODULES for _, lines in functions_of(file)) < MEDIAN_FUNCTION


# --- everything is explained ---


@each(MODULES)
def test_every_module_and_public_class_has_a_docstring(file: Path) -> None:
    """A reader gets the purpose before the code."""
    tree = tree_of(file)
    assert ast.get_docstring(tree), "the module has none"
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    assert not [node.name for node in classes if not ast.get_docstring(node)]


def settings_classes() -> list[type[Struct]]:
    """Every settings class of the package, found by its name in the source."""
    found = []
    for file in MODULES:
        if "Settings(Struct" in file.read_text(encoding="utf-8"):
            module = importlib.import_module(name_of(file))
            members = vars(module).values()
            found += [
                c for c in members if inspect.isclass(c) and issubclass(c, Struct) and c.__module__ == module.__name__
            ]
    return [c for c in found if c.__name__.endswith(("Settings", "Profile"))]


@pytest.mark.parametrize("settings", settings_classes(), ids=lambda settings: settings.__name__)
def test_every_setting_says_what_it_means(settings: type[Struct]) -> None:
    """The profile reference is made from these lines, and from nothing else."""
    hints = typing.get_type_hints(settings, include_extras=True)
    filled_in_by_the_loader = {"source"} if settings.__name__ == "Profile" else set()
    described = {
        name
        for name, hint in hints.items()
        if any(isinstance(extra, Meta) and extra.description for extra in getattr(hint, "__metadata__", ()))
    }
    assert set(hints) - described - filled_in_by_the_loader == set()


@pytest.mark.parametrize("settings", settings_classes(), ids=lambda settings: settings.__name__)
def test_settings_cannot_be_changed_and_refuse_what_they_do_not_know(settings: type[Struct]) -> None:
    """A misspelt key is a fault, and what was checked stays as it was checked."""
    config = settings.__struct_config__
    assert config.frozen
    assert config.forbid_unknown_fields


@pytest.mark.parametrize("addon", BUILT_IN)
def test_every_built_in_addon_explains_itself(addon: str) -> None:
    """Its module says what the operator gets, its class has settings of its own, and the README names it."""
    module, attribute = BUILT_IN[addon]
    found = importlib.import_module(module)
    assert inspect.getdoc(found)
    assert inspect.getdoc(getattr(found, attribute))
    assert f"`{addon}`" in (ROOT / "README.md").read_text(encoding="utf-8")


@each(TEST_FILES)
def test_every_test_names_the_rule_it_is_about(file: Path) -> None:
    """One line under the name: the rule, the promise or the section of the RFC."""
    tests = [
        node
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    assert not [f"{node.name}, line {node.lineno}" for node in tests if not ast.get_docstring(node)]


# --- what is promised outside the code ---


@pytest.mark.parametrize("name", [name for name, _ in shipped_profiles()])
def test_a_shipped_profile_loads(name: str) -> None:
    """Each is usable as it is, given at most the address of a broker, and tells its story in its first line."""
    assert load_profile(name, env={"KAFKA_URL": "kafka://127.0.0.1:9092"}).addons
    assert dict(shipped_profiles())[name]


def test_there_are_shipped_profiles_and_sidecar_is_one_of_them() -> None:
    """It is what `holdfast run` and `scripts/run` take when nothing else is said."""
    assert "sidecar" in dict(shipped_profiles())


def scripts() -> list[Path]:
    """What a person or a machine starts: every plain file of scripts/ without an ending, and .ci/run."""
    return [
        *(file for file in sorted((ROOT / "scripts").iterdir()) if file.is_file() and not file.suffix),
        ROOT / ".ci/run",
    ]


@each(TEST_FILES)
def test_what_a_test_chooses_at_random_can_be_repeated(file: Path) -> None:
    """By the fixture `seed`, and so by HOLDFAST_TEST_SEED, or by a number that stands in the test."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
            assert node.attr in ("Random", "seed"), f"line {node.lineno}: random.{node.attr}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "random.Random":
            assert node.args, f"line {node.lineno}: random.Random()"


@each(scripts())
def test_a_script_can_be_started(file: Path) -> None:
    """Executable, with an interpreter in its first line and what it does in the second."""
    assert os.access(file, os.X_OK)
    first, second = file.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith("#!/usr/bin/env ")
    assert second.startswith(("# ", '"""'))


def documented_commands() -> list[tuple[str, list[str]]]:
    """(file, words) of every `holdfast ...` line in a code block of the documentation."""
    files = [*ROOT.glob("*.md"), *(file for part in ("docs", "profiles") for file in (ROOT / part).rglob("*.md"))]
    found = []
    for file in sorted(files):
        blocks = re.findall(r"^```[a-z]*\n(.*?)^```", file.read_text(encoding="utf-8"), flags=re.S | re.M)
        for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
            command = re.match(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?holdfast ([a-z].*)", line.strip())
            if command:
                words = shlex.split(re.split(r"\s[|>&;]|\s#", command[1])[0], posix=False)
                found.append((str(file.relative_to(ROOT)), words))
    return found


@pytest.mark.parametrize(
    ("file", "words"), documented_commands(), ids=lambda part: part if isinstance(part, str) else " ".join(part)
)
def test_a_documented_command_exists(file: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each `holdfast` line of the documentation names a subcommand that there is, with options that it has."""
    words = words[: words.index("--")] if "--" in words else words
    path = [word for word in words[:2] if re.fullmatch("[a-z]+", word)]
    depth = 2 if words[0] in ("captures", "faults") else 1
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([*path[:depth], "--help"])
    assert ended.value.code == 0
    known = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", capsys.readouterr().out))
    options = {word.strip("[]").split("=")[0] for word in words if word.strip("[").startswith("-")}
    assert options <= known
