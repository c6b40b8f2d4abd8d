"""All examinations at once, each bounded, and whatever one of them raises is a finding."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from holdfast.doctor import clock, examining
from holdfast.doctor.case import OtherClock
from holdfast.doctor.finding import Finding, Job, worst
from holdfast.doctor.report import document
from holdfast.doctor.waiting import in_time


def run(*jobs: Job, bound: float = 5.0) -> list[Finding]:
    return examining._all_at_once(jobs, bound)


def test_what_an_examination_raises_is_a_finding_about_it() -> None:
    """The others go on."""
    number, fine = 0, Job("fine", lambda: [Finding("fine", "ok", "")])
    broken, after = run(Job("broken", lambda: [Finding("a", "ok", "")][1:][number]), fine)
    assert (broken.name, broken.status, after.status) == ("broken", "failing", "ok")
    assert "IndexError" in broken.found


def test_an_examination_that_does_not_end_is_given_up() -> None:
    """And the others are told in their order, however long each takes."""
    stop = threading.Event()

    def hangs() -> list[Finding]:
        stop.wait(30)
        return []

    began = time.monotonic()
    found = run(Job("hangs", hangs), Job("fine", lambda: [Finding("fine", "ok", "")]), bound=0.1)
    stop.set()
    assert time.monotonic() - began < 5
    assert [(each.name, each.status) for each in found] == [("hangs", "failing"), ("fine", "ok")]
    assert "within 0.1 s" in found[0].found


def test_where_no_more_threads_may_be_started_the_others_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container has so many and no more; what was examined until then is not lost."""
    start, started = threading.Thread.start, []

    def starts(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starts)
    jobs = [Job(name, lambda: [Finding("fine", "ok", "")]) for name in ("one", "two", "three")]
    found = run(*jobs)
    assert [(each.name, each.status) for each in found] == [("fine", "ok"), ("two", "failing"), ("three", "failing")]
    assert "threads" in found[1].found


def test_examinations_run_at_the_same_time() -> None:
    """Two that wait for each other both end."""
    meeting = threading.Barrier(2, timeout=5)

    def waits() -> list[Finding]:
        meeting.wait()
        return [Finding("met", "ok", "")]

    assert [each.status for each in run(Job("one", waits), Job("other", waits))] == ["ok", "ok"]


def test_a_question_without_a_limit_of_its_own_is_waited_for_so_long() -> None:
    """Its answer, its error, or the end of patience."""
    assert in_time(lambda: 7, 5) == 7
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 / 0, 5)
    stop = threading.Event()
    with pytest.raises(TimeoutError, match="within"):
        in_time(lambda: stop.wait(30), 0.05)
    stop.set()


def test_skipped_and_warnings_are_no_failure() -> None:
    """The exit status is made of this."""
    assert worst([Finding("a", "skipped", ""), Finding("b", "ok", "")]) == "ok"
    assert worst([Finding("a", "warning", ""), Finding("b", "ok", "")]) == "warning"
    assert worst([Finding("a", "warning", ""), Finding("b", "failing", "")]) == "failing"


@pytest.mark.parametrize(
    ("others", "status"),
    [
        ([], "skipped"),
        ([OtherClock("Redis", 4.0, 0.1)], "ok"),
        ([OtherClock("Redis", -42.0, 0.1)], "warning"),
        ([OtherClock("http://a", 6.0, 2.0)], "ok"),  # within what is not known
        ([OtherClock("http://a", 8.0, 2.0), OtherClock("Redis", 0.0, 0.0)], "warning"),
    ],
)
def test_clocks_that_differ_by_more_than_is_uncertain_are_told(others: list[OtherClock], status: str) -> None:
    """Five seconds, besides what the question took."""
    (found,) = clock.findings(clock.Watch(), others)
    assert found.status == status


def test_a_clock_that_is_set_while_we_look_is_told() -> None:
    """Against one that cannot be set."""
    wall = iter([1000.0, 1013.0])
    watch = clock.Watch(lambda: next(wall), iter([5.0, 8.0]).__next__)
    (found,) = clock.findings(watch, [])
    assert (found.status, found.found) == ("warning", "was set by +10.0 s while we looked")


@pytest.mark.parametrize(
    "addons",
    [
        "cache: {store: 'redis://me:hush/x@127.0.0.1:1/0'}",
        "failure_sink: {broker: 'kafka://me:hush@127.0.0.1:1'}",
        "notifier: {kafka: 'kafka://me:hush@127.0.0.1:1'}",
        "failure_sink: {}\n- replayer: {audit: 'postgresql://me:hush/x@127.0.0.1:1/db'}",
    ],
)
def test_a_url_that_is_written_wrong_is_told_without_its_password(addons: str, tmp_path: Path) -> None:
    """Whichever examination trips over it."""
    file = tmp_path / "p.yaml"
    file.write_text(f"version: 1\nextends: minimal\nlisten: 127.0.0.1:0\naddons:\n- {addons}\n")
    found = examining.examine(str(file), {})
    assert worst(found) == "failing"
    assert "hush" not in json.dumps(document(str(file), found))
