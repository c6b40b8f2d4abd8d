"""deploy/: Prometheus' own tool accepts its files, every alert is tested, and every metric named there exists."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.harness import Gateway, addon, profile

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
RULES = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus-rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
CASES = yaml.safe_load((DEPLOY / "tests" / "rules_test.yml").read_text(encoding="utf-8"))["tests"]
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}


@pytest.fixture
def promtool() -> str:
    """Prometheus' tool; skipped without it, a failure in CI."""
    if found := shutil.which("promtool"):
        return found
    reason = "no promtool: it comes with Debian's package prometheus, which `scripts/test` installs as root"
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def run(*command: str) -> None:
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_the_rules(promtool: str) -> None:
    """Names, expressions and templates."""
    run(promtool, "check", "rules", str(DEPLOY / "prometheus-rules.yml"))


def test_the_rules_do_what_their_cases_say(promtool: str) -> None:
    """Each alert fires and keeps quiet when it should."""
    run(promtool, "test", "rules", str(DEPLOY / "tests" / "rules_test.yml"))


def test_prometheus_accepts_its_configuration(promtool: str, tmp_path: Path) -> None:
    """With the files in their places, as the compose file mounts them."""
    text = (DEPLOY / "prometheus.yml").read_text(encoding="utf-8")
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("/etc/prometheus/admin-token", str(tmp_path / "admin-token")))
    (tmp_path / "admin-token").write_text("token")
    shutil.copy(DEPLOY / "prometheus-rules.yml", tmp_path)
    run(promtool, "check", "config", str(config))


def test_the_compose_file_mounts_the_rules() -> None:
    """Beside the configuration, which names them without a path."""
    (named,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))["rule_files"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert f"./deploy/{named}:/etc/prometheus/{named}:ro" in compose["services"]["prometheus"]["volumes"]


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_it_is_and_what_to_do(alert: str) -> None:
    """Its severity, a line for the pager, and a description that helps whoever is woken."""
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "description"}
    assert 10 < len(rule["annotations"]["summary"]) < 120
    assert len(rule["annotations"]["description"].split()) >= 15


def expected(alert: str) -> Iterator[list[Any]]:
    """What the cases expect of an alert: the samples of each question about it."""
    for case in CASES:
        for question in case["promql_expr_test"]:
            if f'alertname="{alert}"' in question["expr"]:
                yield question["exp_samples"]


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(alert: str) -> None:
    """A rule without either is a guess."""
    found = list(expected(alert))
    assert any(found)
    assert not all(found)


def used() -> set[str]:
    """Every metric of ours that an expression names, but for those that the rules record themselves."""
    text = "\n".join(rule["expr"] for rule in RULES)
    return set(re.findall(r"(?<![\w:])holdfast_\w+(?![\w:])", text))


async def test_every_metric_of_the_rules_is_one_of_a_gateway(tmp_path: Path) -> None:
    """A misspelt name is an alert that never fires. The replayer's are not a gateway's: they are looked up below."""
    made = addon(addon(profile("http://127.0.0.1:9"), "cache"), "faults")
    async with Gateway(tmp_path, made=made, args=["--workers", "2"]) as gateway:
        page = (await gateway.admin("/metrics")).text
    families = text_string_to_metric_families(page)
    known = {f"{family.name}{suffix}" for family in families for suffix in SUFFIXES.get(family.type, ("",))}
    assert {name for name in used() if not name.startswith("holdfast_replay_")} - known == set()


def test_every_metric_of_the_replayer_is_in_its_source() -> None:
    """Some of them are there only with Kafka, so no single scrape has them all."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "addons/holdfast/replay").rglob("*.py"))
    names = {name.removesuffix("_total") for name in used() if name.startswith("holdfast_replay_")}
    assert {name for name in names if f'"{name}"' not in text} == set()


def test_the_documentation_names_every_alert_with_its_severity() -> None:
    """docs/monitoring.md, the table of alerts."""
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (critical|warning|info) \| (.*) \|$", page, flags=re.M))
    told = {alert: severity for severity, names in rows.items() for alert in re.findall(r"`(\w+)`", names)}
    assert told == {alert: rule["labels"]["severity"] for alert, rule in ALERTS.items()}
