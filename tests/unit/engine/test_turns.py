"""Turns at a server that is to have only so many connections in use: first come, first served."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from holdfast.engine.commands import GetUpstream
from holdfast.engine.keepalive.sharing import Share
from holdfast.engine.keepalive.turns import Place, Slot
from holdfast.policy.endpoint import parse_endpoint
from holdfast.policy.idle import IdleRules


class Client:
    """Stands in for a `Share`: notes whose turn has come."""

    def __init__(self, leaves: bool = False) -> None:
        self.waiting: dict[GetUpstream, Place] = {}
        self.called: list[GetUpstream] = []
        self.leaves = leaves

    async def go_on(self, wanted: GetUpstream, place: Place) -> None:
        if self.leaves:
            place.wake()
        else:
            self.called.append(wanted)


def request() -> GetUpstream:
    return GetUpstream(parse_endpoint("http://one.test"), http2=False)


def waits(place: Place, client: Client, wanted: GetUpstream) -> bool:
    return place.must_wait(cast(Share, cast(Any, client)), wanted)


async def test_one_goes_on_for_each_connection_that_is_given_back() -> None:
    """In the order in which they came; nobody overtakes those who wait."""
    place, client = Place(IdleRules(active=2)), Client()
    slots, requests = [Slot(place), Slot(place)], [request() for _ in range(3)]
    assert all(waits(place, client, each) for each in requests)
    slots[0].back()
    slots[0].back()
    assert waits(place, client, late := request())
    await asyncio.sleep(0)
    assert client.called == requests[:1]
    assert not waits(place, client, requests[0])
    slots += [Slot(place)]
    slots[1].back()
    slots[2].back()
    await asyncio.sleep(0)
    assert client.called == requests
    assert list(client.waiting) == [requests[1], requests[2], late]


async def test_one_whose_turn_was_taken_is_still_the_first() -> None:
    """A connection may be gone again by the time it is told."""
    place, client = Place(IdleRules(active=1)), Client()
    slot, first, second = Slot(place), request(), request()
    assert waits(place, client, first)
    assert waits(place, client, second)
    slot.back()
    await asyncio.sleep(0)
    again = Slot(place)
    assert waits(place, client, first)
    again.back()
    await asyncio.sleep(0)
    assert client.called == [first, first]


async def test_a_turn_is_passed_on_by_whoever_has_left() -> None:
    """And a task that never began gives its connection back when it is forgotten."""
    place, gone, client = Place(IdleRules(active=1)), Client(leaves=True), Client()
    slot, wanted = Slot(place), request()
    assert waits(place, gone, request())
    assert waits(place, client, wanted)
    del slot
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert client.called == [wanted]


def test_without_a_bound_nobody_waits() -> None:
    """The usual case."""
    place = Place(IdleRules())
    slots = [Slot(place) for _ in range(100)]
    assert not waits(place, Client(), request())
    assert len(slots) == place.taken
