"""Who may press the buttons of the page: a browser that has signed in, and never another page in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import expect

from holdfast.testing import Answer, MisbehavingOrigin
from tests.e2e.dashboard import CACHEABLE, TOKEN, Scene, scene

pytestmark = [pytest.mark.any_engine, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """With a token."""
    async with scene(tmp_path_factory.mktemp("page"), token=TOKEN) as made:
        yield made


async def test_a_person_signs_in_acts_and_signs_out(at: Scene) -> None:
    """A wrong token is told; what was asked for is shown afterwards; a session that was ended opens nothing."""
    dead = await at.settled()
    page = await at.open(f"page/captures/{dead}")
    await page.get_by_label("Token").fill("wrong")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_have_text("This is not the profile's admin.token.")
    await page.get_by_label("Token").fill(TOKEN)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("POST /api/users")
    (cookie,) = await page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    at.origin.plan = Answer(200)
    await page.get_by_role("button", name="Replay").click()
    await expect(page.get_by_role("status")).to_contain_text("the replayer sends it again")
    await at.reaches(dead, "delivered")
    await page.get_by_role("link", name="Purge").click()
    await page.get_by_label("Surrogate keys").fill("users")
    await page.get_by_role("button", name="Purge tags").click()
    await expect(page.get_by_role("status")).to_have_text("Purged: 1 tag, users.")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert [each for each in await page.context.cookies() if not each["name"].endswith("-note")] == []
    await page.go_back()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    # The browser's own word of each 401, and nothing of the policy.
    assert all("401" in each for each in at.browser.complaints), at.browser.complaints
    at.browser.complaints.clear()


async def test_a_session_opens_no_json(at: Scene) -> None:
    """Whoever finds a way to send the cookie along cannot read or change anything by the API."""
    page = await at.signed_in()
    for path in ("health", "captures", "config", "metrics"):
        assert (await page.request.get(at.url + path)).status == 401
    purge = await page.request.post(f"{at.url}purge", data='{"all": true}')
    assert purge.status == 401


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_no_other_page_of_the_browser_can_press_a_button(at: Scene, host: str) -> None:
    """Not one of another site, nor one of this host at another port, with which the browser does send the cookie."""
    at.origin.plan = CACHEABLE
    for _ in range(2):
        answer = await at.client.request("GET", "/api/users/1")
    assert "hit" in str(answer.header("cache-status"))
    page = await at.signed_in()
    await page.goto(f"{at.url}page/purge")
    form = await page.locator("input[name=form]").first.get_attribute("value")
    fields = "".join(f'<input name="{n}" value="{v}">' for n, v in {"what": "all", "sure": "yes", "form": form}.items())
    forms = "".join(
        f'<form method="post" action="{at.url}{path}">{fields}<button>{name}</button></form>'
        for name, path in (("purge", "page/purge"), ("leave", "session/end"), ("enter", "session"))
    )
    body = f"<!doctype html><link rel=icon href='data:,'>{forms}".encode()
    async with MisbehavingOrigin(Answer(200, [("Content-Type", "text/html")], body)) as elsewhere:
        for name in ("purge", "leave", "enter"):
            await page.goto(elsewhere.url.replace("127.0.0.1", host))
            await page.get_by_role("button", name=name).click()
            # Across sites the cookie is not even sent: there the page asks who it is.
            refused = "Sign in" if host == "localhost" and name != "enter" else "Not sent"
            await expect(page.get_by_role("heading", level=1)).to_have_text(refused)
    answer = await at.client.request("GET", "/api/users/1")
    assert "hit" in str(answer.header("cache-status"))
    await page.goto(at.url)
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
