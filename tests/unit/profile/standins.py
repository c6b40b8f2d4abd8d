"""Addons that exist for these tests only, so that the profile room is tested without the real ones."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from holdfast.profile.values import Duration, Share, Size

HERE = "tests.unit.profile.standins"


class RouteSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One route."""

    name: Annotated[str, Meta(description="Its name.")]
    pattern: Annotated[str, Meta(description="What it matches.")]


class RouterSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Names for paths."""

    routes: Annotated[tuple[RouteSettings, ...], Meta(description="In the order they are tried.", max_length=3)] = ()
    default: str = "other"


class CounterSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Counting."""


class RouteAnswer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What differs on a route."""

    answer: Annotated[Literal[202, 503] | None, Meta(description="Status.")] = None


class CatcherSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One setting of every type."""

    on: Annotated[tuple[Literal["connect", "502", "503"], ...], Meta(description="Kinds.")] = ("connect",)
    answer: Annotated[Literal[202, 503], Meta(description="Status.")] = 503
    retry_after: Annotated[Duration, Meta(description="Wait.", extra={"gt": 0})] = Duration("5s")
    largest: Annotated[Size | None, Meta(description="Bytes.")] = None
    budget: Annotated[Share, Meta(description="Part.", extra={"le": 0.5})] = Share("20%")
    ratio: Annotated[float, Meta(description="Number.", gt=0)] = 1.5
    routes: Annotated[dict[str, RouteAnswer], Meta(description="By route.")] = field(default_factory=dict)
    options: Annotated[dict[str, str], Meta(description="Texts.")] = field(default_factory=dict)
    seal_key: Annotated[str, Meta(description="Secret by its name.")] = ""
    words: Annotated[str | tuple[str, ...] | None, Meta(description="One or more.")] = None
    anything: Annotated[Any, Meta(description="Whatever.")] = None

    def __post_init__(self) -> None:
        if self.answer == 202 and not self.routes:
            raise ValueError("`answer: 202` needs `routes`")


class Needy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings that have no default."""

    tags: Annotated[dict[str, list[str]], Meta(description="Tags.")]


class Router:
    """Stands in for the router."""

    Settings = RouterSettings

    def __init__(self, settings: RouterSettings, gateway: object) -> None:
        self.settings = settings


class Counter(Router):
    """Stands in for an addon without settings."""

    Settings = CounterSettings


class Catcher(Router):
    """Has a setting of every type."""

    Settings = CatcherSettings


class Tagger(Router):
    """Has a required setting."""

    Settings = Needy


class Banner:
    """Somebody else's addon: plain keyword arguments."""

    def __init__(self, text: str, shout: bool = False) -> None:
        self.text = text


ready_made = Router(RouterSettings(), None)

BUILT_IN = {
    "router": (HERE, "Router"),
    "metrics": (HERE, "Counter"),
    "catcher": (HERE, "Catcher"),
    "tagger": (HERE, "Tagger"),
}
