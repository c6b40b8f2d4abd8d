"""Where the pages are."""

from __future__ import annotations

from typing import Any

from holdfast.admin.dashboard.captures import CaptureList, CapturePage, CaptureReplay
from holdfast.admin.dashboard.html_page import Desk
from holdfast.admin.dashboard.overview import Overview
from holdfast.admin.dashboard.purging import PurgePage
from holdfast.admin.dashboard.signing_in import SignIn, SignOut
from holdfast.gateway import Gateway


def dashboard_pages(gateway: Gateway) -> list[Any]:
    """For tornado's routing table."""
    shared = {"gateway": gateway, "desk": Desk(gateway)}
    table = [
        (r"/", Overview),
        (r"/page/purge", PurgePage),
        (r"/page/captures", CaptureList),
        (r"/page/captures/([^/]+)", CapturePage),
        (r"/page/captures/([^/]+)/replay", CaptureReplay),
        (r"/session", SignIn),
        (r"/session/end", SignOut),
    ]
    return [(pattern, page, shared) for pattern, page in table]
