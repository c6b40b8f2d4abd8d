"""Every mistake of docs/doctor.md, made on purpose, is found, with the sentence that says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.cli import main
from holdfast.doctor import machine
from holdfast.doctor.finding import Finding
from tests.e2e import mistakes
from tests.e2e.bench import Bench, matches, sentence
from tests.e2e.harness import MAIN, ROOT, environment
from tests.e2e.mistakes import Mistake
from tests.services.process import free_port

pytestmark = pytest.mark.any_engine

ROUTES = {"router": {"routes": [{"name": "users", "path": "/api/users"}]}}
MADE: dict[str, Callable[[Bench], Path | str]] = {}


def makes(what: str) -> Callable[[Callable[[Bench], Path | str]], Callable[[Bench], Path | str]]:
    """Registers how a mistake is made: the profile to examine, the rest in the bench."""

    def registered(make: Callable[[Bench], Path | str]) -> Callable[[Bench], Path | str]:
        MADE[what] = make
        return make

    return registered


OF_THE_PROFILE: dict[str, Callable[[Bench], Path | str]] = {
    "a misspelt key": lambda b: b.profile(upstream={"response_timout": "5s"}),
    "a misspelt addon": lambda b: b.profile("interceptr"),
    "a duration in words": lambda b: b.profile(upstream={"deadline": "5 seconds"}),
    "a regular expression that is none": lambda b: b.profile(
        {"router": {"routes": [{"name": "users", "pattern": "^/api/(users"}]}}
    ),
    "a variable of the environment that is not set": lambda _: "kafka",
    "a tab in the YAML": lambda b: b.text("version: 1\nupstream:\n\tdeadline: 5s\n"),
    "the control surface open to everybody, without a token": lambda b: b.profile(admin={"listen": "0.0.0.0:9900"}),
    "a path behind the upstream's address": lambda b: b.profile(upstream={"servers": ["http://127.0.0.1:3000/api"]}),
    "settings for a route that the router does not know": lambda b: b.profile(
        ROUTES, upstream={"routes": {"user": {"deadline": "5s"}}}
    ),
    "a shipped profile's name misspelt": lambda _: "sidecart",
    "the cache behind the interceptor": lambda b: b.profile(ROUTES, "interceptor", "cache", b.sink()),
    "the router behind what asks for the route": lambda b: b.profile("cache", ROUTES),
    "the replayer behind the failure sink": lambda b: b.profile(
        "interceptor", b.sink(), {"replayer": {"audit": str(b.folder / "audit.db")}}
    ),
    "an interceptor, and nothing that stores": lambda b: b.profile("interceptor"),
    "surrogate keys without a cache": lambda b: b.profile("surrogate"),
    "a response timeout beyond the deadline": lambda b: b.profile(upstream={"response_timeout": "30s"}),
    "retries configured, and one attempt": lambda b: b.profile(upstream={"retry": {"attempts": 1, "on": ["503"]}}),
    "a token that is easily guessed": lambda b: b.profile(admin={"token": "changeme"}),
    "one port for clients and for the control surface": lambda b: b.profile(
        listen="127.0.0.1:8080", admin={"listen": "127.0.0.1:8080"}
    ),
}
MADE |= OF_THE_PROFILE


@makes("a password in a profile that everybody can read")
def world_readable(bench: Bench) -> Path:
    file = bench.profile({"replayer": {"audit": "postgresql://holdfast:opensesame@127.0.0.1:1/audit"}}, bench.sink())
    file.chmod(0o644)
    return file


@makes("`connection_strategy: eager` in ~/.mitmproxy/config.yaml")
def eager(bench: Bench) -> Path:
    return mitmproxy_option(bench, "connection_strategy: eager")


@makes("`stream_large_bodies` in ~/.mitmproxy/config.yaml")
def streaming(bench: Bench) -> Path:
    return mitmproxy_option(bench, "stream_large_bodies: 1k")


def mitmproxy_option(bench: Bench, line: str) -> Path:
    (bench.folder / ".mitmproxy").mkdir()
    (bench.folder / ".mitmproxy" / "config.yaml").write_text(line)
    return bench.profile()


@makes("a proxy in the environment")
def proxied(bench: Bench) -> Path:
    bench.env["http_proxy"] = "http://proxy.invalid:3128"
    return bench.profile()


@makes("a clock that is off")
def clock_off(bench: Bench) -> Path:
    """It is the other one that is ahead, which looks the same from here."""
    return bench.profile(upstream={"servers": [f"http://127.0.0.1:{bench.server(ahead=90)}"]})


@makes("a port that is taken")
def taken(bench: Bench) -> Path:
    return bench.profile(listen=f"127.0.0.1:{bench.listener()}")


@makes("an address that this machine does not have")
def elsewhere(bench: Bench) -> Path:
    return bench.profile(listen="192.0.2.7:8080")


def assert_found(found: list[Finding], mistake: Mistake) -> None:
    """One of the findings says so, with its status; another one has another cause."""
    told = [each for each in found if matches(mistake.says, sentence(each))]
    assert told, "\n".join(f"{each.status} {each.name}: {sentence(each)}" for each in found if each.status != "ok")
    assert told[0].status == mistake.status


FAULTS = [each for each in mistakes.WORDING if each.status == "failing"]
PLAIN = [each for each in (*mistakes.WORDING, *mistakes.MACHINE) if each.what in MADE]


@pytest.mark.parametrize("mistake", [each for each in PLAIN if each not in FAULTS], ids=lambda each: each.what)
def test_doctor_finds_a_mistake_of_the_profile_or_the_machine(mistake: Mistake, bench: Bench) -> None:
    """Each row: the sentence, and its status."""
    assert_found(bench.doctor(MADE[mistake.what](bench)), mistake)


@pytest.mark.parametrize("mistake", FAULTS, ids=lambda each: each.what)
def test_check_and_doctor_find_a_fault(mistake: Mistake, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """`check` ends with 2; for `doctor` the same fault is a finding, and the machine is examined all the same."""
    bench.patch.delenv("KAFKA_URL", raising=False)
    profile = str(MADE[mistake.what](bench))
    assert main(["check", profile]) == 2
    assert matches(mistake.says, capsys.readouterr().err)
    found = bench.doctor(profile)
    assert any(each.name == "profile" and matches(mistake.says, each.found) for each in found)
    assert {"python", "mitmproxy", "open files"} <= {each.name for each in found if each.status == "ok"}
    assert {each.status for each in found if each.name in ("redis", "kafka", "upstream")} == {"skipped"}


@pytest.mark.parametrize("mistake", [m for m in mistakes.WORDING if m not in FAULTS], ids=lambda each: each.what)
def test_check_warns_and_ends_well(mistake: Mistake, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """What can hardly be meant is told with its line, and the exit status stays 0."""
    profile = str(MADE[mistake.what](bench))
    assert main(["check", profile]) == 0
    out, err = capsys.readouterr()
    assert ": ok" in out
    assert f"{profile}:" in err
    assert all(line.endswith("(warning)") for line in err.splitlines())
    assert main(["check", "--json", profile]) == 0


# --- what needs a process of its own ---


def test_an_old_python_says_one_sentence(tmp_path: Path) -> None:
    """Whichever older ones this machine has, 2.7 among them: no SyntaxError, exit status 2."""
    (mistake,) = [each for each in mistakes.MACHINE if each.what == "an old Python"]
    places = [Path("/usr/bin"), *(Path.home() / ".pyenv" / "versions").glob("*/bin")]
    names = ("python2.7", "python3.6", "python3.9", "python3.11")
    old = [folder / name for folder in places for name in names if (folder / name).exists()]
    if not old:
        pytest.skip("this machine has no Python older than 3.12")
    way_in = "import sys; from holdfast.interpreter import main; sys.exit(main())"
    for python in old:
        # As a module, as the command that pip makes, and as mitmproxy loads it, of which old versions run on 3.9.
        ways = [["-m", "holdfast", "run"], ["-c", way_in]] + (
            [[str(MAIN)]] if python.name in ("python3.9", "python3.11") else []
        )
        for options in ways:
            done = subprocess.run(
                [python, "-B", *options], env=environment(tmp_path), capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stdout) == (2, ""), done.stderr
            assert matches(mistake.says, done.stderr), done.stderr
            assert len(done.stderr.splitlines()) == 1


def test_an_old_mitmproxy_is_told_with_the_one_to_install() -> None:
    """Its version is made up here: there is only one installed."""
    (mistake,) = [each for each in mistakes.MACHINE if each.what == "an old mitmproxy"]
    assert_found([machine.mitmproxy("11.0.2")], mistake)
    assert machine.mitmproxy("").status == "failing"


def test_few_open_files_are_found_by_a_process_that_has_few(tmp_path: Path) -> None:
    """`ulimit -n 64`: the doctor itself gets by with them, ends with 1, and its text fits a terminal."""
    (mistake,) = [each for each in mistakes.MACHINE if each.what == "`ulimit -n 64`"]
    command = f"ulimit -n 64; exec {sys.executable} -m holdfast doctor --profile minimal"
    env = environment(tmp_path, {"HOLDFAST_UPSTREAM": f"http://127.0.0.1:{free_port()}"})
    done = subprocess.run(["bash", "-c", command], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert matches(mistake.says.replace("→", "->"), done.stdout)
    assert max(len(line) for line in done.stdout.splitlines() if " " in line.strip()) <= 80
    assert "\x1b" not in done.stdout
    assert os.listdir(tmp_path) == [], "nothing is made"


def test_every_mistake_of_the_table_is_made() -> None:
    """Here, or in `test_mistakes_servers`; at least twenty."""
    from tests.e2e import test_mistakes_servers

    elsewhere = {"an old Python", "an old mitmproxy", "`ulimit -n 64`"}
    assert {each.what for each in mistakes.MISTAKES} == {*MADE, *test_mistakes_servers.MADE, *elsewhere}
    assert len(mistakes.MISTAKES) >= 20


def test_the_page_for_users_is_current() -> None:
    """python -m tests.e2e.mistakes > docs/doctor.md"""
    committed = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert committed == mistakes.page(), "run: python -m tests.e2e.mistakes > docs/doctor.md"
