"""How the answer to a replay differs from the one that was recorded.

Noise is what differs without meaning anything: fields that change with every answer, values at JSON paths, timestamps
and UUIDs if the rules say so. Of `Set-Cookie` the names count, not the values. A mark of redaction is never a
difference; both answers should have been redacted by the same rules, or secrets will show.

A body that is cut short is compared as text or bytes, as far as both go: JSON paths cannot be looked up in it.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest

from holdfast.policy.json_paths import JsonPath, parse_path
from holdfast.policy.redaction import MASK
from holdfast.policy.replaying.json_difference import json_differences, read_json
from holdfast.policy.replaying.likeness import Likeness, first_difference, printable, side_by_side
from holdfast.policy.wire import HeaderMap, first_value, header_map, wire_text

NOISY_HEADERS = frozenset({
    "date", "age", "expires", "server-timing", "x-runtime", "x-response-time", "x-process-time", "x-timer",
    "x-request-id", "request-id", "x-correlation-id", "x-trace-id", "x-amzn-trace-id", "x-amzn-requestid",
    "x-amz-cf-id", "cf-ray", "traceparent", "tracestate", "traceresponse", "b3", "connection", "keep-alive",
    "proxy-connection", "transfer-encoding", "content-length", "via", "cache-status", "proxy-status", "alt-svc",
    "nel", "report-to"
})  # fmt: skip
LONGEST_WHERE = 200
_NOTHING = "nothing"
_COOKIES = "set-cookie"
_EXCERPT = 8  # bytes of a binary body that are shown


@dataclass(frozen=True, slots=True)
class Observed:
    """An answer. `headers` as in a record, or as fields in wire order; `body` without its content coding.

    `content_type` is taken from the headers where it is not given; `truncated`: there was more of the body.
    """

    status: int
    headers: HeaderMap | Sequence[tuple[bytes, bytes]] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    content_type: str = ""
    truncated: bool = False

    def header_map(self) -> dict[str, str | tuple[str, ...]]:
        """The headers as in a record, names in lower case."""
        if isinstance(self.headers, Sequence):
            return header_map(self.headers)
        return {name.lower(): value for name, value in self.headers.items()}

    def media_type(self) -> str:
        """In lower case, without parameters; empty if none is known."""
        declared = self.content_type or first_value(self.header_map(), "content-type")
        return declared.partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseRules:
    """What does not count. Header names in any case; `json_paths` as in `policy/json_paths.py`.

    `most`: no more differences than these are looked for. ValueError for a path that cannot be read.
    """

    headers: frozenset[str] = NOISY_HEADERS
    json_paths: tuple[str, ...] = ()
    timestamps: bool = False
    uuids: bool = False
    most: int = 50
    paths: tuple[JsonPath, ...] = field(init=False, repr=False, compare=False)
    likeness: Likeness = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", frozenset(name.lower() for name in self.headers))
        object.__setattr__(self, "paths", tuple(parse_path(text) for text in self.json_paths))
        object.__setattr__(self, "likeness", Likeness(self.timestamps, self.uuids))


@dataclass(frozen=True, slots=True)
class Difference:
    """`where`: `status`, `header:NAME`, `body` or `json:$.a[3].b`. The others are short printable texts for people."""

    where: str
    recorded: str
    replayed: str


def compare(recorded: Observed, replayed: Observed, noise: NoiseRules) -> list[Difference]:
    """The differences that count: the status, headers by name, the body."""
    found = chain(
        _status_difference(recorded, replayed),
        _header_differences(recorded, replayed, noise),
        _body_differences(recorded, replayed, noise),
    )
    return list(islice(found, noise.most))


def _status_difference(recorded: Observed, replayed: Observed) -> Iterator[Difference]:
    if recorded.status != replayed.status:
        yield Difference("status", str(recorded.status), str(replayed.status))


# -- headers --------------------------------------------------------------------------------------------------------


def _header_differences(recorded: Observed, replayed: Observed, noise: NoiseRules) -> Iterator[Difference]:
    one, other = recorded.header_map(), replayed.header_map()
    for name in sorted({*one, *other} - noise.headers):
        left, right = _values(name, one), _values(name, other)
        if (MASK,) in (left, right):
            continue
        if len(left) == len(right) and all(map(noise.likeness.same, left, right)):
            continue
        texts = side_by_side(*(noise.likeness.plain(", ".join(each)) for each in (left, right)))
        yield Difference(
            printable(f"header:{name}")[:LONGEST_WHERE],
            texts[0] if left else _NOTHING,
            texts[1] if right else _NOTHING,
        )


def _values(name: str, headers: HeaderMap) -> tuple[str, ...]:
    held = headers.get(name, ())
    values = (held,) if isinstance(held, str) else held
    if name == _COOKIES:
        return tuple(sorted(value.partition("=")[0].strip() for value in values))
    return values


# -- bodies ---------------------------------------------------------------------------------------------------------


def _body_differences(recorded: Observed, replayed: Observed, noise: NoiseRules) -> Iterator[Difference]:
    one, other = _as_far_as_both_go(recorded, replayed)
    if one == other or MASK.encode() in (one, other):
        return
    whole = not recorded.truncated and not replayed.truncated
    values = _json_values(recorded, replayed, noise.paths) if whole else None
    if values:
        for path, left, right in json_differences(*values, noise.likeness):
            yield Difference(printable(f"json:{path}")[:LONGEST_WHERE], left, right)
        return
    left_text, right_text = _text(recorded, one, whole), _text(replayed, other, whole)
    if left_text is None or right_text is None:
        at = first_difference(one, other)
        yield Difference("body", _bytes_at(one, at), _bytes_at(other, at))
    else:
        yield from _line_difference(left_text, right_text, noise.likeness)


def _as_far_as_both_go(recorded: Observed, replayed: Observed) -> tuple[bytes, bytes]:
    one, other = recorded.body, replayed.body
    return (
        one[: len(other)] if replayed.truncated else one,
        other[: len(one)] if recorded.truncated else other,
    )


def _json_values(recorded: Observed, replayed: Observed, ignored: Sequence[JsonPath]) -> tuple[object, object] | None:
    """Both bodies, if both are JSON: called so, or an object or a list whatever they are called."""
    values = []
    for each in (recorded, replayed):
        called_so = each.media_type().endswith(("/json", "+json"))
        if not called_so and not each.body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
            return None
        try:
            values.append(read_json(each.body.decode("utf-8"), ignored))
        except ValueError:
            return None
    return values[0], values[1]


def _text(observed: Observed, body: bytes, whole: bool) -> str | None:
    """None for a binary body. A text that is not UTF-8 is shown byte for byte."""
    is_text = observed.media_type().startswith("text/")
    if b"\0" in body and not is_text:
        return None
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(body, whole)  # cut short, it may end within a character
    except UnicodeDecodeError:
        return wire_text(body) if is_text else None


def _line_difference(one: str, other: str, likeness: Likeness) -> Iterator[Difference]:
    if likeness.same(one, other):
        return
    pairs = zip_longest(one.split("\n"), other.split("\n"))
    for number, (left, right) in enumerate(pairs, 1):
        if left is None or right is None or not likeness.same(left, right):
            texts = side_by_side(likeness.plain(left or ""), likeness.plain(right or ""))
            shown = [_NOTHING if line is None else text for line, text in zip((left, right), texts, strict=True)]
            yield Difference("body", *(f"line {number}: {text}" for text in shown))
            return


def _bytes_at(body: bytes, at: int) -> str:
    excerpt = body[at : at + _EXCERPT].hex(" ") or "the end"
    return f"{len(body)} bytes, at {at}: {excerpt}"
