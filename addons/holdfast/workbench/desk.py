"""What the commands about captures do. A module of its own: it is loaded when the first of them is given."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mitmproxy import ctx

from holdfast.captures import STATES, Capture, Choice, parse_choice, parse_whole
from holdfast.captures.documents import whole
from holdfast.captures.opening import Places, places_of
from holdfast.captures.preparing import prepared
from holdfast.captures.view import Captures, Message
from holdfast.errors import HoldfastError
from holdfast.gateway import Gateway
from holdfast.policy.capture_text import LARGEST, capture_text
from holdfast.workbench.loading import flow_list, flow_of, is_mitmweb, put_into, server_for, shown_flow
from holdfast.workbench.looking import ask

FILTERS = ("state", "route", "error", "status", "since", "until", "key", "limit")
_USUAL, _MOST, _COMPLETED = 20, 200, 30
_NOWHERE = "holdfast.invalid:80"  # where there is no control surface


class Desk:
    """Looks at the captures of one gateway, and puts them into the flow list. HoldfastError or ValueError: refused."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def listed(self, filters: Sequence[str]) -> Sequence[str]:
        """The newest that fit, a line each."""
        choice, limit = self._choice(filters)
        found = ask(self._places(), lambda captures: captures.newest(choice, limit))
        return [_line(each) for each in found] or ["no captures" + (" that fit" if filters else "")]

    def show(self, capture_id: str) -> Sequence[str]:
        """All there is of one: in mitmweb as a flow, elsewhere as text."""

        async def question(captures: Captures) -> bytes:
            capture = await _named(captures, capture_id)
            message, attempts = await captures.message(capture.id), await captures.attempts(capture.id)
            return json.dumps(whole(capture, message, attempts)).encode()

        document, view = ask(self._places(), question), flow_list()
        if len(document) > LARGEST:
            raise ValueError(f"it has {len(document)} bytes, too many for here: holdfast captures show {capture_id}")
        if view and is_mitmweb():
            put_into(view, shown_flow(document, capture_id, self._gateway.profile.admin.listen or _NOWHERE))
            return [f"capture {capture_id} is in the flow list: look at the response there"]
        return capture_text(document).rstrip().split("\n")

    def replay(self, capture_id: str, how: str) -> str:
        """Its request into the flow list, and for `send` on its way."""
        if how not in ("edit", "send"):
            raise ValueError(f"{how!r}: write `edit` to have it in the flow list, or `send` to send it at once")
        view, places = flow_list(), self._places()
        if view is None and how == "edit":
            raise ValueError("there is no flow list here to edit it in: add `send`, or use mitmweb or mitmproxy")

        async def question(captures: Captures) -> tuple[Capture, Message | None]:
            capture = await _named(captures, capture_id)
            return capture, await captures.message(capture.id)

        capture, message = ask(places, question)
        if message is None:
            raise ValueError(f"the request of {capture.id} is not kept here any more: only what became of it is")
        flow = flow_of(prepared(places, capture, message), capture, server_for(self._gateway, capture.route))
        if view:
            put_into(view, flow)
        what = f"{capture.method} {capture.path} to {flow.request.scheme}://{flow.request.host}:{flow.request.port}"
        if how == "send":
            ctx.master.commands.call("replay.client", [flow])
            return f"{what} is being sent; the capture stays {capture.state}"
        return f"{what} is in the flow list: edit it, then replay it; the capture stays {capture.state}"

    def ids(self) -> Sequence[str]:
        """Of the newest, to complete from."""
        try:
            return [each.id for each in ask(self._places(), lambda found: found.newest(Choice(), _COMPLETED))]
        except (HoldfastError, ValueError):
            return []

    def filters(self) -> Sequence[str]:
        """To complete from."""
        routes = [f"route={route}" for route in sorted({*self._gateway.leg.plans} - {""})]
        return [*(f"state={state}" for state in STATES), *routes, "since=15m", *(f"{name}=" for name in FILTERS)]

    # -- parts ------------------------------------------------------------------------------------------------------

    def _places(self) -> Places:
        places = places_of(self._gateway.profile)
        if places.outbox is None:
            raise ValueError("the profile has no failure_sink, so nothing is captured: add it to `addons`")
        return places

    def _choice(self, filters: Sequence[str]) -> tuple[Choice, int]:
        given: dict[str, str] = {}
        for each in filters:
            name, found, value = each.partition("=")
            if name not in FILTERS or not found:
                raise ValueError(f"{each!r} is no filter: write NAME=VALUE, with one of {', '.join(FILTERS)}")
            given[name] = value
        limit = min(parse_whole("limit", given.pop("limit", str(_USUAL))), _MOST)
        return parse_choice(given, self._gateway.wall_clock()), limit


async def _named(captures: Captures, capture_id: str) -> Capture:
    found = await captures.get(capture_id.strip())
    if found is None:
        raise HoldfastError(f"there is no capture {capture_id!r} here: holdfast.captures lists them")
    return found


def _line(capture: Capture) -> str:
    told = [capture.id, capture.state, capture.method, capture.path, capture.error]
    told += [f"route {capture.route}", f"{capture.attempts} replays" if capture.attempts else ""]
    return "  ".join(part for part in told if part)
