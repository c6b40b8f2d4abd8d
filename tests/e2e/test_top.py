"""`holdfast top` beside a real gateway: on a terminal, off a terminal, and while the gateway comes and goes."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.harness import Gateway, accepts, addon, environment, profile, run_cli, until
from tests.e2e.terminal import ENTER, HIDE, LEAVE, SHOW, Terminal
from tests.services.process import free_port, leash

pytestmark = pytest.mark.any_engine

FAST = ("--interval", "100ms")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Nobody listens behind it, so everything is captured."""
    upstream = f"http://127.0.0.1:{free_port()}"
    made = Gateway(tmp_path_factory.mktemp("top"), upstream, made=addon(profile(upstream), "cache"))
    yield made
    made.kill()


@pytest.fixture
async def gateway(shared: Gateway) -> Gateway:
    """It runs, and has captured something."""
    if shared.exit_code is not None or not await accepts(shared.port):
        await shared.start()
    await capture(shared, "/api/users")
    return shared


async def capture(gateway: Gateway, path: str) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        assert (await client.post(path)).status_code == 503


def top(gateway: Gateway, *args: str, **more: Any) -> Terminal:
    return Terminal(gateway.folder, "top", "--profile", gateway.profile, *FAST, *args, **more)


async def test_the_view_shows_what_happens(gateway: Gateway) -> None:
    """Requests, servers, the outbox and captures, as they are now."""
    async with top(gateway) as terminal:
        await terminal.shows(f"{len(await gateway.captures())} waiting")
        for needed in ("requests", "captured", "upstream", "cache", "POST  /api/users", "connection_refused  pending"):
            await terminal.shows(needed)
        await capture(gateway, "/api/users/%1b[2J/[red]")
        await terminal.shows(f"{len(await gateway.captures())} waiting")
        await terminal.shows("[red]")
        assert b"\x1b[2J" not in terminal.written.partition(ENTER)[2]


@pytest.mark.parametrize(
    ("how", "code"), [("q", 0), ("\x03", 0), (signal.SIGTERM, 143)], ids=["q", "ctrl-c", "sigterm"]
)
async def test_the_terminal_is_left_as_it_was(gateway: Gateway, how: str | signal.Signals, code: int) -> None:
    """Out of the other screen, the cursor shown, the modes put back; q and Ctrl-C are an orderly end."""
    async with top(gateway) as terminal:
        await terminal.shows("waiting")
        assert terminal.modes_now() != terminal.modes
        terminal.send(how) if isinstance(how, signal.Signals) else terminal.press(how)
        assert await terminal.ended() == code
        assert terminal.modes_now() == terminal.modes
        assert (terminal.written.count(ENTER), terminal.written.count(LEAVE)) == (1, 1)
        assert terminal.written.rindex(SHOW) > terminal.written.rindex(HIDE)
        assert b"Traceback" not in terminal.written


async def test_ctrl_z_gives_the_terminal_back_meanwhile(gateway: Gateway) -> None:
    """And the view comes back with `fg`."""
    async with top(gateway) as terminal:
        await terminal.shows("waiting")
        terminal.press("\x1a")
        await until(lambda: LEAVE in terminal.written, what="the other screen to be left")
        await until(lambda: terminal.modes_now() == terminal.modes, what="the modes to be put back")
        terminal.send(signal.SIGCONT)
        await until(lambda: terminal.written.count(ENTER) == 2, what="the view to come back")
        terminal.press("q")
        assert await terminal.ended() == 0
        assert terminal.modes_now() == terminal.modes


async def test_the_view_follows_the_size_of_the_terminal(gateway: Gateway) -> None:
    """From wide to the smallest."""
    async with top(gateway, size=(160, 40)) as terminal:
        await terminal.shows("routes")
        terminal.resize(60, 15)
        await until(lambda: 0 < max(map(len, terminal.frame().splitlines())) <= 60, what="narrow frames")
        assert len(terminal.frame().splitlines()) == 15
        await terminal.shows("captures")


