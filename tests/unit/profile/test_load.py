"""A sound profile: its values, its environment, its aliases."""

from __future__ import annotations

import pytest

from holdfast.profile.settings import Profile
from holdfast.profile.values import Duration, Share, Size
from tests.unit.profile.standins import HERE, CatcherSettings, RouteAnswer, RouterSettings, RouteSettings

CONTRACT = """\
version: 1
listen: 127.0.0.1:8080
admin: {listen: 127.0.0.1:9900, token: ${HOLDFAST_ADMIN_TOKEN:-}, health_path: /health}   # a comment
upstream:
  servers: [http://127.0.0.1:3000]    # more than one: failover
  connect_timeout: 5s
  response_timeout: 5s                # to the first byte
  deadline: 15s
  retry:   {attempts: 3, on: [connect, reset, timeout, 502, 503, 504], methods: [GET], backoff: {base: 50ms, max: 1s}}
addons:
  - router:      {routes: [{name: user, pattern: "^/api/users/(?P<id>[^/]+)$"}, {name: users, pattern: "^/api/users$"}]}
  - metrics
  - catcher:      {on: [connect, 502], answer: 503}
  - use: tests.unit.profile.standins:Banner
    with: {text: hello}
    on_error: closed
"""


def test_the_smallest_profile_has_every_default(load):
    """Only `version` is required."""
    profile = load("version: 1\n")
    assert profile == Profile(version=1, source=profile.source)
    assert profile.source.endswith("p.yaml")
    assert profile.upstream.deadline == Duration("15s")
    assert profile.limits.buffer_body == Size("10MiB")


def test_a_profile_as_the_documentation_shows_it_loads(load):
    """References stand unquoted in flow mappings, `on` is a key and not a boolean, 502 is a kind of failure."""
    profile = load(CONTRACT)
    assert profile.admin.token == ""
    assert profile.upstream.retry.on == ("connect", "reset", "timeout", "502", "503", "504")
    assert [(entry.name, entry.target, entry.on_error, entry.line) for entry in profile.addons] == [
        ("router", "router", "open", 11),
        ("metrics", "metrics", "open", 12),
        ("catcher", "catcher", "open", 13),
        ("Banner", f"{HERE}:Banner", "closed", 14),
    ]
    assert profile.addons[0].settings == RouterSettings(
        routes=(
            RouteSettings(name="user", pattern="^/api/users/(?P<id>[^/]+)$"),
            RouteSettings(name="users", pattern="^/api/users$"),
        )
    )
    assert profile.addons[3].settings == {"text": "hello"}
    assert profile.addons[0].file == profile.source


def test_settings_of_every_type_are_read(load):
    """Leaves, unions, mappings of structs, mappings of texts, anything at all."""
    profile = load(
        """\
version: 1
addons:
  - catcher:
      on: [connect, "502", 503]
      answer: "202"
      retry_after: 1.5
      largest: 64KiB
      budget: 0.1
      ratio: 2
      routes: {hooks: {answer: 202}, rest: {}}
      options: {linger.ms: 20, enable.idempotence: true, name: no, empty: ""}
      words: [yes, 1]
      anything: {a: [1, 0x10, 1.5, yes, ~, "2", 2024-01-01, 1:30]}
"""
    )
    assert profile.addons[0].settings == CatcherSettings(
        on=("connect", "502", "503"),
        answer=202,
        retry_after=Duration("1500ms"),
        largest=Size("64KiB"),
        budget=Share("10%"),
        ratio=2.0,
        routes={"hooks": RouteAnswer(answer=202), "rest": RouteAnswer()},
        options={"linger.ms": "20", "enable.idempotence": "true", "name": "no", "empty": ""},
        words=("yes", "1"),
        anything={"a": [1, 16, 1.5, True, None, "2", "2024-01-01", "1:30"]},
    )


@pytest.mark.parametrize(
    ("written", "token"),
    [("no", "no"), ("0123", "0123"), ("1.10", "1.10"), ("'null'", "null"), ("!!str 5", "5"), ("|-\n    x", "x")],
)
def test_a_text_is_taken_as_it_is_written(load, written, token):
    """No quotes are needed to keep YAML from guessing."""
    assert load(f"version: 1\nadmin:\n  token: {written}\n").admin.token == token


