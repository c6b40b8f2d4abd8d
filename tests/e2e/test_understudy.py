"""The understudy in a real gateway: who answers when the origin is away, with which marks, and what is on the disk.

It stands at the end of this chain, as it does in a profile that extends another one; its place is no part of the order.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import http_sf
import httpx
import pytest
import pytest_asyncio

from holdfast.testing import Answer, MisbehavingOrigin, Received
from tests.e2e.cached import access_lines
from tests.e2e.harness import Gateway, profile, run_cli, until
from tests.e2e.raw import RawClient

pytestmark = pytest.mark.asyncio(loop_scope="module")
JSON = ("Content-Type", "application/json")
SAFE = re.compile(r"[a-z0-9_-][a-z0-9._~-]{0,140}")


@dataclass
class Stage:
    """Each test has paths of its own; `answers` is what the origin says there."""

    origin: MisbehavingOrigin
    gateway: Gateway
    client: httpx.AsyncClient
    answers: dict[str, Answer] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def folder(self) -> Path:
        return self.gateway.folder / "understudy"

    def step(self, received: Received) -> Answer:
        body = json.dumps({"target": received.target}).encode()
        return self.answers.get(received.target, Answer(headers=[JSON], body=body))

    async def recorded(
        self, path: str, answer: Answer | None = None, method: str = "GET", **more: Any
    ) -> httpx.Response:
        """Asked for while the origin is there, and written when this returns."""
        if answer:
            self.answers[path] = answer
        before = await self.count("recorded")
        response = await self.client.request(method, path, **more)
        await until(lambda: self._more(before), what=f"{path} to be recorded")
        return response

    async def _more(self, before: float) -> bool:
        return await self.count("recorded") > before

    async def count(self, result: str) -> float:
        """Of all routes."""
        metrics = await self.gateway.metrics()
        return sum(
            v for key, v in metrics.items() if key[0] == "holdfast_understudy_total" and f"result={result}" in key
        )

    def files(self) -> list[Path]:
        return [each for each in self.folder.rglob("*") if each.is_file()]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """With a cache, captures, and an understudy behind them all."""
    folder = tmp_path_factory.mktemp("stage")
    async with MisbehavingOrigin() as origin:
        made = profile(origin.url, log={"format": "json"})
        made["addons"].insert(2, {"cache": {}})
        understudy = {"methods": ["GET", "HEAD", "POST"], "routes": {"user": {"match": "route"}}}
        made["addons"].append({"understudy": {**understudy, "redact": {"json_paths": ["$..password"]}}})
        gateway = Gateway(folder, made=made)
        async with gateway, httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
            found = Stage(origin, gateway, client)
            origin.plan = found.step
            yield found


def marks(response: httpx.Response) -> tuple[str, dict[str, Any]]:
    """`Holdfast-Understudy`, read as RFC 9651 has it."""
    item, parameters = http_sf.parse(response.headers["holdfast-understudy"].encode(), tltype="item")
    return str(item), {
        name: str(each) if isinstance(each, http_sf.Token) else each for name, each in parameters.items()
    }


async def test_the_recording_answers_while_the_origin_is_away(stage: Stage) -> None:
    """Marked, and kept by nobody; as soon as the origin is back, it answers."""
    live = await stage.recorded("/api/users", Answer(headers=[JSON, ("Date", "now"), ("X-A", "1")], body=b'{"n": 1.0}'))
    assert "holdfast-understudy" not in live.headers
    async with stage.origin.refusing():
        answer = await stage.client.get("/api/users")
        head = await stage.client.head("/api/users")
        part = await stage.client.get("/api/users", headers={"Range": "bytes=0-0"})
        same = await stage.client.get("/api/users", headers={"If-None-Match": answer.headers["etag"]})
    assert (answer.status_code, answer.json(), answer.headers["x-a"]) == (200, {"n": 1.0}, "1")
    assert marks(answer)[0] == "users"
    assert set(marks(answer)[1]) == {"recorded"}
    assert "error=connection_refused" in answer.headers["proxy-status"]
    assert "holdfast-fate=stale" in answer.headers["proxy-status"]
    assert answer.headers["cache-control"] == "no-store"
    assert not {"age", "warning", "holdfast-capture-id"} & set(answer.headers)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(answer.content)))
    assert (part.status_code, part.content, same.status_code) == (206, b"{", 304)
    again = await stage.client.get("/api/users")
    assert "holdfast-understudy" not in again.headers
    line = next(each for each in access_lines(stage.gateway) if each.get("understudy"))
    assert (line["fate"], line["reason"], line["understudy"], line["status"]) == ("stale", "understudy", "exact", 200)


async def test_an_edited_file_is_used_at_once_and_a_broken_one_is_told(stage: Stage) -> None:
    """No restart; without a recording that can be used the request is captured as ever, and it is not overwritten."""
    await stage.recorded("/api/edited", Answer(headers=[JSON], body=b'{"n": 1}'))
    (file,) = [each for each in stage.files() if each.name == "get.api.edited.yaml"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    whole = file.read_text()
    async with stage.origin.refusing():
        file.write_text(whole.replace('"n": 1', '"n": 2').replace("status: 200", "status: 203"))
        edited = await stage.client.get("/api/edited")
        assert (edited.status_code, edited.json()) == (203, {"n": 2})
        assert marks(edited)[1]["edited"] is True
        file.write_text(whole.replace('"n": 1', '"n": 1,'))
        broken = await stage.client.get("/api/edited")
        assert (broken.status_code, "holdfast-capture-id" in broken.headers) == (503, True)
        health = (await stage.gateway.admin("/health")).json()["understudy"]
        line = whole.count("\n", 0, whole.index('"n"')) + 1
        assert health["status"] == "failing"
        assert f"get.api.edited.yaml:{line}: the body is no JSON" in health["detail"]
        assert f"get.api.edited.yaml:{line}:" in stage.gateway.log()
        file.write_text(whole)
        assert (await stage.client.get("/api/edited")).json() == {"n": 1}
    await until(lambda: _is_ok(stage.gateway), what="the health page to say so")


async def _is_ok(gateway: Gateway) -> bool:
    return bool((await gateway.admin("/health")).json()["understudy"]["status"] == "ok")


async def test_a_stale_answer_of_the_cache_goes_first(stage: Stage) -> None:
    """RFC 5861: it has been allowed by the origin; a recording has not."""
    cached = [JSON, ("Cache-Control", "max-age=0, stale-if-error=60")]
    await stage.recorded("/api/cached", Answer(headers=cached, body=b"[1]"))
    async with stage.origin.refusing():
        answer = await stage.client.get("/api/cached")
    assert answer.json() == [1]
    assert "holdfast-understudy" not in answer.headers
    assert "age" in answer.headers


async def test_the_cache_keeps_nothing_of_a_recording(stage: Stage) -> None:
    """Whatever the file says: what was given once in place of an error must not be given when all is well."""
    await stage.recorded("/api/kept", Answer(headers=[JSON], body=b"[1]"))
    (file,) = [each for each in stage.files() if each.name == "get.api.kept.yaml"]
    file.write_text(file.read_text().replace("headers:", "headers:\n  cache-control: max-age=1000"))
    async with stage.origin.refusing():
        assert marks(await stage.client.get("/api/kept"))
    answer = await stage.client.get("/api/kept")
    assert "holdfast-understudy" not in answer.headers
    assert "hit" not in answer.headers["cache-status"]


async def test_a_captured_request_is_told_that_it_is_captured(stage: Stage) -> None:
    """`unsafe: capture`: 503 with the id, although there is a recording; a GET that is answered is not captured."""
    await stage.recorded("/api/orders", Answer(201, [JSON], b'{"id": 1}'), "POST", content=b"{}")
    await stage.recorded("/api/orders", Answer(200, [JSON], b"[]"))
    async with stage.origin.refusing():
        posted = await stage.client.post("/api/orders", content=b"{}")
        await stage.client.get("/api/orders")
    assert posted.status_code == 503
    assert "holdfast-understudy" not in posted.headers
    captured = [each for each in await stage.gateway.captures() if each["path"] == "/api/orders"]
    assert [(each["method"], each["id"]) for each in captured] == [("POST", posted.headers["holdfast-capture-id"])]


async def test_another_recording_of_the_route_answers_where_that_is_allowed(stage: Stage) -> None:
    """`match: route`, for one route only; it says whose answer it was."""
    await stage.recorded("/api/users/3")
    async with stage.origin.refusing():
        answer = await stage.client.get("/api/users/7")
        other = await stage.client.get("/api/nobody")
    assert answer.json() == {"target": "/api/users/3"}
    assert {"match": "route", "of": "/api/users/3"}.items() <= marks(answer)[1].items()
    assert other.status_code == 503


async def test_no_secret_is_in_the_files(stage: Stage) -> None:
    """Cookies and their kin never; parameters and JSON values that are named are masked."""
    secret = "s3cr3t-value"
    fields = [JSON, ("Set-Cookie", f"id={secret}"), ("X-Auth-Token", secret), ("Location", f"/x?token={secret}")]
    body = json.dumps({"password": secret, "name": "Ada"}).encode()
    asked = f"/api/login?access_token={secret}&q=1"
    await stage.recorded(asked, Answer(200, fields, body), headers={"Authorization": secret, "Cookie": secret})
    assert not [each for each in stage.files() if secret in each.read_text(errors="replace") or secret in each.name]
    async with stage.origin.refusing():
        answer = await stage.client.get("/api/login?access_token=another&q=1")
    assert answer.json() == {"password": "[redacted]", "name": "Ada"}
    assert "set-cookie" not in answer.headers


async def test_hostile_targets_stay_in_the_folder(stage: Stage) -> None:
    """Dots, encoded separators, devices, 10,000 characters, letters that differ by case: each has a file of its own."""
    targets = [
        "/../../../../tmp/escaped", "/..%2f..%2fescaped", "/a%00b", "/con", "/nul.txt", "/CaSe", "/case", "/.hidden",
        "/a/./b//c/", "/" + "x" * 3000, "/q?" + "y" * 10_000, "/q?" + "y" * 9_999, "/%E2%80%AE", "/~root", "/a:b", "/*",
    ]  # fmt: skip
    before = await stage.count("recorded")
    async with RawClient(stage.gateway.port) as client:
        for target in targets:
            assert (await client.request("GET", target)).json() == {"target": target}

        async def all_written() -> bool:
            return await stage.count("recorded") >= before + len(targets)

        await until(all_written, what="all of them to be recorded")
        async with stage.origin.refusing():
            for target in targets:
                answer = await client.request("GET", target)
                assert answer.header("holdfast-understudy")
                assert answer.json() == {"target": target}
    assert all(SAFE.fullmatch(part) for each in stage.files() for part in each.relative_to(stage.folder).parts)
    assert all(each.resolve().is_relative_to(stage.folder) for each in stage.files())


async def test_bodies_come_back_without_their_coding(stage: Stage) -> None:
    """Compressed JSON can be edited; a picture is a file that a viewer opens; a stream is counted and not recorded."""
    picture = b"\x89PNG\r\n\x1a\n\0\0"
    coded = [JSON, ("Content-Encoding", "gzip"), ("ETag", '"origin"')]
    await stage.recorded("/api/gzip", Answer(200, coded, gzip.compress(b'{"a":1}')))
    await stage.recorded("/api/picture", Answer(200, [("Content-Type", "image/png")], picture))
    streamed = await stage.count("streamed")
    stage.answers["/api/events"] = Answer(200, [("Content-Type", "text/event-stream")], b"data: 1\n\n")
    await stage.client.get("/api/events")
    assert await stage.count("streamed") == streamed + 1
    async with stage.origin.refusing():
        answer = await stage.client.get("/api/gzip")
        assert answer.json() == {"a": 1}
        assert "content-encoding" not in answer.headers
        assert answer.headers["etag"] != '"origin"'
        shown = await stage.client.get("/api/picture")
        assert (shown.content, shown.headers["content-type"]) == (picture, "image/png")
    (file,) = [each for each in stage.files() if each.suffix == ".png"]
    assert file.read_bytes() == picture


async def test_a_folder_that_cannot_be_written_costs_no_request_anything(stage: Stage) -> None:
    """It is counted, and told once."""
    await stage.recorded("/api/users/19")
    (stage.folder / "user").rename(stage.folder / "away")
    (stage.folder / "user").write_text("a file where the folder should be")
    try:
        errors = await stage.count("write_error")
        for number in range(20, 23):
            assert (await stage.client.get(f"/api/users/{number}")).status_code == 200

        async def counted() -> bool:
            return await stage.count("write_error") >= errors + 3

        await until(counted, what="three errors to be counted")
        assert stage.gateway.log(500).count("answers are not recorded") == 1
    finally:
        (stage.folder / "user").unlink()
        (stage.folder / "away").rename(stage.folder / "user")
    await stage.recorded("/api/users/24")


async def test_explain_names_the_recording(stage: Stage) -> None:
    """`holdfast explain`, without sending anything."""
    await stage.recorded("/api/explained")
    code, out, err = await run_cli(
        *("explain", "--profile", stage.gateway.profile, f"{stage.gateway.url}/api/explained"), cwd=stage.gateway.folder
    )
    assert code == 0, err
    assert "get.api.explained.yaml if the upstream fails" in " ".join(out.split())
