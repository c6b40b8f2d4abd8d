"""The mitmproxy console, on a terminal of its own."""

from __future__ import annotations

from pathlib import Path

import httpx

from holdfast.testing import MisbehavingOrigin
from tests.e2e.harness import Gateway, until
from tests.e2e.terminal import Terminal


async def test_the_commands_work_in_the_console_and_nothing_is_written_across_it(tmp_path: Path) -> None:
    """Typed, completed and shown; what the gateway logs is in the event log and not on the screen."""
    async with MisbehavingOrigin() as origin:
        gateway = Gateway(tmp_path, origin.url, front="mitmdump")
        tool, *options = gateway.command()
        program = (tool.replace("mitmdump", "mitmproxy"), *options)
        async with (
            Terminal(tmp_path, program=program, size=(140, 40)) as terminal,
            httpx.AsyncClient(base_url=gateway.url) as client,
        ):
            await terminal.writes(f"reverse:{origin.url}")
            await until(lambda: is_ready(gateway), within=30, what="the gateway to be ready")
            async with origin.refusing():
                capture_id = (await client.post("/api/users", content=b"x")).headers["holdfast-capture-id"]
            await terminal.writes("📥")
            terminal.press(":holdfast.capt\t\r")
            await terminal.writes(f"{capture_id}  pending  POST  /api/users  connection_refused")
            terminal.press("q:holdfast.show \t\r")
            await terminal.writes("why         connection_refused: the upstream refused the connection")
            terminal.press(f"q:holdfast.replay {capture_id}\r")
            await terminal.writes("is in the flow list: edit it, then replay it")
            terminal.press("qr")
            await until(lambda: [each.body for each in origin.requests] == [b"x"], what="the replay at the origin")
            terminal.press(":holdfast.breaker.open \t\r")
            await terminal.writes(f"open: {origin.url} gets nothing until")
            terminal.press("q:holdfast.breaker.open nowhere\r")
            await terminal.writes(f"no server 'nowhere': there is {origin.url}")
            assert "INFO request" not in terminal.written.decode("utf-8", "replace")
            terminal.press("E")
            await terminal.writes("upstream server changed server=")


async def is_ready(gateway: Gateway) -> bool:
    try:
        return (await gateway.admin("/readyz")).status_code == 200
    except httpx.TransportError:
        return False
