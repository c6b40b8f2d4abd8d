"""One view over outbox and audit store, whatever keeps the audit: SQLite and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from holdfast.audit import Arrival, AttemptLog, Audit, Record
from holdfast.captures import STATES, Capture, Choice, parse_states
from holdfast.captures.merging import is_chosen
from holdfast.captures.redriving import GONE, UNDER_WAY, Publishable, Redriver
from holdfast.captures.view import Captures
from holdfast.outbox import Outbox, OutboxLimits, OutboxReader, OutboxRecord
from holdfast.policy.uuid7 import uuid7
from tests.contract.audit_cases import STORES, Place, a_place

EMBEDDED = {"pending": "pending", "sent": "delivered", "quarantined": "dead", "discarded": "discarded"}
FROM_AUDIT = {"open": "pending"}


@dataclass
class Stand:
    """Both stores, and what is in them."""

    outbox: Outbox
    reader: OutboxReader
    audit: Audit
    clock: Any
    ids: list[str] = field(default_factory=list)

    def view(self, *, publishes: bool = False) -> Captures:
        return Captures(self.reader, self.audit, publishes=publishes)

    async def add(self, outbox: str | None = None, audit: str | None = None, **changes: Any) -> str:
        """A capture that stands so in either store."""
        number = len(self.ids)
        self.clock.now += 1
        told = {
            "id": uuid7(int(self.clock.now * 1000), number.to_bytes(10)),
            "created": self.clock.now,
            "key": "/k",
            "route": "users",
            "method": "POST",
            "path": "/k",
            "error": "http_503",
            "status": 503,
            **changes,
        }
        self.ids.append(told["id"])
        if outbox:
            value = b'{"id": "%s"}' % told["id"].encode()
            record = OutboxRecord(**told, value=value, headers=(("holdfast-id", told["id"].encode()),))
            self.outbox.append_sync(record)
            if outbox != "pending":
                self.move(told["id"], outbox)
        if audit:
            await self._arrive(told, audit)
        return str(told["id"])

    def move(self, capture_id: str, state: str) -> None:
        queries = self.reader.slots()[0]
        seqs = [seq for page in queries.seqs([capture_id]) for seq in page]
        if state == "discarded":
            self.reader.discard([capture_id])
        elif state == "sent":
            self.outbox.mark_sent(seqs).result(5)
        else:
            self.outbox.quarantine(seqs).result(5)

    async def _arrive(self, told: dict[str, Any], state: str) -> None:
        names = ("id", "key", "route", "method", "path", "error")
        arrival = Arrival(*(told[name] for name in names), captured=told["created"], status=told["status"])
        await self.audit.arrive([arrival], "me", 60)
        if state != "open":
            attempt = AttemptLog(at=self.clock.now, server="http://origin:1", status=400, body=b"no")
            letter = (b'{"dead": 1}', (("holdfast-id", arrival.id.encode()), ("holdfast-due", b"7"), ("other", b"x")))
            value, headers = letter if state in ("dead", "parked") else (b"", ())
            record = Record(id=arrival.id, attempt=attempt, outcome=state, reason="why", value=value, headers=headers)  # type: ignore[arg-type]
            await self.audit.record([record], "me")


@pytest.fixture(params=STORES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(request, tmp_path) as one:
        yield one


@pytest.fixture
def own(place: Place, tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox.open(tmp_path / "outbox.db", OutboxLimits(), place.clock)
    yield made
    made.close()


@pytest.fixture
async def stand(place: Place, own: Outbox, tmp_path: Path) -> AsyncIterator[Stand]:
    with OutboxReader(tmp_path / "outbox.db", place.clock) as reader:
        yield Stand(own, reader, await place.open(), place.clock)


async def all_of(view: Captures, choice: Choice) -> list[Capture]:
    return [capture async for capture in view.each(choice)]


# --- the words ---


async def test_what_the_audit_store_says_counts(stand: Stand) -> None:
    """And where it says nothing, what the outbox says, in the same words."""
    for outbox, audit in product(EMBEDDED, [None, "open", "delivered", "dead", "parked", "discarded"]):
        capture_id = await stand.add(outbox, audit)
        expected = FROM_AUDIT.get(audit, audit) if audit else EMBEDDED[outbox]
        found = await stand.view().get(capture_id.upper())
        assert found
        assert (found.state, found.known) == (expected, audit is not None)
        assert [each.state for each in await stand.view().newest(Choice(), 1)] == [expected]
        published = await stand.view(publishes=True).get(capture_id)
        assert published
        assert published.state == ("published" if (outbox, audit) == ("sent", None) else expected)


def test_the_words_of_the_stores_are_understood_in_filters() -> None:
    """Who knows `sent` and `quarantined` is not refused; who writes nonsense is told the words."""
    assert parse_states(["dead,parked", "sent"]) == {"dead", "parked", "published", "delivered"}
    assert parse_states(["quarantined"]) == {"dead"}
    assert parse_states([]) is None
    with pytest.raises(ValueError, match="pending, published, delivered"):
        parse_states(["gone"])


# --- lists ---


async def test_lists_are_what_both_stores_hold_by_any_filter(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Each capture once, the newest first, as if it was one table; over the borders of pages."""
    monkeypatch.setattr("holdfast.captures.view.PAGE", 3)
    dice = random.Random(seed)
    for _ in range(60):
        in_outbox = dice.choice([None, "pending", "sent", "quarantined", "discarded"])
        in_audit = dice.choice([None, None, None, "open", "delivered", "dead", "parked", "discarded"])
        changes = {"route": dice.choice("ab"), "key": dice.choice("xy"), "error": dice.choice(["http_502", "reset"])}
        if dice.random() < 0.3:  # stored later than others that were captured later
            changes["created"] = stand.clock.now - dice.randrange(20)
        await stand.add(
            in_outbox, in_audit or (None if in_outbox else "dead"), status=dice.choice([None, 502]), **changes
        )
    view = stand.view(publishes=dice.random() < 0.5)
    everything = [found for each in stand.ids if (found := await view.get(each))]
    assert len(everything) == 60
    middle = stand.clock.now - 30
    for _ in range(40):
        states = frozenset(dice.sample(STATES, dice.randrange(1, 4)))
        told: dict[str, Any] = {
            "route": "a", "key": "x", "error": "reset", "status": 502, "states": states,
            "since": middle, "until": middle + 20,
        }  # fmt: skip
        choice = Choice(**{name: told[name] for name in dice.sample(sorted(told), dice.randrange(4))})
        expected = sorted(
            (c for c in everything if is_chosen(c, choice)), key=lambda c: (c.captured, c.id), reverse=True
        )
        limit = dice.choice([0, 1, 5, 12, 100])
        listed = [capture.id for capture in await view.newest(choice, limit)]
        assert listed == [capture.id for capture in expected[:limit]], (choice, limit)
        found = await all_of(view, choice)
        assert sorted(c.id for c in found) == sorted(c.id for c in expected), choice


