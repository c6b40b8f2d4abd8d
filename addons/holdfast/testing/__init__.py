"""What the author of an addon needs for tests: flows, a fixed clock, a driver for hooks, and an origin that misbehaves.

    flow = await run_addon(MyAddon(), make_flow("POST", "http://origin.test/users", body=b"{}"))

    async with MisbehavingOrigin([Break("request", "reset"), Answer(body=b"second try")]) as origin: ...

These names are stable: a change to them is in the changelog.
"""

from holdfast.testing.certificate import Certificate, self_signed
from holdfast.testing.flows import FixedClock, make_flow, run_addon
from holdfast.testing.misbehaving import MisbehavingOrigin
from holdfast.testing.steps import Answer, Break, Garbage, Plan, Received, Step, oversized

__all__ = [
    "Answer",
    "Break",
    "Certificate",
    "FixedClock",
    "Garbage",
    "MisbehavingOrigin",
    "Plan",
    "Received",
    "Step",
    "make_flow",
    "oversized",
    "run_addon",
    "self_signed",
]
