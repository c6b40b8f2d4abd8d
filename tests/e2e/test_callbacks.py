"""`callback_url`: the outcome of a capture is posted, signed, at least once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from holdfast.policy.signature import parse_signing_keys, verify
from tests.e2e.harness import Gateway, profile, until
from tests.e2e.replayed import Origin
from tests.e2e.test_replay_embedded import captured

pytestmark = pytest.mark.any_engine

KEY = "a-secret-of-the-tests"


async def test_the_outcome_is_posted_with_the_answer_even_if_the_gateway_is_killed_before(tmp_path: Path) -> None:
    """The receiver is away at first, then refuses once; the document is signed, and its id stays the same."""
    refusals = iter([500])
    async with Origin() as origin, Origin(lambda *_: next(refusals, 204)) as receiver:
        await origin.stop()
        await receiver.stop()
        made = profile(origin.url, upstream__retry={"attempts": 1})
        users = {"callback_url": f"{receiver.url}/outcomes", "show_answer": True}
        made["addons"].insert(3, {"replayer": {"audit": "audit.db", "callback_key": KEY, "routes": {"users": users}}})
        async with Gateway(tmp_path, origin.url, made=made) as gateway:
            (capture, _) = await captured(gateway, ["/api/users", "/api/other"])
            await origin.start()
            await until(lambda: len(origin.replays()) == 2, within=20, what="the replays")
            await until(lambda: gateway.captures("--state", "delivered"), within=10, every=0.5)
            gateway.kill()
            await receiver.start()
            await gateway.start()
            await until(lambda: len(receiver.log) == 2, within=60, what="a second try")
    first, second = receiver.log
    assert {first.status, second.status} == {500, 204}
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == f"{capture}-0"
    verify(parse_signing_keys(KEY), second.headers, second.body, float(second.headers["webhook-timestamp"]))
    document = json.loads(second.body)
    assert document["type"] == "holdfast.capture.delivered"
    assert (document["data"]["id"], document["data"]["answer"]["status"]) == (capture, 200)
