"""The page of faults on demand: what fails on purpose, and having that changed, in every worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from holdfast.admin.page import Guarded
from holdfast.errors import StoreUnavailable
from holdfast.gateway import FaultControl, Gateway
from holdfast.workers.worker import Worker, understood

NONE = "the profile has no addon faults: add `- faults` to its addons"
_KEPT_BY_EACH = ("asked", "fired", "over")  # of a rule, in its document


class AllFaults(Struct, forbid_unknown_fields=True):
    """The body of a PUT."""

    rules: list[dict[str, Any]]
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.seed is not None and self.seed < 0:
            raise ValueError("a seed is 0 or more")


class Change(Struct, frozen=True):
    """What is to be done in every worker. `documents` are rules, or the names of those that go."""

    what: Literal["show", "put", "put_all", "clear"] = "show"
    documents: Sequence[Any] = ()
    seed: int | None = None


class FaultsPage(Guarded):
    """Every method answers with the rules as they are then."""

    async def get(self) -> None:
        """The rules, and how often each has acted."""
        await self._answer(Change)

    async def post(self) -> None:
        """One rule: added, or put in the place of the one of its name."""
        await self._answer(lambda: Change("put", [msgspec.json.decode(self.request.body)]))

    async def put(self) -> None:
        """`{"rules": [...], "seed": N}` in place of all."""

        def replace() -> Change:
            wanted = msgspec.json.decode(self.request.body, type=AllFaults)
            return Change("put_all", wanted.rules, wanted.seed)

        await self._answer(replace)

    async def delete(self) -> None:
        """All rules, or those of `?name=`."""
        await self._answer(lambda: Change("clear", self.get_query_arguments("name")))

    async def _answer(self, read: Callable[[], Change]) -> None:
        faults = self.gateway.faults
        if faults is None:
            self.send_problem(404, "No faults", NONE)
            return
        try:
            self.send_json(await _everywhere(faults, self.gateway.worker, read()))
        except ValueError as e:  # msgspec's errors are
            self.send_problem(400, "Bad fault", str(e))
        except StoreUnavailable as e:
            self.send_problem(503, "Not changed everywhere", str(e))


async def faults_now(gateway: Gateway) -> dict[str, Any] | None:
    """The rules, over all workers; None where the profile has no faults."""
    return await _everywhere(gateway.faults, gateway.worker, Change()) if gateway.faults else None


def answer_faults(gateway: Gateway, worker: Worker) -> None:
    """Change them when another worker is asked to."""

    async def answer(payload: bytes) -> dict[str, Any] | None:
        change = msgspec.msgpack.decode(payload, type=Change)
        return _changed(gateway.faults, change) if gateway.faults else None

    worker.answer("faults", answer)


async def take_live_faults(gateway: Gateway, worker: Worker) -> None:
    """What somebody has set by hand holds in a worker that starts later, too."""
    if gateway.faults is None:
        return
    for said in await worker.ask("faults", Change()):
        found = understood(said, dict)
        if found and found["set"] == "live":
            rules = [{k: v for k, v in rule.items() if k not in _KEPT_BY_EACH} for rule in found["rules"]]
            _changed(gateway.faults, Change("put_all", rules, found["seed"]))
            return


async def _everywhere(faults: FaultControl, worker: Worker | None, change: Change) -> dict[str, Any]:
    """Here first: what is refused here is refused everywhere. ValueError for that."""
    document = _changed(faults, change)
    if worker is None:
        return document
    said = await worker.ask("faults", change)
    failed = [f"worker {each.worker}: {each.error}" for each in said if each.error]
    if failed and change.what != "show":
        raise StoreUnavailable("; ".join(failed))
    return _together([document, *(found for each in said if (found := understood(each, dict)))])


def _changed(faults: FaultControl, change: Change) -> dict[str, Any]:
    if change.what == "put":
        return faults.put(change.documents[0])
    if change.what == "put_all":
        return faults.put_all(change.documents, change.seed)
    return faults.clear(change.documents) if change.what == "clear" else faults.document()


def _together(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counted over all; a rule is over once it is over everywhere."""
    first = documents[0]
    rules = []
    for rule in first["rules"]:
        several = [each for document in documents for each in document["rules"] if each["name"] == rule["name"]]
        still = any(not each["over"] for each in several)
        counted = {name: sum(each[name] for each in several) for name in ("asked", "fired")}
        rules.append(rule | counted | {"over": None if still else rule["over"]})
    return first | {"rules": rules, "active": sum(not rule["over"] for rule in rules)}
