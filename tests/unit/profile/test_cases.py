"""`tests:` in a profile: what is wrong with it is told like any other fault, and whose tests are played."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.errors import ProfileError
from holdfast.profile.cases import ReplySettings
from holdfast.profile.load import load_profile
from holdfast.source import ProfileSource

# (the test, as the only one of a profile that extends sidecar; "line: path" of its fault; a part of the message)
FAULTY = [
    ("name: x", "4: tests[0]", "does nothing: write a `request`, or `steps`"),
    ("request: GET /", "4: tests[0].name", "is missing"),
    ("3", "4: tests[0]", "expected a test, a mapping with the key name; found 3"),
    ("name: x\n    request: /", "5: tests[0].request", "write it like 'GET /api/users'"),
    ("name: x\n    request: GET users", "5: tests[0].request", "write it like 'GET /api/users'"),
    ("name: x\n    request: G ET /", "5: tests[0].request", "write it like 'GET /api/users'"),
    ("name: x\n    request: {path: a}", "5: tests[0].request.path", "begin with /"),
    ("name: x\n    request: {path: /a b}", "5: tests[0].request.path", "%20"),
    ("name: x\n    request: {method: GET}", "5: tests[0].request.path", "is missing"),
    ("name: x\n    request: {path: /, body: a, json: 1}", "5: tests[0].request", "has `body` and `json`"),
    ("name: x\n    request: {path: /, headers: {a b: c}}", "5: tests[0].request", "'a b' is no name of a header"),
    ('name: x\n    request: {path: /, headers: {a: "b\\nc"}}', "5: tests[0].request.headers.a", "do not fit there"),
    ("name: x\n    request: {path: /, headers: {a: \u20ac}}", "5: tests[0].request.headers.a", "do not fit there"),
    ("name: x\n    request: {path: /, headers: {Content-Length: 3}}", "5: tests[0].request", "made from the body"),
    ('name: "x\\ny"\n    request: GET /', "4: tests[0].name", "cannot be printed in a line"),
    ("name: x\n    request: GET /\n    upstream: []", "6: tests[0].upstream", "at least 1 entry"),
    ("name: x\n    request: GET /\n    servers: {1: []}", "6: tests[0].servers.1", "at least 1 entry"),
    ("name: x\n    request: GET /\n    wait: 1000d", "6: tests[0].wait", "at most"),
    ("name: x\n    request: GET /\n    upstream: reste", "6: tests[0].upstream", "did you mean 'reset'?"),
    ("name: x\n    request: GET /\n    upstream: [200, 99]", "6: tests[0].upstream[1]", "from 200 to 599"),
    ("name: x\n    request: GET /\n    upstream: {fail: boom}", "6: tests[0].upstream.fail", "one of refused, reset"),
    ("name: x\n    request: GET /\n    upstream: {times: 0}", "6: tests[0].upstream.times", "from 1 to 1000"),
    (
        "name: x\n    request: GET /\n    servers: {3: 200}",
        "6: tests[0].servers.3",
        "there are 1 (http://127.0.0.1:3000)",
    ),
    ("name: x\n    request: GET /\n    servers: {http://b: 200}", "6: tests[0].servers.http://b", "has no server"),
    ("name: x\n    request: GET /\n    expect: {staus: 200}", "6: tests[0].expect.staus", "did you mean 'status'?"),
    ("name: x\n    request: GET /\n    expect: {fate: lost}", "6: tests[0].expect.fate", "expected one of ok, retried"),
    ("name: x\n    request: GET /\n    expect: {cache: hit}", "6: tests[0].expect.cache", "has no addon cache"),
    ("name: x\n    request: GET /\n    purge: {all: true}", "6: tests[0].purge", "has no addon cache"),
    ("name: x\n    request: GET /\n    purge: {soft: true}", "6: tests[0].purge", "says nothing to purge"),
    (
        "name: x\n    request: GET /\n    expect: {body: {matches: '('}}",
        "6: tests[0].expect.body.matches",
        "is no regular expression",
    ),
    (
        "name: x\n    request: GET /\n    expect: {body: {present: false, equals: a}}",
        "6: tests[0].expect.body",
        "leaves nothing to compare",
    ),
    (
        "name: x\n    request: GET /\n    expect: {upstream: [{server: 2}]}",
        "6: tests[0].expect.upstream[0].server",
        "has no server '2'",
    ),
    ("name: x\n    request: GET /\n    wait: soon", "6: tests[0].wait", "is not a duration"),
    ("name: x\n    request: GET /\n    steps: [{wait: 1s}]", "4: tests[0]", "`request` stands beside `steps`"),
    (
        "name: x\n    steps:\n    - wait: 1s\n      expect: {status: 200}",
        "6: tests[0].steps[0]",
        "there is no `request`: only `delivered` needs none",
    ),
]


def written(folder: Path, text: str, name: str = "p") -> str:
    file = folder / f"{name}.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(("test", "where", "message"), FAULTY, ids=range(len(FAULTY)))
def test_a_test_that_is_written_wrong_is_a_fault_with_its_line(tmp_path, test, where, message):
    """As for every other key."""
    file = written(tmp_path, f"version: 1\nextends: sidecar\ntests:\n  - {test}\n")
    with pytest.raises(ProfileError) as caught:
        load_profile(file, env={}, tests="own")
    (fault,) = caught.value.faults
    assert str(fault).startswith(f"{file}:{where}: ")
    assert message in fault.message


def test_tests_are_a_list(tmp_path):
    """Of mappings."""
    file = written(tmp_path, "version: 1\ntests: {name: x}\n")
    with pytest.raises(ProfileError, match="expected a list of tests; found a mapping"):
        load_profile(file, env={}, tests="own")


def test_a_name_is_given_once(tmp_path):
    """A pattern on the command line, and a report, mean one test by it."""
    file = written(tmp_path, "version: 1\ntests:\n- {name: x, request: GET /}\n- {name: x, request: GET /}\n")
    with pytest.raises(ProfileError, match=r"p.yaml:4: tests\[1\].name: 'x' is the name of the test on line 3"):
        load_profile(file, env={}, tests="own")


def test_what_needs_captures_needs_the_addons_that_make_them(tmp_path):
    """Told before anything is played."""
    text = (
        "version: 1\nextends: minimal\ntests: [{name: x, request: GET /, expect: {captured: true, delivered: true}}]\n"
    )
    with pytest.raises(ProfileError) as caught:
        load_profile(written(tmp_path, text), env={}, tests="own")
    assert [fault.message for fault in caught.value.faults] == [
        "this profile has no addon failure_sink",
        "this profile has no addon replayer",
    ]


def test_an_addon_of_somebodys_own_may_be_a_cache(tmp_path):
    """Nobody can know."""
    text = (
        "version: 1\naddons: [{use: 'tests.unit.profile.standins:Banner', with: {text: a}}]\n"
        "tests: [{name: x, request: GET /, expect: {cache: hit}}]\n"
    )
    assert load_profile(written(tmp_path, text), env={}, tests="own").tests[0].name == "x"


def test_a_gateway_that_runs_does_not_look_at_tests(tmp_path):
    """What is wrong with them, or is missing in its environment, cannot keep it from starting."""
    file = written(tmp_path, "version: 1\ntests: [3, {nmae: x, nmae: y}, !env x, '${NOT_SET}']\n")
    assert load_profile(file, env={}).tests == ()
    assert ProfileSource(file).load().tests == ()


BASE = "version: 1\ntests:\n- {name: a, request: GET /base}\n- {name: b, request: GET /base}\n"


def test_tests_are_not_inherited(tmp_path):
    """Whoever extends a profile changes what its tests promise."""
    written(tmp_path, BASE, "base")
    file = written(tmp_path, "version: 1\nextends: base.yaml\ntests: [{name: c, request: GET /}]\n")
    assert [case.name for case in load_profile(file, env={}, tests="own").tests] == ["c"]
    file = written(tmp_path, "version: 1\nextends: base.yaml\n")
    assert load_profile(file, env={}, tests="own").tests == ()


def test_inherited_tests_are_taken_on_demand_and_by_name(tmp_path):
    """One of the same name takes the place of the inherited one; each knows the file and line it stands on."""
    written(tmp_path, BASE, "base")
    file = written(tmp_path, "version: 1\nextends: base.yaml\ntests:\n- {name: a, request: GET /own}\n")
    cases = load_profile(file, env={}, tests="inherited").tests
    assert [(case.name, case.request) for case in cases] == [("b", "GET /base"), ("a", "GET /own")]
    assert [(Path(case.file).name, case.lines[""]) for case in cases] == [("base.yaml", 4), ("p.yaml", 4)]


def test_numbers_and_references_are_taken_as_everywhere(tmp_path):
    """`200`, `"200"` and a variable of the environment mean the same; texts are taken as they are written."""
    text = (
        "version: 1\ntests:\n- name: x\n  request: {path: /, headers: {X-A: 1}}\n"
        '  upstream: ["503", "${STATUS}", {status: "201"}]\n  expect: {headers: {X-B: no}}\n'
    )
    (case,) = load_profile(written(tmp_path, text), env={"STATUS": "204"}, tests="own").tests
    assert case.upstream == (503, 204, ReplySettings(status=201))
    assert case.request.headers == {"X-A": "1"}
    assert case.expect.headers == {"X-B": "no"}
