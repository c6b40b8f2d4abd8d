"""Commands for mitmweb's command bar, the mitmproxy console, and addons: captures, circuits, replays by hand.

What is wrong with an argument is said with what to write instead. `holdfast.reload` is `live`'s.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mitmproxy import command, contentviews
from mitmproxy.addonmanager import Loader
from mitmproxy.exceptions import CommandError

from holdfast.engine.front_ends import remove_view, teach_argument
from holdfast.errors import HoldfastError
from holdfast.gateway import Gateway
from holdfast.profile.values import Duration
from holdfast.workbench.arguments import CaptureFilter, CaptureId, Sending, ServerName
from holdfast.workbench.content_view import CaptureView

if TYPE_CHECKING:
    from holdfast.workbench.desk import Desk

_EDIT = Sending("edit")


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
        teach_argument(CaptureId, "capture id", lambda: self._desk().ids())
        teach_argument(CaptureFilter, "name=value", lambda: self._desk().filters())
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
        return self._desk().listed(filters)

    @command.command("holdfast.show")  # type: ignore[untyped-decorator]
    @_explained
    def show(self, capture_id: CaptureId) -> Sequence[str]:
        """All there is of one capture: where it stands, why, its attempts and replays, the request, the last answer.
        In mitmweb it is put into the flow list, as the response of a flow."""
        return self._desk().show(capture_id)

    @command.command("holdfast.replay")  # type: ignore[untyped-decorator]
    @_explained
    def replay(self, capture_id: CaptureId, how: Sending = _EDIT) -> str:
        """Put the request of a capture into the flow list, to be edited and then replayed there. With `send` it is
        replayed at once. The capture itself stays as it is."""
        return self._desk().replay(capture_id, how)

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

    def _desk(self) -> Desk:
        from holdfast.workbench.desk import Desk  # few gateways are ever asked

        return Desk(self._gateway)


def _addresses(count: int) -> str:
    return f" ({count} addresses)" if count > 1 else ""
