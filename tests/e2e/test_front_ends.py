"""The same chain under `holdfast run`, `mitmdump -s` and `mitmweb -s`; and no front end serves without it."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
import yaml

from holdfast.testing import Answer, Break, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Front, Gateway, accepts, profile, until
from tests.services.process import free_port

FRONTS: tuple[Front, ...] = get_args(Front.__value__)
BODY = b'{"name":"Eve"}'


@pytest.mark.parametrize("front", FRONTS)
async def test_the_whole_chain_works_under_every_front_end(tmp_path: Path, front: Front) -> None:
    """Passed, retried, captured, recovered, counted, listed: in one go."""
    async with (
        MisbehavingOrigin() as origin,
        Gateway(tmp_path, origin.url, front=front) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        passed = await client.request("GET", "/api/users", [("X-Request-ID", "mine")])
        assert (passed.status, passed.body, passed.header("x-request-id")) == (200, b"ok", "mine")
        assert origin.requests[0].header("x-request-id") == "mine"
        origin.plan = [Break("body", "reset"), Answer(body=b"second")]
        assert (await client.request("GET", "/api/users")).body == b"second"
        async with origin.refusing():
            captured = await client.request("POST", "/api/users/7", body=BODY)
            assert (captured.status, captured.header("connection")) == (503, None)
        assert (await client.request("GET", "/api/users")).status == 200

        (listed,) = await gateway.captures()
        assert (listed["id"], listed["route"], listed["method"]) == (captured.capture_id, "user", "POST")
        assert raw.body_of((await gateway.exported())[listed["id"]]) == BODY
        figures = await gateway.metrics()
        name = "holdfast_requests_total"
        assert figures[name, "fate=captured", "method=POST", "route=user", "status=503"] == 1
        assert figures[name, "fate=retried", "method=GET", "route=users", "status=200"] == 1
        assert figures[name, "fate=ok", "method=GET", "route=users", "status=200"] == 2
        assert await gateway.terminate() == 0


async def test_a_shipped_profile_runs_by_its_name(tmp_path: Path) -> None:
    """With the listener, the admin surface and the upstream given on the command line."""
    async with (
        MisbehavingOrigin() as origin,
        Gateway(tmp_path, origin.url, made="sidecar", env={"KAFKA_URL": "", "REDIS_URL": ""}) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        assert (await client.request("GET", "/api/users")).body == b"ok"
        async with origin.refusing():
            captured = await client.request("POST", "/api/users", body=BODY)
        assert captured.capture_id
        assert [capture["id"] for capture in await gateway.captures()] == [captured.capture_id]
        assert (await gateway.admin("/config")).json()["upstream"]["servers"] == [origin.url]


async def test_mitmweb_shows_what_became_of_each_flow(tmp_path: Path) -> None:
    """A mark and a comment that names the fate, the attempts and the capture; none for what simply passed."""
    async with (
        MisbehavingOrigin() as origin,
        Gateway(tmp_path, origin.url, front="mitmweb") as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        await client.request("GET", "/passed")
        origin.plan = [Answer(503), Answer()]
        await client.request("GET", "/retried")
        async with origin.refusing():
            captured = await client.request("GET", "/captured")
        flows = {flow["request"]["path"]: flow for flow in await web(gateway, "/flows")}
    assert flows["/passed"]["marked"] == ""
    assert flows["/passed"]["comment"] == ""
    assert flows["/retried"]["marked"]
    assert flows["/retried"]["comment"].startswith("retried")
    assert flows["/captured"]["marked"] not in ("", flows["/retried"]["marked"])
    assert captured.capture_id
    assert captured.capture_id in flows["/captured"]["comment"]
    assert "connection_refused" in flows["/captured"]["comment"]
    assert flows["/captured"]["response"]["status_code"] == 503


async def web(gateway: Gateway, path: str, method: str = "GET", **more: Any) -> Any:
    """A call of mitmweb's own API."""
    headers = {"Authorization": f"Bearer {gateway.web_password}", "X-XSRFToken": "aa"}
    base, cookies = f"http://127.0.0.1:{gateway.web_port}", {"_mitmproxy_xsrf": "aa"}
    async with httpx.AsyncClient(base_url=base, headers=headers, cookies=cookies) as client:
        answer = await client.request(method, path, **more)
    return answer.json() if method == "GET" else answer


@pytest.mark.parametrize("front", FRONTS)
async def test_eager_connections_are_never_in_force(tmp_path: Path, front: Front) -> None:
    """With eager a request to a dead upstream is an empty reply that no addon ever sees: refused, or overruled."""
    args = ["--set", "connection_strategy=eager"]
    gateway = Gateway(tmp_path, front=front, args=["--", *args] if front == "run" else args)
    async with raw_or_refused(gateway) as client:
        if client is not None:
            answer = await client.request("POST", "/api/users", body=BODY)
            assert (answer.status, bool(answer.capture_id)) == (503, True)


async def test_eager_connections_cannot_be_switched_on_later(tmp_path: Path) -> None:
    """mitmweb's options page is refused, and the strategy stays as it was."""
    async with Gateway(tmp_path, front="mitmweb") as gateway, raw.RawClient(gateway.port) as client:
        refused = await web(gateway, "/options", "PUT", json={"connection_strategy": "eager"})
        assert refused.status_code == 400
        assert "lazy" in refused.text
        assert (await web(gateway, "/options"))["connection_strategy"]["value"] == "lazy"
        assert (await client.request("POST", "/api/users", body=BODY)).capture_id


