"""surrogate: which tags a response has, which of them it may not have, and what an unsafe request purges."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from holdfast.errors import StoreUnavailable
from holdfast.exchange import exchange_of
from holdfast.gateway import Gateway
from holdfast.surrogate import Surrogate, SurrogateSettings
from holdfast.testing import FixedClock, make_flow
from tests.unit.caching.rig import HOST, Named, answer, make_gateway
from tests.unit.hooks import finished

GROUP = f"http://{HOST}\t"


class Purges:
    """A cache that remembers what it was told to purge, or fails."""

    def __init__(self) -> None:
        self.tags: list[list[str]] = []
        self.down = False

    async def purge(self, *, tags: Sequence[str]) -> None:
        if self.down:
            raise StoreUnavailable("nobody is there")
        self.tags.append(list(tags))


type Make = Callable[..., tuple[Surrogate, Gateway, Purges]]


@pytest.fixture
def make() -> Make:
    """The addon with these settings, before a cache of this test's."""

    def made(**settings: Any) -> tuple[Surrogate, Gateway, Purges]:
        gateway, purges = make_gateway(FixedClock()), Purges()
        cache: Any = purges
        gateway.cache = cache
        return Surrogate(SurrogateSettings(**settings), gateway), gateway, purges

    return made


async def passed(addon: Surrogate, *fields: Named, method: str = "GET", status: int = 200, **known: Any) -> Any:
    """A flow whose response's header has passed the addon."""
    flow = make_flow(method, "http://upstream.test/a", response=answer(status, b"", *fields, cc=None))
    flow.metadata["holdfast"] = {"request_id": "r1", "original_host": HOST, **known}
    await finished(addon.responseheaders(flow))
    return flow


@pytest.mark.parametrize(
    ("fields", "tags"),
    [
        ([("Surrogate-Key", "a b")], ["a", "b"]),
        ([("Cache-Tag", "a, b c")], ["a", "b c"]),
        ([("xkey", "a b"), ("xkey", "c")], ["a", "b", "c"]),
        ([("Cache-Groups", '"a", "b"')], ["a", "b", f"{GROUP}a", f"{GROUP}b"]),
        ([("Surrogate-Key", "a"), ("Cache-Tag", "a,b")], ["a", "b"]),
        ([], []),
    ],
)
async def test_the_tags_are_those_that_the_origin_names(make: Make, fields: list[Named], tags: list[str]) -> None:
    """By any of four fields, each tag once; RFC 9875, section 2: a group is its origin's besides."""
    addon, _, purges = make()
    flow = await passed(addon, *fields)
    assert exchange_of(flow)["tags"] == tags
    assert "untaggable" not in exchange_of(flow)
    assert purges.tags == []


async def test_a_route_gives_tags_too(make: Make) -> None:
    """The patterns of its name, with what the router found in the URL, behind those of the origin."""
    addon, _, _ = make(tags={"user": ("users", "user-{id}"), "other": ("x",)})
    flow = await passed(addon, ("Surrogate-Key", "a users"), route="user", route_params={"id": "7"})
    assert exchange_of(flow)["tags"] == ["a", "users", "user-7"]
    assert exchange_of(await passed(addon, route="unknown"))["tags"] == []


@pytest.mark.parametrize(
    ("settings", "fields", "known", "reason", "tags"),
    [
        ({"max_tags": 2}, [("Surrogate-Key", "a b c")], {}, "count", ["a", "b"]),
        ({"max_length": 2}, [("Surrogate-Key", "abc d")], {}, "length", ["d"]),
        ({}, [("Cache-Tag", "caf\u00e9")], {}, "characters", []),
        ({}, [("Cache-Groups", "a b")], {}, "syntax", []),
        ({"tags": {"user": ("user-{id}",)}}, [], {"route": "user"}, "parameter", []),
        ({"max_tags": 1, "tags": {"user": ("u",)}}, [("xkey", "a")], {"route": "user"}, "count", ["a"]),
    ],
)
async def test_a_tag_that_is_refused_keeps_the_response_out(
    make: Make,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, Any],
    fields: list[Named],
    known: dict[str, Any],
    reason: str,
    tags: list[str],
) -> None:
    """A purge by that tag would not find it: `untaggable`, a metric and a line in the log."""
    addon, gateway, _ = make(**settings)
    with caplog.at_level(logging.WARNING):
        flow = await passed(addon, *fields, **known)
    exchange = exchange_of(flow)
    assert (exchange["untaggable"], exchange["tags"]) == (reason, tags)
    assert gateway.registry.get_sample_value("holdfast_surrogate_refused_total", {"reason": reason}) == 1
    (record,) = [vars(each) for each in caplog.records]
    assert (record["reason"], record["request_id"]) == (reason, "r1")
    assert record["message"] == "surrogate key refused: the response is not stored"


