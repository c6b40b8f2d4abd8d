"""`holdfast check PROFILE --test` in this process: what is chosen, what is told, the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from holdfast.cli import main
from tests.test_docs import blocks

TESTS = """\
version: 1
extends: sidecar
tests:
  - name: a POST is kept
    request: {method: POST, path: /api/users, json: {a: 1}}
    upstream: 503
    expect: {status: 503, captured: {error: http_503}}
  - name: a GET is tried again
    request: GET /api/users
    upstream: [503, 200]
    expect: {status: 201}
"""
USAGE = [
    (
        ["my.yaml", "--test", "PUT"],
        "no test whose name fits 'PUT'; there are\n  a POST is kept\n  a GET is tried again",
    ),
    (
        ["none.yaml", "--test"],
        "none.yaml has no tests: write them under `tests:`; those of sidecar are played with --inh",
    ),
    (["minimal", "--test", "my.yaml"], "did you mean `holdfast check my.yaml --test`?"),
    (["my.yaml", "--junit", "x"], "add --test"),
    (["my.yaml", "--inherited"], "add --test"),
    (["wrong.yaml", "--test"], "wrong.yaml:6: tests[0].upstream: expected a whole number from 200 to 599 or one of "),
    (["wrong.yaml"], "wrong.yaml:6: tests[0].upstream: expected a whole number from 200 to 599 or one of "),
]


@pytest.fixture(autouse=True)
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder where the command is called."""
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text(TESTS)
    Path("wrong.yaml").write_text(TESTS.replace("upstream: 503", "upstream: 5003"))
    Path("none.yaml").write_text("version: 1\nextends: sidecar\n")


@pytest.mark.parametrize(
    ("words", "message"), USAGE, ids=lambda part: part if isinstance(part, str) else " ".join(part)
)
def test_what_cannot_be_played_is_a_usage_fault(capsys, words, message):
    """A check that checks nothing must not look like a success; a fault in a test is one for a plain check, too."""
    assert main(["check", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_a_pattern_chooses_and_json_tells_programs(capsys):
    """By a part of the name, in whatever case; the exit code is that of the chosen ones."""
    assert main(["check", "my.yaml", "--test", "post*KEPT", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["profile"], told["ok"], told["failed"]) == ("my.yaml", 1, 0)
    assert [(t["name"], t["ok"], t["line"], t["misses"]) for t in told["tests"]] == [("a POST is kept", True, 4, [])]
    assert main(["check", "my.yaml", "--test", "again", "--json"]) == 1
    (test,) = json.loads(capsys.readouterr().out)["tests"]
    (miss,) = test["misses"]
    where = {"file": "my.yaml", "line": 11, "step": 1, "path": "expect.status"}
    assert miss == where | {"expected": "201", "got": "200"}
    assert any("fate=retried" in line for line in test["log"])


def test_a_report_that_cannot_be_written_is_told(capsys):
    """After the tests, which have been played."""
    assert main(["check", "my.yaml", "--test", "kept", "--junit", "nowhere/out.xml"]) == 1
    assert capsys.readouterr().err == "holdfast: nowhere/out.xml cannot be written: No such file or directory\n"


def test_inherited_tests_are_played_on_demand(capsys):
    """Of all that the profile extends."""
    assert main(["check", "none.yaml", "--test", "passed on", "--inherited"]) == 0
    assert capsys.readouterr().out.startswith("ok      an answer of the application's own is passed on (")


def test_a_plain_check_says_that_there_are_tests(capsys):
    """And how to play them; the resolved profile has nothing of them, as the gateway has nothing of them."""
    assert main(["check", "my.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "tests     2 (holdfast check my.yaml --test)"
    assert main(["check", "my.yaml", "--json"]) == 0
    assert "tests" not in json.loads(capsys.readouterr().out)


def test_what_the_page_about_tests_shows_holds(capsys):
    """As it stands there."""
    pages = blocks("docs/profile-tests.md", "yaml")
    assert len(pages) == 2
    for text in pages:
        Path("page.yaml").write_text(text)
        assert main(["check", "page.yaml", "--test"]) == 0, capsys.readouterr().out
