"""live: when a profile is read again. What becomes of it then is tested with real processes (`e2e/test_live_*`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast import live
from holdfast.collectors import ChainRegistry
from holdfast.errors import Fault, ProfileError
from holdfast.live import Live


class Files:
    """A source whose files hold what the test says, look by look; the last one then stays."""

    name = "p.yaml"

    def __init__(self, *looks: str) -> None:
        self.looks = list(looks)
        self.seen: dict[str, bytes] = {"p.yaml": b"old"}
        self.loads = 0
        self.error: Exception | None = None

    def look(self) -> dict[str, bytes]:
        now = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return {"p.yaml": now.encode()}

    def load(self) -> object:
        self.loads += 1
        self.seen = {"p.yaml": self.looks[0].encode()}
        if self.error:
            raise self.error
        return SimpleNamespace(source="p.yaml")

    def place(self, path: str) -> object:
        raise NotImplementedError


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Live]:
    """A live profile from these files, at a thousand times its pace; every good profile takes over."""
    monkeypatch.setattr(live, "LOOK_EVERY", 0.001)
    monkeypatch.setattr(live, "UNTOUCHED", 0.001)
    monkeypatch.setattr(live, "take_over", lambda *_: SimpleNamespace(told={}))

    async def settled(_: object) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(live, "settle", settled)

    def made(files: Files, *, watch: bool = True, phase: str = "serving") -> Live:
        profile = SimpleNamespace(watch=watch)
        gateway = SimpleNamespace(profile=profile, phase=phase, refused=(), profile_since=1.0, worker=None)
        chain: Any = SimpleNamespace(gateway=gateway, registry=ChainRegistry())
        source: Any = files
        return Live(chain, source)

    return made


async def running(one: Live, *, asks: int = 0) -> None:
    """For a moment that is long enough for everything in these tests."""
    one.running()
    for _ in range(asks):
        one.ask()
    await asyncio.sleep(0.2)
    one.done()


async def test_files_that_do_not_change_are_not_read(make: Callable[..., Live]) -> None:
    """Looked at, two hundred times."""
    files = Files("old")
    await running(make(files))
    assert files.loads == 0


async def test_a_change_is_read_once_it_rests(make: Callable[..., Live]) -> None:
    """Not while every look finds something else."""
    files = Files("old", "n", "ne", "new")
    await running(make(files))
    assert (files.loads, files.seen) == (1, {"p.yaml": b"new"})


async def test_a_change_that_is_taken_back_is_none(make: Callable[..., Live]) -> None:
    """An editor that writes a file in two steps, or somebody who thought better of it."""
    files = Files("old", "new", "old")
    await running(make(files))
    assert files.loads == 0


async def test_files_that_never_rest_are_read_all_the_same(make: Callable[..., Live]) -> None:
    """After so many looks that all differ."""
    files = Files(*(str(number) for number in range(live.LOOKS + 1)), *("a", "b") * 1000)
    await running(make(files))
    assert files.loads >= 1


async def test_whoever_asks_is_answered_although_nothing_has_changed(make: Callable[..., Live]) -> None:
    """An environment, an installed package: not all that matters is in the files. A crowd is answered together."""
    files = Files("old")
    await running(make(files, watch=False), asks=100)
    assert 1 <= files.loads <= 2


async def test_without_watching_a_change_waits_until_somebody_asks(make: Callable[..., Live]) -> None:
    """`watch: false`."""
    files = Files("new")
    await running(make(files, watch=False))
    assert files.loads == 0


async def test_a_gateway_that_stops_takes_nothing_over(make: Callable[..., Live]) -> None:
    """What is in flight ends under the rules it began with."""
    one = make(Files("new"), phase="draining")
    assert await one.reload() == ()
    assert one._reloads.labels("ok")._value.get() == 0


async def test_faults_are_handed_back_and_kept_until_a_good_profile_comes(make: Callable[..., Live]) -> None:
    """For whoever asked, for the health page and for the metrics."""
    files = Files("new")
    one = make(files)
    fault = Fault("p.yaml", 3, "listne", "unknown key")
    files.error = ProfileError([fault])
    assert await one.reload() == (fault,) == one._gateway.refused
    files.error = None
    assert await one.reload() == () == one._gateway.refused
    assert [one._reloads.labels(outcome)._value.get() for outcome in ("ok", "rejected")] == [1, 1]


async def test_a_mistake_of_ours_does_not_end_the_watching(make: Callable[..., Live]) -> None:
    """It is a refusal like any other, with a trace."""
    files = Files("new")
    files.error = RuntimeError("a bug")
    one = make(files)
    (fault,) = await one.reload()
    assert fault.message == "RuntimeError: a bug"
