"""What every audit must do, sentence by sentence of its Protocol: SQLite and a real PostgreSQL."""

from __future__ import annotations

import math

import pytest

from holdfast.audit import OUTCOMES, Arrival, Audit, DeadLetter, Outcome, Record, Standing
from holdfast.testing import FixedClock
from tests.contract.audit_cases import HOUR, ODD, Place, arrival, arrivals, attempt, settled, state_of

# --- arrive ---


async def test_what_is_new_is_registered_and_claimed(audit: Audit, clock: FixedClock) -> None:
    """One standing each, in the order of the arrivals; due at once."""
    standings = await audit.arrive(arrivals("a", "b"), "me", 60)
    assert standings == [Standing(name, "open", claimed=True, due=clock.now) for name in ("a", "b")]
    found = await audit.entry("a")
    assert found is not None
    assert (found.owner, found.arrived, found.state, found.settled) == ("me", clock.now, "open", None)


async def test_everything_that_is_known_of_a_capture_is_kept(audit: Audit, clock: FixedClock) -> None:
    """Whatever text it is, and however long the key."""
    odd = Arrival("id " + ODD, ODD + "x" * 9000, ODD, ODD, ODD + "y" * 9000, ODD, 1234.5678901234, 503, ODD, redrive=7)
    await audit.arrive([odd, arrival("other", ODD)], "own" + ODD, 60)
    found = await audit.entry(odd.id)
    assert found is not None
    for name in ("id", "key", "route", "method", "path", "error", "captured", "status", "traceparent", "redrive"):
        assert getattr(found, name) == getattr(odd, name), name
    assert found.owner == "own" + ODD
    assert [one.id for one in await audit.entries({"key": odd.key, "route": ODD, "error": ODD})] == [odd.id]
    assert await audit.record([settled(odd.id, "dead", reason=ODD, value=b"v")], "own" + ODD) == [True]
    assert await audit.dead_letters([odd.id]) == [DeadLetter(odd.id, odd.key, b"v")]
    assert await audit.reopen([odd.id]) == {odd.id: 8}


async def test_of_one_key_only_the_first_is_claimed(audit: Audit, clock: FixedClock) -> None:
    """Invariant 3; whoever waits is told for whom."""
    standings = await audit.arrive(arrivals("a", "b", "c", key="k"), "me", 60)
    waits = [Standing(name, "open", behind="a", due=clock.now) for name in ("b", "c")]
    assert standings == [Standing("a", "open", claimed=True, due=clock.now), *waits]


async def test_an_id_that_is_named_twice_is_registered_once(audit: Audit, place: Place) -> None:
    """In one call and over several, whatever else the second says."""
    first, second = await audit.arrive([arrival("a", route="r"), arrival("a", "other", route="s")], "me", 60)
    assert first == second
    assert first.claimed
    assert (await audit.arrive([arrival("a", "third")], "me", 60)) == [first]
    assert await place.rows("SELECT key, route FROM captures") == [("k", "r")]
    assert await place.rows("SELECT kind FROM audit_log") == [("arrived",)]


async def test_nothing_is_asked_of_the_store_for_nothing(audit: Audit) -> None:
    """Empty in, empty out."""
    assert await audit.arrive([], "me", 60) == []
    assert await audit.claim([], "me", 60) == []
    assert await audit.record([], "me") == []
    assert await audit.reopen([]) == {}
    assert await audit.settle([], "dead", "") == 0
    assert await audit.dead_letters([]) == []


async def test_a_thousand_at_once_are_registered_in_their_order(audit: Audit, place: Place) -> None:
    """The order of arrival is that of the call."""
    names = [f"{number * 7919 % 1000:04d}" for number in range(1000)]
    standings = await audit.arrive([arrival(name, f"k{int(name) % 300}") for name in names], "me", 60)
    assert sum(one.claimed for one in standings) == 300
    assert [row[0] for row in await place.rows("SELECT id FROM captures ORDER BY seq")] == names
    assert all(await audit.record([settled(one.id) for one in standings if one.claimed], "me"))


