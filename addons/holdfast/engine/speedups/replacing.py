"""Functions of ours in the place of mitmproxy's, with what they were before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Replacement:
    """`name` of `owner`, a class or a module, is `ours` from `put` on; `stock` is what it was when this was made."""

    owner: Any
    name: str
    ours: Any
    stock: Any = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stock", vars(self.owner).get(self.name))

    def put(self) -> None:
        """In this process, for good."""
        setattr(self.owner, self.name, self.ours)
