"""What the tests of `holdfast captures` share: a gateway that replays at once, an origin that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.cli import main
from holdfast.testing import Answer, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Gateway, addon, profile, until


@dataclass
class Desk:
    """A gateway, its origin, a client, and the command line. The origin's `plan` says what it answers."""

    gateway: Gateway
    origin: MisbehavingOrigin
    client: raw.RawClient

    async def captured(self, path: str = "/api/users", body: bytes = b'{"a": 1}', *fields: tuple[str, str]) -> str:
        """The id of a POST that the origin fails; it stays pending for as long as the origin says 503."""
        self.origin.plan = Answer(503, body=b"not now")
        answer = await self.client.request("POST", path, [("Content-Type", "application/json"), *fields], body)
        assert answer.capture_id, answer
        return answer.capture_id

    async def settled(self, path: str = "/api/users", status: int = 400, body: bytes = b"no", **more: Any) -> str:
        """One that the origin has then answered so."""
        capture_id = await self.captured(path, **more)
        self.origin.plan = Answer(status, body=body)
        await self.reaches(capture_id, "delivered" if status < 300 else "dead")
        return capture_id

    async def reaches(self, capture_id: str, state: str) -> None:
        """Wait until it stands so."""

        async def does() -> bool:
            return str((await self.gateway.admin(f"/captures/{capture_id}")).json()["state"]) == state

        await until(does, within=20, what=f"the capture to be {state}")

    async def holdfast(self, *args: str) -> tuple[int, str, str]:
        """`holdfast captures ARGS` in this process: exit code, standard output, standard error."""
        return await captures(*args, "--profile", self.gateway.profile)

    async def json(self, *args: str) -> Any:
        """What it prints with --json; it has to succeed."""
        code, out, err = await self.holdfast(*args, "--json")
        assert code == 0, err
        return json.loads(out)


async def captures(*args: str) -> tuple[int, str, str]:
    """The command line in this process, which is quicker than in one of its own."""
    out, err = io.StringIO(), io.StringIO()

    def run() -> int:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return main(["captures", *args])

    return await asyncio.to_thread(run), out.getvalue(), err.getvalue()


def made_for(url: str, folder: Path, **replayer: Any) -> dict[str, Any]:
    """A profile that replays again every tenth of a second."""
    made = profile(url, folder / "outbox.db")
    rules = {
        "audit": str(folder / "audit.db"),
        "attempts": 10_000,
        "schedule": {"delays": ["100ms"]},
        "slow_start": "0s",
        **replayer,
    }
    made["addons"].insert(-1, {"replayer": rules})
    return made


@asynccontextmanager
async def desk(
    folder: Path, change: Callable[[dict[str, Any]], object] = lambda made: None, **replayer: Any
) -> AsyncIterator[Desk]:
    """All of it running."""
    async with MisbehavingOrigin() as origin:
        made = addon(made_for(origin.url, folder, **replayer), "interceptor", routes={"users": {"answer": 202}})
        change(made)
        async with Gateway(folder, origin.url, made=made) as gateway, raw.RawClient(gateway.port) as client:
            yield Desk(gateway, origin, client)
