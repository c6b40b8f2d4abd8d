"""From a capture to the request that a person sends by hand: what the replayer would send."""

from __future__ import annotations

from holdfast.captures import Capture
from holdfast.captures.opening import Places
from holdfast.captures.view import Message
from holdfast.errors import HoldfastError
from holdfast.policy.replaying.requests import ReplayRequest, RequestRules, Unsendable
from holdfast.replay.preparing import Preparation

_WHY = {
    "redacted": "something was taken out of its target or its body: set HOLDFAST_SEAL_KEY, if it was sealed",
    "truncated": "its body was cut short",
    "malformed": "it is no request that could be sent",
}


def prepared(places: Places, capture: Capture, message: Message) -> ReplayRequest:
    """As the replayer would send it: unsealed, with what the profile attaches. HoldfastError, saying why, if not."""
    rules = places.replayer.request_rules() if places.replayer else RequestRules()
    keys = places.sink.seal_key if places.sink else ""
    preparation = Preparation(rules, lambda: keys, continues_spans=lambda: True)
    made = preparation.prepared(message.value, capture.attempts + 1)
    if isinstance(made, Unsendable):
        raise HoldfastError(f"{capture.id} cannot be sent: {_WHY.get(made.reason, made.reason)}")
    return made
