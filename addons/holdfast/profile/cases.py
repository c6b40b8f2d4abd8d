"""What the tests of a profile may say: `tests:`, a list of cases that `holdfast check --test` plays.

A gateway that runs does not look at them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, Struct, field

from holdfast.policy.fate import FATES
from holdfast.profile.addresses import check_method
from holdfast.profile.values import Duration

Failing = Literal["refused", "reset", "closed", "hang", "garbage", "truncated", "stalled"]
FAILING: tuple[str, ...] = get_args(Failing)
Fate = Literal["ok", "retried", "stale", "hit", "captured", "failed", "rejected"]
assert get_args(Fate) == FATES
CacheResult = Literal["hit", "stale", "miss", "pass"]
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


def check_target(text: str) -> None:
    """A rule: a path with its query."""
    if not re.fullmatch(r"/[\x21-\x7e]*", text):
        raise ValueError("is no path: begin with / and write spaces and other characters as %20 and the like")


def check_request_line(text: str) -> None:
    """A rule: `GET /path`."""
    method, _, target = text.partition(" ")
    if not target.startswith("/") or " " in target:
        raise ValueError("is no request: write it like 'GET /api/users', or as a mapping with method, path, headers")
    check_method(method)
    check_target(target)


def check_field_name(text: str) -> None:
    """A rule: the name of a header field (RFC 9110, section 5.1)."""
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text):
        raise ValueError("is no name of a header field")


def check_field_value(text: str) -> None:
    """A rule: what fits into a header field (RFC 9110, section 5.5)."""
    if not re.fullmatch(r"[\t\x20-\x7e\xa0-\xff]*", text) or text != text.strip():
        raise ValueError("cannot be the value of a header field: it has characters that do not fit there")


def check_name(text: str) -> None:
    """A rule: a name in one line."""
    if not text.isprintable():
        raise ValueError("has characters that cannot be printed in a line")


def check_pattern(text: str) -> None:
    """A rule: a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error


FieldValue = Annotated[str, Meta(extra={"rule": check_field_value})]


class MatchSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a text must be like; all that is said must hold."""

    equals: Annotated[str | None, Meta(description="The whole text.")] = None
    contains: Annotated[str | None, Meta(description="A part of it.")] = None
    matches: Annotated[
        str | None, Meta(description="A regular expression that is found in it.", extra={"rule": check_pattern})
    ] = None
    present: Annotated[bool, Meta(description="`false`: it must not be there.")] = True

    def __post_init__(self) -> None:
        if not self.present and (self.equals, self.contains, self.matches) != (None, None, None):
            raise ValueError("`present: false` leaves nothing to compare: take the other keys out")


Fields = dict[str, str | MatchSettings]


class RequestSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request of the client."""

    method: Annotated[str, Meta(description=f"{METHODS} ...", extra={"rule": check_method})] = "GET"
    path: Annotated[str, Meta(description="With its query.", extra={"rule": check_target})]
    headers: Annotated[
        dict[str, FieldValue], Meta(description="Header fields. `Host` and the body's length are added.")
    ] = field(default_factory=dict)
    body: Annotated[str | None, Meta(description="The body as text.")] = None
    json: Annotated[Any, Meta(description="The body as JSON; `Content-Type` is added if it is not there.")] = None

    def __post_init__(self) -> None:
        check_message(self.headers, self.body, self.json)


class ReplySettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a server does with one attempt."""

    status: Annotated[int, Meta(description="Status of the answer.", ge=200, le=599)] = 200
    headers: Annotated[dict[str, FieldValue], Meta(description="Header fields of the answer.")] = field(
        default_factory=dict
    )
    body: Annotated[str | None, Meta(description="The body as text.")] = None
    json: Annotated[Any, Meta(description="The body as JSON; `Content-Type` is added if it is not there.")] = None
    delay: Annotated[Duration, Meta(description="Before the first byte. The time is moved, not waited for.")] = (
        Duration("0s")
    )
    fail: Annotated[
        Failing | None,
        Meta(
            description="How it fails: `refused` the connection, `reset` or `closed` it after the request, `hang` for "
            "ever, `garbage` in place of HTTP, `truncated` in the middle of the body, `stalled` there for ever."
        ),
    ] = None
    times: Annotated[int, Meta(description="For so many attempts one after the other.", ge=1, le=1000)] = 1

    def __post_init__(self) -> None:
        check_message(self.headers, self.body, self.json)


Reply = Annotated[int, Meta(ge=200, le=599)] | Failing | ReplySettings
Replies = Annotated[tuple[Reply, ...], Meta(min_length=1)]


class CapturedSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What must be in the record of a captured request."""

    error: Annotated[str | None, Meta(description="Why: `connection_refused`, `http_503`, `accepted` ...")] = None
    route: Annotated[str | None, Meta(description="Its route.")] = None
    key: Annotated[str | None, Meta(description="What orders it (`failure_sink.key`).")] = None
    attempts: Annotated[int | None, Meta(description="How many there were.", ge=0)] = None
    redacted: Annotated[
        tuple[str, ...] | None,
        Meta(description="All that was masked, as the record has it: `header:authorization`, `query:token` ..."),
    ] = None
    headers: Annotated[Fields, Meta(description="Its header fields as they are stored.")] = field(default_factory=dict)
    body: Annotated[str | MatchSettings | None, Meta(description="Its body as it is stored.")] = None

    def __post_init__(self) -> None:
        check_headers(self.headers)


class ReceivedSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a server must have got."""

    server: Annotated[
        str | None, Meta(description="Which one: its number in the profile, from 1, or its URL there.")
    ] = None
    method: Annotated[str | None, Meta(description="Its method.")] = None
    path: Annotated[str | None, Meta(description="With its query.")] = None
    headers: Annotated[Fields, Meta(description="Its header fields.")] = field(default_factory=dict)
    body: Annotated[str | MatchSettings | None, Meta(description="Its body.")] = None
    json: Annotated[Any, Meta(description="What must be in its body, as for the answer.")] = None

    def __post_init__(self) -> None:
        check_headers(self.headers)


class ExpectSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the client must get, and what must have come of the request. What is not said may be anything."""

    status: Annotated[int | None, Meta(description="Status of the answer.", ge=200, le=599)] = None
    headers: Annotated[
        Fields, Meta(description="A text that a header field must be, or a mapping that says what it must be like.")
    ] = field(default_factory=dict)
    body: Annotated[str | MatchSettings | None, Meta(description="The body as text.")] = None
    json: Annotated[
        Any, Meta(description="What must be in the body: these keys with these values, lists as a whole.")
    ] = None
    complete: Annotated[bool, Meta(description="`false`: the answer must break off before its end.")] = True
    fate: Annotated[Fate | None, Meta(description="The one word of metrics and logs.")] = None
    route: Annotated[str | None, Meta(description="The route it was given.")] = None
    cache: Annotated[CacheResult | None, Meta(description="What the cache had to do with it.")] = None
    attempts: Annotated[
        int | None, Meta(description="Attempts at servers, those among them that reached none.", ge=0)
    ] = None
    upstream: Annotated[
        Annotated[int, Meta(ge=0)] | tuple[ReceivedSettings, ...] | None,
        Meta(description="How many requests the servers got because of it, or what each was like. Not replays."),
    ] = None
    captured: Annotated[
        bool | CapturedSettings | None, Meta(description="Whether it was captured, or what is in the record.")
    ] = None
    delivered: Annotated[
        bool | ReceivedSettings | None,
        Meta(
            description="What the replayer makes of what this test has captured last: `true` or what a server must "
            "have got, or `false`: it is given up."
        ),
    ] = None

    def __post_init__(self) -> None:
        check_headers(self.headers)


class PurgeSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is taken out of the cache."""

    tags: Annotated[tuple[str, ...], Meta(description="Surrogate keys.")] = ()
    paths: Annotated[tuple[str, ...], Meta(description="Paths with their query.")] = ()
    all: Annotated[bool, Meta(description="Everything.")] = False
    soft: Annotated[bool, Meta(description="Stale instead of unusable.")] = False

    def __post_init__(self) -> None:
        if not (self.tags or self.paths or self.all):
            raise ValueError("says nothing to purge: write tags, paths or all")
        for path in self.paths:
            try:
                check_target(path)
            except ValueError as error:
                raise ValueError(f"`paths`: {path!r} {error}") from error


class StepSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One step; what it says is done in the order of these keys."""

    wait: Annotated[
        Duration | None,
        Meta(description="Time that passes first; it is moved, not waited for.", extra={"le": 366 * 86400}),
    ] = None
    purge: Annotated[PurgeSettings | None, Meta(description="What is taken out of the cache then.")] = None
    upstream: Annotated[
        Reply | Replies | None,
        Meta(
            description="What the servers do from here on, attempt after attempt, whichever is asked; the last holds "
            "on. A status, a way to fail (`refused`, `reset`, `closed`, `hang`, `garbage`, `truncated`, `stalled`) or "
            "a mapping. Nothing said: 200."
        ),
    ] = None
    servers: Annotated[
        dict[str, Reply | Replies],
        Meta(description="The same for single servers, by their number in the profile, from 1, or their URL there."),
    ] = field(default_factory=dict)
    request: Annotated[
        Annotated[str, Meta(extra={"rule": check_request_line})] | RequestSettings | None,
        Meta(description="What the client asks: `GET /path`, or a mapping."),
    ] = None
    expect: Annotated[
        ExpectSettings | None, Meta(description="What must come of it. Nothing said: the answer is whole.")
    ] = None

    def __post_init__(self) -> None:
        if self.request is None and self.expect and self.expect != ExpectSettings(delivered=self.expect.delivered):
            raise ValueError("`expect` tells of an answer, and there is no `request`: only `delivered` needs none")


class CaseSettings(StepSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One test: a name, and either the keys of one step or a list of steps."""

    name: Annotated[
        str, Meta(description="What it shows, in a sentence; each only once.", min_length=1, extra={"rule": check_name})
    ]
    steps: Annotated[
        tuple[StepSettings, ...],
        Meta(
            description="Step after step, in place of the keys of one; `upstream` and `servers` beside it hold first."
        ),
    ] = ()
    file: Annotated[str, Meta(description="Where it stands.", extra={"internal": True})] = ""
    lines: Annotated[
        Mapping[str, int], Meta(description="The line of each key below it, by its path.", extra={"internal": True})
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.steps:
            if self.request is None:
                raise ValueError("does nothing: write a `request`, or `steps`")
            return StepSettings.__post_init__(self)
        both = [key for key in ("wait", "purge", "request", "expect") if getattr(self, key) is not None]
        if both:
            raise ValueError(f"`{both[0]}` stands beside `steps`: move it into a step")
        return None


def check_message(headers: Mapping[str, object], body: str | None, json: object) -> None:
    """ValueError for two bodies, for a name that is none, and for what is made from the body."""
    if body is not None and json is not None:
        raise ValueError("has `body` and `json`: write one of them")
    check_headers(headers)
    framing = [name for name in headers if name.lower() in ("content-length", "transfer-encoding")]
    if framing:
        raise ValueError(f"`headers`: {framing[0]} is made from the body: leave it out")


def check_headers(headers: Mapping[str, object]) -> None:
    """ValueError for a name that is none."""
    for name in headers:
        try:
            check_field_name(name)
        except ValueError as error:
            raise ValueError(f"`headers`: {name!r} {error}") from error
