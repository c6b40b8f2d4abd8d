"""policy.faults: which rule acts on which request, how often, and always in the same way."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.faults import (
    LONGEST,
    Asked,
    FaultPlan,
    Injection,
    Rule,
    drawn,
    parse_script,
    plan_of,
    said,
)

GET = Asked("client", "users", "GET", "/api/users")


def rule(name: str = "r", **more: Any) -> Rule:
    """One that acts on everything."""
    return Rule(**{"name": name, "kind": "reset", **more})


def story(plan: FaultPlan, number: int, asked: Asked = GET, now: float = 0.0) -> list[str]:
    """The names of the rules that act on so many requests, `-` for none."""
    found = [plan.decide(asked, now) for _ in range(number)]
    return [each.rule.name if each else "-" for each in found]


@pytest.mark.parametrize(
    ("given_", "acts"),
    [
        ({}, True),
        ({"at": "upstream"}, False),
        ({"route": "users"}, True),
        ({"route": "user"}, False),
        ({"methods": frozenset({"GET", "PUT"})}, True),
        ({"methods": frozenset({"POST"})}, False),
        ({"path": re.compile("^/api/")}, True),
        ({"path": re.compile("^/other")}, False),
        ({"route": "users", "methods": frozenset({"POST"})}, False),
    ],
)
def test_a_rule_concerns_what_fits_all_that_it_names(given_: dict[str, Any], acts: bool) -> None:
    """What it does not name is any."""
    assert story(plan_of([rule(**given_)], 1, 0.0), 1) == ["r" if acts else "-"]


def test_a_rule_may_be_for_one_server() -> None:
    """Of attempts."""
    plan = plan_of([rule(at="upstream", server="http://a:1")], 1, 0.0)
    servers = ["http://a:1", "http://b:1"]
    found = [story(plan, 1, Asked("upstream", "users", "GET", "/", server))[0] for server in servers]
    assert found == ["r", "-"]


def test_the_first_that_fits_decides_also_that_nothing_happens() -> None:
    """A rule that lets a request pass does not hand it on."""
    plan = plan_of([rule("first", script=(False, True), repeat=True), rule("second")], 1, 0.0)
    assert story(plan, 4) == ["-", "first", "-", "first"]


def test_one_that_is_over_makes_room_for_the_next() -> None:
    """By its script's end, its number of times, or its time."""
    plan = plan_of([rule("a", script=(True, False)), rule("b", times=1), rule("c", lasts=5.0), rule("d")], 1, 100.0)
    assert story(plan, 4, now=100.0) == ["a", "-", "b", "c"]
    assert story(plan, 1, now=104.999) == ["c"]
    assert story(plan, 2, now=105.0) == ["d", "d"]
    assert [tally.over(105.0) for tally in plan.tallies] == ["script", "times", "lasts", ""]
    assert [tally.rule.name for tally in plan.active(105.0)] == ["d"]
    assert [(tally.asked, tally.fired) for tally in plan.tallies] == [(2, 1), (1, 1), (2, 2), (2, 2)]


def test_fail_the_first_two_then_pass() -> None:
    """Without `repeat` it is over then; with it, it begins again."""
    assert story(plan_of([rule(script=parse_script(["fail*2", "pass"]))], 1, 0.0), 6) == ["r", "r", "-", "-", "-", "-"]
    again = plan_of([rule(script=parse_script(["fail*2", "pass"]), repeat=True)], 1, 0.0)
    assert story(again, 6) == ["r", "r", "-", "r", "r", "-"]


def test_a_share_is_about_that_many_and_the_same_ones_for_the_same_seed() -> None:
    """20% of a thousand, and a fixed story for a fixed seed."""

    def told(seed: int) -> list[str]:
        return story(plan_of([rule(share=0.2)], seed, 0.0), 1000)

    assert told(1) == told(1) != told(2)
    assert 150 < told(1).count("r") < 250
    assert [n for n, name in enumerate(told(1)[:20]) if name == "r"] == [8, 13]


