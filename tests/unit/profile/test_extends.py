"""A profile laid over another, and the command line over both."""

from __future__ import annotations

import pytest

from tests.unit.profile.standins import HERE

BASE = f"""\
version: 1
listen: 127.0.0.1:1
upstream: {{connect_timeout: 1s, retry: {{attempts: 7, on: [connect, reset]}}}}
addons:
  - router: {{routes: [{{name: a, pattern: a}}]}}
  - catcher: {{answer: 503, retry_after: 9s, routes: {{a: {{answer: 202}}, b: {{answer: 202}}}}}}
    on_error: closed
  - use: {HERE}:Banner
    with: {{text: base}}
  - metrics
"""


def over(text: str) -> str:
    return f"version: 1\nextends: base.yaml\n{text}"


def names(profile: object) -> list[str]:
    return [entry.name for entry in profile.addons]


def test_mappings_merge_and_lists_are_replaced(load):
    """Key by key, and the later wins."""
    profile = load(over("upstream: {retry: {on: [timeout]}}\n"), base=BASE)
    assert profile.listen == "127.0.0.1:1"
    assert float(profile.upstream.connect_timeout) == 1
    assert profile.upstream.retry.attempts == 7
    assert profile.upstream.retry.on == ("timeout",)
    assert profile.extends == "base.yaml"
    assert names(profile) == ["router", "catcher", "Banner", "metrics"]


def test_an_entry_of_an_inherited_name_keeps_its_place_and_merges_its_settings(load):
    """Deeply: `routes` of the catcher is a mapping."""
    profile = load(over("addons:\n  - catcher: {retry_after: 1s, routes: {b: {answer: 503}}}\n"), base=BASE)
    catcher = profile.addons[1]
    assert (catcher.name, catcher.on_error, catcher.line) == ("catcher", "closed", 4)
    assert catcher.file.endswith("/p.yaml")
    assert float(catcher.settings.retry_after) == 1
    assert {name: route.answer for name, route in catcher.settings.routes.items()} == {"a": 202, "b": 503}


def test_lists_in_an_addons_settings_are_replaced(load):
    """As everywhere."""
    profile = load(over("addons:\n  - router: {routes: [{name: z, pattern: z}]}\n"), base=BASE)
    assert [route.name for route in profile.addons[0].settings.routes] == ["z"]


@pytest.mark.parametrize("entry", ["catcher", "catcher:", "catcher: {}"])
def test_naming_an_inherited_addon_without_settings_changes_nothing_of_them(load, entry):
    """`- catcher` is not a reset."""
    profile = load(over(f"addons:\n  - {entry}\n"), base=BASE)
    assert float(profile.addons[1].settings.retry_after) == 9


def test_on_error_alone_can_be_changed(load):
    """The settings stay."""
    profile = load(over("addons:\n  - catcher:\n    on_error: open\n"), base=BASE)
    assert profile.addons[1].on_error == "open"
    assert float(profile.addons[1].settings.retry_after) == 9


def test_a_new_name_goes_to_the_end(load):
    """The order of the base stays."""
    profile = load(over("addons:\n  - tagger: {tags: {a: [b]}}\n  - router\n"), base=BASE)
    assert names(profile) == ["router", "catcher", "Banner", "metrics", "tagger"]


def test_false_takes_an_inherited_addon_away(load):
    """By its name, wherever its class comes from."""
    profile = load(over("addons:\n  - catcher: false\n  - Banner: false\n"), base=BASE)
    assert names(profile) == ["router", "metrics"]


def test_an_inherited_foreign_addon_is_named_by_its_short_name(load):
    """Its class need not be repeated."""
    profile = load(over("addons:\n  - Banner: {text: over}\n"), base=BASE)
    assert profile.addons[2].target == f"{HERE}:Banner"
    assert profile.addons[2].settings == {"text": "over"}


def test_another_class_under_an_inherited_name_brings_its_own_settings(load):
    """Settings of one class mean nothing to another."""
    text = f"addons:\n  - use: {HERE}:Banner\n    name: catcher\n    with: {{text: x}}\n"
    profile = load(over(text), base=BASE)
    assert names(profile) == ["router", "catcher", "Banner", "metrics"]
    assert profile.addons[1].settings == {"text": "x"}
    assert profile.addons[1].on_error == "closed"


