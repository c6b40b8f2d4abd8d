"""What can be set about recordings, and how that reads as rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from holdfast.policy.json_paths import parse_path
from holdfast.policy.redaction import DEFAULT_HEADERS, DEFAULT_QUERY, RedactionRules
from holdfast.policy.understudy.answer import Match
from holdfast.policy.understudy.recordable import check_statuses
from holdfast.profile.values import Duration, Size
from holdfast.recordings.folder import Room
from holdfast.recordings.recorder import RecorderRules

FailureKind = Literal["connect", "reset", "timeout", "502", "503", "504"]
Record = Literal["good", "never"]
AnswerWhen = Literal["on_failure", "always", "never"]
_ALL: tuple[FailureKind, ...] = ("connect", "reset", "timeout", "502", "503", "504")
_METHOD = re.compile(r"[A-Z][A-Z-]{0,31}")


class RouteUnderstudySettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What differs on one route; what is left out is as for all."""

    record: Annotated[Record | None, Meta(description="Whether answers of this route are recorded.")] = None
    answer: Annotated[AnswerWhen | None, Meta(description="When recordings answer on this route.")] = None
    match: Annotated[Match | None, Meta(description="Which recordings answer on this route.")] = None
    max_age: Annotated[Duration | None, Meta(description="Older recordings do not answer on this route.")] = None


class RecordingRedactionSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is kept out of recordings, besides what always is."""

    headers: Annotated[
        tuple[str, ...], Meta(description="More header fields that are not recorded, besides set-cookie and its kin.")
    ] = ()
    query: Annotated[
        tuple[str, ...],
        Meta(description="More query parameters whose values are masked, besides token, api_key, password ..."),
    ] = ()
    json_paths: Annotated[
        tuple[str, ...],
        Meta(description="Values in JSON bodies that are masked, like `$.user.email`, `$..secret`."),
    ] = ()


class UnderstudySettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Good answers recorded as files, and given in place of a failed upstream's."""

    folder: Annotated[
        str,
        Meta(description="Folder of the recordings.", extra={"restart": True, "in_tests": "{folder}/understudy"}),
    ] = "./understudy/"
    record: Annotated[
        Record, Meta(description="`good`: good answers are recorded; `never`: the recordings that are there are used.")
    ] = "good"
    answer: Annotated[
        AnswerWhen,
        Meta(
            description="`on_failure`: where every attempt failed; `always`: no server is asked; `never`: only record."
        ),
    ] = "on_failure"
    match: Annotated[
        Match,
        Meta(description="`exact`: the recording of this very request; `route`: else the nearest one of its route."),
    ] = "exact"
    on: Annotated[tuple[FailureKind, ...], Meta(description="Failures in place of which a recording answers.")] = _ALL
    methods: Annotated[
        tuple[str, ...], Meta(description="Methods that are recorded and answered; HEAD is answered from GET.")
    ] = ("GET", "HEAD")
    unsafe: Annotated[
        Literal["capture", "answer"],
        Meta(
            description="Failed requests of unsafe methods (POST ...) among `methods`. `capture`: what is captured "
            "gets the interceptor's answer; `answer`: a recording answers, and nothing is captured."
        ),
    ] = "capture"
    statuses: Annotated[tuple[str, ...], Meta(description="Statuses that are good, like `200` or `2xx`.")] = ("2xx",)
    headers: Annotated[
        tuple[str, ...],
        Meta(
            description="Request header fields that tell one recording from another, such as accept, besides the URL."
        ),
    ] = ()
    body: Annotated[
        bool, Meta(description="Whether the request's body tells one recording from another, as GraphQL needs.")
    ] = False
    max_age: Annotated[
        Duration | None, Meta(description="Older recordings do not answer; `null`: however old they are.")
    ] = None
    max_body: Annotated[Size, Meta(description="Larger bodies are not recorded.")] = Size("1MiB")
    max_route_recordings: Annotated[
        int, Meta(description="Recordings of one route; at the bound no more are recorded.", ge=1)
    ] = 100
    max_route_bytes: Annotated[Size, Meta(description="Disk space for one route.")] = Size("16MiB")
    max_recordings: Annotated[int, Meta(description="Recordings of all routes together.", ge=1)] = 1000
    max_bytes: Annotated[Size, Meta(description="Disk space for all routes together.")] = Size("64MiB")
    obey_no_store: Annotated[bool, Meta(description="Whether answers with `Cache-Control: no-store` are left out.")] = (
        False
    )
    redact: Annotated[RecordingRedactionSettings, Meta(description="What is kept out of recordings.")] = (
        RecordingRedactionSettings()
    )
    ignore: Annotated[
        tuple[str, ...],
        Meta(description="Values in JSON bodies, like `$.generated_at`, whose change alone rewrites no file."),
    ] = ()
    routes: Annotated[
        dict[str, RouteUnderstudySettings], Meta(description="What differs per route, by the router's names.")
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_statuses(self.statuses)
        for method in self.methods:
            if not _METHOD.fullmatch(method) or method == "CONNECT":
                raise ValueError(f"methods: {method!r} cannot be recorded: write methods like GET or POST")
        secret = {name.lower() for name in self.headers} & (DEFAULT_HEADERS | {n.lower() for n in self.redact.headers})
        if secret:
            raise ValueError(f"headers: the value of {min(secret)} is a secret, and would be written into files")
        for path in (*self.redact.json_paths, *self.ignore):
            parse_path(path)


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for the requests of one route."""

    record: Record
    answer: AnswerWhen
    match: Match
    max_age: float | None


def rules_of(settings: UnderstudySettings, route: str) -> Rules:
    """With what the route leaves out filled in."""
    own = settings.routes.get(route, RouteUnderstudySettings())
    max_age = settings.max_age if own.max_age is None else own.max_age
    return Rules(
        record=own.record or settings.record,
        answer=own.answer or settings.answer,
        match=own.match or settings.match,
        max_age=None if max_age is None else float(max_age),
    )


def redaction_of(settings: UnderstudySettings) -> RedactionRules:
    """The profile's names added to those that are always left out."""
    return RedactionRules(
        headers=DEFAULT_HEADERS | frozenset(settings.redact.headers),
        query=DEFAULT_QUERY | frozenset(settings.redact.query),
        json_paths=settings.redact.json_paths,
        other_bodies="keep",
    )


def recorder_rules(settings: UnderstudySettings) -> RecorderRules:
    """As the recorder takes them."""
    return RecorderRules(
        redaction=redaction_of(settings),
        ignore=tuple(parse_path(each) for each in settings.ignore),
        max_body=int(settings.max_body),
        of_a_route=Room(settings.max_route_recordings, int(settings.max_route_bytes)),
        of_all=Room(settings.max_recordings, int(settings.max_bytes)),
    )
