"""`holdfast captures`: what a person sees of captures, and has done with them, beside a gateway and without one."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from holdfast.testing import Answer
from tests.e2e import raw
from tests.e2e.captured import captures, desk, made_for
from tests.e2e.harness import Gateway, environment, run_cli

UNKNOWN = "01890000-0000-7000-8000-000000000000"


async def test_a_capture_is_told_from_its_failure_to_its_delivery(tmp_path: Path) -> None:
    """The story of one request, by the real command: pending, then delivered, with every replay and the answer."""
    async with desk(tmp_path) as at:
        capture_id = await at.captured()
        code, out, _ = await run_cli("captures", "list", "--profile", at.gateway.profile, cwd=tmp_path)
        names, row = (re.split(r"\s{2,}", line) for line in out.splitlines())
        assert code == 0
        assert dict(zip(names, row, strict=False)).items() >= {
            *(("id", capture_id), ("state", "pending"), ("route", "users"), ("method", "POST")),
            *(("path", "/api/users"), ("error", "http_503"), ("status", "503")),
        }
        at.origin.plan = Answer(201, [("X-Told", "yes")], b'{"id": 7}')
        await at.reaches(capture_id, "delivered")
        (listed,) = await at.json("list", "--state", "delivered")
        assert (listed["id"], listed["status"], listed["reason"]) == (capture_id, 201, "")
        assert listed["settled"] > listed["captured"]
        assert await at.json("list", "--state", "pending", "--state", "dead") == []
        _, shown, _ = await at.holdfast("show", capture_id)
        assert re.search(r"^state +delivered$", shown, re.M)
        assert re.search(r"^replay +\S+ \S+ +http://127.0.0.1:\d+ +201 ", shown, re.M)
        assert "HTTP 201\n" in shown
        assert "x-told: yes" in shown
        assert '{"id": 7}' in shown
        assert "curl -i" in shown
        whole = await at.json("show", capture_id)
        assert whole["request"]["body"] == '{"a": 1}'
        assert [each["status"] for each in whole["replays"]][-1] == 201
        assert whole["replays"][-1]["answer"]["body"] == '{"id": 7}'


async def test_dead_captures_are_redriven_and_parked_if_they_fail_again(tmp_path: Path) -> None:
    """First it is only shown, by groups; then done; what fails again is not mixed with what is dead."""
    async with desk(tmp_path) as at:
        first, second = await at.settled("/api/users/1"), await at.settled("/api/users/2")
        foretold = await at.json("redrive")
        assert foretold["would_redrive"] == 2
        group = {"state": "dead", "route": "user", "error": "http_503", "reason": "status_400", "captures": 2}
        assert foretold["groups"] == [group]
        code, out, err = await at.holdfast("redrive")
        assert (code, "status_400" in out, "2 captures" in err, "--yes" in err) == (0, True, True, True)
        assert {each["state"] for each in await at.json("list")} == {"dead"}
        at.origin.plan = {"/api/users/1": Answer(200), "*": Answer(422)}
        code, out, _ = await at.holdfast("redrive", "--yes", "--rate", "1000")
        told = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        assert [each.get("id") for each in told] == [first, second, None]
        assert told[-1] == {"redriven": 2, "of": 2}
        await at.reaches(first, "delivered")
        await at.reaches(second, "parked")
        (parked,) = await at.json("list", "--state", "parked")
        assert (parked["redrive"], parked["status"]) == (1, 422)
        # A delivered one is not sent again by mistake; by its name it is.
        code, out, _ = await at.holdfast("redrive", first, second, "--json")
        assert [each["id"] for each in json.loads(out)["passed_over"]] == [first]
        code, out, _ = await at.holdfast("replay", first, second, "--json")
        assert [json.loads(line)["redriven"] for line in out.splitlines()] == [True, True]
        assert code == 0
        await at.reaches(second, "parked")
        assert [(await at.json("show", each))["redrive"] for each in (first, second)] == [2, 2]


async def test_a_redrive_shows_a_bar_on_a_terminal(tmp_path: Path) -> None:
    """And JSON lines everywhere else (see above)."""
    async with desk(tmp_path) as at:
        await at.settled()
        front, back = pty.openpty()
        command = [sys.executable, "-m", "holdfast", "captures", "redrive", "--yes", "--profile", at.gateway.profile]
        env = {**environment(tmp_path), "TERM": "xterm", "COLUMNS": "120"}
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=back, stderr=back, env=env) as process:
            assert process.wait(60) == 0
        os.close(back)
        seen = os.read(front, 65536).decode()
        os.close(front)
        assert "redriving" in seen
        assert "1/1" in seen
        assert "1 of 1 captures are sent again" in seen
        assert "{" not in seen


async def test_discarded_captures_are_not_sent(tmp_path: Path) -> None:
    """One by its id at once; more by filters, only with --yes; delivered ones stay."""
    async with desk(tmp_path) as at:
        delivered = await at.settled("/api/users/0", 200)
        one, other, third = [await at.captured(f"/api/users/{number}") for number in (1, 2, 3)]
        assert await at.json("discard", one) == {"discarded": 1}
        code, out, err = await at.holdfast("discard", "--route", "user")
        assert (code, out) == (0, "")
        assert "2 captures would be discarded" in err
        assert await at.json("discard", "--key", "/api/users/2", "--yes") == {"discarded": 1}
        at.origin.plan = Answer(200)
        await at.reaches(third, "delivered")
        states = {each["id"]: each["state"] for each in await at.json("list")}
        assert states == {one: "discarded", other: "discarded", third: "delivered", delivered: "delivered"}
        assert {received.target for received in at.origin.requests if received.header("holdfast-replay")} >= {
            "/api/users/3"
        }
        code, _, err = await at.holdfast("discard", delivered)
        assert code == 1
        code, _, err = await at.holdfast("discard", "--state", "delivered", "--yes")
        assert (code, "pending, dead, parked" in err) == (2, True)


async def test_diff_finds_what_differs_and_forgets_noise(tmp_path: Path) -> None:
    """Status, header and JSON by its path; 0 the same, 1 different, 2 nothing to compare."""
    async with desk(tmp_path) as at:
        at.origin.plan = Answer(
            503, [("Content-Type", "application/json"), ("X-Was", "1")], b'{"a": {"b": 1}, "at": 1}'
        )
        answer = await at.client.request("POST", "/api/users", body=b"{}")
        capture_id = answer.capture_id or ""
        at.origin.plan = Answer(
            400, [("Content-Type", "application/json"), ("Date", "now")], b'{"a": {"b": 2}, "at": 2}'
        )
        await at.reaches(capture_id, "dead")
        code, out, _ = await at.holdfast("diff", capture_id, "--json", "--ignore-header", "X-Was")
        assert code == 1
        differences = {each["where"]: (each["recorded"], each["replayed"]) for each in json.loads(out)["differences"]}
        assert differences == {"status": ("503", "400"), "json:$.a.b": ("1", "2"), "json:$.at": ("1", "2")}
        code, out, _ = await at.holdfast("diff", capture_id, "--ignore", "$.at")
        assert code == 1
        assert re.search(r"^header:x-was +1 +nothing$", out, re.M)
        assert "$.at" not in out
        # The same answer now as then, from a server that is named.
        at.origin.plan = Answer(
            503, [("Content-Type", "application/json"), ("X-Was", "1")], b'{"at": 9, "a": {"b": 1}}'
        )
        code, out, _ = await at.holdfast("diff", capture_id, "--to", at.origin.url, "--ignore", "$.at", "--json")
        assert (code, json.loads(out)["same"]) == (0, True)
        code, out, _ = await at.holdfast("diff", capture_id, "--to", at.origin.url, "--against", "replay", "--json")
        assert code == 1
        code, _, err = await at.holdfast("diff", capture_id, "--ignore", "$[")
        assert code == 2
        async with at.origin.refusing():
            refused = await at.client.request("POST", "/api/users", body=b"{}")
            code, _, err = await at.holdfast("diff", refused.capture_id or "")
            assert (code, "connection_refused" in err) == (2, True)


async def test_a_capture_can_be_sent_by_hand_to_another_server(tmp_path: Path) -> None:
    """With its secrets, if the key is there, and what the profile attaches; and nothing of it is recorded."""
    key = "b" * 43 + "="

    def sealed(made: dict[str, object]) -> None:
        addons = made["addons"]
        assert isinstance(addons, list)
        addons[-1]["failure_sink"]["seal_key"] = key

    async with desk(tmp_path, sealed) as at:
        body = bytes(range(256))
        capture_id = await at.captured(
            "/api/users?x=%20", body, ("Authorization", "Bearer secret"), ("X-Odd", "caf\xe9")
        )
        at.origin.plan = Answer(400)
        await at.reaches(capture_id, "dead")
        at.origin.forget()
        at.origin.plan = Answer(
            418, [("Set-Cookie", "s=1")], b"tea\x1b[31m", interim=b"HTTP/1.1 103 Early Hints\r\n\r\n"
        )
        code, out, _ = await at.holdfast("replay", capture_id, "--to", at.origin.url, "--dry-run")
        assert (code, at.origin.requests) == (0, [])
        assert "secret" not in out
        code, out, err = await at.holdfast("replay", capture_id, "--to", at.origin.url, "--json")
        assert code == 0, err
        document = json.loads(out)
        assert document["answer"]["status"] == 418
        assert "s=1" not in out
        (arrived,) = at.origin.requests
        assert (arrived.method, arrived.target, arrived.body) == ("POST", "/api/users?x=%20", body)
        assert arrived.header("authorization") == "Bearer secret"
        assert arrived.header("x-odd") == "caf\xe9"
        assert arrived.header("holdfast-capture-id") == capture_id
        _, out, _ = await at.holdfast("replay", capture_id, "--to", at.origin.url)
        assert "HTTP 418" in out
        assert "\x1b" not in out
        shown = await at.json("show", capture_id)
        assert (shown["state"], shown["status"], shown["replays"][-1]["status"]) == ("dead", 400, 400)
        async with at.origin.refusing():
            code, _, err = await at.holdfast("replay", capture_id, "--to", at.origin.url)
        assert (code, "no answer from" in err) == (1, True)


async def test_it_works_without_a_gateway_and_before_anything_was_stored(tmp_path: Path) -> None:
    """Nothing is made by looking; ids that are unknown are named, and are an error."""
    gateway = Gateway(tmp_path, made=made_for("http://127.0.0.1:1", tmp_path))
    assert (await captures("list", "--json", "--profile", gateway.profile))[:2] == (0, "[]\n")
    assert await captures("redrive", "--yes", "--profile", gateway.profile) == (0, '{"redriven": 0, "of": 0}\n', "")
    for action in ("show", "replay", "diff", "redrive"):
        code, _, err = await captures(action, UNKNOWN, "--profile", gateway.profile)
        assert (code, UNKNOWN in err) == (1, True), action
    assert sorted(file.name for file in tmp_path.iterdir()) == ["profile.yaml"]
    async with gateway, raw.RawClient(gateway.port) as client:
        capture_id = (await client.request("POST", "/api/users", body=b"x")).capture_id
    (listed,) = json.loads((await captures("list", "--json", "--profile", gateway.profile))[1])
    assert (listed["id"], listed["state"]) == (capture_id, "pending")
    # A file that is named has a history of its own, and the replayer's part of it has to be named too.
    own = ("--outbox", str(tmp_path / "outbox.db"))
    assert [each["id"] for each in json.loads((await captures("list", "--json", *own))[1])] == [capture_id]
    code, _, err = await captures("redrive", "--yes", *own)
    assert (code, "--audit" in err) == (2, True)


async def test_a_store_that_is_away_is_an_error_and_no_half_truth(tmp_path: Path) -> None:
    """Exit code 1 and a sentence, with SQLite and with PostgreSQL."""
    gateway = Gateway(tmp_path, made=made_for("http://127.0.0.1:1", tmp_path))
    (tmp_path / "audit.db").write_bytes(b"this is no database" * 100)
    for audit in ((), ("--audit", "postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=1")):
        code, out, err = await captures("list", "--profile", gateway.profile, *audit)
        assert (code, out) == (1, "")
        assert "Traceback" not in err
        assert len(err.splitlines()) == 1
    code, _, err = await captures("list", "--state", "gone", "--profile", gateway.profile)
    assert (code, "pending, published" in err) == (2, True)


async def test_nothing_of_a_client_or_an_origin_reaches_the_terminal_as_a_control(tmp_path: Path) -> None:
    """Escape sequences in a path, a header, a body, an answer, an id: never as they are."""
    async with desk(tmp_path) as at:
        evil = "\x9b31m\x1b]0;x\x07"
        capture_id = await at.captured("/api/users/%1b[31m\x9b2J", evil.encode(), ("X-Evil", "\x9b31m\xa0"))
        at.origin.plan = Answer(400, [("X-Evil", "\x9b31m")], evil.encode())
        await at.reaches(capture_id, "dead")
        for args in (
            *(("show", capture_id), ("show", capture_id, "--json"), ("show", capture_id, "--curl")),
            *(("list",), ("list", "--json"), ("diff", capture_id), ("redrive",), ("show", "\x1b[31m\x9b")),
            *(("replay", capture_id, "--to", at.origin.url), ("replay", capture_id, "--to", at.origin.url, "--json")),
        ):
            _, out, err = await at.holdfast(*args)
            assert out + err
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", out + err), (args, out, err)
