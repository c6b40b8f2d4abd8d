"""The pages of captures: lists, one of them, and having one sent again."""

from __future__ import annotations

from holdfast.admin.page import Guarded, Page
from holdfast.captures import Capture, Choice, parse_choice, parse_whole
from holdfast.captures.documents import summary, whole
from holdfast.captures.opening import GatewayCaptures, Places
from holdfast.captures.view import Captures
from holdfast.errors import BrokerUnavailable, PoisonRecord, StoreUnavailable
from holdfast.gateway import Gateway

MOST = 1000


class OfCaptures(Guarded):
    """What they share: the stores of the gateway, closed with the call."""

    def initialize(self, gateway: Gateway) -> None:
        """Called by tornado for each request."""
        super().initialize(gateway)
        self._stores = GatewayCaptures(gateway)

    def on_finish(self) -> None:
        """Called by tornado after the answer."""
        self._stores.close()

    def captures(self) -> Captures | None:
        """None where the call has been answered."""
        if self.gateway.sink is None:
            self.send_problem(404, "No captures", "the profile has no failure_sink")
            return None
        return self._stores.captures()

    async def found(self, capture_id: str) -> tuple[Captures, Capture] | None:
        """The one that is meant, and the stores it is from; None where the call has been answered."""
        captures = self.captures()
        if captures is None:
            return None
        capture = await captures.get(capture_id)
        if capture is None:
            self.send_problem(404, "No such capture", "there is no capture of this id here")
            return None
        return captures, capture

    def places(self) -> Places:
        """Where they are."""
        return self._stores.places()

    def send_away(self, error: Exception) -> None:
        """A store or the broker cannot be asked."""
        self.send_problem(503, "Not known now", str(error))


class CaptureList(OfCaptures):
    """The newest captures."""

    async def get(self) -> None:
        """Filters: route, status, error, state (several with commas), since, until, key, limit."""
        try:
            choice, limit = self._choice(), min(parse_whole("limit", self.get_query_argument("limit", "100")), MOST)
        except ValueError as e:
            self.send_problem(400, "Bad filter", str(e))
            return
        try:
            captures = self.captures()
            if captures:
                self.send_json({"captures": [summary(each) for each in await captures.newest(choice, limit)]})
        except StoreUnavailable as e:
            self.send_away(e)

    def _choice(self) -> Choice:
        given = {n: self.get_query_argument(n) for n in self.request.query_arguments}
        given["state"] = ",".join(self.get_query_arguments("state"))
        return parse_choice(given, self.gateway.wall_clock())


class CapturePage(OfCaptures):
    """One capture, whole."""

    async def get(self, capture_id: str) -> None:
        """Where it stands, the envelope as it is published, and its replays."""
        try:
            found = await self.found(capture_id)
            if found is None:
                return
            captures, capture = found
            self.send_json(whole(capture, await captures.message(capture.id), await captures.attempts(capture.id)))
        except StoreUnavailable as e:
            self.send_away(e)


class CaptureReplay(OfCaptures):
    """Having one capture sent again by the replayer."""

    async def post(self, capture_id: str) -> None:
        """202 once that is noted; 409 if it is pending; 410 if its request is not kept here any more."""
        try:
            found = await self.found(capture_id)
            if found is None:
                return
            captures, capture = found
            status, detail = await replayed(captures, capture, self.places())
            if status == 202:
                self.send_json({"id": capture.id, "state": "pending", "was": capture.state, "detail": detail}, status)
            else:
                self.send_problem(status, "Gone" if status == 410 else "Not replayed", detail)
        except (StoreUnavailable, BrokerUnavailable, PoisonRecord) as e:
            self.send_away(e)


async def replayed(captures: Captures, capture: Capture, places: Places) -> tuple[int, str]:
    """Have it sent again: 202 once that is noted, 409 or 410 where it cannot be; and how, or why not."""
    if not places.is_replayed:
        return 409, "the profile has no replayer, so it would not be sent"
    (done,) = await places.redriver(captures).redrive([capture])
    return 202 if done.done else 410 if done.gone else 409, done.detail


def capture_pages() -> list[tuple[str, type[Page]]]:
    """For tornado's routing table."""
    return [
        (r"/captures", CaptureList),
        (r"/captures/([^/]+)", CapturePage),
        (r"/captures/([^/]+)/replay", CaptureReplay),
    ]
