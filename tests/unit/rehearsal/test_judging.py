"""What was to come of a step against what came: which differences are told, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.profile.cases import CapturedSettings, ExpectSettings, MatchSettings, ReceivedSettings
from holdfast.rehearsal.client import Answered
from holdfast.rehearsal.judging import Capture, Got, Outcome, judged

GOT = Got(
    server=1, method="POST", path="/a?b=1", headers=[("X-A", "1"), ("x-a", "2")], body=b'{"a": [1, 2], "b": true}'
)
RECORD = Capture(
    key="/a",
    document={
        "error": "http_503",
        "route": "users",
        "attempts": [{}, {}],
        "redacted": ["header:cookie", "header:authorization"],
        "headers": {"cookie": "[redacted]"},
        "body": "text",
    },
)


def outcome(**changes: Any) -> Outcome:
    answered = Answered(200, [("Content-Type", "text/plain"), ("X-A", "1")], b'{"a": [1, 2], "b": true}', complete=True)
    made: dict[str, Any] = {
        "answered": answered,
        "fate": "ok",
        "route": "users",
        "cache": "miss",
        "attempts": [{}],
        "got": [GOT],
        "capture_id": "id",
        "capture": RECORD,
    }
    return Outcome(**(made | changes))


def told(expect: ExpectSettings, **changes: Any) -> list[tuple[str, str, str]]:
    return [(d.path, d.expected, d.got) for d in judged(expect, outcome(**changes), int)]


AS_IT_IS = [
    ExpectSettings(),
    ExpectSettings(status=200, fate="ok", route="users", cache="miss", attempts=1, upstream=1, captured=True),
    ExpectSettings(headers={"x-a": "1", "CONTENT-TYPE": MatchSettings(contains="text", matches="^text/")}),
    ExpectSettings(headers={"X-B": MatchSettings(present=False), "X-A": MatchSettings()}),
    ExpectSettings(body='{"a": [1, 2], "b": true}'),
    ExpectSettings(body=MatchSettings(matches="a")),
    ExpectSettings(json={"a": [1, 2]}),
    ExpectSettings(json={"a": [1, 2], "b": True}),
    ExpectSettings(upstream=(ReceivedSettings(server="1", method="POST", path="/a?b=1", headers={"X-A": "1, 2"}),)),
    ExpectSettings(upstream=(ReceivedSettings(body=MatchSettings(contains="a"), json={"b": True}),)),
    ExpectSettings(captured=CapturedSettings(error="http_503", route="users", key="/a", attempts=2, body="text")),
    ExpectSettings(captured=CapturedSettings(redacted=("header:authorization", "header:cookie"))),
    ExpectSettings(captured=CapturedSettings(headers={"Cookie": "[redacted]", "x": MatchSettings(present=False)})),
]


@pytest.mark.parametrize("expect", AS_IT_IS, ids=range(len(AS_IT_IS)))
def test_what_came_as_it_was_to_is_no_difference(expect):
    """And what is not said may be anything."""
    assert told(expect) == []


DIFFERENT = [
    (ExpectSettings(status=503), ("status", "503", "200")),
    (ExpectSettings(fate="captured"), ("fate", "captured", "ok")),
    (ExpectSettings(route="user"), ("route", "user", "users")),
    (ExpectSettings(cache="hit"), ("cache", "hit", "miss")),
    (ExpectSettings(attempts=3), ("attempts", "3", "1")),
    (ExpectSettings(upstream=0), ("upstream", "0 requests", "1 request: POST /a?b=1 at server 1")),
    (ExpectSettings(upstream=()), ("upstream", "0 requests", "1 request: POST /a?b=1 at server 1")),
    (ExpectSettings(headers={"X-A": "2"}), ("headers.X-A", "2", "1")),
    (ExpectSettings(headers={"X-B": "2"}), ("headers.X-B", "2", "nothing")),
    (ExpectSettings(headers={"X-B": MatchSettings()}), ("headers.X-B", "something", "nothing")),
    (ExpectSettings(headers={"X-A": MatchSettings(present=False)}), ("headers.X-A", "nothing", "1")),
    (
        ExpectSettings(headers={"X-A": MatchSettings(contains="2", matches="^2")}),
        ("headers.X-A", "something with 2 in it and something that matches ^2", "1"),
    ),
    (ExpectSettings(body=""), ("body", "''", '{"a": [1, 2], "b": true}')),
    (ExpectSettings(body=MatchSettings(present=False)), ("body", "nothing", '{"a": [1, 2], "b": true}')),
    (ExpectSettings(json={"a": [1]}), ("json.a", "[1]", "[1, 2]")),
    (ExpectSettings(json={"a": [1, 3]}), ("json.a[1]", "3", "2")),
    (ExpectSettings(json={"b": 1}), ("json.b", "1", "true")),
    (ExpectSettings(json={"c": None}), ("json.c", "null", "nothing")),
    (ExpectSettings(complete=False), ("complete", "an answer that breaks off", "the whole answer")),
    (ExpectSettings(upstream=(ReceivedSettings(server="2"),)), ("upstream[0].server", "server 2", "server 1")),
    (ExpectSettings(upstream=(ReceivedSettings(path="/a"),)), ("upstream[0].path", "/a", "/a?b=1")),
    (ExpectSettings(captured=False), ("captured", "no capture", "the capture id")),
    (ExpectSettings(captured=CapturedSettings(key="/b")), ("captured.key", "/b", "/a")),
    (ExpectSettings(captured=CapturedSettings(attempts=1)), ("captured.attempts", "1", "2")),
    (
        ExpectSettings(captured=CapturedSettings(redacted=())),
        ("captured.redacted", "nothing", "header:authorization, header:cookie"),
    ),
]


@pytest.mark.parametrize(("expect", "difference"), DIFFERENT, ids=range(len(DIFFERENT)))
def test_each_difference_is_told_with_both_sides(expect, difference):
    """By the path of the expectation."""
    assert told(expect) == [difference]


def test_all_differences_are_told_at_once():
    """Not only the first."""
    assert [path for path, *_ in told(ExpectSettings(status=201, fate="hit", body="x"))] == ["status", "body", "fate"]


def test_no_answer_is_told_even_where_nothing_is_said_of_one():
    """It is never what anybody wanted."""
    nothing = Answered(trouble="the connection was closed")
    assert told(ExpectSettings(), answered=nothing) == [("status", "an answer", "none: the connection was closed")]


def test_an_answer_that_breaks_off_is_told():
    """Unless it was to."""
    cut = Answered(200, [], b"ab", complete=False, trouble="cut")
    assert told(ExpectSettings(), answered=cut) == [("complete", "the whole answer", "it broke off: cut")]
    assert told(ExpectSettings(complete=False, status=200), answered=cut) == []


def test_a_capture_that_was_not_made_is_told():
    """Whatever was to be in it; and one that cannot be read, too."""
    wanted = ExpectSettings(captured=CapturedSettings(error="x"))
    assert told(wanted, capture_id=None, capture=None) == [("captured", "a capture", "none")]
    assert told(wanted, capture=None) == [("captured", "a record in the outbox", "none that can be read there")]


def test_what_cannot_be_shown_as_it_is_is_quoted_and_cut():
    """A body may be anything."""
    answered = Answered(200, [("X-A", "1")], b"\x1b[31m" + b"x" * 500, complete=True)
    ((_, _, got),) = told(ExpectSettings(body="a"), answered=answered)
    assert got.startswith("'\\x1b[31mxxx")
    assert len(got) < 220
