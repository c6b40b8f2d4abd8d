"""What the pages of the control surface have in common."""

from __future__ import annotations

import json
from typing import Any

from tornado.web import RequestHandler

from holdfast.admin.access import refusal
from holdfast.gateway import Gateway


class Page(RequestHandler):
    """What all pages share: the gateway, JSON out, and problem documents for errors."""

    gateway: Gateway

    def initialize(self, gateway: Gateway) -> None:
        """Called by tornado for each request."""
        self.gateway = gateway

    def set_default_headers(self) -> None:
        """No product names, no caching, nothing for a browser to guess."""
        self.set_header("Server", "holdfast")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")

    def send_json(self, document: Any, status: int = 200) -> None:
        """Finish with this document."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(document, ensure_ascii=False) + "\n")

    def send_problem(self, status: int, title: str, detail: str) -> None:
        """Finish with an RFC 9457 document."""
        self.set_status(status)
        self.set_header("Content-Type", "application/problem+json")
        self.finish(json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail}) + "\n")

    def head(self, *args: str) -> Any:
        """As GET; tornado leaves the body out."""
        return self.get(*args)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Errors raised by tornado or by a page: no trace to the caller."""
        if status_code == 405:
            self.set_header("Allow", ", ".join(self._methods()))
        self.send_problem(status_code, self._reason, "see the gateway's log" if status_code >= 500 else self._reason)

    def _methods(self) -> list[str]:
        """Those that this page has (RFC 9110, section 15.5.6)."""
        known = [m for m in self.SUPPORTED_METHODS if m != "HEAD"]
        own = [m for m in known if getattr(type(self), m.lower()) is not getattr(RequestHandler, m.lower())]
        return [*own, "HEAD"] if "GET" in own else own


class Guarded(Page):
    """A page that wants the token where one is set."""

    def prepare(self) -> None:
        """Called by tornado before the method."""
        refused = refusal(self.gateway.profile.admin.token, self.request.method or "", self.request.headers)
        if refused:
            status, what_to_do = refused
            if status == 401:
                self.set_header("WWW-Authenticate", 'Bearer realm="holdfast"')
            self.send_problem(status, "Not allowed", what_to_do)
