"""What a person has chosen to see: the query of a page, and the address that keeps it.

No address has a fragment: a page with one would jump back to it whenever it refreshes itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from holdfast.captures import parse_states

OVERVIEW, CAPTURES, PURGE = "/", "/page/captures", "/page/purge"
EVERY = 10  # seconds between two pages


@dataclass(frozen=True, slots=True)
class Looking:
    """`route`: only this one; `state`: only captures that stand so (several with commas); empty: all."""

    place: str = OVERVIEW
    route: str = ""
    state: str = ""
    table: bool = False  # the bars as a table, too
    paused: bool = False

    def pairs(self) -> list[tuple[str, str]]:
        """What has to be kept, as the names and values of a query or of a form's hidden fields."""
        found = [("route", self.route), ("state", self.state)]
        found += [("table", "on")] if self.table else []
        found += [("refresh", "off")] if self.paused else []
        return [(name, value) for name, value in found if value]

    def url(self, **changes: object) -> str:
        """The same with these changes."""
        changed: Looking = replace(self, **changes)  # type: ignore[arg-type]
        query = urlencode(changed.pairs(), errors="replace")
        return changed.place + (f"?{query}" if query else "")


def parse_looking(argument: Callable[[str, str], str], place: str = OVERVIEW) -> Looking:
    """`argument(name, default)` has what was sent. ValueError, saying what to write, for a state that there is not."""
    state = argument("state", "")
    parse_states([state])
    return Looking(
        place=place,
        route=argument("route", ""),
        state=state,
        table=argument("table", "") == "on",
        paused=argument("refresh", "") == "off",
    )
