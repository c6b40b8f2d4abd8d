"""One look-up in Redis, over one to three questions: what has been answered so far, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from redis.exceptions import NoScriptError

from holdfast.policy.caching.model import Fields, StoredResponse
from holdfast.policy.caching.vary import Selecting, selecting_values
from holdfast.stores import EVERYTHING, url_tag
from holdfast.stores import redis_record as record
from holdfast.stores.selection import Names, best


class Hint(NamedTuple):
    """What the last question about a key has taught."""

    names: tuple[Names, ...] = ((),)
    tags: tuple[str, ...] = ()


class Match(NamedTuple):
    """What is usable; `response` has no body yet if that lies in a field of its own."""

    record: record.Record
    response: StoredResponse
    soft: bool


class Reading:
    """Ask for `fields` and `tags`, note the answers, until it is `complete`."""

    def __init__(self, key: str, request: Fields, hint: Hint) -> None:
        self.clock = 0
        self.lost = False  # what Redis knew of purges, or the scripts
        self.names = hint.names
        self._key = key
        self._request = request
        self._hinted = hint.tags
        self._always = (EVERYTHING, url_tag(key))
        self._found: dict[str, record.Record | None] = {}
        self._purged: dict[str, tuple[int, int]] = {}  # by tag: the hard and the soft record
        self._selected = self._select()

    @property
    def hint(self) -> Hint:
        """For the next time."""
        return Hint(self.names or ((),), tuple(self._carried()))

    def complete(self) -> bool:
        return self._selected.keys() <= self._found.keys() and self._carried() <= self._purged.keys()

    def fields(self) -> list[str]:
        """Of the entry, not asked for yet."""
        return [name for name in self._selected if name not in self._found]

    def tags(self) -> list[str]:
        """Not asked for yet; once there is a question, those that may be needed too."""
        return [
            tag for tag in dict.fromkeys((*self._always, *self._carried(), *self._hinted)) if tag not in self._purged
        ]

    def note(self, fields: Sequence[str], values: Sequence[bytes | None]) -> None:
        """The answer about the entry: `v`, `t`, and these fields."""
        names, tags, *variants = values
        self.names = record.decode_names(names) if names is not None else ()
        self._hinted = record.decode_tags(tags) if tags is not None else ()
        for name, data in zip(fields, variants, strict=True):
            self._found[name] = record.decode(data) if data else None
        self._selected = self._select()

    def note_purges(self, tags: Sequence[str], answer: object) -> None:
        """The answer about the tags. Of several clocks the first counts: an older one is safe."""
        if isinstance(answer, NoScriptError) or not isinstance(answer, bytes) or not answer:
            self.lost = True
            return
        clock, *scores = map(int, answer.split())
        self.clock = self.clock or clock
        self._purged |= {tag: (scores[2 * i], scores[2 * i + 1]) for i, tag in enumerate(tags)}

    def match(self, now: float) -> Match | None:
        """What answers the request."""
        usable: dict[Selecting, Match] = {}
        for name, selecting in self._selected.items():
            found = self._found[name]
            if found is None or found.until <= now:
                continue
            response = record.to_response(found, found.body)
            records = [self._purged[tag] for tag in (*self._always, *response.tags)]
            if response.selecting == selecting and max(hard for hard, _ in records) < found.as_of:
                usable[selecting] = Match(found, response, max(soft for _, soft in records) >= found.as_of)
        chosen = best((match.response for match in usable.values()), self._request)
        return usable[chosen.selecting] if chosen else None

    def _select(self) -> dict[str, Selecting]:
        """By the field that it lies in, what the request selects for each set of names."""
        each = (selecting_values(names, self._request) for names in self.names)
        return {record.variant_field(selecting): selecting for selecting in each}

    def _carried(self) -> set[str]:
        """The tags of what was found."""
        return {record.to_text(tag) for name in self._selected if (each := self._found.get(name)) for tag in each.tags}