async def test_a_known_one_that_arrives_again_is_claimed_where_nobody_has_it(audit: Audit, clock: FixedClock) -> None:
    """A broker gives a message again to whoever takes over."""
    await audit.arrive([arrival("a")], "gone", 60)
    (busy,) = await audit.arrive([arrival("a")], "me", 60)
    assert busy == Standing("a", "open", busy_until=clock.now + 60, due=clock.now)
    clock.advance(60)
    assert (await audit.arrive([arrival("a")], "me", 60))[0].claimed


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_a_settled_one_that_arrives_again_stays_settled(audit: Audit, outcome: Outcome) -> None:
    """Or it would be sent twice."""
    await audit.arrive([arrival("a")], "me", 60)
    await audit.record([settled("a", outcome)], "me")
    for redrive in (0, 0, -1):
        (standing,) = await audit.arrive([arrival("a", redrive=redrive)], "me", 60)
        assert (standing.state, standing.claimed) == (outcome, False)


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_a_higher_redrive_opens_a_settled_one_anew(audit: Audit, place: Place, outcome: Outcome) -> None:
    """As `reopen` does; once, however often that message comes."""
    await audit.arrive([arrival("a")], "me", 60)
    await audit.record([Record(id="a", attempt=attempt(), outcome=outcome)], "me")
    place.clock.advance(5)
    (standing,) = await audit.arrive([arrival("a", redrive=3)], "you", 60)
    assert standing == Standing("a", "open", claimed=True, due=place.clock.now, redrive=3)
    assert await place.rows("SELECT * FROM processed_events") == []
    await audit.record([settled("a", "parked")], "you")
    for redrive in (1, 3):
        assert (await audit.arrive([arrival("a", redrive=redrive)], "you", 60))[0].state == "parked"


async def test_a_redrive_that_comes_while_it_is_open_needs_no_second_sending(audit: Audit) -> None:
    """Its number is noted, so that the same message given again does not open it either."""
    await audit.arrive([arrival("a")], "me", 60)
    assert (await audit.arrive([arrival("a", redrive=2)], "me", 60))[0].redrive == 2
    await audit.record([settled("a")], "me")
    assert (await audit.arrive([arrival("a", redrive=2)], "me", 60))[0].state == "delivered"


# --- claim and release ---


async def test_one_standing_for_each_id_that_is_known(audit: Audit) -> None:
    """Once each, in the order of the ids."""
    await audit.arrive(arrivals("a", "b"), "me", 60)
    assert [one.id for one in await audit.claim(["b", "nobody", "a", "b"], "me", 60)] == ["b", "a"]


async def test_a_claim_of_ones_own_is_renewed(audit: Audit, clock: FixedClock) -> None:
    """From now on, for as long as is said now; also one that has run out, if nobody has taken it."""
    await audit.arrive([arrival("a")], "me", 60)
    for wait in (59, 61):
        clock.advance(wait)
        assert (await audit.claim(["a"], "me", 60))[0].claimed
        assert (await audit.claim(["a"], "you", 60))[0].busy_until == clock.now + 60


async def test_a_claim_that_has_run_out_is_anybodys(audit: Audit, clock: FixedClock) -> None:
    """At the moment that was told as `busy_until`."""
    await audit.arrive([arrival("a")], "me", 60)
    clock.advance(59.999)
    assert not (await audit.claim(["a"], "you", 60))[0].claimed
    clock.advance((await audit.claim(["a"], "you", 60))[0].busy_until - clock.now)
    assert (await audit.claim(["a"], "you", 60))[0].claimed
    assert (await audit.claim(["a"], "me", 60))[0].busy_until == clock.now + 60


async def test_what_is_due_later_is_claimed_all_the_same(audit: Audit, clock: FixedClock) -> None:
    """To be sent once `due` has come."""
    await audit.arrive([arrival("a")], "me", 60)
    await audit.record([Record(id="a", attempt=attempt(), due=clock.now + HOUR, place="retry.1h")], "me")
    assert await audit.claim(["a"], "you", 60) == [
        Standing("a", "open", claimed=True, attempts=1, due=clock.now + HOUR)
    ]


