"""The page of faults on demand: what fails on purpose, and having that changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from holdfast.admin.page import Guarded
from holdfast.gateway import FaultControl

NONE = "the profile has no addon faults: add `- faults` to its addons"


class AllFaults(Struct, forbid_unknown_fields=True):
    """The body of a PUT."""

    rules: list[dict[str, Any]]
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.seed is not None and self.seed < 0:
            raise ValueError("a seed is 0 or more")


class FaultsPage(Guarded):
    """Every method answers with the rules as they are then."""

    def get(self) -> None:
        """The rules, and how often each has acted."""
        self._answer(lambda faults: faults.document())

    def post(self) -> None:
        """One rule: added, or put in the place of the one of its name."""
        self._answer(lambda faults: faults.put(msgspec.json.decode(self.request.body)))

    def put(self) -> None:
        """`{"rules": [...], "seed": N}` in place of all."""

        def replace(faults: FaultControl) -> dict[str, Any]:
            wanted = msgspec.json.decode(self.request.body, type=AllFaults)
            return faults.put_all(wanted.rules, wanted.seed)

        self._answer(replace)

    def delete(self) -> None:
        """All rules, or those of `?name=`."""
        self._answer(lambda faults: faults.clear(self.get_query_arguments("name")))

    def _answer(self, act: Callable[[FaultControl], dict[str, Any]]) -> None:
        faults = self.gateway.faults
        if faults is None:
            self.send_problem(404, "No faults", NONE)
            return
        try:
            self.send_json(act(faults))
        except ValueError as e:  # msgspec's errors are
            self.send_problem(400, "Bad fault", str(e))