def test_one_class_may_serve_twice_under_two_names(load):
    """`name` tells them apart."""
    text = f"version: 1\naddons:\n  - use: metrics\n  - use: metrics\n    name: again\n  - {HERE}:Banner: {{text: a}}\n"
    assert names(load(text)) == ["metrics", "again", "Banner"]


def test_profiles_extend_over_several_files(load):
    """The nearest wins; a shipped profile is as good a base as a file."""
    profile = load(
        over("log: {level: debug}\n"),
        base="version: 1\nextends: far.yaml\nlisten: 127.0.0.1:2\nlog: {level: error, format: json}\n",
        far="version: 1\nextends: minimal\nlisten: 127.0.0.1:3\nshutdown_grace: 1s\n",
    )
    assert profile.listen == "127.0.0.1:2"
    assert (profile.log.level, profile.log.format) == ("debug", "json")
    assert float(profile.shutdown_grace) == 1
    assert names(profile) == ["metrics"]


def test_a_missing_variable_is_no_fault_where_its_value_is_not_used(load):
    """What has been replaced or taken away need not be filled in."""
    base = f"version: 1\nlisten: ${{NO}}\naddons:\n  - use: {HERE}:Banner\n    with: {{text: '${{NO}}'}}\n"
    profile = load(over("listen: 127.0.0.1:1\naddons: [Banner: false]\n"), base=base)
    assert profile.listen == "127.0.0.1:1"


def test_a_circle_is_told_where_it_closes(faults):
    """Through however many files."""
    found = faults(over(""), base="version: 1\nextends: far.yaml\n", far="version: 1\n\nextends: p.yaml\n")
    assert found == ["far.yaml:3: extends: goes round in a circle: p.yaml -> base.yaml -> far.yaml -> p.yaml"]


def test_a_chain_without_end_is_cut(faults):
    """Sixteen files are more than anybody can follow."""
    chain = {f"f{n}": f"version: 1\nextends: f{n + 1}.yaml\n" for n in range(40)}
    (fault,) = faults("version: 1\nextends: f0.yaml\n", **chain)
    assert fault.endswith("goes over more than 16 files")


def test_only_what_is_inherited_can_be_taken_away(faults):
    """A misspelt name would otherwise leave the addon in place without a word."""
    assert faults(over("addons: [catchr: false]\n"), base=BASE) == [
        "p.yaml:3: addons.catchr: takes away an addon that this profile does not inherit: did you mean 'catcher'?"
    ]


def test_the_command_line_wins_over_the_file(load):
    """Dotted paths, also into an addon's settings."""
    profile = load(
        BASE,
        overrides={
            "listen": "127.0.0.1:9000",
            "upstream.servers": ["http://a", "http://b:1"],
            "admin.listen": None,
            "log.access": False,
            "upstream.retry.attempts": 2,
            "addons.catcher.retry_after": "3s",
        },
    )
    assert profile.listen == "127.0.0.1:9000"
    assert profile.upstream.servers == ("http://a", "http://b:1")
    assert profile.admin.listen is None
    assert profile.log.access is False
    assert profile.upstream.retry.attempts == 2
    assert profile.upstream.retry.on == ("connect", "reset")
    assert float(profile.addons[1].settings.retry_after) == 3


def test_a_fault_of_the_command_line_says_so(faults):
    """There is no line to point to."""
    found = faults(
        BASE,
        overrides={
            "listen": "x",
            "upstream.servers": ["h"],
            "admin.listen": "0.0.0.0:1",
            "nope.x": 1,
            "addons.cacher.on": [],
        },
    )
    assert faults(BASE, overrides={"addons": 1})[0].startswith("command line:0: addons: name the addon")
    assert [fault.partition(": ")[0] for fault in found] == ["command line:0"] * 5
    assert {fault.split(": ")[1] for fault in found} == {
        "listen",
        "upstream.servers[0]",
        "admin",
        "nope",
        "addons.cacher",
    }
    assert "changes an addon that this profile does not inherit: did you mean 'catcher'?" in "".join(found)


def test_the_command_line_is_not_filled_in_from_the_environment(faults):
    """The shell has done that already."""
    assert "'${HOST}:1' is not an address" in faults("version: 1\n", overrides={"listen": "${HOST}:1"})[0]