@pytest.mark.parametrize("written", ["null", "~", "", "${NOT_SET:-}", "${NULL}"])
def test_nothing_switches_off_what_may_be_null(load, written):
    """`admin.listen: null` is no admin surface."""
    assert load(f"version: 1\nadmin: {{listen: {written}}}\n", env={"NULL": "null"}).admin.listen is None


def test_the_environment_fills_in_numbers_booleans_and_texts(load):
    """A plain scalar means after the filling-in what it would have meant if it had been written so."""
    profile = load(
        """\
version: 1
listen: ${HOST:-127.0.0.1}:${PORT}
admin: {token: $${NOT_ME}, health_path: "${HEALTH:-/h}"}
upstream:
  deadline: ${DEADLINE}
  verify_tls: ${VERIFY}
  retry: {attempts: "${ATTEMPTS}", on: ["${CODE}", reset]}
addons:
  - use: ${ADDON}
    with: {text: "${N}", shout: ${SHOUT:-off}}
""",
        env={
            "PORT": "81",
            "DEADLINE": "7",
            "VERIFY": "false",
            "ATTEMPTS": "5",
            "CODE": "503",
            "N": "5",
            "ADDON": f"{HERE}:Banner",
        },
    )
    assert profile.listen == "127.0.0.1:81"
    assert profile.admin.token == "${NOT_ME}"
    assert profile.upstream.deadline == Duration("7s")
    assert profile.upstream.verify_tls is False
    assert profile.upstream.retry.attempts == 5
    assert profile.upstream.retry.on == ("503", "reset")
    assert profile.addons[0].settings == {"text": "5", "shout": False}


@pytest.mark.parametrize("default", ["a, b", "[1]", "a: b", "x #y"])
def test_a_default_may_hold_what_yaml_would_take_for_its_own(load, default):
    """Unquoted and in a flow mapping, where YAML reads commas and brackets."""
    assert load(f"version: 1\nadmin: {{token: ${{T:-{default}}}, health_path: null}}\n").admin.token == default


def test_what_a_variable_holds_is_not_read_as_yaml(load):
    """A token may hold braces, commas and references."""
    tricky = "a: {b}, [c] # ${D} 'e"
    assert load("version: 1\nadmin: {token: ${T}}\n", env={"T": tricky}).admin.token == tricky


def test_anchors_aliases_and_merge_keys_work(load):
    """YAML's own means of not repeating oneself."""
    profile = load(
        """\
version: 1
upstream:
  connect_timeout: &short 2s
  response_timeout: *short
addons:
  - catcher:
      routes:
        a: &accept {answer: 202}
        b: {<<: *accept}
        c: {<<: [{answer: 503}, *accept]}
        d: {<<: *accept, answer: 503}
"""
    )
    assert profile.upstream.response_timeout == Duration("2s")
    assert {name: route.answer for name, route in profile.addons[0].settings.routes.items()} == {
        "a": 202,
        "b": 202,
        "c": 503,
        "d": 503,
    }


def test_an_alias_bomb_is_refused_before_it_goes_off(faults):
    """Nine lines that stand for a thousand million nodes."""
    lines = ["version: 1", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (fault,) = faults("\n".join(lines))
    assert fault.startswith("p.yaml:6: profile: is not valid YAML: larger than")


def test_a_ladder_of_aliases_is_refused(faults):
    """Each alias one level deeper than the one before: flat to look at, deep to follow."""
    lines = ["version: 1", "a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 2000))]
    (fault,) = faults("\n".join(lines))
    assert "levels with aliases" in fault


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000, "? " * 5000])
def test_deep_nesting_is_refused(faults, text):
    """Python's recursion limit is no error message."""
    assert "nested" in faults(f"{text}\n")[0] or "expected" in faults(f"{text}\n")[0]


def test_private_characters_are_refused(faults):
    """The loader puts them in the place of braces while YAML reads."""
    assert "private characters" in faults("version: 1\nlisten: '\U0010ff01'\n")[0]


def test_a_byte_order_mark_is_no_part_of_the_profile(load):
    """Some editors write one."""
    assert load("\ufeffversion: 1\n").version == 1
