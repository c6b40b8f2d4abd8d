"""faults: rules as people write them, and a live set that a reload respects."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from holdfast.chain import build_chain
from holdfast.fault_rules import FaultRuleSettings, FaultsSettings, named, read_rule, written
from holdfast.faults import Faults
from holdfast.profile.load import load_profile
from holdfast.testing import make_flow

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({}, "fault: is missing"),
    ({"fault": "reste"}, "did you mean 'reset'?"),
    ({"fault": "reset", "shere": "2%"}, "unknown key: did you mean 'share'?"),
    ({"fault": "latency"}, "`fault: latency` needs a `delay`, such as 200ms"),
    ({"fault": "latency", "delay": "soon"}, "write a number with a unit"),
    ({"fault": "latency", "delay": "1h"}, "`delay` is at most 10m"),
    ({"fault": "latency", "delay": "1s", "jitter": "2s"}, "`jitter` is at most the `delay`"),
    ({"fault": "hang", "delay": "1s"}, "leave `delay` out"),
    ({"fault": "refuse"}, "it needs `at: upstream`"),
    ({"fault": "reset", "server": "http://a:1"}, "it needs `at: upstream`"),
    ({"fault": "reset", "at": "upstream", "server": "a"}, "is no server address"),
    ({"fault": "status", "status": 99}, "a whole number from 200 to 599"),
    ({"fault": "status", "status": 304}, "take another status"),
    ({"fault": "status", "status": 204, "body": "x"}, "204 has no body"),
    ({"fault": "reset", "status": 500}, "`status` belongs to `fault: status`"),
    ({"fault": "status", "rate": "1KiB"}, "`rate` belongs to `fault: slow`"),
    ({"fault": "status", "headers": {"Content-Length": "3"}}, "is no header field that can be set here"),
    ({"fault": "status", "headers": {"X Y": "3"}}, "is no header field that can be set here"),
    ({"fault": "status", "headers": {"X": "a\r\nb"}}, "characters that a header field cannot have"),
    ({"fault": "reset", "script": ["fail"], "share": "20%"}, "give one of them"),
    ({"fault": "reset", "script": ["bang"]}, "is no step of a script"),
    ({"fault": "reset", "repeat": True}, "`repeat` is for a `script`"),
    ({"fault": "reset", "times": 0}, "at least 1"),
    ({"fault": "reset", "name": "No Good"}, "is no name of a fault"),
    ({"fault": "reset", "methods": ["GE T"]}, "is no HTTP method"),
    ({"fault": "reset", "path": "api"}, "does not begin with a slash"),
]


@pytest.mark.parametrize(("document", "says"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_told_in_a_sentence(document: dict[str, Any], says: str) -> None:
    """In the words of the profile, with what to do."""
    with pytest.raises(ValueError, match=re.escape(says)) as found:
        read_rule(document)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("document", [None, 3, "reset", ["reset"]])
def test_what_is_no_rule_is_told_what_one_is(document: object) -> None:
    """An example says it best."""
    with pytest.raises(ValueError, match="a fault is an object, such as"):
        read_rule(document)


def test_a_rule_is_shown_as_it_was_written() -> None:
    """So that it can be copied into a profile."""
    document = {
        "name": "x",
        "fault": "status",
        "at": "upstream",
        "route": "users",
        "status": 429,
        "delay": "50ms",
        "jitter": "10ms",
        "headers": {"Retry-After": "3"},
        "share": "20%",
        "times": 3,
        "lasts": "5m",
    }
    assert written(read_rule(document)) == document


def test_names_are_given_where_there_are_none() -> None:
    """By the kind, and numbered; two of one name are a fault, and so are too many."""
    rules = [FaultRuleSettings(fault="reset"), FaultRuleSettings(fault="reset", name="reset-2")]
    assert [each.name for each in named([*rules, FaultRuleSettings(fault="reset")])] == ["reset", "reset-2", "reset-3"]
    with pytest.raises(ValueError, match="more than one fault is named reset-2"):
        named([*rules, rules[1]])
    with pytest.raises(ValueError, match="at most 100"):
        FaultsSettings(rules=tuple(FaultRuleSettings(fault="reset") for _ in range(101)))


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    """The addon of a whole chain."""
    file = tmp_path / "p.yaml"
    text = "version: 1\naddons:\n  - router: {routes: [{name: a, path: /a}]}\n"
    file.write_text(f"{text}  - faults: {{seed: 1, rules: [{{fault: reset, route: a}}]}}\n")
    chain = build_chain(load_profile(str(file)))
    assert chain.gateway.leg.faults is chain.gateway.faults
    assert isinstance(chain.gateway.faults, Faults)
    return chain.gateway.faults


def names(faults: Faults) -> list[str]:
    return [rule["name"] for rule in faults.document()["rules"]]


async def test_a_reload_that_is_taken_back_changes_nothing(faults: Faults) -> None:
    """`takeover` hands over what held before where another addon refuses; what was set by hand is still there then."""
    before, after = FaultsSettings(seed=1, rules=(FaultRuleSettings(fault="reset", route="a"),)), FaultsSettings(seed=2)
    faults.put({"fault": "hang", "name": "by-hand"})
    faults.reload(after)
    assert names(faults) == []
    faults.reload(before)
    assert names(faults) == ["reset", "by-hand"]
    faults.reload(after)
    await asyncio.sleep(0)
    faults.reload(before)  # this one is meant
    assert names(faults) == ["reset"]


def test_what_acts_is_noted_and_counted(faults: Faults) -> None:
    """The gateway's own pages are spared, and its own requests have no client."""

    def at_client(**exchange: Any) -> bool:
        flow = make_flow(exchange=exchange)
        acts = faults.injection(flow, "client") is not None
        assert ("faults" in flow.metadata["holdfast"]) is acts
        return acts

    faults.put_all([{"fault": "reset"}], None)
    assert at_client(route="a")
    assert not at_client(route="health")
    assert not at_client(route="captures")
    assert not at_client(route="a", refresh="key")
    assert faults.document()["rules"][0]["fired"] == 1


def test_a_route_that_nobody_names_is_refused(faults: Faults) -> None:
    """It could never act; and nothing has changed."""
    with pytest.raises(ValueError, match="the router gives no route the name b: there are a, "):
        faults.put_all([{"fault": "hang"}, {"fault": "hang", "route": "b"}], None)
    with pytest.raises(ValueError, match="there is no fault named x: there are reset"):
        faults.clear(["x"])
    assert names(faults) == ["reset"]


async def test_it_tells_what_it_would_do_without_counting(faults: Faults) -> None:
    """For `holdfast explain`: the rules that are for such a request, at either place, for any server."""
    faults.put({"fault": "refuse", "at": "upstream", "server": "http://127.0.0.1:1", "path": "/a"})
    flow = make_flow("GET", "http://x.test/a?b=c", exchange={"route": "a"})
    told = await faults.would_do(flow)
    assert (told.acts, told.details) == (True, {"rules": ["reset", "refuse"]})
    assert told.says.endswith("reset (reset at client), refuse (refuse at upstream)")
    assert not (await faults.would_do(make_flow("GET", "http://x.test/b", exchange={"route": "other"}))).acts
    assert not (await faults.would_do(make_flow("GET", "http://x.test/a", exchange={"route": "health"}))).acts
    assert [(rule["asked"], rule["fired"]) for rule in faults.document()["rules"]] == [(0, 0), (0, 0)]
