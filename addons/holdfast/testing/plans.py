"""The plans that the steps of a `MisbehavingOrigin` are put together into.

A plan is one step (repeated for ever), a list of steps (taken in order; the last one then repeats), a mapping from a
path to either of these (`"*"` for the rest), or a function of the request that returns a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import get_args

from holdfast.testing.grpc_steps import GrpcAnswer
from holdfast.testing.received import Received
from holdfast.testing.steps import Answer, Break, GoAway, Step, StreamReset

type Steps = Step | Sequence[Step]
type Plan = Steps | Mapping[str, Steps] | Callable[[Received], Step]

STEPS: tuple[type, ...] = get_args(Step.__value__)


class Script:
    """Takes a plan step by step; raises ValueError for what is no plan, or none for an origin without HTTP/2."""

    def __init__(self, plan: Plan, *, http2: bool = False) -> None:
        self._choose = plan if callable(plan) else None
        by_path = plan if isinstance(plan, Mapping) else {"*": plan}
        self._queues = {path: _steps(steps) for path, steps in by_path.items()} if self._choose is None else {}
        if not http2:
            for step in (step for queue in self._queues.values() for step in queue):
                _refuse_http2(step, 'this origin has protocol="http/1.1"')

    def on_accept(self) -> Break | None:
        """The step for a connection that has just come in, if the plan breaks it before any byte is read."""
        queue = self._queues.get("*", [])
        step = queue[0] if queue else None
        if isinstance(step, Break) and step.when == "accept":
            _take(queue)
            return step
        return None

    def next(self, received: Received) -> Step:
        """The step for this request; a path that no plan knows is answered with 200.

        Raises ValueError for what is no step, or none for this request's protocol, and whatever a function raises.
        """
        step = self._choose(received) if self._choose is not None else self._of_path(received.target.split("?")[0])
        if not isinstance(step, STEPS):
            raise ValueError(f"a plan's function returns a step, not {step!r}")
        if received.protocol != "HTTP/2":
            _refuse_http2(step, f"{received.method} {received.target} came over {received.protocol}")
        elif isinstance(step, Answer):
            step.informational()  # raises for what HTTP/2 cannot send
        return step

    def _of_path(self, path: str) -> Step:
        queue = self._queues.get(path) or self._queues.get("*")
        return _take(queue) if queue else Answer()


def _steps(steps: object) -> list[Step]:
    if isinstance(steps, STEPS):
        return [steps]  # type: ignore[list-item]
    if isinstance(steps, Sequence) and steps and all(isinstance(step, STEPS) for step in steps):
        return list(steps)
    names = [step.__name__ for step in STEPS]
    raise ValueError(f"a plan is made of {', '.join(names[:-1])} and {names[-1]}, not {steps!r}")


def _refuse_http2(step: Step, why: str) -> None:
    answer = getattr(step, "answer", None)
    found = answer if isinstance(answer, GrpcAnswer) else step
    if isinstance(found, GoAway | GrpcAnswer | StreamReset):
        raise ValueError(f"{type(found).__name__} exists only over HTTP/2, and {why}")


def _take(queue: list[Step]) -> Step:
    return queue.pop(0) if len(queue) > 1 else queue[0]