async def test_whoever_waits_is_told_where_the_older_one_is(audit: Audit, clock: FixedClock) -> None:
    """So that it can be put behind it."""
    await audit.arrive(arrivals("a", "b", key="k"), "me", 60)
    await audit.record([Record(id="a", due=clock.now + HOUR, place="retry.1h")], "me")
    (standing,) = await audit.claim(["b"], "me", 60)
    assert (standing.behind, standing.behind_place, standing.claimed) == ("a", "retry.1h", False)


async def test_the_next_of_a_key_is_claimed_when_the_one_before_is_settled(audit: Audit) -> None:
    """However that came about."""
    await audit.arrive(arrivals("a", "b", "c", "d", key="k"), "me", 60)
    await audit.record([settled("a", "dead")], "me")
    assert [one.claimed for one in await audit.claim(["c", "b"], "you", 60)] == [False, True]
    await audit.settle(["b", "c"], "discarded", "by hand")
    assert (await audit.claim(["d"], "me", 60))[0].claimed


async def test_a_settled_one_is_not_claimed(audit: Audit) -> None:
    """It stands as it was settled."""
    await audit.arrive([arrival("a")], "me", 60)
    await audit.record([Record(id="a", attempt=attempt(), outcome="parked")], "me")
    (standing,) = await audit.claim(["a"], "me", 60)
    assert (standing.state, standing.claimed, standing.attempts) == ("parked", False, 1)


async def test_a_claim_has_an_owner_with_a_name(audit: Audit) -> None:
    """Without one two owners could not be told apart."""
    await audit.arrive([arrival("a")], "me", 60)
    for call in (audit.claim(["a"], "", 60), audit.arrive([arrival("b")], "", 60)):
        with pytest.raises(ValueError, match="owner"):
            await call
    assert await state_of(audit, "b") == "unknown"


async def test_what_is_given_back_is_anybodys_at_once(audit: Audit, clock: FixedClock) -> None:
    """All of one owner's claims and nobody else's; due when it was."""
    await audit.arrive(arrivals("a", "b"), "me", 60)
    await audit.arrive([arrival("c")], "you", 60)
    await audit.record([Record(id="a", due=clock.now + 9, release=False)], "me")
    assert await audit.release("me") == 2
    assert await audit.release("me") == 0
    standings = await audit.claim(["a", "b", "c"], "new", 60)
    assert [one.claimed for one in standings] == [True, True, False]
    assert [one.due for one in standings] == [clock.now + 9, clock.now, clock.now]


# --- record ---


async def test_an_attempt_is_logged_as_it_was(audit: Audit) -> None:
    """To the last byte and field, oldest first."""
    headers = {"content-type": "text/plain; \u00ff\x00\ud800", "set-cookie": ("a=1", "b=2"), "x-one": ("only",)}
    first = attempt(20.25, error=None, headers=headers, body=bytes(range(256)), body_truncated=True, traceparent=ODD)
    second = attempt(10.5, status=None, error=ODD, server=ODD, duration_ms=math.pi * 1e6)
    await audit.arrive([arrival("a")], "me", 60)
    assert await audit.record([Record(id="a", attempt=first), Record(id="a", attempt=second)], "me") == [True, True]
    assert await audit.attempts("a") == [second, first]
    assert await audit.attempts("b") == []


async def test_without_an_outcome_it_stays_open(audit: Audit, clock: FixedClock) -> None:
    """Due when and where that is said, and free for others."""
    await audit.arrive([arrival("a")], "me", 60)
    due = clock.now + 1.25
    assert await audit.record([Record(id="a", attempt=attempt(status=502), due=due, place="retry.30s")], "me") == [True]
    found = await audit.entry("a")
    assert found is not None
    assert (found.state, found.attempts, found.due, found.place, found.owner) == ("open", 1, due, "retry.30s", "")
    assert (found.last_status, found.last_error, found.settled) == (502, None, None)
    assert (await audit.claim(["a"], "you", 60))[0].claimed


async def test_an_attempt_that_does_not_count_is_logged_only(audit: Audit) -> None:
    """An outage does not use up the attempts."""
    await audit.arrive([arrival("a")], "me", 60)
    await audit.record([Record(id="a", attempt=attempt(), counts=False), Record(id="a", attempt=attempt())], "me")
    assert (await audit.claim(["a"], "me", 60))[0].attempts == 1
    assert len(await audit.attempts("a")) == 2


