"""What the sample backend keeps: its users, the log of what arrived, and the misbehaviour in force."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from holdfast.profile.values import Duration

LOG_LENGTH = 1000


class Misbehaviour(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the origin does wrong; the body of `POST /_control`."""

    fail: Annotated[int, Meta(ge=200, le=599)] | None = None
    delay: str = "0s"
    hang: bool = False
    reset: bool = False
    refuse: str | None = None
    times: Annotated[int, Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        Duration(self.delay)
        Duration(self.refuse or "0s")


PEACE = Misbehaviour()


class OriginState:
    """The users, the log of requests and the misbehaviour in force: all that the handlers share."""

    def __init__(self) -> None:
        self.users: dict[int, dict[str, Any]] = {
            1: {"id": 1, "name": "Ada Lovelace", "email": "ada@example.com"},
            2: {"id": 2, "name": "Grace Hopper", "email": "grace@example.com"},
        }
        self.log: deque[dict[str, Any]] = deque(maxlen=LOG_LENGTH)
        self.served = 0
        self.misbehaviour = PEACE
        self.changed = asyncio.Event()

    def add_user(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Store a new user under the next free id."""
        number = max(self.users, default=0) + 1
        self.users[number] = {**fields, "id": number}
        return self.users[number]

    def tell(self, misbehaviour: Misbehaviour) -> None:
        """Put a misbehaviour in force and let go of every request that hangs."""
        self.misbehaviour = misbehaviour
        self.changed.set()
        self.changed = asyncio.Event()

    def next_misbehaviour(self) -> Misbehaviour:
        """What the next request meets; counts `times` down and ends with peace."""
        current = self.misbehaviour
        if current.times is not None:
            left = current.times - 1
            self.misbehaviour = msgspec.structs.replace(current, times=left) if left else PEACE
        return current
