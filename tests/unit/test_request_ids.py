"""request_ids: random UUIDs, however many are drawn."""

from __future__ import annotations

import os
import uuid

from holdfast.request_ids import new_request_id, random_bytes


def test_every_id_is_a_random_uuid_of_its_own() -> None:
    """RFC 9562, section 5.4: version 4, variant 10, in lower case; across several draws."""
    drawn = [new_request_id() for _ in range(2000)]
    assert len(set(drawn)) == len(drawn)
    for each in drawn:
        parsed = uuid.UUID(each)
        assert (str(parsed), parsed.version, parsed.variant) == (each, 4, uuid.RFC_4122)
    for place in range(36):
        seen = {each[place] for each in drawn}
        assert len(seen) == {14: 1, 19: 4}.get(place, 1 if place in (8, 13, 18, 23) else 16)


def test_what_was_drawn_is_not_drawn_again() -> None:
    """Nor by a process that is forked in between."""
    few = [random_bytes(10) for _ in range(1000)]
    assert len(set(few)) == 1000 and {len(each) for each in few} == {10}
    assert len(random_bytes(100_000)) == 100_000
    new_request_id()
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, random_bytes(16) + new_request_id().encode())
        os._exit(0)
    os.wait()
    theirs = os.read(reading, 100)
    assert theirs[:16] != random_bytes(16) and theirs[16:].decode() != new_request_id()
