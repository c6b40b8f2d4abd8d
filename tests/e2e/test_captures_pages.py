"""Captures as pages: for the client on the proxied port, for whoever runs the gateway on the control surface."""

from __future__ import annotations

from pathlib import Path

from holdfast.testing import Answer
from tests.e2e.captured import desk
from tests.e2e.harness import PROBLEM

UNKNOWN = "01890000-0000-7000-8000-000000000000"


async def test_the_client_can_ask_what_became_of_its_request(tmp_path: Path) -> None:
    """`Location` of the 202: pending with a Retry-After, then delivered; kept by no cache; GET and HEAD only."""
    async with desk(tmp_path, routes={"users": {"show_answer": True}}) as at:
        at.origin.plan = Answer(503)
        accepted = await at.client.request("POST", "/api/users", body=b"{}")
        place = accepted.header("location") or ""
        asked = await at.client.request("GET", place)
        assert (asked.status, asked.header("content-type")) == (200, "application/json")
        assert (asked.header("cache-control"), asked.header("etag")) == ("no-store", None)
        assert int(asked.header("retry-after") or 0) >= 1
        told = asked.json()
        assert (told["id"], told["state"], told["settled_at"]) == (accepted.capture_id, "pending", None)
        assert "answer" not in told
        at.origin.plan = Answer(201, [("X-Made", "7"), ("Set-Cookie", "session=1")], b"\xff\x00")
        await at.reaches(accepted.capture_id or "", "delivered")
        asked = await at.client.request("GET", place + "?x=1")
        told = asked.json()
        assert asked.header("retry-after") is None
        assert (told["state"], told["settled_at"] >= told["captured_at"], told["attempts"] >= 1) == (
            "delivered",
            True,
            True,
        )
        assert (told["answer"]["status"], told["answer"]["headers"]["x-made"]) == (201, "7")
        assert (told["answer"]["body"], told["answer"]["body_encoding"]) == ("/wA=", "base64")
        assert "session=1" not in asked.body.decode()
        head = await at.client.request("HEAD", place)
        assert (head.status, head.body, head.header("content-type")) == (200, b"", "application/json")
        refused = await at.client.request("DELETE", place)
        assert (refused.status, refused.header("allow")) == (405, "GET, HEAD")
        for nothing in (UNKNOWN, "x", "%00", "../../health", ""):
            missing = await at.client.request("GET", f"/.holdfast/captures/{nothing}")
            assert (missing.status, missing.header("content-type")) == (404, PROBLEM), nothing
        assert not [each for each in at.origin.requests if each.target.startswith("/.holdfast")]


async def test_an_answer_is_shown_only_where_the_profile_says_so(tmp_path: Path) -> None:
    """By default whoever has the id learns whether, and no more; parked is the operator's word."""
    async with desk(tmp_path) as at:
        capture_id = await at.settled("/api/users", 400)
        place = f"/.holdfast/captures/{capture_id}"
        told = (await at.client.request("GET", place)).json()
        assert (told["state"], "answer" in told) == ("dead", False)
        assert (await at.gateway.admin(f"/captures/{capture_id}/replay", "POST")).status_code == 202
        await at.reaches(capture_id, "parked")
        assert (await at.client.request("GET", place)).json()["state"] == "dead"
        await at.holdfast("discard", capture_id)
        assert (await at.client.request("GET", place)).json()["state"] == "discarded"


async def test_the_control_surface_lists_shows_and_replays(tmp_path: Path) -> None:
    """The same entries as the command line; a replay is accepted, refused while pending, and unknown for no capture."""
    async with desk(tmp_path, lambda made: made.update(admin={"token": "t0ken"})) as at:
        dead, pending = await at.settled("/api/users/1"), await at.captured("/api/users/2")
        for query, expected in (
            ("", {dead, pending}),
            ("state=dead", {dead}),
            ("state=pending,parked", {pending}),
            ("key=/api/users/2", {pending}),
            ("status=400", {dead}),
            ("until=1h", set()),
            ("limit=0", set()),
        ):
            answer = await at.gateway.admin(f"/captures?{query}")
            assert {each["id"] for each in answer.json()["captures"]} == expected, query
        assert (await at.gateway.admin("/captures?state=dead")).json()["captures"] == await at.json(
            "list", "--state", "dead"
        )
        whole = (await at.gateway.admin(f"/captures/{dead}")).json()
        assert whole == await at.json("show", dead)
        assert (whole["request"]["path"], whole["replays"][-1]["status"]) == ("/api/users/1", 400)
        assert (await at.gateway.admin("/captures?state=gone")).status_code == 400
        at.origin.plan = {"/api/users/1": Answer(200), "*": Answer(503)}
        accepted = await at.gateway.admin(f"/captures/{dead}/replay", "POST")
        assert (accepted.status_code, accepted.json()["was"]) == (202, "dead")
        await at.reaches(dead, "delivered")
        assert (await at.gateway.admin(f"/captures/{pending}/replay", "POST")).status_code == 409
        assert (await at.gateway.admin(f"/captures/{UNKNOWN}/replay", "POST")).status_code == 404
        got = await at.gateway.admin(f"/captures/{dead}/replay")
        assert (got.status_code, got.headers["allow"]) == (405, "POST")
        at.gateway.token = ""
        for method, path in (("GET", "/captures"), ("GET", f"/captures/{dead}"), ("POST", f"/captures/{dead}/replay")):
            assert (await at.gateway.admin(path, method)).status_code == 401
