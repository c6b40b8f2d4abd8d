"""request_ids: random UUIDs, however many are drawn."""

from __future__ import annotations

import uuid

from holdfast.request_ids import new_request_id


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
