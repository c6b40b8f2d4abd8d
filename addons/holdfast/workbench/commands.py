"""Commands for mitmweb's command bar, the mitmproxy console, and addons: captures, circuits, replays by hand.

What is wrong with an argument is said with what to write instead. `holdfast.reload` is `live`'s.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence

from mitmproxy import command, contentviews, ctx
from mitmproxy.addonmanager import Loader
from mitmproxy.exceptions import CommandError

from holdfast.captures import STATES, Capture, Choice, parse_choice, parse_whole
from holdfast.captures.documents import whole
from holdfast.captures.opening import Places, places_of
from holdfast.captures.preparing import prepared
from holdfast.captures.view import Captures, Message
from holdfast.engine.front_ends import remove_view, teach_argument
from holdfast.errors import HoldfastError
from holdfast.gateway import Gateway
from holdfast.policy.capture_text import LARGEST, capture_text
from holdfast.profile.values import Duration
from holdfast.workbench.arguments import CaptureFilter, CaptureId, Sending, ServerName
from holdfast.workbench.content_view import CaptureView
from holdfast.workbench.loading import flow_list, flow_of, is_mitmweb, put_into, server_for, shown_flow
from holdfast.workbench.looking import ask

FILTERS = ("state", "route", "error", "status", "since", "until", "key", "limit")
_USUAL, _MOST, _COMPLETED = 20, 200, 30
_EDIT = Sending("edit")
_NOWHERE = "holdfast.invalid:80"  # where there is no control surface


def _explained[**P, T](function: Callable[P, T]) -> Callable[P, T]:
    """What the gateway refuses is an error of the command, in the same words."""

    @functools.wraps(function)
    def explained(*args: P.args, **more: P.kwargs) -> T:
        try:
            return function(*args, **more)
        except (HoldfastError, ValueError) as error:
            raise CommandError(str(error)) from error

    return explained


class Workbench:
    """The commands, and the content view as long as the chain lives."""

    name = "holdfast-workbench"

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def load(self, loader: Loader) -> None:
        teach_argument(CaptureId, "capture id", self._ids)
        teach_argument(CaptureFilter, "name=value", self._filters)
        teach_argument(ServerName, "server", self._gateway.leg.server_names)
        teach_argument(Sending, "edit|send", lambda: ("edit", "send"))
        contentviews.add(CaptureView())

    def done(self) -> None:
        remove_view(CaptureView)

    # -- captures ---------------------------------------------------------------------------------------------------

    @command.command("holdfast.captures")  # type: ignore[untyped-decorator]
    @_explained
    def captures(self, *filters: CaptureFilter) -> Sequence[str]:
        """The newest captures, a line each. Filters: state=dead,parked route=NAME error=TOKEN status=503 since=15m
        until=TIME key=KEY limit=20; all that are given must hold."""
        choice, limit = self._choice(filters)
        found = ask(self._places(), lambda captures: captures.newest(choice, limit))
        return [_line(each) for each in found] or ["no captures" + (" that fit" if filters else "")]

    @command.command("holdfast.show")  # type: ignore[untyped-decorator]
    @_explained
    def show(self, capture_id: CaptureId) -> Sequence[str]:
        """All there is of one capture: where it stands, why, its attempts and replays, the request, the last answer.
        In mitmweb it is put into the flow list, as the response of a flow."""

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

    @command.command("holdfast.replay")  # type: ignore[untyped-decorator]
    @_explained
    def replay(self, capture_id: CaptureId, how: Sending = _EDIT) -> str:
        """Put the request of a capture into the flow list, to be edited and then replayed there. With `send` it is
        replayed at once. The capture itself stays as it is."""
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

    # -- circuits ---------------------------------------------------------------------------------------------------

    @command.command("holdfast.breaker.open")  # type: ignore[untyped-decorator]
    @_explained
    def breaker_open(self, server: ServerName, duration: str = "") -> str:
        """Send nothing to this server any more, for a duration like 30s or 5m, or until holdfast.breaker.close."""
        seconds = float(Duration(duration)) if duration else None
        if seconds is not None and seconds <= 0:
            raise ValueError("a duration is above 0s, like 30s or 5m")
        count = self._gateway.leg.force(server, is_open=True, seconds=seconds)
        until = f"for {duration}, then it is probed" if duration else "until holdfast.breaker.close"
        return f"open: {server}{_addresses(count)} gets nothing {until}"

    @command.command("holdfast.breaker.close")  # type: ignore[untyped-decorator]
    @_explained
    def breaker_close(self, server: ServerName) -> str:
        """Let requests through to this server at once, whatever has happened before. New failures open it again."""
        count = self._gateway.leg.force(server, is_open=False)
        return f"closed: {server}{_addresses(count)} is asked again"

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

    def _ids(self) -> Sequence[str]:
        try:
            return [each.id for each in ask(self._places(), lambda found: found.newest(Choice(), _COMPLETED))]
        except (HoldfastError, ValueError):
            return []

    def _filters(self) -> Sequence[str]:
        routes = [f"route={route}" for route in sorted({*self._gateway.leg.plans} - {""})]
        return [*(f"state={state}" for state in STATES), *routes, "since=15m", *(f"{name}=" for name in FILTERS)]


async def _named(captures: Captures, capture_id: str) -> Capture:
    found = await captures.get(capture_id.strip())
    if found is None:
        raise HoldfastError(f"there is no capture {capture_id!r} here: holdfast.captures lists them")
    return found


def _line(capture: Capture) -> str:
    told = [capture.id, capture.state, capture.method, capture.path, capture.error]
    told += [f"route {capture.route}", f"{capture.attempts} replays" if capture.attempts else ""]
    return "  ".join(part for part in told if part)


def _addresses(count: int) -> str:
    return f" ({count} addresses)" if count > 1 else ""