async def test_no_color_is_heeded(gateway: Gateway) -> None:
    """https://no-color.org: nothing but bold and dim."""
    async with top(gateway, NO_COLOR="1") as terminal:
        await terminal.shows("waiting")
        codes = {c for found in re.findall(rb"\x1b\[([\d;]*)m", terminal.written) for c in found.split(b";")}
        assert codes <= {b"", b"0", b"1", b"2"}


async def test_a_gateway_that_goes_away_is_waited_for(gateway: Gateway) -> None:
    """It says so, goes on trying, and shows the gateway that comes in its place."""
    async with top(gateway) as terminal:
        await terminal.shows("waiting")
        gateway.kill()
        await terminal.shows("trying again; below is what was last read")
        await gateway.start()
        await terminal.shows("restarted")


async def test_once_on_a_terminal_is_one_frame_that_stays(gateway: Gateway) -> None:
    """No other screen: it can be read, and copied, afterwards."""
    async with top(gateway, "--once", size=(80, 24)) as terminal:
        assert await terminal.ended(20) == 0
        assert b" waiting" in terminal.written
        assert ENTER not in terminal.written
        assert len(terminal.written.splitlines()) < 24


async def test_once_off_a_terminal_is_one_document(gateway: Gateway) -> None:
    """With the rates of one interval."""
    document = json.loads(await gateway.cli("top", "--once", *FAST))
    assert document["gateway"]["away"] == ""
    assert document["gateway"]["uptime_seconds"] > 0
    captured = await gateway.captures()
    assert [(f["name"], f["rate"]) for f in document["requests"]["fates"]] == [("captured", 0)]
    assert document["outbox"]["waiting"] == len(captured)
    assert document["outbox"]["max_records"] == 1_000_000
    assert document["outbox"]["published"] is None
    assert [c["id"] for c in document["captures"]] == [c["id"] for c in captured]
    (server,) = document["servers"]
    assert (server["state"], server["last_error"]) == ("failing", "connection_refused")


async def test_documents_come_one_a_line_through_an_outage(gateway: Gateway) -> None:
    """Off a terminal; Ctrl-C is an orderly end."""
    process = await asyncio.create_subprocess_exec(
        *[*leash(), sys.executable, "-m", "holdfast", "top", "--profile", gateway.profile, *FAST],
        env=environment(gateway.folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        limit=1 << 20,
    )
    assert process.stdout
    assert process.stderr

    async def document(away: bool) -> dict[str, Any]:
        """The next that says so."""
        assert process.stdout
        while True:
            found: dict[str, Any] = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
            if bool(found["gateway"]["away"]) is away:
                return found

    assert (await document(away=False))["requests"]["rate"] is not None
    gateway.kill()
    assert (await document(away=True))["gateway"]["status"] == "away"
    await gateway.start()
    assert (await document(away=False))["gateway"]["restarts"] == 1
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 10)
    assert (process.returncode, err) == (0, b"")


async def test_a_gateway_that_refuses_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    """Exit code 1 for what may work later, 2 for what has to be said otherwise."""
    nobody = f"127.0.0.1:{free_port()}"
    found = await run_cli("top", "--once", "--profile", "sidecar", "--admin", nobody, cwd=tmp_path)
    assert found == (1, "", f"holdfast: no gateway answers at {nobody} (Connection refused)\n")
    made = profile("http://127.0.0.1:9", admin__token="sesame-sesame-sesame")
    async with Gateway(tmp_path, made=made) as gateway:
        assert json.loads(await gateway.cli("top", "--once", *FAST))["gateway"]["away"] == ""
        text = Path(gateway.profile).read_text().replace("sesame-sesame-sesame", "another-token-instead")
        other = tmp_path / "other.yaml"
        other.write_text(text)
        code, out, err = await run_cli("top", "--profile", str(other), cwd=tmp_path)
        assert (code, out) == (2, "")
        assert "refuses: send the profile's admin.token" in err
