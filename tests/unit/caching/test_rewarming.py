"""rewarming: what is fetched anew after a purge, in which order, at which rate, and with what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from holdfast.caching import rewarming
from holdfast.caching.flow import asked_by
from holdfast.caching.rewarming import Rewarming, Wanted
from holdfast.caching.settings import RewarmSettings
from holdfast.policy.caching.model import StoredResponse
from holdfast.policy.caching.vary import selecting_values
from holdfast.testing import make_flow
from tests.unit.caching.rig import HOST, Named, settled

STORED = StoredResponse(200, (), b"one", 0.0, 0.0, tags=("t",))


class Bench:
    """Rewarming whose fetches are remembered and whose pauses take no time."""

    def __init__(self, **settings: Any) -> None:
        self.registry = CollectorRegistry()
        self.rewarming = Rewarming(self.fetch, self.registry)
        self.rewarming.settings = RewarmSettings(**settings)
        self.answers: dict[str, bool | None] = {}
        self.fetched: list[Wanted] = []
        self.pauses: list[float] = []
        self.before: Callable[[], None] = lambda: None

    async def fetch(self, wanted: Wanted) -> bool | None:
        self.before()
        self.fetched.append(wanted)
        return self.answers.get(wanted.key, True)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def ask(
        self, key: str, times: int = 1, *headers: Named, vary: tuple[str, ...] = (), tags: tuple[str, ...] = ("t",)
    ) -> None:
        """Clients ask for it."""
        for _ in range(times):
            flow = make_flow("POST", f"http://{HOST}/{key}", headers=[("Host", HOST), *headers], body=b"x")
            stored = replace(STORED, tags=tags, selecting=selecting_values(vary, flow.request.headers.fields))
            self.rewarming.note(flow, asked_by(flow), key, stored)

    async def purge(self, *tags: str) -> list[str]:
        """The keys that are fetched because of it."""
        before = len(self.fetched)
        self.rewarming.purged(tags)
        await settled()
        return [each.key for each in self.fetched[before:]]

    def counted(self) -> float | None:
        return self.registry.get_sample_value("holdfast_rewarmed_total")


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    """With these settings."""

    def made(**settings: Any) -> Bench:
        bench = Bench(**settings)
        monkeypatch.setattr(rewarming, "asyncio", SimpleNamespace(sleep=bench.sleep))
        return bench

    return made


type Make = Callable[..., Bench]


# -- what is fetched, and when ----------------------------------------------------------------------------------------


async def test_the_most_requested_comes_first(make: Make) -> None:
    """And no more than `most` after one purge."""
    bench = make(most=3)
    for key, times in (("b", 2), ("d", 4), ("a", 1), ("c", 3)):
        bench.ask(key, times)
    assert await bench.purge("t") == ["d", "c", "b"]
    assert bench.counted() == 3


@pytest.mark.parametrize(
    ("tags", "fetched"),
    [
        (["t"], ["a", "b"]),
        (["u"], ["b"]),
        (["url:a"], ["a"]),
        (["*"], ["a", "b"]),
        (["t", "u", "*"], ["a", "b"]),
        (["v"], []),
        (["a"], []),
    ],
)
async def test_what_a_purge_touches_is_fetched(make: Make, tags: list[str], fetched: list[str]) -> None:
    """By tag, by URL, or all; each once."""
    bench = make()
    bench.ask("a", 2)
    bench.ask("b", tags=("t", "u"))
    assert await bench.purge(*tags) == fetched


async def test_it_is_paced(make: Make) -> None:
    """`rate` in a second; what need not be fetched costs no pause and is not counted."""
    bench = make(rate=4)
    for key, times in (("a", 3), ("b", 2), ("c", 1)):
        bench.ask(key, times)
    bench.answers = {"b": None}
    assert await bench.purge("t") == ["a", "b", "c"]
    assert bench.pauses == [0.25, 0.25]
    assert bench.counted() == 2


async def test_a_failing_upstream_is_not_asked_for_the_rest(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """It is fetched when somebody asks for it; the next purge begins anew."""
    bench = make()
    for key, times in (("a", 3), ("b", 2), ("c", 1)):
        bench.ask(key, times)
    bench.answers = {"b": False}
    with caplog.at_level("INFO"):
        assert await bench.purge("t") == ["a", "b"]
    assert [vars(each)["left"] for each in caplog.records] == [1]
    assert (bench.counted(), bench.pauses) == (1, [0.1])
    bench.answers = {}
    assert await bench.purge("url:c") == ["c"]


async def test_a_purge_during_another_is_worked_off_behind_it(make: Make) -> None:
    """One at a time, each once: what is due already is not due twice."""
    bench = make()
    for key, tag in (("a", "t"), ("b", "t"), ("c", "u")):
        bench.ask(key, tags=(tag, "v"))
    again = iter([["v"], ["v"]])
    bench.before = lambda: bench.rewarming.purged(next(again, []))
    assert sorted(await bench.purge("t")) == ["a", "a", "b", "b", "c"]
    assert len(bench.pauses) == 5


@pytest.mark.parametrize("how", ["stop", "reload"])
async def test_it_ends_when_it_is_told_to(make: Make, how: str) -> None:
    """With the gateway, or with a profile that has no `rewarm` any more."""
    bench = make()
    for key in ("a", "b", "c"):
        bench.ask(key)

    def end() -> None:
        if how == "stop":
            bench.rewarming.stop()
        else:
            bench.rewarming.settings = None

    bench.before = end
    assert len(await bench.purge("t")) == 1


async def test_without_settings_nothing_is_remembered_and_nothing_fetched(make: Make) -> None:
    """`rewarm: null`, before and after."""
    bench = make()
    settings, bench.rewarming.settings = bench.rewarming.settings, None
    bench.ask("a")
    assert bench.rewarming._wanted == {}
    bench.rewarming.settings = settings
    bench.ask("b")
    bench.rewarming.settings = None
    assert await bench.purge("*") == []


# -- what is remembered -----------------------------------------------------------------------------------------------


async def test_at_twice_what_is_to_be_remembered_the_less_requested_goes(make: Make) -> None:
    """And counts are halved, so that what was popular once gives way."""
    bench = make(remember=2)
    for key, times in (("a", 9), ("b", 5), ("c", 1), ("d", 1)):
        bench.ask(key, times)
    assert len(bench.rewarming._wanted) == 4
    bench.ask("e")
    assert {each.key: each.count for each in bench.rewarming._wanted.values()} == {"a": 4, "b": 2}
    assert set(bench.rewarming._by_tag) == {"t", "*", "url:a", "url:b"}
    bench.ask("c", 3)
    assert await bench.purge("*") == ["a", "c", "b"]


async def test_a_count_is_never_nothing(make: Make) -> None:
    """Half of one is one."""
    bench = make(remember=1)
    for key in ("a", "b", "c"):
        bench.ask(key)
    assert [each.count for each in bench.rewarming._wanted.values()] == [1]


async def test_tags_that_change_are_those_of_the_last_response(make: Make) -> None:
    """A purge by the old one is not about it any more."""
    bench = make()
    bench.ask("a", tags=("old", "kept"))
    bench.ask("a", tags=("new", "kept"))
    assert [await bench.purge(tag) for tag in ("old", "new", "kept")] == [[], ["a"], ["a"]]
    assert [each.count for each in bench.rewarming._wanted.values()] == [2]
    assert "old" not in bench.rewarming._by_tag


@pytest.mark.parametrize("name", ["Cookie", "Authorization", "Proxy-Authorization"])
async def test_what_was_made_for_one_user_is_not_remembered(make: Make, name: str) -> None:
    """Nobody's credentials are used to fetch for all; the variant for those without any is."""
    bench = make()
    bench.ask("a", 5, (name, "me"), vary=(name.lower(), "accept"))
    assert await bench.purge("*") == []
    bench.ask("a", 1, ("Accept", "x"), vary=(name.lower(), "accept"))
    assert await bench.purge("*") == ["a"]


async def test_each_variant_is_fetched_with_what_selects_it(make: Make) -> None:
    """RFC 9111, section 4.1; of a request no more is kept than that: not in what is sent, nor in what is looked up."""
    bench = make()
    for language, times in (("de", 2), ("en", 1)):
        mine = [("Accept-Language", language), ("Cookie", "me"), ("Cache-Control", "no-cache"), ("X-Me", "1")]
        bench.ask("a", times, *mine, vary=("accept-language",))
    assert await bench.purge("*") == ["a", "a"]
    for wanted, language in zip(bench.fetched, ("de", "en"), strict=True):
        kept = [(b"Host", HOST.encode()), (b"Accept-Language", language.encode())]
        assert list(wanted.request.headers.fields) == kept
        assert (wanted.request.method, wanted.request.raw_content, wanted.request.path) == ("GET", b"", "/a")
        assert [(name, value) for name, value in wanted.asked.fields] == kept
        assert (wanted.asked.method, wanted.asked.host) == ("GET", HOST)
