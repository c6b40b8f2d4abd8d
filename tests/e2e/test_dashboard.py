"""The page in a real browser: every button and every link, light and dark, on a phone, with the keyboard alone.

`HOLDFAST_TEST_PICTURES=docs/images pytest tests/e2e/test_dashboard.py -k pictures` makes the pictures of the docs anew.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from holdfast.testing import Answer
from tests.e2e.browser import picture
from tests.e2e.dashboard import CACHEABLE, CONTRASTS, HOSTILE, NAMELESS, Scene, happen, scene
from tests.e2e.harness import until

pytestmark = [pytest.mark.any_engine, pytest.mark.asyncio(loop_scope="module")]
IDS: dict[str, str] = {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at() -> AsyncIterator[Scene]:
    """Without a token, after an hour of traffic and four captures; in a folder whose name is fit for a picture."""
    with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
        async with scene(Path(folder), past=True) as made:
            IDS.update(await happen(made))
            yield made


@pytest.fixture(autouse=True)
def no_complaints(at: Scene) -> Any:
    """Nothing that the browser would tell a developer: no error, no violation of the policy."""
    at.browser.complaints.clear()
    yield
    assert at.browser.complaints == []


async def cached(at: Scene, path: str = "/api/users/1") -> str:
    """What Cache-Status says of this path now."""
    answer = await at.client.request("GET", path)
    return str(answer.header("cache-status"))


async def hit(at: Scene, path: str = "/api/users/1") -> None:
    """It is in the cache."""
    at.origin.plan = CACHEABLE
    await cached(at, path)
    assert "hit" in await cached(at, path)


async def fits(page: Page) -> bool:
    """Whether nothing is wider than the window."""
    return bool(await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


# --- purging ---


async def test_tags_are_purged(at: Scene) -> None:
    """Several at once; the page says what was done."""
    await hit(at)
    page = await at.open()
    await page.get_by_role("link", name="Purge…").click()
    await page.get_by_label("Surrogate keys").fill("user-1  user-2")
    await page.get_by_role("button", name="Purge tags").click()
    await expect(page.get_by_role("status")).to_have_text("Purged: 2 tags, user-1, user-2.")
    assert "fwd=miss" in await cached(at)


async def test_a_url_is_made_stale(at: Scene) -> None:
    """Softly: it is still there, and asked for anew."""
    await hit(at)
    page = await at.open()
    await page.get_by_role("link", name="Purge", exact=True).click()
    form = page.get_by_role("region", name="By URL")
    await form.get_by_label("URLs").fill(f"{at.gateway.url}/api/users/1\nhttp://gateway.test/api/users/1")
    await form.get_by_label("Only make stale").check()
    await form.get_by_role("button", name="Purge URLs").click()
    await expect(page.get_by_role("status")).to_contain_text("Made stale: 2 URLs")
    assert "fwd=stale" in await cached(at)


async def test_everything_is_purged_only_by_who_says_so(at: Scene) -> None:
    """The browser asks for the tick before it sends anything."""
    await hit(at)
    page = await at.open("page/purge")
    button = page.get_by_role("button", name="Purge everything")
    await button.click()
    await expect(page.get_by_label("Yes, purge everything")).to_be_focused()
    assert "hit" in await cached(at)
    await page.get_by_label("Yes, purge everything").check()
    await button.click()
    await expect(page.get_by_role("status")).to_have_text("Purged: everything.")
    assert "fwd=miss" in await cached(at)


async def test_what_cannot_be_purged_is_said(at: Scene) -> None:
    """In the place of what would have been done."""
    page = await at.open("page/purge")
    await page.get_by_label("URLs").fill("no URL")
    await page.get_by_role("button", name="Purge URLs").click()
    await expect(page.get_by_role("alert")).to_contain_text("Nothing was purged")


# --- captures ---


async def test_a_capture_is_replayed_from_the_list(at: Scene) -> None:
    """The filter that was chosen stays; a capture that is pending has no button."""
    at.origin.plan = {"/api/users": Answer(422), "*": CACHEABLE}
    page = await at.open()
    await page.get_by_role("link", name="All, and by state").click()
    assert await page.get_by_role("row", name="pending").get_by_role("button").count() == 0
    states = page.get_by_role("navigation", name="Captures by state")
    await states.get_by_role("link", name="dead").click()
    row = page.get_by_role("row").filter(has=page.locator(f"a[href$='{IDS['dead']}']"))
    await row.get_by_role("button", name="Replay POST /api/users").click()
    await expect(page.get_by_role("status")).to_contain_text("the replayer sends it again")
    assert page.url == f"{at.url}page/captures?state=dead"
    await at.reaches(IDS["dead"], "parked")
    await page.reload()
    assert await row.count() == 0
    await states.get_by_role("link", name="parked").click()
    await expect(row).to_contain_text("1 replay, last answer 422")
    await states.get_by_role("link", name="discarded").click()
    await expect(page.get_by_text("None that fit.")).to_be_visible()
    await states.get_by_role("link", name="all").click()
    assert page.url == f"{at.url}page/captures"


async def test_a_capture_is_replayed_from_the_overview(at: Scene) -> None:
    """What follows is its own page, which says what becomes of it."""
    at.origin.plan = Answer(400)
    page = await at.open()
    row = page.get_by_role("row").filter(has=page.locator(f"a[href$='{IDS['hostile']}']"))
    await row.get_by_role("button").click()
    await expect(page.get_by_role("status")).to_contain_text("the replayer sends it again")
    assert page.url == f"{at.url}page/captures/{IDS['hostile']}"
    await at.reaches(IDS["hostile"], "parked")


async def test_a_capture_has_a_page_with_all_of_it(at: Scene) -> None:
    """Attempts, the last answer, the request, the curl command; it can be replayed from there."""
    page = await at.open()
    await page.locator(f"a[href$='{IDS['delivered']}']").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("POST /api/users")
    attempts = page.get_by_role("region", name="Attempts").get_by_role("row")
    assert await attempts.nth(1).text_content() is not None
    await expect(attempts.nth(1)).to_contain_text("answered 503")
    await expect(attempts.nth(2)).to_contain_text("answered 201")
    await expect(page.get_by_role("region", name="The answer to the last replay")).to_contain_text("Edsger Dijkstra")
    await expect(page.get_by_role("region", name="As a curl command")).to_contain_text("--data-raw '{\"a\": 1}'")
    await page.get_by_text("header fields").first.click()
    await expect(page.locator("dl.fields").first).to_be_visible()
    at.origin.plan = Answer(200)
    await page.get_by_role("button", name="Replay").click()
    await expect(page.get_by_role("status")).to_contain_text("the replayer sends it again")
    await at.reaches(IDS["delivered"], "delivered")
    await page.get_by_role("link", name="All captures").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Captures")


async def test_a_capture_that_waits_says_so_and_refreshes_itself(at: Scene) -> None:
    """Until that is paused."""
    page = await at.open(f"page/captures/{IDS['pending']}")
    await expect(page.get_by_text("It is sent by itself")).to_be_visible()
    assert await page.get_by_role("button", name="Replay").count() == 0
    assert await page.locator("meta[http-equiv=refresh]").count() == 1
    await page.get_by_role("link", name="Pause").click()
    assert await page.locator("meta[http-equiv=refresh]").count() == 0
    await page.get_by_role("link", name="Resume").click()
    assert await page.locator("meta[http-equiv=refresh]").count() == 1


async def test_a_hostile_request_is_text(at: Scene) -> None:
    """Its path, header and body, and the answer that it got."""
    page = await at.open()
    asked: list[str] = []
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    for path in ("", f"page/captures/{IDS['hostile']}"):
        await page.goto(at.url + path)
        assert "onerror=alert(1)" in await page.inner_text("main")
        assert await page.locator("main img, main script").count() == 0
    await page.get_by_text("header fields").last.click()
    assert HOSTILE in await page.inner_text("dl.fields >> nth=-1")
    assert asked == [at.url, f"{at.url}page/captures/{IDS['hostile']}"]


# --- looking ---


@pytest.mark.parametrize("place", ["?route=users", "page/captures?state=dead"])
async def test_the_refresh_is_paused_and_resumed(at: Scene, place: str) -> None:
    """And what was chosen stays."""
    page = await at.open(place)
    refresh = page.locator("meta[http-equiv=refresh]")
    assert await refresh.get_attribute("content") == "10"
    await page.get_by_role("link", name="Pause").click()
    assert (page.url, await refresh.count()) == (f"{at.url}{place}&refresh=off", 0)
    await page.get_by_role("link", name="Resume").click()
    assert (page.url, await refresh.count()) == (f"{at.url}{place}", 1)


async def test_one_route_is_shown_alone(at: Scene) -> None:
    """Its bars and its captures; and all of them again."""
    page = await at.open()
    await page.get_by_role("region", name="Routes").get_by_role("link", name="data").click()
    await expect(page.get_by_role("heading", name="Requests of data")).to_be_visible()
    captures = page.get_by_role("region", name="Captures of data").get_by_role("row")
    assert await captures.count() == 2  # the names of the columns, and one capture
    await page.get_by_role("link", name="All routes").click()
    assert page.url == at.url
    await page.get_by_role("link", name="user", exact=True).click()
    await expect(page.get_by_text("None that fit.")).to_be_visible()
    await page.get_by_role("link", name="user", exact=True).click()  # once more: all of them
    assert page.url == at.url
    await page.get_by_role("link", name="data", exact=True).click()
    await page.get_by_role("link", name="All, and by state").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Captures of data")
    await page.get_by_role("link", name="All routes").click()
    assert page.url == f"{at.url}page/captures"


async def test_the_bars_are_a_table_too(at: Scene) -> None:
    """The same figures, for who does not see them; it stays when the page refreshes itself."""
    page = await at.open()
    chart = page.get_by_role("img", name="requests in the last hour")
    words = await chart.locator("title").first.text_content() or ""
    await page.get_by_role("link", name="The same as a table").click()
    table = page.get_by_role("table", name="Requests by minute")
    assert await table.get_by_role("row").count() >= 59
    cells = await table.locator("td").all_text_contents()
    assert sum(int(cell or 0) for cell in cells) == int(words.split()[0])
    await page.reload()
    await page.get_by_role("link", name="Hide the table").click()
    await expect(table).to_have_count(0)


async def test_every_link_leads_somewhere(at: Scene) -> None:
    """On every page."""
    page = await at.open()
    links = set[str]()
    captures = [f"page/captures/{IDS[name]}" for name in ("dead", "pending")]
    for path in ("", "?route=user", "page/captures", "page/captures?route=data", "page/purge", *captures):
        await page.goto(at.url + path)
        links |= set(await page.evaluate("[...document.querySelectorAll('a')].map(a => a.href)"))
    assert len(links) > 15
    for link in sorted(links):
        assert link.startswith(at.url)
        if "#main" in link:
            continue
        answer = await page.request.get(link)
        assert answer.status == 200, link


# --- how it looks ---


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
async def test_it_can_be_read(at: Scene, width: int, scheme: Literal["light", "dark"]) -> None:
    """No sideways scrolling on a phone, contrast of 4.5 at least (WCAG 1.4.3), a name for everything (4.1.2)."""
    page = await at.open(width=width, color_scheme=scheme)
    places = ("?table=on", "page/captures", "page/purge", "page/captures/x", f"page/captures/{IDS['hostile']}")
    for place in places:
        await page.goto(at.url + place)
        assert await fits(page), place
        assert await page.evaluate(CONTRASTS) == [], place
        assert await page.evaluate(NAMELESS) == [], place
        assert await page.locator("h1").count() == 1, place
    at.browser.complaints[:] = [each for each in at.browser.complaints if "404" not in each]  # of `x`, which is none


async def test_the_keyboard_is_enough(at: Scene) -> None:
    """The first key leads past the navigation; every link and button can be reached, and shows that it is."""
    page = await at.open("page/purge")
    await page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    await expect(skip).to_be_focused()
    await expect(skip).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("Surrogate keys")).to_be_focused()
    await page.keyboard.type("users")
    for _ in range(2):
        await page.keyboard.press("Tab")
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert await page.evaluate(outline) != "none"
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status")).to_have_text("Purged: 1 tag, users.")


async def test_pictures_for_the_docs(at: Scene) -> None:
    """What they show is there: the chart in all its fates, an open circuit, the captures."""
    page = await at.open(width=1100, height=1400)

    async def is_settled() -> bool:
        await page.reload()  # the replayer takes some seconds to say that it has started
        return await page.get_by_text("What is wrong").count() == 0

    await until(is_settled, within=20, every=0.5, what="the page to show nothing that is wrong but a server")
    await expect(page.get_by_text("circuit open")).to_be_visible()
    for fate in ("ok", "hit", "stale", "retried", "captured", "failed"):
        await expect(page.locator(".legend li").filter(has_text=fate)).to_be_visible()
    await picture(page, "page-light")
    await picture(await at.open(f"page/captures/{IDS['dead']}", height=1000, color_scheme="dark"), "page-capture-dark")
    await picture(await at.open(width=360, height=780, color_scheme="dark"), "page-phone")
