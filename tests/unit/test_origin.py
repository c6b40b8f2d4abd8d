"""The sample backend: what it answers, how it breaks, and what it says has arrived."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from holdfast.errors import HoldfastError
from holdfast.origin import Origin, main_origin
from holdfast.origin.state import LOG_LENGTH


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    """A backend on a free port."""
    running = Origin()
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def client(origin: Origin) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{origin.port}", timeout=5) as made:
        yield made


async def log(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """What the origin says has arrived."""
    requests: list[dict[str, Any]] = (await client.get("/_log")).json()["requests"]
    return requests


async def test_a_user_can_be_made_read_changed_and_removed(client: httpx.AsyncClient) -> None:
    """The whole of the users' API."""
    made = await client.post("/api/users", json={"name": "Eve"})
    assert (made.status_code, made.json()["name"]) == (201, "Eve")
    path = made.headers["location"]
    assert (await client.get(path)).json() == made.json()
    assert (await client.put(path, json={"name": "Eva"})).json()["name"] == "Eva"
    assert made.json()["id"] in [user["id"] for user in (await client.get("/api/users")).json()["users"]]
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/health", None, 200),
        ("GET", "/api/data", None, 200),
        ("HEAD", "/api/data", None, 200),
        ("GET", "/api/users/999", None, 404),
        ("GET", "/api/users/x", None, 404),
        ("POST", "/api/users", b"[1]", 400),
        ("POST", "/api/users", b"\xff", 400),
        ("DELETE", "/api/health", None, 405),
        ("GET", "/elsewhere", None, 404),
        ("GET", "/api/data?size=much", None, 400),
        ("GET", "/api/data?delay=soon", None, 400),
        ("GET", "/api/data?fail=9999", None, 400),
    ],
)
async def test_every_answer_has_the_status_it_should_and_json(
    client: httpx.AsyncClient, method: str, path: str, body: bytes | None, status: int
) -> None:
    """Errors are JSON as well."""
    answer = await client.request(method, path, content=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert method == "HEAD" or isinstance(answer.json(), dict)


async def test_data_comes_as_large_as_asked_for(client: httpx.AsyncClient) -> None:
    """Streamed, with its length announced."""
    answer = await client.get("/api/data?size=3MiB")
    assert len(answer.content) == int(answer.headers["content-length"]) == 3 * 2**20


async def test_a_large_body_is_hashed_and_not_kept(client: httpx.AsyncClient) -> None:
    """What was sent can be compared without holding it."""
    body = bytes(range(256)) * 20_000
    answer = await client.post("/api/data", content=body)
    assert answer.json() == {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


async def test_one_request_fails_when_it_asks_to(client: httpx.AsyncClient) -> None:
    """By a header or by the query; the next one does not."""
    assert (await client.get("/api/users", headers={"X-Origin-Fail": "503"})).status_code == 503
    assert (await client.get("/api/users?fail=502")).status_code == 502
    assert (await client.get("/api/users")).status_code == 200


async def test_a_request_can_be_slow_or_hang(client: httpx.AsyncClient) -> None:
    """A delay ends by itself, a hang only when the client leaves."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await client.get("/api/data?delay=100ms")).status_code == 200
    assert loop.time() - began >= 0.1
    with pytest.raises(httpx.ReadTimeout):
        await client.get("/api/data", headers={"X-Origin-Hang": "1"}, timeout=0.2)


async def test_all_requests_misbehave_until_it_is_taken_back(client: httpx.AsyncClient) -> None:
    """The control sets it, shows it and ends it; the control itself never misbehaves."""
    told = await client.post("/_control", json={"fail": 503})
    assert told.json()["fail"] == 503
    assert [(await client.get(path)).status_code for path in ("/api/health", "/api/users", "/x")] == [503, 503, 503]
    assert (await client.get("/_control")).json()["fail"] == 503
    await client.post("/_control", json={})
    assert (await client.get("/api/health")).status_code == 200


async def test_a_misbehaviour_can_be_for_a_number_of_requests(client: httpx.AsyncClient) -> None:
    """Two failures, then peace: what a retry wants to see."""
    await client.post("/_control", json={"fail": 500, "times": 2})
    assert [(await client.get("/api/health")).status_code for _ in range(3)] == [500, 500, 200]


async def test_a_hanging_request_is_let_go_when_the_control_changes(client: httpx.AsyncClient) -> None:
    """It then answers as if nothing had been."""
    await client.post("/_control", json={"hang": True})
    hanging = asyncio.create_task(client.get("/api/health"))
    async with asyncio.timeout(2):
        while not await log(client):
            await asyncio.sleep(0.01)
    assert not hanging.done()
    await client.post("/_control", json={})
    assert (await hanging).status_code == 200


async def test_a_reset_cuts_the_connection_without_an_answer(client: httpx.AsyncClient) -> None:
    """The request has arrived all the same."""
    await client.post("/_control", json={"reset": True, "times": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post("/api/users", json={"name": "Eve"})
    assert [entry["method"] for entry in await log(client)] == ["POST"]


async def test_connections_are_refused_for_as_long_as_told(client: httpx.AsyncClient, origin: Origin) -> None:
    """Then the same port serves again, with its log."""
    await client.get("/api/health")
    await client.post("/_control", json={"refuse": "300ms"})
    await asyncio.sleep(0.05)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", origin.port)
    async with asyncio.timeout(3):
        while True:
            try:
                assert len(await log(client)) == 1
                break
            except httpx.ConnectError:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("told", [b"{", b'{"fial": 503}', b'{"delay": "soon"}', b'{"fail": 42}', b"[]"])
async def test_a_control_that_makes_no_sense_is_refused(client: httpx.AsyncClient, told: bytes) -> None:
    """400 with the reason, and nothing changes."""
    answer = await client.post("/_control", content=told)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert (await client.get("/_control")).json()["fail"] is None


async def test_the_log_says_what_arrived(client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]) -> None:
    """Method, path, id, headers and the body's hash; one line each on standard output."""
    await client.post("/api/users?x=1", content=b'{"a":1}', headers={"X-Request-ID": "r-1", "X-Two": "2"})
    (entry,) = await log(client)
    assert {key: entry[key] for key in ("method", "path", "query", "id", "body_bytes", "complete")} == {
        "method": "POST",
        "path": "/api/users",
        "query": "x=1",
        "id": "r-1",
        "body_bytes": 7,
        "complete": True,
    }
    assert entry["body_sha256"] == hashlib.sha256(b'{"a":1}').hexdigest()
    assert entry["headers"]["x-two"] == "2"
    assert capsys.readouterr().out == "1 POST /api/users?x=1 7B id=r-1\n"


async def test_the_log_can_be_cut_and_forgotten(client: httpx.AsyncClient) -> None:
    """`last` from its end; a DELETE empties it."""
    for path in ("/a", "/b", "/c"):
        await client.get(path)
    assert [e["path"] for e in (await client.get("/_log?last=2")).json()["requests"]] == ["/b", "/c"]
    assert (await client.get("/_log?last=0")).json()["requests"] == []
    assert (await client.get("/_log?last=all")).status_code == 400
    await client.delete("/_log")
    assert await log(client) == []


async def test_a_request_that_breaks_off_in_its_body_is_logged_as_such(
    client: httpx.AsyncClient, origin: Origin
) -> None:
    """It has reached the backend in part, and that is what the log says."""
    _, writer = await asyncio.open_connection("127.0.0.1", origin.port)
    writer.write(b"POST /api/users HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
    await writer.drain()
    writer.close()
    async with asyncio.timeout(2):
        while not (entries := await log(client)):
            await asyncio.sleep(0.01)
    assert [(e["body_bytes"], e["complete"]) for e in entries] == [(4, False)]


async def test_a_port_that_is_taken_is_said_in_a_sentence(origin: Origin) -> None:
    """What to do about it, and no trace."""
    with pytest.raises(HoldfastError, match=f"{origin.port}.*--port"):
        await asyncio.to_thread(main_origin, "127.0.0.1", origin.port)


async def test_the_log_is_bounded(origin: Origin) -> None:
    """An origin that runs for weeks does not grow."""
    assert origin.state.log.maxlen == LOG_LENGTH
