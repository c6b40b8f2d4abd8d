"""The bench itself: what it judges, what it takes for broken, what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.bench import peers, report
from tests.bench.__main__ import main
from tests.bench.case import Case, Measured, Target
from tests.bench.cases import CASES, HIT, MISS
from tests.bench.load import Ask, Connection, Looks, check
from tests.bench.machine import Cores, Watch
from tests.bench.picture import drawn
from tests.bench.publishing import BEGIN, END, publish
from tests.bench.running import Broken, Missing, Running
from tests.bench.soaking import growth

RATE = Target("rate", 2.0, "bare")


def measured(*ours: float, bare: tuple[float, ...] = (), target: Target = RATE) -> Measured:
    made = Measured("case", "about")
    for value in ours:
        made.add("ours", rate=value, p99=value)
    for value in bare:
        made.add("bare", rate=value, p99=value)
    made.judge([target])
    return made


def test_a_ratio_is_taken_within_a_round_and_the_median_judges() -> None:
    """So that what slows a whole round down slows both sides."""
    (verdict,) = measured(100, 10, 400, bare=(50, 5, 100)).verdicts
    assert (verdict.value, verdict.low, verdict.high, verdict.met) == (2.0, 2.0, 4.0, True)


@pytest.mark.parametrize(("value", "met"), [(19.0, True), (21.0, False)])
def test_an_upper_bound_is_judged_as_one(value: float, met: bool) -> None:
    """Without another to compare with."""
    (verdict,) = measured(value, target=Target("p99", 20.0, most=True, unit="ms")).verdicts
    assert verdict.met is met


def test_a_difference_is_judged_as_one() -> None:
    """Memory above that of another."""
    (verdict,) = measured(130, bare=(99,), target=Target("rate", 30.0, "bare", most=True, by="difference")).verdicts
    assert (verdict.value, verdict.met) == (31.0, False)


def test_what_is_not_installed_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the case's text and in the summary; not skipped silently."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)

    def play(case: Case, world: peers.World, made: Measured) -> None:
        peers.need("wrk")

    with ExitStack() as stack:
        made = Case("case", "about", play, [RATE]).measure(peers.World(Path(), Cores(), stack))
    assert "wrk is not installed: apt-get install wrk" in report.told(made)
    assert "not measured: case: wrk is not installed" in report.summary([made])


GOOD = {"requests": 100, "bytes": 20_000, "status": 0, "connect": 0, "read": 0, "write": 0, "timeout": 0}


@pytest.mark.parametrize(
    ("wrong", "looks"),
    [
        ({"status": 1}, Looks([200])),
        ({"timeout": 1}, Looks([200])),
        ({"requests": 0}, Looks([200])),
        ({"bytes": 10_000}, Looks([200])),
        ({}, Looks([200], fault="wanted a hit")),
    ],
)
def test_answers_that_are_not_what_was_asked_for_break_it(wrong: dict[str, int], looks: Looks, tmp_path: Path) -> None:
    """Another status, an error, none at all, other bytes, a miss where a hit was wanted."""
    server = Running("server", [], 0, tmp_path)
    server.log.touch()
    check(server, MISS, GOOD, Looks([200]))
    with pytest.raises(Broken):
        check(server, MISS, GOOD | wrong, looks)


def test_a_failing_upstream_is_expected_to_fail_every_time(tmp_path: Path) -> None:
    """An answer that is good is wrong there."""
    server = Running("server", [], 0, tmp_path)
    failing = Ask("/", 503)
    check(server, failing, GOOD | {"status": 100}, Looks([200]))
    with pytest.raises(Broken):
        check(server, failing, GOOD | {"status": 99}, Looks([200]))


def test_growth_does_not_count_what_a_start_takes() -> None:
    """From the second quarter to the last."""
    assert growth([10, 50, 60, 60, 60, 60, 60, 61]) == 0.5
    assert growth([1.0]) == 0


def test_a_case_measured_anew_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    """The others stay; a short run leaves no trace in them."""
    machine: dict[str, Any] = {"cpu": "x", "cores": 2, "python": "3.13.0"}
    old, new, other = measured(1, bare=(1,)), measured(3, bare=(1,)), measured(5, bare=(1,))
    other.name = "other"
    report.write(tmp_path, machine, [old, other], short=False)
    report.write(tmp_path, machine, [new], short=False)
    report.write(tmp_path, machine, [old], short=True)
    cases = {case["name"]: case for case in json.loads((tmp_path / "bench.json").read_text())["cases"]}
    assert cases.keys() == {"case", "other"}
    assert cases["case"]["verdicts"][0] | {"target": None} == {
        "target": None,
        "value": 3.0,
        "low": 3.0,
        "high": 3.0,
        "why": "",
        "met": True,
    }


def test_what_was_measured_is_put_into_its_place_on_the_page(tmp_path: Path) -> None:
    """Between its marks, in place of what stood there; nothing else is touched, and nothing is written without them."""
    results, page = tmp_path / "bench.json", tmp_path / "performance.md"
    with pytest.raises(ValueError, match="measure first"):
        publish(results, tmp_path)
    (tmp_path / "images").mkdir()
    machine = {"cpu": "x", "cores": 2, "kernel": "6", "python": "3.13.0", "mitmproxy": "12.2.3"}
    report.write(tmp_path, machine, [measured(3, bare=(1,))], short=False)
    page.write_text("no place")
    with pytest.raises(ValueError, match="no place for it"):
        publish(results, tmp_path)
    page.write_text(f"before {BEGIN} old {END} after")
    for _ in range(2):
        publish(results, tmp_path)
        text = page.read_text()
        assert text.startswith("before <!--")
        assert text.endswith("--> after")
        assert text.count("| `case` | rate ≥ 2 x bare | 3.00 | 3.00 to 3.00 | met |") == 1
        assert "old" not in text
    assert (tmp_path / "images" / "bench-rates.svg").exists()


def test_pictures_can_be_drawn_of_whatever_was_measured() -> None:
    """Nothing measured, nothing grown, and names that XML would take for its own."""
    odd = measured(0.0, bare=(1.0,), target=Target("rate", 0.0, "bare", most=True))
    odd.name, odd.series = "a <b> & c", {"MiB": [[0.0, 1.0], [5.0, 2.0]]}
    made = drawn([report.entry(one, "now") for one in (odd, measured(), measured(2, bare=(1,)))])
    assert made.keys() == {"bench-rates.svg", "bench-targets.svg", "bench-soak.svg"}
    for text in made.values():
        assert "prefers-color-scheme: dark" in text
        ElementTree.fromstring(text)


def test_the_work_of_others_is_noticed() -> None:
    """What is started here is ours; the rest of the machine is not."""
    watch = Watch()
    subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)
    others, _ = watch.disturbance(0.0, 0.1)
    assert others > 0


def test_every_target_compares_with_somebody_who_is_asked() -> None:
    """A name that nobody has would never be measured."""
    for case in CASES.values():
        names = {contender.name for contender in case.contenders}
        assert case.contenders
        assert {target.against for target in case.targets} <= names | {""}


def test_a_case_that_does_not_exist_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the names of those that there are."""
    monkeypatch.setattr(sys, "argv", ["bench", "hits", "hitz"])
    assert main() == 2
    assert "no such case: hitz; there are passthrough-gateway" in capsys.readouterr().err


def test_a_real_gateway_is_asked_and_what_it_answers_is_looked_at(tmp_path: Path) -> None:
    """The origin, the shipped profile, a miss that is taken for no hit, then a hit."""
    with ExitStack() as stack:
        world = peers.World(tmp_path, Cores(), stack, own=stack)
        try:
            server = peers.holdfast(world, "gateway").start()
        except Missing as missing:
            pytest.skip(str(missing))
        connection = Connection(server)
        stack.callback(connection.close)
        with pytest.raises(Broken, match="fwd=miss"):
            connection.ask(HIT)
        assert len(connection.ask(HIT)) > len(peers.BODY)
        assert server.cpu() > 0
        assert server.rss() > server.pss() > 0
        assert server.files() > 3