@pytest.mark.parametrize(
    ("strip", "left"), [(True, ["Cache-Groups"]), (False, ["Surrogate-Key", "Cache-Tag", "xkey", "Cache-Groups"])]
)
async def test_clients_do_not_see_the_tags(make: Make, strip: bool, left: list[str]) -> None:
    """Unless the profile says so; groups are for their caches too (RFC 9875)."""
    addon, _, _ = make(strip=strip)
    fields = [("Surrogate-Key", "a"), ("Cache-Tag", "a"), ("xkey", "a"), ("Cache-Groups", '"a"')]
    flow = await passed(addon, *fields)
    assert [name for name in flow.response.headers if name != "content-length"] == left


@pytest.mark.parametrize(
    ("method", "status", "known", "purged"),
    [
        ("POST", 200, {}, [[f"{GROUP}g", "a"]]),
        ("DELETE", 302, {}, [[f"{GROUP}g", "a"]]),
        ("GET", 200, {}, []),
        ("POST", 199, {}, []),
        ("POST", 400, {}, []),
        ("POST", 200, {"answered": True}, []),
        ("POST", 200, {"cached": "hit"}, []),
    ],
)
async def test_an_unsafe_request_purges_what_its_answer_names(
    make: Make, method: str, status: int, known: dict[str, Any], purged: list[list[str]]
) -> None:
    """RFC 9875, section 3: if it succeeded, and if the origin said so; nobody may name everything."""
    addon, _, purges = make()
    fields = [("Cache-Group-Invalidation", '"g"'), ("Surrogate-Key", "a *")]
    await passed(addon, *fields, method=method, status=status, **known)
    assert purges.tags == purged


async def test_an_unsafe_request_whose_answer_names_nothing_purges_nothing(make: Make) -> None:
    """The route's own tags are not purged by it."""
    addon, _, purges = make(tags={"user": ("users",)})
    await passed(addon, method="POST", route="user")
    assert purges.tags == []


async def test_a_store_that_is_out_of_order_does_not_fail_the_answer(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets it; the log says that nothing was purged."""
    addon, _, purges = make()
    purges.down = True
    with caplog.at_level(logging.WARNING):
        flow = await passed(addon, ("Surrogate-Key", "a b"), method="POST")
    assert flow.response.status_code == 200
    assert [(each.message, vars(each)["tags"]) for each in caplog.records] == [("not purged", 2)]


async def test_without_a_cache_there_is_nothing_to_purge(make: Make) -> None:
    """The tags are found all the same."""
    addon, gateway, _ = make()
    gateway.cache = None
    assert exchange_of(await passed(addon, ("xkey", "a"), method="POST"))["tags"] == ["a"]


async def test_an_answer_from_the_cache_is_left_alone(make: Make) -> None:
    """It had its tags when it was stored."""
    addon, _, _ = make()
    flow = await passed(addon, ("Surrogate-Key", "a"), cached="hit")
    assert "tags" not in exchange_of(flow)
    assert flow.response.headers["surrogate-key"] == "a"
    flow.response = None
    await finished(addon.responseheaders(flow))


async def test_a_reload_holds_for_the_next_response(make: Make) -> None:
    """Patterns and limits."""
    addon, _, _ = make()
    addon.reload(SurrogateSettings(tags={"user": ("u",)}, max_tags=1))
    flow = await passed(addon, ("Surrogate-Key", "a"), route="user")
    assert (exchange_of(flow)["tags"], exchange_of(flow)["untaggable"]) == (["a"], "count")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("user-{id", "a place for a parameter"), ("user-{}", "a place"), ("caf\u00e9", "visible ASCII"), ("", "visible")],
)
def test_a_pattern_that_is_no_tag_is_refused(pattern: str, message: str) -> None:
    """When the profile is read."""
    with pytest.raises(ValueError, match=message):
        SurrogateSettings(tags={"user": ("fine", pattern)})
