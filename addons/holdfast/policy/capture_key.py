"""The key of a captured request, which orders it: requests of one key are published, and sent again, one by one.

    path              the request's path, without the query
    route             the label of its route
    header:NAME       the value of a header field
    json:$.order.id   one text, number, true or false in a JSON body

Where the field or the value is missing the path is the key. Keys are stored and published as they are, so that nothing
which is redacted may be one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from holdfast.policy.json_paths import JsonPath, covers, is_definite, parse_path, scalar_at
from holdfast.policy.wire import declared_charset

LONGEST = 1024  # characters of a key out of a body; a longer value is no name of anything


@dataclass(frozen=True, slots=True)
class KeyRule:
    """What a profile's `key` says. `name` is of the header field; `place` is where in the body."""

    kind: str
    name: str = ""
    place: JsonPath | None = None


def parse_key(text: str) -> KeyRule:
    """ValueError, saying what to write, for a path into a body that does not name one place."""
    kind, _, rest = text.partition(":")
    if kind != "json":
        return KeyRule(kind, rest)
    place = parse_path(rest)
    if not is_definite(place):
        raise ValueError(f"{rest!r} does not name one value: write the key like json:$.order.id")
    return KeyRule(kind, place=place)


def refuse_secret_key(rule: KeyRule, redacted_headers: Iterable[str], redacted_paths: Iterable[JsonPath]) -> None:
    """ValueError if redaction would take away what is to be the key. Names of header fields in lower case."""
    if rule.kind == "header" and rule.name.lower() in redacted_headers:
        raise ValueError(
            f"the header {rule.name} is redacted and cannot be the key: keys are stored and published as they are"
        )
    place = rule.place
    by = next((each for each in redacted_paths if place and covers(each, place)), None)
    if place and by:
        raise ValueError(
            f"{place.text} is redacted by {by.text} and cannot be the key: keys are stored and published as they are"
        )


def key_in_body(body: bytes, content_types: Iterable[str], place: JsonPath) -> str | None:
    """The value at this place; None where there is none, or none that names something, or the body is no JSON."""
    if any(declared_charset(each) != "utf-8" for each in content_types):
        return None
    try:
        found = scalar_at(body.decode("utf-8"), place)
    except ValueError:
        return None
    return found if found and len(found) <= LONGEST else None
