"""mitmweb as a person sees it: marks, comments, captures, and a replay by hand, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Locator, Page, expect

from holdfast.testing import Answer, Break, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.browser import WITHIN, RealBrowser, picture
from tests.e2e.harness import Gateway, addon, profile, until

BODY, MENDED = b'{"name": "Grace"}', b'{"name": "Grace Hopper"}'
JSON = [("Content-Type", "application/json")]
expect.set_options(timeout=WITHIN)


async def test_a_capture_is_looked_at_edited_and_replayed_in_mitmweb(tmp_path: Path, browser: RealBrowser) -> None:
    """A failed POST, its mark and comment, its record, and the same request mended by hand: what the origin gets."""
    cached = Answer(body=b"[]", headers=[("Cache-Control", "max-age=60")])
    plan = {"/api/users": [cached], "/api/users/7": [Break("body", "reset"), Answer()]}
    async with (
        MisbehavingOrigin(plan=plan) as origin,
        under_web(tmp_path, origin) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        for path in ("/api/users", "/api/users", "/api/users/7"):
            assert (await client.request("GET", path)).status == 200
        async with origin.refusing():
            capture_id = (await client.request("POST", "/api/users", JSON, BODY)).capture_id
        page = await opened(browser, gateway)
        await looked_at(page, origin)
        await found_by_commands(page, str(capture_id))
        await edited(page, origin)
        assert (await gateway.captures())[0]["state"] == "pending"
        requests, counted = len(origin.requests), await counted_requests(gateway)
        await page.get_by_text("Flow", exact=True).click()
        await page.get_by_text("Replay", exact=True).click()
        await until(lambda: len(origin.requests) > requests, what="the replay at the origin")
        arrived = origin.requests[-1]
        assert (arrived.method, arrived.target, arrived.body) == ("POST", "/api/users?by=hand", MENDED)
        assert (arrived.header("holdfast-capture-id"), arrived.header("holdfast-replay")) == (capture_id, "1")
        await page.get_by_text("Comment", exact=True).click()
        await expect(detail(page)).to_contain_text(f"replay by hand of capture {capture_id}, edited: ok")
        await expect(detail(page)).to_contain_text(f"attempt 1 {origin.url} 200")
        await expect(rows(page).last).to_contain_text("200")
        await picture(page, "mitmweb-replayed")
        # It is nobody's request, and what becomes of the capture is not decided by it.
        assert [each["state"] for each in await gateway.captures()] == ["pending"]
        assert await counted_requests(gateway) == counted
        assert f"by_hand={capture_id} edited=True" in gateway.log()
        assert browser.complaints == []


async def looked_at(page: Page, origin: MisbehavingOrigin) -> None:
    """The marks of all, and the comment of the one that was captured."""
    await expect(rows(page)).to_have_count(4)
    for row, mark in enumerate(["", "⚡", "🔄", "📥"]):
        await expect(rows(page).nth(row)).to_have_text(re.compile(f"^{mark}http"))
    await rows(page).last.click()
    await page.get_by_text("Comment", exact=True).click()
    tried = f"attempt 1 {origin.url} connection_refused"
    for told in ("captured: the upstream refused the connection", "route users", tried, "cache: fwd=method"):
        await expect(detail(page)).to_contain_text(told)
    await picture(page, "mitmweb-captured")


async def found_by_commands(page: Page, capture_id: str) -> None:
    """Listed, shown with the content view, and put into the flow list."""
    await switch(page, on=True)
    assert f"{capture_id} pending POST /api/users" in await command(page, "holdfast.captures state=pending")
    assert "there is no capture" in await command(page, "holdfast.show nonsense")
    assert "in the flow list" in await command(page, f"holdfast.show {capture_id}")
    assert "in the flow list" in await command(page, f"holdfast.replay {capture_id}")
    await switch(page, on=False)
    await rows(page, "/captures/").click()
    await page.get_by_text("Response", exact=True).click()
    for told in ("Holdfast capture", f"Capture {capture_id}", "connection_refused: the upstream", '"name": "Grace"'):
        await expect(detail(page)).to_contain_text(told)
    await picture(page, "mitmweb-record")


async def edited(page: Page, origin: MisbehavingOrigin) -> None:
    """Its body and its URL."""
    await rows(page).last.click()
    await page.get_by_text("Request", exact=True).click()
    await expect(detail(page).locator("pre")).to_contain_text("Grace")
    await detail(page).locator("button").filter(has_text="Edit").click()
    await page.locator(".cm-content").click()
    await page.keyboard.press("Control+A")
    await page.keyboard.insert_text(MENDED.decode())
    await detail(page).locator("button").filter(has_text="Done").click()
    await expect(detail(page).locator("pre")).to_contain_text("Hopper")
    url = detail(page).locator(".request-line .inline-input").nth(1)
    await url.click()
    await url.fill(f"{origin.url}/api/users?by=hand")  # waits until it may be edited, and replaces all of it
    await page.keyboard.press("Enter")
    await expect(rows(page).last).to_contain_text("?by=hand")


# -- parts ------------------------------------------------------------------------------------------------------------


def under_web(folder: Path, origin: MisbehavingOrigin) -> Gateway:
    """`holdfast run --web`, with a cache."""
    gateway = Gateway(folder, origin.url, made=addon(profile(origin.url), "cache"))
    options = [f"web_port={gateway.web_port}", f"web_password={gateway.web_password}"]
    gateway.args = ["--web", "--", *(word for option in options for word in ("--set", option))]
    return gateway


async def counted_requests(gateway: Gateway) -> dict[tuple[str, ...], float]:
    """Those of clients, by what became of them."""
    return {key: value for key, value in (await gateway.metrics()).items() if key[0] == "holdfast_requests_total"}


async def opened(browser: RealBrowser, gateway: Gateway) -> Page:
    page = await browser.page()
    await page.goto(f"http://127.0.0.1:{gateway.web_port}/?token={gateway.web_password}")
    return page


def rows(page: Page, text: str = "/api/users") -> Locator:
    """Of the flow list."""
    return page.locator(".flow-table tbody tr").filter(has_text=text)


def detail(page: Page) -> Locator:
    """Of the chosen flow."""
    return page.locator(".flow-detail")


async def switch(page: Page, *, on: bool) -> None:
    """The command bar, in the options menu."""
    await page.get_by_text("Options", exact=True).click()
    await page.get_by_label("Display Command Bar").set_checked(on)


async def command(page: Page, text: str) -> str:
    """Typed into the command bar; what it shows."""
    bar, results = page.locator(".command-input input"), page.locator(".command-result > div")
    before = await results.count()
    await bar.fill(text)
    await bar.press("Enter")
    await expect(results).to_have_count(before + 1)
    return await results.last.inner_text()
