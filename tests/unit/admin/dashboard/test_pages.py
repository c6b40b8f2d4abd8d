"""admin.dashboard: the pages of a gateway whose routes, errors and faults are as hostile as their makers could be."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from tornado.httpserver import HTTPServer
from tornado.web import Application

from holdfast.admin.health import HealthPage
from holdfast.admin.pages import routes
from holdfast.chain import build_chain
from holdfast.errors import Fault, StoreUnavailable
from holdfast.gateway import Gateway
from holdfast.profile.load import load_profile
from holdfast.stores import Purged
from tests.services.process import free_port

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x1b{{ 1 }}{% raw 2 %}"
TOKEN = "s3cret"
ELEMENTS = {
    *("html", "head", "meta", "title", "link", "style", "body", "a", "header", "nav", "main", "footer", "section"),
    *("h1", "h2", "h3", "p", "span", "dl", "dt", "dd", "div", "ul", "li", "code", "time", "pre", "em", "strong"),
    *("svg", "path", "g", "rect", "figure", "figcaption", "table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("form", "input", "button", "label", "textarea", "details", "summary"),
}


class Markup(HTMLParser):
    """Every element of a page, and every attribute."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def value(self, name: str) -> str:
        """Of a form's field."""
        return next(a.get("value") or "" for tag, a in self.elements if tag == "input" and a.get("name") == name)


def assert_tame(page: str) -> Markup:
    """Nothing but our own elements, no attribute that runs anything, nothing from elsewhere."""
    markup = Markup(page)
    assert {tag for tag, _ in markup.elements} <= ELEMENTS
    names = {name for _, attributes in markup.elements for name in attributes}
    assert not {name for name in names if name.startswith("on") or name == "style"}
    for _, attributes in markup.elements:
        for name in ("href", "src", "action"):
            assert re.match(r"/(?!/)|#|data:image/svg\+xml,|$", attributes.get(name) or ""), attributes
    return markup


@asynccontextmanager
async def served(
    tmp_path: Path, *, addons: str = "[metrics]", token: str = ""
) -> AsyncIterator[tuple[Gateway, httpx.AsyncClient]]:
    """The control surface of a chain of which nothing else runs."""
    port = free_port()
    file = tmp_path / "profile.yaml"
    listen = f"admin: {{listen: '127.0.0.1:{port}', token: '{token}'}}"
    file.write_text(f"version: 1\n{listen}\nupstream: {{servers: ['http://127.0.0.1:9']}}\naddons: {addons}\n")
    gateway = build_chain(load_profile(str(file))).gateway
    gateway.phase = "serving"
    server = HTTPServer(Application(routes(gateway), log_function=lambda _: None))
    server.listen(port, "127.0.0.1")
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield gateway, client
    finally:
        server.stop()
        await server.close_all_connections()


async def test_whatever_others_have_named_is_text_on_the_page(tmp_path: Path) -> None:
    """Routes, errors of servers, faults of the profile, a filter that somebody has sent as a link."""
    async with served(tmp_path) as (gateway, client):
        for fate in ("ok", "captured", EVIL):
            gateway.minutes.add(gateway.wall_clock(), EVIL, fate)
        (_, server), *_ = gateway.leg.servers()
        server.last_error, server.failures = EVIL, 3
        gateway.refused = (Fault(EVIL, 1, EVIL, EVIL),)
        page = await client.get("/", params={"route": EVIL})
        assert page.status_code == 200
        markup = assert_tame(page.text)
        assert markup.text.count("<script>alert(1)</script>") >= 4
        assert "{{ 1 }}" in markup.text and "\x1b" not in page.text and "\u202e" not in page.text
        assert_tame((await client.get("/", params={"state": EVIL})).text)
        assert_tame((await client.get(f"/page/captures/{quote(EVIL, safe='')}")).text)


async def test_faults_on_purpose_are_at_the_top_of_the_page(tmp_path: Path) -> None:
    """As long as they may act: whoever has forgotten one is told, by its name."""
    async with served(tmp_path, addons="[metrics, faults]") as (gateway, client):
        assert gateway.faults
        assert "on purpose" not in (await client.get("/")).text
        gateway.faults.put({"name": "flaky", "fault": "status", "at": "upstream"})
        text = assert_tame((await client.get("/")).text).text
        assert "Requests fail on purpose" in text
        assert "flaky: status at the upstream, 0 times so far" in text
        gateway.faults.clear([])
        assert "on purpose" not in (await client.get("/")).text


async def test_no_page_may_do_anything_but_look_good(tmp_path: Path) -> None:
    """The policy allows its own style sheet, by its hash, and forms of its own; it is neither framed nor kept."""
    async with served(tmp_path, token=TOKEN) as (_, client):
        for path in ("/", "/page/purge", "/page/captures/x", "/session/end"):
            page = await client.get(path)
            assert page.headers["cache-control"] == "no-store", path
            assert page.headers["x-frame-options"] == "DENY"
            assert page.headers["x-content-type-options"] == "nosniff"
            assert page.headers["referrer-policy"] == "same-origin"
            policy = page.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'sha256-")
            assert "form-action 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy


async def test_with_a_token_nothing_is_shown_without_it(tmp_path: Path) -> None:
    """The sign-in form instead, whatever was asked for; what a form sends is not done."""
    async with served(tmp_path, addons="[metrics, cache]", token=TOKEN) as (gateway, client):
        gateway.minutes.add(gateway.wall_clock(), "secret-route", "ok")
        for path in ("/", "/?route=secret-route", "/page/purge", "/page/captures/x"):
            page = await client.get(path, headers={"Cookie": "holdfast=x"})
            assert (page.status_code, page.headers["www-authenticate"]) == (401, 'Bearer realm="holdfast"')
            assert "Sign in" in page.text and "/page/captures" not in page.text.replace(path, "")
            assert (
                version("holdfast") not in page.text
                and "127.0.0.1:9" not in page.text
                and "profile.yaml" not in page.text
            )
        for method, path in (("DELETE", "/"), ("GET", "/session/end")):
            assert version("holdfast") not in (await client.request(method, path)).text
        done = await client.post(
            "/page/purge", data={"what": "all", "sure": "yes"}, headers={"Sec-Fetch-Site": "same-origin"}
        )
        assert (done.status_code, "Nothing was done" in done.text) == (401, True)
        assert (await client.get("/", headers={"Authorization": f"Bearer {TOKEN}"})).status_code == 200


async def sign_in(client: httpx.AsyncClient, token: str = TOKEN, **fields: str) -> httpx.Response:
    return await client.post("/session", data={"token": token, **fields}, headers={"Sec-Fetch-Site": "same-origin"})


async def test_the_session_opens_the_pages_and_not_the_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even to look; it is not the token, no script can read it, and no other site's page can send it along."""
    async with served(tmp_path, token=TOKEN) as (_, client):
        answer = await sign_in(client, after="/?route=users")
        assert (answer.status_code, answer.headers["location"]) == (303, "/?route=users")
        cookie = answer.headers["set-cookie"]
        assert TOKEN not in cookie
        assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"} <= set(cookie.split("; "))
        assert (await client.get("/")).status_code == 200
        assert (await sign_in(client, after="https://evil.example/steal")).headers["location"] == "/"
        for path in ("/health", "/metrics", "/captures", "/config", "/explain", "/nothing"):
            assert (await client.get(path)).status_code == 401, path
        for path in ("/purge", "/captures/x/replay"):
            assert (await client.post(path, json={"all": True})).status_code == 401, path


async def test_a_circuit_that_a_person_has_opened_is_told_as_that(tmp_path: Path) -> None:
    """Nobody need look for a fault of the server then."""
    async with served(tmp_path) as (gateway, client):
        assert "by a person" not in (await client.get("/")).text
        gateway.leg.force("http://127.0.0.1:9", is_open=True)
        gateway.health = HealthPage(gateway).document  # what it says is kept for a second
        page = assert_tame((await client.get("/")).text)
        assert re.search(r"circuit open\s+by a person", page.text), page.text


