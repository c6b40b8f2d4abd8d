"""What is told about profiles: the schema, the masked profile, the reference page."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from holdfast.profile.compose import compose
from holdfast.profile.describe import masked, profile_schema, reference_markdown
from holdfast.profile.nodes import Node, Scalar, Sequence, Table, TreeBuilder, to_plain
from holdfast.profile.shipped import shipped_folder, shipped_profiles
from tests.unit.profile.standins import HERE
from tests.unit.profile.test_load import CONTRACT


def as_written(text: str) -> object:
    """The profile as an editor sees it, `${ENV}` not filled in."""
    root = compose(text, "p.yaml")
    assert root is not None
    return to_plain(_written(TreeBuilder("p.yaml", {}).build(root)))


def _written(node: Node) -> Node:
    if isinstance(node, Sequence):
        return Sequence(node.where, tuple(_written(item) for item in node.items))
    if isinstance(node, Table):
        return Table(node.where, {key: _written(item) for key, item in node.entries.items()})
    return Scalar(node.where, node.source, plain=False) if node.source else node


def mistakes(text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(profile_schema())
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(as_written(text))]


def test_the_schema_is_itself_sound():
    """Draft 2020-12, and JSON through and through."""
    schema = json.loads(json.dumps(profile_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["version"]
    assert "source" not in schema["properties"]
    assert schema["properties"]["upstream"]["$ref"] == "#/$defs/UpstreamSettings"


@pytest.mark.parametrize("name", [name for name, _ in shipped_profiles()])
def test_the_schema_takes_the_shipped_profiles(name):
    """As they are written, references and all."""
    assert mistakes((shipped_folder() / f"{name}.yaml").read_text(encoding="utf-8")) == []


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(
    "text",
    [
        CONTRACT,
        "version: 1\nupstream: {deadline: 5, retry: {on: [502, '503'], attempts: '${N}'}}\n",
        "version: 1\nadmin: {listen: null, health_path: ~}\nlimits: {max_body: 10 MiB}\n",
        "version: 1\nextends: minimal\naddons: [metrics: false, Banner: false]\n",
        "version: 1\naddons:\n  - metrics:\n    on_error: closed\n",
        "version: 1\naddons:\n  - catcher: {options: {linger.ms: 5, x: true}, budget: 20%, words: [a]}\n",
        "version: 1\naddons:\n  - tagger: {}\n",
        f"version: 1\naddons:\n  - {HERE}:Banner: {{text: a}}\n  - use: a:B\n    name: b\n    with:\n",
    ],
)
def test_the_schema_takes_what_the_loader_takes(text):
    """Numbers for texts, nothing for no settings, partial settings of what may be inherited."""
    assert mistakes(text) == []


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(
    "text",
    [
        "listen: 127.0.0.1:1\n",
        "version: 2\n",
        "version: 1\nlisen: x\n",
        "version: 1\nsource: x\n",
        "version: 1\nadmin: null\n",
        "version: 1\nupstream: {deadline: soon}\n",
        "version: 1\nupstream: {servers: []}\n",
        "version: 1\nupstream: {retry: {on: [500]}}\n",
        "version: 1\nupstream: {retry: {attempts: 0}}\n",
        "version: 1\nlimits: {buffer_body: 10M5}\n",
        "version: 1\nlog: {level: loud}\n",
        "version: 1\naddons: {metrics: null}\n",
        "version: 1\naddons:\n  - metrics: {x: 1}\n",
        "version: 1\naddons:\n  - router: {routes: [{name: a}]}\n",
        "version: 1\naddons:\n  - metrics:\n    on_error: shut\n",
        "version: 1\naddons:\n  - router:\n    routes: []\n",
        "version: 1\naddons:\n  - use: a:B\n    wiht: {}\n",
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(text):
    """An editor marks it while it is typed."""
    assert mistakes(text)


def test_two_settings_classes_of_one_name_do_not_mix(monkeypatch):
    """Each addon file names its classes by itself."""
    built_in = {"router": (HERE, "Router"), "other": ("holdfast.router", "Router")}
    monkeypatch.setattr("holdfast.registry.BUILT_IN", built_in)
    monkeypatch.setattr("holdfast.profile.schema.BUILT_IN", built_in)
    definitions = profile_schema()["$defs"]
    assert "maxItems" in definitions["RouterSettings"]["properties"]["routes"]
    assert "maxItems" not in definitions["router.RouterSettings"]["properties"]["routes"]


def test_secrets_are_masked_and_the_rest_is_shown_as_it_is_written(load):
    """What `GET /config` and `holdfast check --json` show."""
    shown = masked(
        load(
            f"""\
version: 1
admin: {{token: hunter2, listen: 0.0.0.0:9900}}
addons:
  - catcher:
      seal_key: hunter2
      largest: 1MiB
      options: {{sasl.password: hunter2, sasl.username: me, ssl.key.pem: hunter2, ssl.key.location: /k, url: "redis://u:hunter2@h"}}
      anything: {{api_tokens: [hunter2], keys: 3, dsn: "host=h password=hunter2 user=u", u: "http://h/?token=hunter2&a=b"}}
  - use: {HERE}:Banner
    with: {{text: hello}}
"""
        )
    )
    assert "hunter2" not in json.dumps(shown)
    assert shown["admin"] == {"listen": "0.0.0.0:9900", "token": "***", "health_path": "/health"}
    assert shown["upstream"]["retry"]["backoff"] == {"base": "50ms", "max": "1s"}
    catcher, banner = shown["addons"]
    assert catcher["with"]["options"] == {
        "sasl.password": "***",
        "sasl.username": "me",
        "ssl.key.pem": "***",
        "ssl.key.location": "/k",
        "url": "redis://***@h",
    }
    assert catcher["with"]["anything"] == {
        "api_tokens": ["***"],
        "keys": 3,
        "dsn": "host=h password=*** user=u",
        "u": "http://h/?token=***&a=b",
    }
    assert (catcher["with"]["largest"], catcher["with"]["budget"], catcher["with"]["seal_key"]) == (
        "1MiB",
        "20%",
        "***",
    )
    assert banner["use"] == f"{HERE}:Banner"
    assert banner["with"] == {"text": "hello"}


def test_an_empty_secret_is_shown_empty(load):
    """That no token is set is worth knowing."""
    assert masked(load("version: 1\n"))["admin"]["token"] == ""


@pytest.mark.usefixtures("stand_ins")
def test_the_reference_names_every_key_with_type_default_and_meaning():
    """One row a key, sections and lists followed into their parts."""
    page = reference_markdown()
    for row in [
        "| `version` | `1` | required | The profile format; always 1. |",
        "| `upstream.retry.backoff.base` | duration | `50ms` | Upper bound of the first wait. |",
        "| `limits.max_body` | size > 0 or `null` | `null` | Larger requests are refused with 413; `null`: no bound. |",
        "| `routes[].pattern` | text | required | What it matches. |",
        "| `routes.NAME.answer` | one of `202`, `503` or `null` | `null` | Status. |",
        "| `budget` | share ≤ 50% | `20%` | Part. |",
        "| `words` | text or list of text or `null` | `null` | One or more. |",
    ]:
        assert row in page
    assert "### `metrics`\n\nCounting.\n\nNo settings.\n" in page
    assert "source" not in page


def test_the_committed_reference_is_current():
    """python -m holdfast.profile.describe > profiles/README.md"""
    committed = Path(shipped_folder() / "README.md").read_text(encoding="utf-8")
    assert committed == reference_markdown(), "run: python -m holdfast.profile.describe > profiles/README.md"
