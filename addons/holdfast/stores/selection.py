"""Which of a key's responses a request selects (RFC 9111, 4.1), without looking at all of them.

A key's responses may have named different fields in Vary. For each distinct set of names the request's values lead
straight to at most one response; if several sets do, `policy.caching.vary` says which of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from holdfast.policy.caching.model import Fields, StoredResponse
from holdfast.policy.caching.vary import FORWARDED, Selecting, choose

type Names = tuple[str, ...]

MAX_VARIANTS = 32  # of one key: a Vary on a field of many values must not take the store over
MAX_NAMES = 4  # distinct sets of names of one key


def names_of(selecting: Selecting) -> Names:
    """The fields that Vary had named."""
    return tuple(name for name, _ in selecting if name != FORWARDED)


def best(candidates: Iterable[StoredResponse], request: Fields) -> StoredResponse | None:
    """Of those that match."""
    found = list(candidates)
    if len(found) < 2:
        return found[0] if found else None
    return choose(found, request)


def with_names(known: Sequence[Names], names: Names) -> tuple[Names, ...]:
    """`known` with `names`; when there are too many, those that were seen first are forgotten."""
    return tuple(known) if names in known else (*known, names)[-MAX_NAMES:]
