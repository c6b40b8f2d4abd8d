"""Whatever three owners and a person do, in whatever order: a simple model says what must come of it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from holdfast.audit import OUTCOMES, STATES, Audit, Record
from tests.contract.audit_cases import Place, arrival, attempt
from tests.unit.audit.model import Capture, Model

STEPS = 500
OWNERS = ("ann", "bob", "cid")
KEYS = ("k1", "k2", "k3")
NAMES = tuple(f"{key}-{number}" for key in KEYS for number in range(7))


class Steps:
    """One call after the other, on the store and on the model, drawn by `dice`."""

    def __init__(self, audit: Audit, place: Place, dice: random.Random) -> None:
        self.audit, self.place, self.dice = audit, place, dice
        self.model = Model(place.clock.now)

    async def step(self) -> tuple[Any, Any, str]:
        """What the store has told, what the model says, and which call it was."""
        kinds, weights = ("arrive", "claim", "record", "release", "person", "prune"), (6, 6, 8, 1, 2, 1)
        kind = self.dice.choices(kinds, weights)[0]
        method, values = kind, getattr(self, kind)()
        if kind == "person":
            method, *values = values
        if self.dice.random() < 0.3:
            self.model.now = self.place.clock.advance(self.dice.choice((0.5, 5, 30)))
        told = await getattr(self.audit, method)(*values)
        return told, getattr(self.model, method)(*values), f"{method}{values}"

    def names(self) -> list[str]:
        return self.dice.choices(NAMES, k=self.dice.randint(1, 6))

    def arrive(self) -> tuple[Any, ...]:
        made = [arrival(name, name[:2], redrive=self.dice.choice((0, 0, 0, 1, 2))) for name in self.names()]
        return made, self.dice.choice(OWNERS), self.dice.choice((1, 10, 60))

    def claim(self) -> tuple[Any, ...]:
        return self.names(), self.dice.choice(OWNERS), self.dice.choice((1, 10, 60))

    def release(self) -> tuple[Any, ...]:
        return (self.dice.choice(OWNERS),)

    def record(self) -> tuple[Any, ...]:
        dice, now, owner, names = self.dice, self.place.clock.now, self.dice.choice(OWNERS), self.names()
        if dice.random() < 0.7:  # mostly of what the owner has, or has had
            names = [one.id for one in self.model.captures if one.owner == owner] or names
        records = [
            Record(
                id=name,
                attempt=attempt() if dice.random() < 0.7 else None,
                counts=dice.random() < 0.8,
                outcome=dice.choice((None, None, *OUTCOMES)),
                reason=dice.choice(("", "why")),
                due=now + dice.choice((0, 30)),
                place=dice.choice(("", "retry.30s")),
                release=dice.random() < 0.7,
                value=dice.choice((b"", b"message")),
                callback=dice.choice((None, ("http://receiver", b"{}"))),
            )
            for name in names
        ]
        return records, owner

    def person(self) -> tuple[Any, ...]:
        if self.dice.random() < 0.5:
            return "reopen", self.names()
        return "settle", self.names(), self.dice.choice(OUTCOMES), "by hand"

    def prune(self) -> tuple[Any, ...]:
        return self.place.clock.now - self.dice.choice((0, 30, 300)), self.dice.sample(OUTCOMES, 2)


async def shown(audit: Audit, place: Place) -> list[Capture]:
    """What the store shows of every capture, in the order of arrival."""
    letters = {letter.id: letter for letter in await audit.dead_letters(NAMES)}
    found = []
    for (name,) in await place.rows("SELECT id FROM captures ORDER BY seq"):
        one = await audit.entry(name)
        assert one is not None
        attempts = len(await audit.attempts(name))
        told = (one.redrive, one.due, one.state, one.reason, one.owner)
        found.append(
            Capture(name, one.key, *told, 0.0, one.attempts, one.place, letters.get(name), attempts, one.settled)
        )
    return found


def as_shown(model: Model) -> list[Capture]:
    """The same of the model: whose claim has run out is not shown as the owner."""
    return [replace(one, owner=one.owner if one.until > model.now else "", until=0.0) for one in model.captures]


async def test_random_calls_come_to_what_a_simple_model_says(place: Place, seed: int) -> None:
    """Every answer, and in the end every capture; `processed_events` has what is settled, once, and nothing else."""
    audit = await place.open()
    dice = random.Random(seed)
    steps = Steps(audit, place, dice)
    for number in range(STEPS):
        told, expected, call = await steps.step()
        assert told == expected, f"step {number}: {call}"
        if number % 50 == 0:  # what is known is in the store, not in the one who asks it
            assert await shown(audit, place) == as_shown(steps.model), f"behind step {number}"
            await audit.close()
            audit = steps.audit = await place.open()
    states = await place.rows("SELECT id, state FROM captures WHERE state <> 'open' ORDER BY id")
    assert await place.rows("SELECT event_id, outcome FROM processed_events ORDER BY event_id") == states
    queued = await place.rows("SELECT event_id, redrive FROM callbacks ORDER BY event_id, redrive")
    assert queued == sorted(steps.model.callbacks)
    figures = await audit.stats(place.clock.now)
    model = steps.model
    assert figures.by_state == {state: sum(one.state == state for one in model.captures) for state in STATES}
    assert figures.due == sum(one.state == "open" and one.due <= model.now for one in model.captures)
    assert await shown(audit, place) == as_shown(model)