async def test_one_store_may_be_missing(stand: Stand) -> None:
    """No audit store yet, or no outbox on this machine."""
    both = await stand.add("pending", "dead")
    only = await stand.add(None, "parked")
    assert [c.id for c in await Captures(None, stand.audit, publishes=False).newest(Choice(), 9)] == [only, both]
    (found,) = await Captures(stand.reader, None, publishes=False).newest(Choice(), 9)
    assert (found.id, found.state) == (both, "pending")
    assert await Captures(None, None, publishes=False).newest(Choice(), 9) == []


async def test_an_id_that_is_none_is_not_found(stand: Stand) -> None:
    """Whatever is asked for."""
    await stand.add("pending", "open")
    for hostile in ("", "x", "\0", "\ud800", "'; DROP TABLE captures", "../../x", "a" * 100_000):
        assert await stand.view().get(hostile) is None
        assert await stand.view().message(hostile) is None


# --- the message ---


async def test_the_message_is_the_outboxs_or_else_the_dead_letters(stand: Stand) -> None:
    """A consumer on another machine has no outbox."""
    here, elsewhere, gone = (
        await stand.add("sent", "dead"),
        await stand.add(None, "dead"),
        await stand.add(None, "delivered"),
    )
    view = stand.view()
    messages = [await view.message(each) for each in (here, elsewhere, gone)]
    assert [each and each.value for each in messages] == [b'{"id": "%s"}' % here.encode(), b'{"dead": 1}', None]


# --- discard ---


STANDS: list[tuple[str | None, str | None, int]] = [
    *(("pending", None, 1), ("pending", "open", 1), ("quarantined", "dead", 1), (None, "parked", 1)),
    *(("sent", "delivered", 0), ("discarded", "discarded", 0), ("sent", None, 0)),
]


