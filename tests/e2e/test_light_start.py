"""What a gateway does not need it does not load: a small profile starts as fast as mitmproxy itself, nearly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e import raw
from tests.e2e.harness import Front, Gateway, accepts, until

TELL = """
import pathlib
import sys

class Tell:
    def request(self, flow):
        pathlib.Path("modules.txt").write_text("\\n".join(sorted(sys.modules)))
"""
HEAVY = (
    *("tornado", "apsw", "confluent_kafka", "redis", "psycopg", "alembic", "sqlalchemy", "opentelemetry", "http_sf"),
    *("multiprocessing", "mitmproxy.tools.web", "mitmproxy.tools.console"),
)
OURS = (
    *("admin.pages", "admin.dashboard", "admin.server", "audit", "brokers", "cache", "caching", "captures", "doctor"),
    *("explaining", "failure_sink", "interceptor", "notifier", "notifying", "outbox", "recordings", "rehearsal"),
    *("replay", "replayer", "stores", "surrogate", "testing", "top", "tracing", "understudy", "workbench.desk"),
)


@pytest.mark.parametrize("front", ["run", "mitmdump"])
async def test_a_minimal_gateway_loads_nothing_that_it_does_not_need(tmp_path: Path, front: Front) -> None:
    """Only what the profile names is loaded; of what every chain has, the seldom used parts are once they are used."""
    (tmp_path / "tell.py").write_text(TELL)
    made = {"version": 1, "extends": "minimal", "admin": {"listen": None}, "addons": ["metrics", {"use": "tell:Tell"}]}
    gateway = Gateway(tmp_path, front=front, made=made).launch()
    try:
        await until(lambda: accepts(gateway.port), within=30, what="the gateway to listen")
        async with raw.RawClient(gateway.port) as client:
            assert (await client.request("GET", "/")).status == 502
        loaded = set((tmp_path / "modules.txt").read_text().split("\n"))
    finally:
        gateway.kill()
    assert loaded & {"holdfast.metrics", "holdfast.engine.gate"}
    assert not loaded & {*HEAVY, *(f"holdfast.{name}" for name in OURS)}
    at_once = front == "mitmdump" or os.environ.get("HOLDFAST_ENGINE") == "plain"
    assert bool(loaded & {"flask", "ldap3.core", "werkzeug.wrappers"}) is at_once


async def test_the_pages_that_mitmproxy_serves_are_there(tmp_path: Path) -> None:
    """And the certificate of the folder that is set. What makes them is loaded when somebody asks."""
    options = ("--", "--set", "onboarding_host=127.0.0.1", "--set", f"confdir={tmp_path}")
    async with Gateway(tmp_path, args=options) as gateway, raw.RawClient(gateway.port) as client:
        page = await client.request("GET", "/")
        assert (page.status, b"<title>mitmproxy</title>" in page.body) == (200, True)
        certificate = await client.request("GET", "/cert/pem")
        assert certificate.body == (tmp_path / "mitmproxy-ca-cert.pem").read_bytes()