async def test_wrong_tokens_are_answered_slowly_and_then_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """401, then 429 with a Retry-After, for the right one too: otherwise it could be guessed all the same."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("holdfast.admin.dashboard.signing_in.sleep", sleep)
    async with served(tmp_path, token=TOKEN) as (_, client):
        for given in ("wrong", "", "ü", TOKEN + " ", "x" * 10_000):
            refused = await sign_in(client, given)
            assert (refused.status_code, "set-cookie" in refused.headers) == (401, False), given
        assert slept == [0.5] * 5
        late = await sign_in(client)
        assert late.status_code == 429
        assert 0 < int(late.headers["retry-after"]) <= 60
        assert "set-cookie" not in late.headers


async def test_signing_out_ends_the_session_and_not_only_the_cookie(tmp_path: Path) -> None:
    """Who has kept the cookie has nothing."""
    async with served(tmp_path, token=TOKEN) as (_, client):
        await sign_in(client)
        kept = dict(client.cookies)
        form = Markup((await client.get("/")).text).value("form")
        ours = {"Sec-Fetch-Site": "same-origin"}
        forged = await client.post("/session/end", data={"form": "x"}, headers=ours)
        assert (forged.status_code, (await client.get("/")).status_code) == (403, 200)
        ended = await client.post("/session/end", data={"form": form}, headers=ours)
        assert ended.status_code == 303
        assert not client.cookies
        client.cookies.update(kept)
        assert (await client.get("/")).status_code == 401


@pytest.mark.parametrize("token", [TOKEN, ""])
async def test_only_a_form_of_the_page_itself_does_anything(tmp_path: Path, token: str) -> None:
    """It carries what only the page knows, and the browser says that it comes from there: both, with a token or not."""
    async with served(tmp_path, addons="[cache]", token=token) as (gateway, client):
        purged: list[dict[str, object]] = []

        async def purge(**what: object) -> Purged:
            purged.append(what)
            return Purged(1, False)

        gateway.cache.purge = purge  # type: ignore[method-assign, union-attr, assignment]
        if token:
            await sign_in(client)
        form = Markup((await client.get("/page/purge")).text).value("form")
        ours, told = {"Sec-Fetch-Site": "same-origin"}, {"what": "tags", "names": "a"}
        for fields, headers in (
            (told | {"form": form}, {}),
            (told | {"form": form}, {"Sec-Fetch-Site": "same-site"}),
            (told | {"form": form}, {"Origin": "http://evil.example"}),
            (told, ours),
            (told | {"form": form[:-1] + "x"}, ours),
        ):
            refused = await client.post("/page/purge", data=fields, headers=headers)
            assert (refused.status_code, "Nothing was done" in refused.text) == (403, True)
        assert purged == []
        done = await client.post("/page/purge", data=told | {"form": form}, headers=ours)
        assert (done.status_code, done.headers["location"]) == (303, "/page/purge")
        assert purged == [{"tags": ["a"], "urls": [], "everything": False, "soft": False}]


async def test_without_a_token_only_this_machine_by_its_name_is_answered(tmp_path: Path) -> None:
    """A name that leads here from elsewhere (DNS rebinding) shows in Host."""
    async with served(tmp_path) as (_, client):
        for method, path in (("GET", "/"), ("POST", "/page/purge"), ("POST", "/session"), ("POST", "/session/end")):
            refused = await client.request(
                method, path, headers={"Host": "evil.example", "Sec-Fetch-Site": "same-origin"}
            )
            assert refused.status_code == 403, path
            assert "profile.yaml" not in refused.text


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"what": "all"}, "tick the box"),
        ({"what": "tags", "names": "  "}, "no tag was named"),
        ({"what": "urls"}, "no URL was named"),
        ({"what": "everything", "sure": "yes"}, "no tag was named"),
        ({"what": "urls", "names": "nonsense"}, "nonsense"),
        ({"what": "tags", "names": "away"}, "the store is away"),
    ],
)
async def test_what_was_not_purged_is_said(tmp_path: Path, fields: dict[str, str], told: str) -> None:
    """And why, on the page that follows, once."""
    async with served(tmp_path, addons="[cache]") as (gateway, client):

        async def purge(**what: object) -> Purged:
            raise StoreUnavailable("the store is away") if what["tags"] else ValueError(f"{what['urls']} is no URL")

        gateway.cache.purge = purge  # type: ignore[method-assign, union-attr, assignment]
        form = Markup((await client.get("/page/purge")).text).value("form")
        done = await client.post(
            "/page/purge", data={"form": form, **fields}, headers={"Sec-Fetch-Site": "same-origin"}
        )
        assert done.status_code == 303
        page = await client.get(done.headers["location"])
        assert "Nothing was purged" in page.text
        assert told in Markup(page.text).text


async def test_the_page_shows_what_the_gateway_has(tmp_path: Path) -> None:
    """No cache, no outbox, no replayer: nothing of them, and no button that would do nothing."""
    async with served(tmp_path) as (_, client):
        page = (await client.get("/")).text
        headings = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
        assert headings == ["Requests", "Upstream servers"]
        assert 'href="/captures"' not in page and 'href="/health"' in page
        assert "/page/purge" not in page and "None in the last hour." in page
        assert (await client.get("/page/purge")).status_code == 404


async def test_captures_as_json_are_named_where_there_are_any(tmp_path: Path) -> None:
    """At the foot of the page, without a token."""
    async with served(tmp_path, addons=f"[{{failure_sink: {{outbox: {tmp_path / 'o.db'}}}}}]") as (_, client):
        assert 'href="/captures"' in (await client.get("/page/captures")).text


async def test_a_consumer_shows_no_requests(tmp_path: Path) -> None:
    """It has no clients."""
    async with served(tmp_path) as (gateway, client):
        gateway.role = "consumer"
        page = (await client.get("/")).text
        assert "<h1>Consumer" in page
        assert re.findall(r"<h2[^>]*>(.*?)</h2>", page) == ["Upstream servers"]


async def test_the_page_refreshes_itself_until_it_is_paused(tmp_path: Path) -> None:
    """By an element of the page: there is no script; what is typed into is never refreshed."""
    async with served(tmp_path, addons="[cache]") as (_, client):
        assert '<meta http-equiv="refresh" content="10">' in (await client.get("/")).text
        paused = (await client.get("/?refresh=off&state=dead")).text
        assert "http-equiv" not in paused
        assert 'href="/?state=dead"' in paused
        assert "http-equiv" not in (await client.get("/page/purge")).text
        assert (await client.get("/page/captures")).status_code == 404  # nothing is captured


async def test_errors_are_pages_too(tmp_path: Path) -> None:
    """For a person; a program that asks the rest of the control surface gets JSON as ever."""
    async with served(tmp_path, addons="[cache]") as (_, client):
        for method, path, status in (
            ("GET", "/page/captures/x", 404),
            ("GET", "/?state=gone", 400),
            ("DELETE", "/", 405),
            ("GET", "/session/end", 405),
            ("POST", "/", 403),
        ):
            page = await client.request(method, path)
            assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8"), path
            assert_tame(page.text)
        assert (await client.get("/nothing")).json()["detail"].startswith("to look at there is /;")
        head = await client.head("/")
        assert (head.status_code, head.content) == (200, b"")
