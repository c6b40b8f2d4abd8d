"""A gateway with something to see: what the tests of the page share, and how its pictures are made.

`python -m tests.e2e.dashboard` keeps such a gateway running and prints where, for looking at it by hand.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Page

from holdfast.testing import Answer, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.browser import RealBrowser, open_browser
from tests.e2e.captured import Desk, made_for
from tests.e2e.harness import Gateway, addon, until
from tests.services.process import free_port

TOKEN = "correct horse battery staple"
HOSTILE = "/api/<img src=x onerror=alert(1)>\"'&/%3Cscript%3Ealert(1)%3C/script%3E"
CACHEABLE = Answer(200, [("Cache-Control", "max-age=600"), ("Content-Type", "application/json")], b'{"id": 1}')

# Texts whose contrast with what is behind them is below 4.5, as [text, contrast].
CONTRASTS = """() => {
  const rgba = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || e.closest('svg')) continue;
    const [a, b] = [light(rgba(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) bad.push([e.textContent.trim().slice(0, 40), contrast]);
  }
  return bad;
}"""
# What a screen reader has no name for, and headings that leave out a level.
NAMELESS = """() => {
  const bad = [...document.querySelectorAll('a, button')].filter(e => !e.textContent.trim()).map(e => e.outerHTML);
  bad.push(...[...document.querySelectorAll('input:not([type=hidden]), textarea')]
    .filter(e => !e.labels.length).map(e => e.outerHTML));
  bad.push(...[...document.querySelectorAll('table')].filter(e => !e.caption).map(e => 'a table without a caption'));
  bad.push(...[...document.querySelectorAll('svg:not([aria-hidden])')].filter(e => !e.getAttribute('aria-labelledby')
    ).map(e => 'a picture without words'));
  const levels = [...document.querySelectorAll('h1, h2, h3')].map(e => Number(e.tagName[1]));
  levels.forEach((level, n) => { if (level > (levels[n - 1] || 0) + 1) bad.push(`a heading of level ${level}`); });
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
  bad.push(...ids.filter((id, n) => ids.indexOf(id) !== n));
  return bad;
}"""

# An hour that has been, for pictures: the gateway of a test has only just started.
PAST = '''
import random

class Past:
    """Fills the minutes before the start: an upstream that was slow to come back, half an hour ago."""

    def __init__(self, settings, gateway):
        dice, now = random.Random(7), gateway.wall_clock()
        for ago in range(59, 0, -1):
            bad = 0.6 if 26 <= ago <= 33 else 0.1 if 20 <= ago < 26 else 0.004
            for route, busy, cached in (("users", 26, 0.0), ("user", 60, 0.55), ("data", 14, 0.3)):
                for _ in range(int(busy * dice.uniform(0.8, 1.25) * (1 + (60 - ago) / 160))):
                    fate = "hit" if dice.random() < cached else "ok"
                    if fate == "ok" and dice.random() < bad:
                        writes = "captured" if route == "users" else "stale" if route == "user" else "failed"
                        fate = dice.choice(("retried", "retried", writes))
                    gateway.minutes.add(now - ago * 60, route, fate)

    def running(self):
        pass

    class Settings(__import__("msgspec").Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """None."""
'''


@dataclass
class Scene(Desk):
    """And a browser."""

    browser: RealBrowser

    @property
    def url(self) -> str:
        """Of the page."""
        return f"{self.gateway.admin_url}/"

    async def open(self, path: str = "", **how: Any) -> Page:
        """A page of a browser that has no cookies yet."""
        page = await self.browser.page(**how)
        await page.goto(self.url + path)
        return page

    async def signed_in(self, path: str = "", **how: Any) -> Page:
        """The same, past the sign-in form."""
        page = await self.open(path, **how)
        await page.get_by_label("Token").fill(TOKEN)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("button", name="Sign out").wait_for()
        self.browser.complaints.clear()  # the browser's own word of the 401 before
        return page


@asynccontextmanager
async def scene(folder: Path, *, token: str = "", past: bool = False) -> AsyncIterator[Scene]:
    """Two servers, one of them dead; a cache, a replayer that tries every tenth of a second, an outbox."""
    async with MisbehavingOrigin() as origin:
        made = made_for(origin.url, folder, routes={"data": {"schedule": {"delays": ["10m"]}}})
        made["upstream"]["servers"] = [origin.url, f"http://127.0.0.1:{free_port()}"]
        made["upstream"]["breaker"] = {"max_fails": 3, "fail_timeout": "10m"}
        made["admin"] = {"token": token} if token else {}
        made["addons"][0]["router"]["routes"].append({"name": "data", "pattern": "^/api/data$"})
        made["addons"].insert(2, {"cache": {"store": "memory://"}})
        made["addons"].insert(3, {"surrogate": {"tags": {"user": ["users", "user-{id}"]}}})
        addon(made, "interceptor", answer=503)
        if past:
            (folder / "the_past.py").write_text(PAST)
            made["addons"].insert(0, {"use": "the_past:Past"})
        async with (
            Gateway(folder, origin.url, made=made) as gateway,
            raw.RawClient(gateway.port) as client,
            open_browser() as browser,
        ):
            yield Scene(gateway, origin, client, browser)


async def happen(at: Scene) -> dict[str, str]:
    """A bit of everything: the ids of a capture that was delivered, of one that is dead, and of one that waits."""
    at.origin.plan = CACHEABLE
    for path in [*(f"/api/users/{n}" for n in range(1, 9)), *["/api/users/1"] * 4, "/api/data"]:
        await at.client.request("GET", path)
    delivered = await at.settled("/api/users", 201, b'{"id": 3, "name": "Edsger Dijkstra"}')
    dead = await at.settled("/api/users", 422, b'{"error": "this e-mail address is taken"}')
    evil = f"\"'><script>alert({HOSTILE})</script>"
    hostile = await at.captured(HOSTILE.replace(" ", "%20"), evil.encode(), ("X-Evil", evil))
    at.origin.plan = Answer(400, [("X-Evil", evil), ("Content-Type", "text/html")], evil.encode())
    await at.reaches(hostile, "dead")
    at.origin.plan = {"/api/data": [Answer(503), Answer(429)], "*": CACHEABLE}
    pending = (await at.client.request("POST", "/api/data", body=b"{}")).capture_id or ""

    async def waits() -> bool:
        return bool((await at.gateway.admin(f"/captures/{pending}")).json()["attempts"])

    await until(waits, within=20, what="the first replay, after which it waits for ten minutes")
    return {"delivered": delivered, "dead": dead, "hostile": hostile, "pending": pending}


async def stay(token: str) -> None:
    """Until Ctrl-C."""
    with tempfile.TemporaryDirectory() as folder:
        async with scene(Path(folder), token=token, past=True) as at:
            print(at.url, await happen(at), flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(stay(*sys.argv[1:2] or [""]))