async def test_a_claim_is_kept_where_that_is_said(audit: Audit) -> None:
    """`release=False`."""
    await audit.arrive([arrival("a")], "me", 60)
    await audit.record([Record(id="a", attempt=attempt(), release=False)], "me")
    assert not (await audit.claim(["a"], "you", 60))[0].claimed


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_an_outcome_settles_it_once(audit: Audit, place: Place, outcome: Outcome) -> None:
    """Invariant 1: one row in `processed_events`, whatever is said later."""
    await audit.arrive([arrival("a", status=500)], "me", 60)
    told = Record(id="a", attempt=attempt(status=404), outcome=outcome, reason="status_404")
    place.clock.advance(1)
    assert await audit.record([told], "me") == [True]
    now = place.clock.now
    place.clock.advance(1)
    assert await audit.record([told, settled("a", "discarded")], "me") == [False, False]
    query = "SELECT event_id, outcome, reason, processed_at, attempts, status FROM processed_events"
    assert await place.rows(query) == [("a", outcome, "status_404", now, 1, 404)]
    found = await audit.entry("a")
    assert found is not None
    assert (found.state, found.reason, found.settled, found.owner) == (outcome, "status_404", now, "")
    kinds = await place.rows("SELECT kind, outcome, effective FROM audit_log ORDER BY sequence")
    assert [(kind, said) for kind, said, effective in kinds if effective] == [
        *(("arrived", ""), ("attempt", "")),
        ("settled", outcome),
    ]
    late = [("attempt", ""), ("late", outcome), ("late", "discarded")]
    assert [(kind, said) for kind, said, effective in kinds if not effective] == late


async def test_what_comes_too_late_is_logged_and_changes_nothing(audit: Audit, clock: FixedClock) -> None:
    """Invariant 2: somebody else has taken it since, and may have given it back."""
    await audit.arrive([arrival("a")], "late", 60)
    clock.advance(60)
    await audit.claim(["a"], "me", 60)
    for _ in range(2):
        before = await audit.entry("a")
        assert await audit.record([Record(id="a", attempt=attempt(), outcome="delivered")], "late") == [False]
        assert await audit.entry("a") == before
        await audit.release("me")
    assert len(await audit.attempts("a")) == 2


async def test_what_an_owner_says_counts_until_somebody_else_has_it(audit: Audit, clock: FixedClock) -> None:
    """Its claim has run out, and yet it knows best."""
    await audit.arrive([arrival("a")], "me", 60)
    clock.advance(HOUR)
    assert await audit.record([settled("a")], "me") == [True]


async def test_what_nobody_has_had_may_be_put_elsewhere(audit: Audit) -> None:
    """Behind an older one of its key that waits there."""
    await audit.arrive(arrivals("a", "b", key="k"), "me", 60)
    assert await audit.record([Record(id="b", due=7.0, place="retry.1h")], "you") == [True]
    found = await audit.entry("b")
    assert found is not None
    assert (found.place, found.due) == ("retry.1h", 7.0)


async def test_one_transaction_takes_all_kinds_of_records(audit: Audit) -> None:
    """Each has the effect it would have had by itself; an unknown id has none."""
    await audit.arrive(arrivals("a", "b", "c"), "me", 60)
    await audit.arrive([arrival("d")], "you", 60)
    records = [settled("a"), Record(id="nobody", attempt=attempt()), settled("d"), Record(id="b", attempt=attempt())]
    records += [settled("b", "dead", value=b"m"), settled("c", "parked", headers=(("h", b"\xff"),))]
    assert await audit.record(records, "me") == [True, False, False, True, True, True]
    assert [await state_of(audit, name) for name in "abcd"] == ["delivered", "dead", "parked", "open"]
    assert await audit.attempts("nobody") == []


# --- reopen, settle, dead letters ---


