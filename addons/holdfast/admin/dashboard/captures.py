"""The captures: lists of them, one of them, and having it sent again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from holdfast.admin.captures import replayed
from holdfast.admin.dashboard.html_page import Desk, HtmlPage
from holdfast.admin.dashboard.looking import CAPTURES, Looking
from holdfast.admin.dashboard.wording import body_text, fields
from holdfast.audit import AttemptLog
from holdfast.captures import STATES, Capture, Choice, parse_states
from holdfast.captures.documents import readable
from holdfast.captures.opening import GatewayCaptures
from holdfast.captures.view import Captures
from holdfast.errors import BrokerUnavailable, PoisonRecord, StoreUnavailable
from holdfast.gateway import Gateway
from holdfast.policy.endpoint import base_url
from holdfast.policy.envelope import CapturedRequest
from holdfast.policy.replaying.curl import curl_command

MANY = 100  # in a list
type Answered = tuple[str, int, list[tuple[str, str]], str]  # whose answer, status, header, body


@dataclass(frozen=True, slots=True)
class Listing:
    """The newest of those that were chosen; `fault` is why they cannot be told."""

    captures: Sequence[Capture] = ()
    fault: str = ""
    is_replayed: bool = False
    limit: int = MANY


async def listing_of(gateway: Gateway, looking: Looking, limit: int) -> Listing | None:
    """None where the profile captures nothing."""
    if gateway.sink is None:
        return None
    choice = Choice(route=looking.route or None, states=parse_states([looking.state]))
    stores = GatewayCaptures(gateway)
    try:
        captures = stores.captures()
        found = await captures.newest(choice, limit) if captures else []
    except StoreUnavailable as e:
        return Listing(fault=str(e))
    finally:
        stores.close()
    return Listing(found, is_replayed=stores.places().is_replayed, limit=limit)


class CaptureList(HtmlPage):
    """`/page/captures`; `?route=` and `?state=` choose."""

    async def get(self) -> None:
        """The newest hundred."""
        looking = self.look(CAPTURES)
        if looking is None:
            return
        listing = await listing_of(self.gateway, looking, MANY)
        if listing is None:
            self.send_error_page(404, "No captures", "The profile has no failure_sink, so nothing is captured.")
            return
        self.show("list.html", title="Captures", refreshes=True, listing=listing, states=STATES)


class OfOneCapture(HtmlPage):
    """What they share: the stores, closed with the call."""

    def initialize(self, gateway: Gateway, desk: Desk | None = None) -> None:
        """Called by tornado for each request."""
        super().initialize(gateway, desk)
        self.stores = GatewayCaptures(gateway)

    def on_finish(self) -> None:
        """Called by tornado after the answer."""
        self.stores.close()

    async def found(self, capture_id: str) -> tuple[Captures, Capture] | None:
        """The capture, and the stores it is from; None where the call has been answered."""
        captures = self.stores.captures() if self.gateway.sink else None
        capture = await captures.get(capture_id) if captures else None
        if captures is None or capture is None:
            self.send_error_page(404, "No such capture", "There is no capture of this id here.")
            return None
        return captures, capture


class CapturePage(OfOneCapture):
    """`/page/captures/{id}`."""

    async def get(self, capture_id: str) -> None:
        """All there is of it."""
        if self.look(place_of(capture_id)) is None:
            return
        try:
            found = await self.found(capture_id)
            if found is None:
                return
            captures, capture = found
            record, replays = readable(await captures.message(capture.id)), await captures.attempts(capture.id)
        except StoreUnavailable as e:
            self.send_error_page(503, "Not known now", str(e))
            return
        self.show(
            "capture.html",
            title=f"{capture.method} {capture.path[:80]}",
            capture=capture,
            record=record,
            replays=replays,
            answered=answer_of(record, replays),
            request=(fields(record.headers), body_text(record.body_bytes())) if record else None,
            curl=curl_of(record, base_url(self.gateway.profile.listen)) if record else "",
            refreshes=capture.state in ("pending", "published"),
            is_replayed=self.stores.places().is_replayed,
        )


class CaptureReplay(OfOneCapture):
    """`POST /page/captures/{id}/replay`."""

    async def post(self, capture_id: str) -> None:
        """The next page says what was done, or why nothing was."""
        looking = self.look(CAPTURES)
        if looking is None:
            return
        try:
            found = await self.found(capture_id)
            if found is None:
                return
            captures, capture = found
            status, detail = await replayed(captures, capture, self.stores.places())
        except (StoreUnavailable, BrokerUnavailable, PoisonRecord) as e:
            status, detail = 503, str(e)
        short = f"{capture_id[:8]}…{capture_id[-4:]}"
        told = f"Capture {short} is {detail}: the replayer sends it again." if status == 202 else ""
        place = looking.url() if self.get_body_argument("back", "") == "list" else place_of(capture_id)
        self.go(place, told or f"Capture {short} is not sent again: {detail}.", good=status == 202)


def place_of(capture_id: str) -> str:
    """Of its page; whatever was asked for as an id."""
    return f"{CAPTURES}/{quote(capture_id, safe='')}"


def answer_of(record: CapturedRequest | None, replays: list[AttemptLog]) -> Answered | None:
    """The last answer there was, to a replay or else to the request itself."""
    last = next((each for each in reversed(replays) if each.status is not None), None)
    if last and last.status is not None:
        return "the last replay", last.status, fields(last.headers), body_text(last.body, truncated=last.body_truncated)
    if record and record.response:
        told = record.response
        body = body_text(told.body_bytes(), truncated=told.body_truncated)
        return "the request", told.status, fields(told.headers), body
    return None


def curl_of(record: CapturedRequest, base: str) -> str:
    """The command, or as a comment why there is none."""
    try:
        return curl_command(record, base)
    except ValueError as e:
        return f"# it cannot be written as a curl command: {e}"
