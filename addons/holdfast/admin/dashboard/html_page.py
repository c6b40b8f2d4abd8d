"""What all pages have in common: who may see them, their header fields, what a form must bring, the templates.

With a token, a page wants the session of a browser that has signed in, or the token itself as for the rest of the
control surface; the session opens nothing but these pages. A form must come from one of them: it carries what only they
can know, and the browser says so itself (`Sec-Fetch-Site`, or `Origin`).
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tornado.httputil import HTTPHeaders
from tornado.template import Loader

from holdfast.admin.access import refusal
from holdfast.admin.dashboard import wording
from holdfast.admin.dashboard.looking import CAPTURES, EVERY, OVERVIEW, PURGE, Looking, parse_looking
from holdfast.admin.dashboard.session import LASTS, NOBODY, TOLD_FOR, Sessions, Tries
from holdfast.admin.page import Page
from holdfast.gateway import Gateway
from holdfast.policy.endpoint import parse_listen
from holdfast.top.wording import age, count, duration, share, size

HERE = Path(__file__).parent
STYLE = (HERE / "dashboard.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect width='16' height='16' rx='4' fill='%230f6f78'/%3E"
    "%3Cpath d='M5 4v8M11 4v8M5 8h6' stroke='white' stroke-width='2'/%3E%3C/svg%3E"
)
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_STRICT = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",  # with `no-referrer` a browser would not say where a form comes from
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Cookie",
}
_BEARER = "bearer"  # whose forms are those of a caller that sends the token itself


@dataclass(slots=True, eq=False)
class Desk:
    """What the pages of one gateway share."""

    gateway: Gateway
    sessions: Sessions = field(init=False)
    tries: Tries = field(default_factory=Tries)
    templates: Loader = field(init=False)
    version: str = field(default_factory=lambda: version("holdfast"))

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.gateway.wall_clock)
        names: dict[str, Any] = {"STYLE": STYLE, "ICON": ICON, "EVERY": EVERY}
        words = (wording.shown, wording.minute, wording.counted, age, count, duration, share, size)
        names |= {each.__name__: each for each in words}
        self.templates = Loader(str(HERE / "templates"), autoescape="shown", namespace=names)

    @property
    def cookie(self) -> str:
        """The session's name. Browsers keep the cookies of all ports of a host together."""
        return f"holdfast-{parse_listen(self.gateway.profile.admin.listen or '0')[1]}"


def is_our_own(headers: HTTPHeaders) -> bool:
    """Whether the browser says that one of our pages has made this request; False where it says nothing."""
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site is not None:
        return site == "same-origin"
    return origin is not None and origin.partition("://")[2] == headers.get("Host")


