"""What the author of an addon needs for tests: flows, a fixed clock, a driver for hooks, and an origin that misbehaves.

    flow = await run_addon(MyAddon(), make_flow("POST", "http://origin.test/users", body=b"{}"))

    async with MisbehavingOrigin([Break("request", "reset"), Answer(body=b"second try")]) as origin: ...

The origin speaks HTTP/1.1, HTTP/2 (`protocol="h2"`) or either (`"any"`), and takes its steps from a plan:

    Answer       any answer: slow, in pieces, early, with 1xx before it and trailers after it
    Break        a reset, an orderly end or silence, at any point of the exchange
    Garbage      bytes that are no HTTP
    Stall        a connection that is open and dead
    StreamReset  over HTTP/2: RST_STREAM, with one of `ErrorCodes`
    GoAway       over HTTP/2: a shutdown, graceful or not
    GrpcAnswer   over HTTP/2: the answer to a gRPC call; `grpc_messages` reads what the call brought

These names are stable: a change to them is in the changelog.
"""

from h2.errors import ErrorCodes

from holdfast.testing.certificate import Certificate, self_signed
from holdfast.testing.flows import FixedClock, make_flow, run_addon
from holdfast.testing.grpc_steps import GrpcAnswer, grpc_frame, grpc_messages
from holdfast.testing.misbehaving import MisbehavingOrigin, Protocol
from holdfast.testing.plans import Plan
from holdfast.testing.received import Received
from holdfast.testing.steps import Answer, Break, Garbage, GoAway, Stall, Step, StreamReset, oversized

__all__ = [
    "Answer",
    "Break",
    "Certificate",
    "ErrorCodes",
    "FixedClock",
    "Garbage",
    "GoAway",
    "GrpcAnswer",
    "MisbehavingOrigin",
    "Plan",
    "Protocol",
    "Received",
    "Stall",
    "Step",
    "StreamReset",
    "grpc_frame",
    "grpc_messages",
    "make_flow",
    "oversized",
    "run_addon",
    "self_signed",
]