async def test_a_reopened_one_is_open_and_due_now(audit: Audit, place: Place) -> None:
    """By id, how often that was done; what was is in the log, and its attempts count anew."""
    await audit.arrive(arrivals("a", "b"), "me", 60)
    await audit.record([Record(id="a", attempt=attempt(), outcome="dead", reason="attempts", value=b"m")], "me")
    place.clock.advance(5)
    assert await audit.reopen(["a", "b", "nobody", "a"]) == {"a": 1}
    assert await place.rows("SELECT * FROM processed_events") == []
    query = "SELECT outcome, reason FROM audit_log WHERE kind = 'reopened'"
    assert await place.rows(query) == [("dead", "attempts")]
    assert await audit.claim(["a"], "you", 60) == [Standing("a", "open", claimed=True, due=place.clock.now, redrive=1)]
    assert len(await audit.attempts("a")) == 1
    await audit.record([settled("a", "parked")], "you")
    assert await audit.reopen(["a"]) == {"a": 2}


async def test_a_reopened_one_is_in_its_place_again(audit: Audit, clock: FixedClock) -> None:
    """Invariant 3: what is under way is waited for and not renewed; then the older one goes first."""
    await audit.arrive(arrivals("a", "b", key="k"), "me", 60)
    await audit.record([settled("a", "dead")], "me")
    await audit.claim(["b"], "me", 60)
    await audit.reopen(["a"])
    for owner in ("me", "you"):
        assert [(one.claimed, one.behind) for one in await audit.claim(["a", "b"], owner, 60)] == [
            (False, "b"),
            (False, "a"),
        ]
    clock.advance(60)
    assert [one.claimed for one in await audit.claim(["b", "a"], "you", 60)] == [False, True]
    assert await audit.record([settled("b")], "me") == [True]


async def test_a_person_settles_what_is_open(audit: Audit, place: Place) -> None:
    """Whoever has claimed it: what that one says then comes too late."""
    await audit.arrive(arrivals("a", "b"), "me", 60)
    assert await audit.settle(["a", "nobody", "a"], "discarded", "by hand") == 1
    assert await audit.settle(["a"], "delivered", "") == 0
    assert await audit.record([settled("a"), settled("b")], "me") == [False, True]
    assert await place.rows("SELECT outcome, reason FROM processed_events WHERE event_id = 'a'") == [
        ("discarded", "by hand")
    ]


@pytest.mark.parametrize("before", OUTCOMES)
@pytest.mark.parametrize("after", OUTCOMES)
async def test_only_what_was_given_up_can_be_discarded(
    audit: Audit, place: Place, before: Outcome, after: Outcome
) -> None:
    """Dead and parked ones; no other outcome changes but by a redrive."""
    await audit.arrive([arrival("a")], "me", 60)
    await audit.record([settled("a", before, value=b"m")], "me")
    changes = before in ("dead", "parked") and after == "discarded"
    assert await audit.settle(["a"], after, "changed") == changes
    assert await place.rows("SELECT outcome FROM processed_events") == [(after if changes else before,)]


async def test_the_message_of_what_was_given_up_is_kept_until_it_is_settled_otherwise(audit: Audit) -> None:
    """Also while it is open again."""
    await audit.arrive(arrivals("a", "b", "c"), "me", 60)
    headers = (("trace", b"\x00\xff"), ("trace", b""), ("ключ", b"v"))
    value = bytes(range(256)) * 5000
    told = [settled("c", "dead", value=value, headers=headers), settled("a", "parked", value=b"v"), settled("b")]
    await audit.record(told, "me")
    letters = [DeadLetter("a", "a", b"v"), DeadLetter("c", "c", value, headers)]
    assert await audit.dead_letters(["c", "b", "nobody", "a"]) == letters
    await audit.reopen(["a", "c"])
    assert await audit.dead_letters(["c", "a"]) == letters
    await audit.settle(["c"], "dead", "again")  # says nothing of the message: the old one is still it
    await audit.claim(["a"], "me", 60)
    await audit.record([settled("a", "dead", value=b"new")], "me")
    assert await audit.dead_letters(["c", "a"]) == [DeadLetter("a", "a", b"new"), letters[1]]
    await audit.settle(["a"], "discarded", "")
    await audit.reopen(["c"])
    await audit.settle(["c"], "delivered", "")
    assert await audit.dead_letters(["c", "a"]) == []