@given(st.integers(0, 2**32), st.lists(st.sampled_from(["a", "b"]), max_size=60))
def test_what_happens_to_one_route_does_not_depend_on_the_others(seed: int, order: list[str]) -> None:
    """Each rule has dice of its own: requests of another route in between change nothing."""
    mixed = plan_of([rule("a", route="a", share=0.5), rule("b", route="b", share=0.5)], seed, 0.0)
    seen = [story(mixed, 1, Asked("client", route, "GET", "/"))[0] for route in order]
    alone = plan_of([rule("a", route="a", share=0.5)], seed, 0.0)
    assert [s for s, route in zip(seen, order, strict=True) if route == "a"] == story(
        alone, order.count("a"), Asked("client", "a", "GET", "/")
    )


@given(st.integers(0, 2**32), st.integers(0, 10**6), st.floats(0, LONGEST), st.floats(0, 1))
def test_a_delay_is_within_its_jitter(seed: int, number: int, delay: float, part: float) -> None:
    """And never negative."""
    injection = Injection(rule(delay=delay, jitter=delay * part), number, seed)
    assert max(0.0, delay * (1 - part) - 1e-6) <= injection.delay <= delay * (1 + part) + 1e-6
    assert injection.delay == Injection(rule(delay=delay, jitter=delay * part), number, seed).delay


@given(st.binary(min_size=1, max_size=2000), st.integers(0, 2**32), st.integers(0, 10**9))
def test_damage_changes_bytes_and_not_their_number(data: bytes, seed: int, offset: int) -> None:
    """At least one, about one in a hundred, always the same."""
    injection = Injection(rule(kind="corrupt"), 0, seed)
    damaged = injection.corrupted(data, offset)
    changed = sum(one != other for one, other in zip(data, damaged, strict=True))
    assert 1 <= changed <= 1 + len(data) // 100
    assert damaged == injection.corrupted(data, offset)
    assert injection.corrupted(b"", offset) == b""


@given(st.binary(max_size=5000), st.integers(1, 10**7))
def test_a_slow_body_is_whole_and_takes_its_time(data: bytes, rate: int) -> None:
    """The pieces are the body, and their times its length divided by the rate."""
    pieces = list(Injection(rule(kind="slow", rate=rate), 0, 1).pieces(data))
    assert b"".join(piece for piece, _ in pieces) == data
    assert sum(seconds for _, seconds in pieces) == pytest.approx(len(data) / rate)


@pytest.mark.parametrize(
    ("after", "length", "cut"),
    [(None, 100, 50), (None, 1, 0), (10, 100, 10), (100, 100, 99), (500, 100, 99), (10, None, 10), (None, None, 0)],
)
def test_a_cut_always_takes_something(after: int | None, length: int | None, cut: int) -> None:
    """Of an announced length at least the last byte."""
    assert Injection(rule(kind="truncate", after=after), 0, 1).cut(length) == cut


def test_a_plan_is_changed_rule_by_rule() -> None:
    """One of the same name takes the old one's place, and counts anew; the others keep their counts."""
    plan = plan_of([rule("a"), rule("b")], 1, 0.0)
    story(plan, 3)
    plan.put(rule("a", script=(False,), repeat=True), 1.0)
    plan.put(rule("c"), 1.0)
    assert [(t.rule.name, t.asked, t.since) for t in plan.tallies] == [("a", 0, 1.0), ("b", 0, 0.0), ("c", 0, 1.0)]
    assert plan.drop("b")
    assert not plan.drop("b")
    assert [t.rule.name for t in plan.tallies] == ["a", "c"]


@pytest.mark.parametrize("words", [["boom"], ["fail*"], ["pass*0"], ["fail*-1"], ["fail*x"], ["fail*²"], [""]])
def test_a_script_is_of_two_words(words: list[str]) -> None:
    """ValueError names the one that is none."""
    with pytest.raises(ValueError, match="is no step of a script"):
        parse_script(words)


def test_a_script_has_an_end() -> None:
    """However it is written."""
    assert parse_script(["fail*2", " pass", "fail"]) == (True, True, False, True)
    with pytest.raises(ValueError, match="at most 10000"):
        parse_script(["fail*99999999999999999999"])


@given(st.integers(0), st.text(), st.integers(0), st.text())
def test_dice_are_within_their_bounds(seed: int, name: str, number: int, what: str) -> None:
    """[0, 1), the same for the same."""
    assert 0 <= drawn(seed, name, number, what) < 1


def test_what_is_said_of_a_fault() -> None:
    """A member of a structured list (RFC 9651): the rule, then its parameters."""
    assert said("flaky", "status", "client") == "flaky; kind=status; at=client"
