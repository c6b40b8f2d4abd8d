"""What every outbox must do, told in terms of its public face alone."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import CaptureRefused
from holdfast.outbox import Outbox, OutboxLimits, OutboxRecord, read_all
from holdfast.policy.uuid7 import uuid7

type Open = Callable[..., Outbox]
REASONS = {"outbox_full", "too_large", "disk_full", "outbox_unavailable", "outbox_busy"}


def a_record(**changes: object) -> OutboxRecord:
    fields: dict[str, object] = {
        "id": uuid7(int(time.time() * 1000), os.urandom(10)),
        "created": time.time(),
        "key": "/api/users/1",
        "route": "user",
        "method": "PUT",
        "path": "/api/users/1",
        "error": "http_503",
        "status": 503,
        "value": b'{"id": 1}',
        "headers": (("holdfast-schema", b"1"),),
    }
    return OutboxRecord(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture(params=[Outbox])
def open_it(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens an outbox at the same place each time."""
    opened: list[Outbox] = []

    def open_one(**limits: float) -> Outbox:
        opened.append(request.param.open(tmp_path / "outbox.db", OutboxLimits(**limits)))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for outbox in opened:
        outbox.close()


async def test_what_is_appended_is_there_after_a_restart(open_it: Open) -> None:
    """To the last byte, in the order of appending."""
    outbox = open_it()
    records = [a_record(value=os.urandom(100), path=f"/{number}") for number in range(20)]
    for record in records:
        await outbox.append(record)
    outbox.close()
    again = open_it()
    assert [record.id for record in again.list(newest_first=False)] == [record.id for record in records]
    for record, found in zip(records, again.export(), strict=True):
        assert (found.id, found.value, found.path, found.headers) == (
            *(record.id, record.value, record.path, record.headers),
        )
        assert found.state == "pending"


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(st.characters(), max_size=50),
    value=st.binary(max_size=9000),
    headers=st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=30)), max_size=4),
    status=st.none() | st.integers(0, 999),
    created=st.floats(0, 4e9),
)
def test_anything_can_be_stored(
    tmp_path_factory: pytest.TempPathFactory,
    text: str,
    value: bytes,
    headers: list[tuple[str, bytes]],
    status: int | None,
    created: float,
) -> None:
    """Text with a NUL or from another alphabet, bytes of any kind, no value at all."""
    outbox = Outbox.open(tmp_path_factory.mktemp("any") / "outbox.db", OutboxLimits())
    try:
        record = a_record(
            key=text, path=text, route=text, value=value, headers=tuple(headers), status=status, created=created
        )
        outbox.append_sync(record)
        found = outbox.get(record.id)
        assert found
        assert (found.key, found.path, found.value, found.headers) == (text, text, value, tuple(headers))
        assert (found.status, found.created) == (status, created)
    finally:
        outbox.close()


async def test_many_at_a_time_are_all_stored(open_it: Open) -> None:
    """From one loop, as the gateway does it."""
    outbox = open_it()
    records = [a_record() for _ in range(500)]
    await asyncio.gather(*(outbox.append(record) for record in records))
    assert {record.id for record in outbox.list(limit=1000)} == {record.id for record in records}


@pytest.mark.parametrize(
    ("limits", "before", "record", "reason"),
    [
        ({"max_records": 1}, 1, {}, "outbox_full"),
        ({"max_bytes": 5000}, 0, {"value": b"x" * 5001}, "outbox_full"),
        ({"max_record": 1000}, 0, {"value": b"x" * 1001}, "too_large"),
        ({}, 0, {"id": "not-a-uuid"}, "outbox_unavailable"),
    ],
)
async def test_a_refusal_has_a_reason_and_stores_nothing(
    limits: dict[str, float], before: int, record: dict[str, object], reason: str, open_it: Open
) -> None:
    """A token that is counted and shown to the client; the number of records does not change."""
    outbox = open_it(**limits)
    for _ in range(before):
        await outbox.append(a_record())
    with pytest.raises(CaptureRefused) as refused:
        await outbox.append(a_record(**record))
    assert refused.value.reason == reason
    assert refused.value.reason in REASONS
    assert outbox.stats().records == before


async def test_the_same_id_is_stored_once(open_it: Open) -> None:
    """The second is refused, the first is as it was."""
    outbox = open_it()
    first = a_record()
    await outbox.append(first)
    with pytest.raises(CaptureRefused):
        await outbox.append(a_record(id=first.id, value=b"other"))
    found = outbox.get(first.id)
    assert found
    assert found.value == first.value


async def test_after_close_nothing_is_accepted(open_it: Open) -> None:
    """An id must not be given for what nobody keeps."""
    outbox = open_it()
    outbox.close()
    with pytest.raises(CaptureRefused) as refused:
        await outbox.append(a_record())
    assert refused.value.reason == "outbox_unavailable"


async def test_a_sent_record_is_pending_no_more_and_can_still_be_seen(open_it: Open) -> None:
    """For as long as its retention."""
    outbox = open_it()
    record = a_record()
    await outbox.append(record)
    assert outbox.mark_sent([outbox.list()[0].seq]).result(5) == 1
    assert outbox.mark_sent([outbox.list()[0].seq]).result(5) == 0
    found = outbox.get(record.id)
    assert found
    assert found.state == "sent"
    assert found.sent is not None
    assert outbox.list(state="pending") == []


async def test_two_owners_of_one_place_do_not_meet(open_it: Open, tmp_path: Path) -> None:
    """Each keeps its own; together they are read as one."""
    one, two = open_it(), open_it()
    mine, theirs = a_record(), a_record()
    await one.append(mine)
    await two.append(theirs)
    assert one.get(theirs.id) is None
    with read_all(tmp_path / "outbox.db") as everything:
        assert {record.id for record in everything.list()} == {mine.id, theirs.id}
