"""The token for a session, and the end of one."""

from __future__ import annotations

import hmac
import math
from asyncio import sleep

from holdfast.admin.access import refusal
from holdfast.admin.dashboard.html_page import HtmlPage, is_our_own, own_place

SLOWED = 0.5  # seconds that a wrong token costs


class SignIn(HtmlPage):
    """`POST /session`: the right token is answered with a cookie, a wrong one with 401, and slowly."""

    def prepare(self) -> None:
        """No session is needed to get one; but it must be one of our pages that asks."""
        token = self.gateway.profile.admin.token
        refused = None if token else refusal(token, "GET", self.request.headers)
        if refused:
            self.send_error_page(refused[0], "Not allowed", refused[1])
        elif self.request.method == "POST" and not is_our_own(self.request.headers):
            self.send_error_page(403, "Not sent", "The form was not sent from this page. Nothing was done.")

    def get(self) -> None:
        """Somebody has reloaded the answer to a wrong token."""
        self.redirect("/", status=303)

    async def post(self) -> None:
        """303 to where the browser wanted to go; 401; 429 after too many wrong ones from one address."""
        token, tries = self.gateway.profile.admin.token, self.desk.tries
        address, clock = str(self.request.remote_ip), self.gateway.leg.clock
        wait = tries.wait(address, clock())
        if wait:
            self.set_header("Retry-After", str(math.ceil(wait)))
            self.ask_to_sign_in(f"Too many wrong tokens: try again in {math.ceil(wait)} seconds.", 429)
            return
        given = self.get_body_argument("token", "", strip=False)
        if token and not hmac.compare_digest(given.encode(), token.encode()):
            tries.failed(address, clock())
            await sleep(SLOWED)
            self.ask_to_sign_in("This is not the profile's admin.token.")
            return
        if token:
            self.give_cookie(self.desk.cookie, self.desk.sessions.open())
        self.redirect(self._after(), status=303)

    def _after(self) -> str:
        return own_place(self.get_body_argument("after", "/"))


class SignOut(HtmlPage):
    """`POST /session/end`."""

    def post(self) -> None:
        """The session opens nothing any more, wherever else its cookie may be."""
        self.desk.sessions.end(self.get_cookie(self.desk.cookie) or "")
        self.clear_cookie(self.desk.cookie, path="/", httponly=True, samesite="Strict")
        self.redirect("/", status=303)