async def test_discarded_is_discarded_in_both(stand: Stand) -> None:
    """And what is delivered stays delivered."""
    for outbox, audit, count in STANDS:
        capture_id = await stand.add(outbox, audit)
        assert await stand.view().discard([capture_id]) == count, (outbox, audit)
        found = await stand.view().get(capture_id)
        assert found
        assert (found.state == "discarded") is (count == 1 or audit == "discarded")
        record = stand.reader.get(capture_id)
        assert record is None or record.state != "pending"


# --- redrive ---


async def redriven(stand: Stand, capture_id: str, published: list[Publishable] | None = None) -> tuple[bool, str]:
    view = stand.view(publishes=published is not None)
    capture = await view.get(capture_id)
    assert capture
    publish = None if published is None else published.extend
    (done,) = await Redriver(view, publish).redrive([capture])
    assert done.id == capture_id
    return done.done, done.detail


async def test_a_redrive_opens_both_stores(stand: Stand) -> None:
    """The replayer finds it in the outbox, and the audit store lets it."""
    records = {"dead": "quarantined", "parked": "quarantined", "delivered": "sent", "discarded": "discarded"}
    for audit, record in records.items():
        capture_id = await stand.add(record, audit)
        assert await redriven(stand, capture_id) == (True, "queued")
        entry, held = await stand.audit.entry(capture_id), stand.reader.get(capture_id)
        assert entry
        assert held
        assert (entry.state, entry.redrive, held.state) == ("open", 1, "pending")
        assert await redriven(stand, capture_id) == (False, UNDER_WAY)


async def test_a_redrive_that_was_cut_in_two_is_mended_by_the_next(stand: Stand) -> None:
    """Open in the audit store, and in the outbox still dead: nobody would ever send it."""
    capture_id = await stand.add("quarantined", "dead")
    await stand.audit.reopen([capture_id])
    assert await redriven(stand, capture_id) == (True, "queued")
    entry, held = await stand.audit.entry(capture_id), stand.reader.get(capture_id)
    assert entry
    assert held
    assert (entry.redrive, held.state) == (1, "pending")


async def test_a_redrive_waits_for_a_replayer_that_is_just_giving_up(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome is stored before the outbox is told: what is told late must not undo the redrive."""
    capture_id = await stand.add("pending", "dead")
    told = asyncio.Event()

    async def settling(seconds: float) -> None:
        stand.move(capture_id, "quarantined")
        told.set()

    monkeypatch.setattr("holdfast.captures.redriving.asyncio.sleep", settling)
    assert await redriven(stand, capture_id) == (True, "queued")
    held = stand.reader.get(capture_id)
    assert held
    assert (told.is_set(), held.state) == (True, "pending")


async def test_what_the_outbox_has_forgotten_is_not_opened(stand: Stand) -> None:
    """It would stay open for ever."""
    capture_id = await stand.add(None, "dead")
    assert await redriven(stand, capture_id) == (False, GONE)
    entry = await stand.audit.entry(capture_id)
    assert entry
    assert entry.state == "dead"


async def test_with_a_broker_it_is_published_once_more(stand: Stand) -> None:
    """With how often a person has done so, and without where the message has been."""
    sent: list[Publishable] = []
    dead, kept = await stand.add(None, "dead"), await stand.add("sent", "parked")
    assert await redriven(stand, dead, sent) == (True, "published")
    assert await redriven(stand, kept, sent) == (True, "published")
    assert [(key, value) for key, value, _ in sent] == [("/k", b'{"dead": 1}'), ("/k", b'{"id": "%s"}' % kept.encode())]
    assert list(sent[0][2]) == [("holdfast-id", dead.encode()), ("other", b"x"), ("holdfast-redrive", b"1")]
    await stand.audit.reopen([dead])
    assert await redriven(stand, dead, sent) == (False, UNDER_WAY)
    entry = await stand.audit.entry(kept)
    assert entry
    assert entry.state == "parked", "the replayer opens it, when the message arrives"


async def test_what_no_replayer_has_seen_goes_by_the_outbox(stand: Stand) -> None:
    """A record that the broker had refused, say."""
    sent: list[Publishable] = []
    refused = await stand.add("quarantined")
    assert await redriven(stand, refused, sent) == (True, "queued")
    held = stand.reader.get(refused)
    assert held
    assert (held.state, sent) == ("pending", [])