class HtmlPage(Page):
    """`session`: whose the page is; `is_let_in`: whether more than a form may be shown; `looking`: what is chosen."""

    desk: Desk
    session = NOBODY
    is_let_in = False
    looking = Looking()

    def initialize(self, gateway: Gateway, desk: Desk | None = None) -> None:
        """Called by tornado for each request."""
        super().initialize(gateway)
        assert desk  # the routing table has one for all pages
        self.desk = desk

    def set_default_headers(self) -> None:
        """Nothing from elsewhere, nothing inside of others, nothing kept."""
        super().set_default_headers()
        self.set_header("Content-Type", "text/html; charset=utf-8")
        for name, value in _STRICT.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        """Called by tornado before the method."""
        token, headers = self.gateway.profile.admin.token, self.request.headers
        refused = refusal(token, "GET", headers)
        if refused and refused[0] == 401:
            found = self.desk.sessions.holder(self.get_cookie(self.desk.cookie) or "")
            if found is None:
                self.ask_to_sign_in(
                    "" if self.request.method in ("GET", "HEAD") else "Nothing was done: sign in first."
                )
                return
            self.session = found
        elif refused:
            self.send_error_page(refused[0], "Not allowed", refused[1])
            return
        elif token:
            self.session = _BEARER
        self.is_let_in = True
        if self.request.method == "POST" and not self._is_form_of_ours():
            why = "The form was not sent from this page, or the gateway has been restarted since. Nothing was done."
            self.send_error_page(403, "Not sent", why)

    def _is_form_of_ours(self) -> bool:
        given = self.get_body_argument("form", "")
        return is_our_own(self.request.headers) and self.desk.sessions.is_form_token(given, self.session)

    # -- answers ----------------------------------------------------------------------------------------------------

    def show(self, template: str, *, title: str, status: int = 200, **values: Any) -> None:
        """Finish with this template."""
        now = self.gateway.wall_clock()
        common = {
            "title": title,
            "now": wording.Moment(now, now),
            "moment": partial(wording.Moment, now=now),
            "looking": self.looking,
            "refreshes": False,
            "form_token": self.desk.sessions.form_token(self.session),
            "pause": self.looking.url(paused=True),
            "resume": self.looking.url(paused=False),
            "CAPTURES": CAPTURES,
            "places": self._places(),
            "here": self.request.path,
            "has_cache": self.gateway.cache is not None,
            "signed_in": self.session not in (NOBODY, _BEARER),
            "is_open": self.is_let_in and not self.gateway.profile.admin.token,
            "version": self.desk.version if self.is_let_in else "",
            "note": self._noted(),
            "role": self.gateway.role,
        }
        self.set_status(status)
        self.finish(self.desk.templates.load(template).generate(**(common | values)))

    def ask_to_sign_in(self, fault: str = "", status: int = 401) -> None:
        """The form for the token."""
        self.set_header("WWW-Authenticate", 'Bearer realm="holdfast"')
        self.session = NOBODY
        self.show("sign_in.html", title="Sign in", status=status, fault=fault, after=self._after())

    def send_error_page(self, status: int, title: str, detail: str) -> None:
        """Why there is nothing else to see."""
        self.show("error.html", title=title, status=status, detail=detail)

    def go(self, place: str, note: str, *, good: bool) -> None:
        """See the place next, where it is told what was done (RFC 9110, section 15.4.4)."""
        value = self.desk.sessions.note(note, good=good)
        self.give_cookie(f"{self.desk.cookie}-note", value, TOLD_FOR)
        self.redirect(place, status=303)

    def give_cookie(self, name: str, value: str, seconds: int = LASTS) -> None:
        """No script reads it, and no page of another site has it sent along."""
        secure = self.request.headers.get("X-Forwarded-Proto") == "https"
        self.set_cookie(name, value, path="/", max_age=seconds, httponly=True, samesite="Strict", secure=secure)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Errors raised by tornado or by a page: no trace to the caller."""
        if status_code == 405:
            self.set_header("Allow", ", ".join(self._methods()))
        why = "The gateway's log says more." if status_code >= 500 else "There is nothing to see here."
        self.send_error_page(status_code, self._reason, why)

    def look(self, place: str = OVERVIEW) -> Looking | None:
        """What is to be shown, by the query or the form; None where the call has been answered."""
        argument = self.get_body_argument if self.request.method == "POST" else self.get_query_argument
        try:
            self.looking = parse_looking(lambda name, default: str(argument(name, default)), place)
        except ValueError as e:
            self.send_error_page(400, "Bad filter", str(e))
            return None
        return self.looking

    def _places(self) -> list[tuple[str, str]]:
        """(path, name) of the pages that there are."""
        if not self.is_let_in:
            return []
        found = [(OVERVIEW, "Overview")]
        found += [(CAPTURES, "Captures")] if self.gateway.sink else []
        return found + ([(PURGE, "Purge")] if self.gateway.cache else [])

    def _after(self) -> str:
        """Where to go once signed in: what was asked for, if it can be asked for."""
        return (self.request.uri or "/") if self.request.method in ("GET", "HEAD") else "/"

    def _noted(self) -> tuple[str, bool] | None:
        return self.desk.sessions.noted(self.get_cookie(f"{self.desk.cookie}-note") or "")


def own_place(text: str) -> str:
    """A place of these pages, whatever was asked for: nothing else, and nobody else's."""
    path = text.partition("?")[0]
    ours = path == "/" or path.startswith("/page/")
    return text if ours and text.isascii() and text.isprintable() and "\\" not in text else "/"