class raw_or_refused:  # noqa: N801  (read as a function)
    """A client of the gateway, or None where it ended with exit code 2 and said why."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway.launch()
        self.client: raw.RawClient | None = None

    async def __aenter__(self) -> raw.RawClient | None:
        await until(self._decided, within=30, what="the gateway to serve or to end")
        if self.gateway.exit_code is None:
            self.client = await raw.RawClient(self.gateway.port).__aenter__()
            return self.client
        assert self.gateway.exit_code == 2, self.gateway.log()
        assert "lazy" in self.gateway.log()
        return None

    async def _decided(self) -> bool:
        return self.gateway.exit_code is not None or await self.gateway.is_ready()

    async def __aexit__(self, *_: object) -> None:
        if self.client is not None:
            self.client.leave()
        self.gateway.kill()


FAULTY = {
    "unknown key": ({"upstraem": {}}, "upstraem"),
    "unknown addon": ({"addons": ["rooter"]}, "rooter"),
    "wrong duration": ({"upstream": {"deadline": "soon"}}, "deadline"),
    "addon that cannot be imported": ({"addons": [{"use": "nowhere.at_all:Thing"}]}, "nowhere"),
    "admin on all addresses without a token": ({"admin": {"listen": "0.0.0.0:9900"}}, "token"),
}


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("fault", FAULTY)
async def test_a_faulty_profile_stops_every_front_end(tmp_path: Path, front: Front, fault: str) -> None:
    """Exit code 2, the fault with its file and line on standard error, and never a request served."""
    made, named = FAULTY[fault]
    async with MisbehavingOrigin() as origin:
        gateway = Gateway(tmp_path, origin.url, front=front, made={**profile(origin.url), **made})
        code, answered = await hammered(gateway)
        assert code == 2, gateway.log()
        assert re.search(r"profile\.yaml:\d+: .*" + re.escape(named), gateway.log()), gateway.log()
        assert not answered
        assert not origin.requests


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("content", ["{", "- a\n- list\n", "", "\x00\x01", None])
async def test_a_file_that_is_no_profile_stops_every_front_end(
    tmp_path: Path, front: Front, content: str | None
) -> None:
    """Not YAML, not a mapping, empty, binary, missing."""
    file = tmp_path / "broken.yaml"
    if content is not None:
        file.write_text(content)
    gateway = Gateway(tmp_path, front=front, made=file)
    code, answered = await hammered(gateway)
    assert code == 2, gateway.log()
    assert "broken.yaml" in gateway.log()
    assert "Traceback" not in gateway.log()
    assert not answered


async def hammered(gateway: Gateway) -> tuple[int, list[int]]:
    """Its exit code, and the status of whatever it answered until then."""
    answered: list[int] = []
    gateway.launch()
    while gateway.exit_code is None and len(answered) < 100:
        try:
            async with raw.RawClient(gateway.port) as client:
                answered.append((await client.request("GET", "/api/users")).status)
        except (OSError, EOFError):
            await asyncio.sleep(0.01)
    return await gateway.ended(), answered


async def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    """A profile with three faults names three, with their lines in order."""
    made = {**profile("http://127.0.0.1:1"), "upstraem": {}, "listen": "nowhere"}
    made["addons"].append("rooter")
    gateway = Gateway(tmp_path, made=made).launch()
    assert await gateway.ended(30) == 2
    lines = [int(n) for n in re.findall(r"profile\.yaml:(\d+): ", gateway.log())]
    assert len(lines) == 3
    text = yaml.safe_dump(made, sort_keys=False).splitlines()
    assert {"upstraem", "rooter", "nowhere"} <= set(re.findall(r"\w+", " ".join(text[n - 1] for n in lines)))


async def test_no_way_in_leads_past_the_chain(tmp_path: Path) -> None:
    """For an https upstream mitmproxy would answer HTTP/3 on the same port, where nothing is retried or captured."""
    async with Gateway(tmp_path, "https://127.0.0.1:9") as gateway:
        with socket.socket(type=socket.SOCK_DGRAM) as nobody_else:
            nobody_else.bind(("127.0.0.1", gateway.port))


@pytest.mark.parametrize("front", FRONTS)
async def test_a_port_that_is_taken_ends_the_gateway(tmp_path: Path, front: Front) -> None:
    """The admin port or the proxied one: an exit code, not a gateway that serves by halves."""
    async with MisbehavingOrigin(port=free_port()) as squatter:
        gateway = Gateway(tmp_path, front=front)
        gateway.admin_port = squatter.port
        gateway.profile = gateway._write(profile("http://127.0.0.1:1"))
        gateway.launch()
        assert await gateway.ended(30) == 1, gateway.log()
        assert str(squatter.port) in gateway.log()
        assert not await accepts(gateway.port)


async def test_the_listening_port_that_is_taken_ends_holdfast_run(tmp_path: Path) -> None:
    """And says which."""
    async with MisbehavingOrigin() as squatter:
        gateway = Gateway(tmp_path)
        gateway.port = squatter.port
        gateway.profile = gateway._write(profile("http://127.0.0.1:1"))
        gateway.launch()
        assert await gateway.ended(30) == 1, gateway.log()
        assert str(squatter.port) in gateway.log()
