"""What lists, figures and pruning find in either store."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.audit import OUTCOMES, Audit, AuditStats, Entry, Filter, Outcome, Record
from holdfast.testing import FixedClock
from tests.contract.audit_cases import HOUR, Place, arrival, arrivals, attempt, settled

NOBODY = "'; DROP TABLE captures; --"


def names(entries: list[Entry]) -> list[str]:
    return [entry.id for entry in entries]


async def fill(audit: Audit, seed: int) -> list[Entry]:
    """200 captures of all kinds; as the store knows them, oldest first."""
    dice = random.Random(seed)
    made = [
        arrival(
            f"c{number:03d}",
            dice.choice(("k1", "k2", f"own{number}")),
            route=dice.choice(("user", "order")),
            error=dice.choice(("http_503", "timeout")),
            captured=dice.choice((10.0, 10.5, 11.0, 12.0)),
            status=dice.choice((None, 502, 503)),
        )
        for number in range(200)
    ]
    await audit.arrive(made, "me", 60)
    for one in made:
        if dice.random() < 0.6:
            last = attempt(status=dice.choice((None, 404, 502)))
            outcome: Outcome | None = dice.choice((*OUTCOMES, None))
            await audit.record([Record(id=one.id, attempt=last, outcome=outcome)], "me")
    found = [await audit.entry(one.id) for one in made]
    return sorted((entry for entry in found if entry), key=lambda entry: (entry.captured, entry.id))


CHOICES: tuple[tuple[str, Any, Callable[[Entry, Any], bool]], ...] = (
    ("ids", ("c001", "c150", "c002", NOBODY), lambda entry, value: entry.id in value),
    ("ids", (), lambda entry, value: False),
    ("route", "user", lambda entry, value: entry.route == value),
    ("route", NOBODY, lambda entry, value: False),
    ("state", "open", lambda entry, value: entry.state == value),
    ("state", "dead", lambda entry, value: entry.state == value),
    ("states", ("dead", "parked"), lambda entry, value: entry.state in value),
    ("states", (), lambda entry, value: False),
    ("error", "timeout", lambda entry, value: entry.error == value),
    ("status", 502, lambda entry, value: (entry.last_status or entry.status) == value),
    ("status", 404, lambda entry, value: entry.last_status == value),
    ("since", 10.5, lambda entry, value: entry.captured >= value),
    ("until", 12.0, lambda entry, value: entry.captured < value),
    ("key", "k1", lambda entry, value: entry.key == value),
    ("key", "own7", lambda entry, value: entry.key == value),
)


async def test_a_list_is_of_what_all_conditions_choose(audit: Audit, seed: int) -> None:
    """Each by itself, None as if it were not given, and any of them together; the newest first or the oldest."""
    everything = await fill(audit, seed)
    assert len(everything) == 200
    dice = random.Random(seed)
    picks = [[one] for one in CHOICES] + [dice.sample(CHOICES, dice.randint(2, 4)) for _ in range(40)]
    for picked in picks:
        chosen = {name: (value, holds) for name, value, holds in picked}
        where: Filter = {"route": None, "key": None, "ids": None, "states": None, "since": None}
        where |= {name: value for name, (value, _) in chosen.items()}  # type: ignore[typeddict-item]
        expected = [entry for entry in everything if all(holds(entry, value) for value, holds in chosen.values())]
        assert await audit.entries(where, limit=1000, newest_first=False) == expected, where
        assert await audit.entries(where, limit=7) == expected[::-1][:7], where


async def test_a_list_without_a_condition_is_of_the_hundred_newest(audit: Audit, seed: int) -> None:
    """Of the same second, the one that arrived last."""
    everything = await fill(audit, seed)
    assert await audit.entries({}) == everything[::-1][:100]
    assert await audit.entries({}, limit=0) == []
    assert await audit.entries({}, limit=-1) == []


async def test_what_has_ever_arrived_is_known(audit: Audit, clock: FixedClock) -> None:
    """Open or settled, also again; but not what was pruned."""
    await audit.arrive(arrivals("open", "settled", "again", "old", "\ud800\x00"), "me", 60)
    await audit.record([settled("settled", "dead"), settled("again"), settled("old", "parked")], "me")
    await audit.reopen(["again"])
    asked = ["open", "settled", "again", "old", "\ud800\x00", NOBODY, "", "open"]
    assert await audit.known(asked) == {"open", "settled", "again", "old", "\ud800\x00"}
    clock.advance(1)
    assert await audit.prune(clock.now, ["parked"]) == 1
    assert await audit.known(["old", "settled"]) == {"settled"}
    assert await audit.known([]) == set()
    await audit.arrive(many := arrivals(*(f"n{number}" for number in range(0, 1000, 2))), "me", 60)
    assert await audit.known([f"n{number}" for number in range(1000)]) == {one.id for one in many}


async def test_an_owner_is_shown_for_as_long_as_its_claim_lasts(audit: Audit, clock: FixedClock) -> None:
    """Whose claim has run out, or was given back, is no owner."""
    await audit.arrive(arrivals("a", "b"), "me", 60)
    await audit.record([Record(id="b", attempt=attempt())], "me")
    assert {entry.id: entry.owner for entry in await audit.entries({})} == {"a": "me", "b": ""}
    clock.advance(60)
    found = await audit.entry("a")
    assert found is not None
    assert found.owner == ""


async def test_a_capture_that_is_not_known_is_none(audit: Audit) -> None:
    """Neither has it attempts or a message."""
    assert await audit.entry("a") is None
    assert await audit.attempts("a") == []
    assert await audit.dead_letters(["a"]) == []


async def test_the_figures_count_every_state(audit: Audit, clock: FixedClock) -> None:
    """What is due at this moment is due now."""
    assert await audit.stats(clock.now) == AuditStats(dict.fromkeys(("open", *OUTCOMES), 0), 0, 0, None)
    made = [arrival(name, name, captured=float(number)) for number, name in enumerate("abcdefg")]
    await audit.arrive(made, "me", 60)
    await audit.record([settled("a", "dead"), settled("b", "dead"), settled("c", "parked"), settled("d")], "me")
    await audit.record([settled("e", "discarded"), Record(id="f", due=clock.now + HOUR)], "me")
    counts = {"open": 2, "delivered": 1, "dead": 2, "parked": 1, "discarded": 1}
    assert await audit.stats(clock.now) == AuditStats(counts, 1, 1, 5.0)  # type: ignore[arg-type]
    assert await audit.stats(clock.now + HOUR) == AuditStats(counts, 2, 0, 5.0)  # type: ignore[arg-type]


async def test_what_was_settled_long_ago_is_forgotten(audit: Audit, place: Place) -> None:
    """Of the outcomes that are named, before the time that is given, and all of it; what is open never is."""
    await audit.arrive(arrivals("open", *OUTCOMES, "late"), "me", 600)
    message = {"value": b"m", "attempt": attempt()}
    await audit.record([settled(outcome, outcome, **message) for outcome in OUTCOMES], "me")
    limit = place.clock.advance(60)
    await audit.record([settled("late", "dead", **message)], "me")
    assert await audit.prune(limit, ["dead", "delivered"]) == 2
    assert await audit.prune(limit, ["dead", "delivered"]) == 0
    assert await audit.prune(limit, []) == 0
    left = {"open", "parked", "discarded", "late"}
    assert set(names(await audit.entries({}))) == left
    assert {row[0] for row in await place.rows("SELECT event_id FROM audit_log")} == left
    assert {row[0] for row in await place.rows("SELECT event_id FROM processed_events")} == left - {"open"}
    assert {row[0] for row in await place.rows("SELECT event_id FROM dead_letters")} == {"parked", "late"}


async def test_any_number_is_pruned(audit: Audit, clock: FixedClock) -> None:
    """In steps; what was reopened is not touched."""
    for begin in range(0, 2100, 700):
        made = arrivals(*(f"n{number}" for number in range(begin, begin + 700)))
        await audit.arrive(made, "me", 60)
        await audit.record([settled(one.id) for one in made], "me")
    await audit.reopen(["n5"])
    clock.advance(1)
    assert await audit.prune(clock.now, OUTCOMES) == 2099
    assert names(await audit.entries({})) == ["n5"]


@pytest.mark.parametrize("odd", [float("nan"), 1e400])
async def test_what_is_no_time_is_refused(audit: Audit, odd: float) -> None:
    """ValueError, not an outage: trying again would be of no use. Nothing of that call is there."""
    with pytest.raises(ValueError, match="cannot be stored"):
        await audit.arrive([arrival("a"), arrival("b", captured=odd)], "me", 60)
    assert await audit.known(["a", "b"]) == set()


async def test_a_number_that_is_too_large_is_refused(audit: Audit) -> None:
    """The same: a message may say anything."""
    for changes in ({"redrive": 1 << 70}, {"status": 1 << 70}):
        with pytest.raises(ValueError, match="cannot be stored"):
            await audit.arrive([arrival("a", **changes)], "me", 60)
    assert await audit.known(["a"]) == set()


async def test_a_record_with_a_number_that_cannot_be_is_refused(audit: Audit) -> None:
    """All of the call, as it is one transaction."""
    await audit.arrive(arrivals("a", "b"), "me", 60)
    for odd in (
        Record(id="b", due=float("inf")),
        Record(id="b", attempt=attempt(at=float("nan"))),
        Record(id="b", attempt=attempt(status=1 << 40)),
    ):
        with pytest.raises(ValueError, match="cannot be stored"):
            await audit.record([settled("a"), odd], "me")
    assert {entry.state for entry in await audit.entries({})} == {"open"}
