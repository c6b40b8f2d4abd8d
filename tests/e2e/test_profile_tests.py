"""`holdfast check PROFILE --test` as a user has it: a process, its output, its exit code, and what it leaves alone."""

from __future__ import annotations

import socket
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.e2e.harness import run_cli

TESTS = """\
version: 1
extends: sidecar
tests:
  - name: a POST is kept
    request: {method: POST, path: /api/users, json: {a: 1}}
    upstream: 503
    expect: {status: 503, captured: {error: http_503}}
  - name: a GET is tried again
    request: GET /api/users
    upstream: [503, 200]
    expect:
      status: 201
      headers: {X-A: "\\x07<b>"}
"""


def written(folder: Path, text: str, name: str = "my-profile.yaml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return name


async def test_what_failed_is_told_with_its_line_and_the_exit_code_is_1(tmp_path):
    """And a report for CI, which is XML whatever is in it."""
    name = written(tmp_path, TESTS)
    code, out, err = await run_cli("check", name, "--test", "--junit", "out.xml", cwd=tmp_path)
    assert (code, err) == (1, "")
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0].startswith("ok      a POST is kept (")
    assert lines[1].startswith("FAILED  a GET is tried again (")
    assert "my-profile.yaml:12: step 1: expect.status: expected 201, got 200" in lines
    assert "my-profile.yaml:13: step 1: expect.headers.X-A: expected '\\x07<b>', got nothing" in lines
    assert any(line.startswith("step 1: GET /api/users: 200, fate retried, route users, attempt 1: ") for line in lines)
    assert any(line.startswith("log: ") and "fate=retried" in line for line in lines)
    assert lines[-1].startswith("2 tests: 1 ok, 1 failed, in ")
    suite = ET.parse(tmp_path / "out.xml").getroot().find("testsuite")
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    kept, again = suite.findall("testcase")
    assert (kept.get("name"), kept.find("failure")) == ("a POST is kept", None)
    assert "expected 201, got 200" in again.find("failure").get("message")
    assert (again.get("file"), again.get("line")) == (name, "8")


async def test_nothing_outside_is_asked_told_or_written_to(tmp_path):
    """Not the servers, not Redis, not Kafka, nobody who is notified or called back; no file, and no port is taken."""
    with socket.create_server(("127.0.0.1", 0)) as somebody, socket.create_server(("127.0.0.1", 0)) as taken:
        port = somebody.getsockname()[1]
        name = written(
            tmp_path,
            f"""\
version: 1
extends: gateway
listen: 127.0.0.1:{taken.getsockname()[1]}
admin: {{listen: "127.0.0.1:{taken.getsockname()[1]}"}}
upstream: {{servers: ["http://127.0.0.1:{port}"], health_check: {{interval: 100ms}}}}
addons:
  - cache: {{store: "redis://127.0.0.1:{port}/0"}}
  - replayer:
      audit: ./audit.db
      callback_key: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
      routes: {{users: {{callback_url: "http://127.0.0.1:{port}/"}}}}
  - failure_sink: {{broker: "kafka://127.0.0.1:{port}", outbox: ./outbox/outbox.db, spool: {{max_body: 1MiB}}}}
  - notifier: {{webhook: "http://127.0.0.1:{port}/", kafka: "kafka://127.0.0.1:{port}"}}
  - tracing: {{endpoint: "http://127.0.0.1:{port}"}}
tests:
  - name: all of it
    steps:
      - {{upstream: {{headers: {{Cache-Control: max-age=60}}}}, request: GET /api/users}}
      - {{request: GET /api/users, expect: {{cache: hit}}}}
      - {{upstream: 503, request: POST /api/users, expect: {{captured: true}}}}
      - {{upstream: 200, expect: {{delivered: true}}}}
""",
        )
        code, out, err = await run_cli("check", name, "--test", cwd=tmp_path, env={"HOME": str(tmp_path)})
        assert (code, err) == (0, ""), out
        somebody.settimeout(0)
        try:
            somebody.accept()
            raise AssertionError("somebody was asked")
        except BlockingIOError:
            pass
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == [name]


async def test_an_addon_that_ends_the_process_is_no_success(tmp_path):
    """Even if it does so with the status 0."""
    (tmp_path / "mine.py").write_text("class Exits:\n    def request(self, flow):\n        raise SystemExit(0)\n")
    text = "version: 1\nextends: minimal\naddons:\n  - use: mine:Exits\ntests:\n  - {name: a, request: GET /}\n"
    name = written(tmp_path, text)
    code, _, err = await run_cli("check", name, "--test", cwd=tmp_path)
    assert code == 1
    assert "an addon has ended the process" in err
