"""What the tests of the live profile share: editing the profile of a gateway that runs, and its verdicts."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.harness import Gateway, until

Made = dict[str, Any]

OWN = '''
import asyncio, pathlib
from mitmproxy import ctx
from mitmproxy.exceptions import OptionsError
from msgspec import Struct
from prometheus_client import Counter


def note(*words):
    with pathlib.Path("life.txt").open("a") as file:
        file.write(" ".join(map(str, words)) + "\\n")


class Banner:
    """Knows nothing of Holdfast, and stamps every answer with its text, behind what is there."""

    def __init__(self, text, fail=""):
        self.text, self.fail = text, fail
        if fail == "__init__":
            raise KeyError("broken on purpose")
        note("made", text)

    def load(self, loader):
        note("load", self.text)
        if self.fail == "load":
            raise KeyError("broken on purpose")

    def configure(self, updated):
        if self.fail == "configure":
            raise OptionsError("broken on purpose")

    async def running(self):
        await asyncio.sleep(0)
        note("running", self.text)

    async def request(self, flow):
        if flow.request.path == f"/held-{self.text}":
            await asyncio.sleep(1.5)
            note("was busy", self.text)
        if flow.request.path == "/reload":
            ctx.master.commands.call("holdfast.reload")

    def responseheaders(self, flow):
        flow.response.headers["x-banner"] = flow.response.headers.get("x-banner", "") + self.text

    async def done(self):
        note("done", self.text)


class Counting:
    """Has settings and a counter of its own, and no `reload`."""

    class Settings(Struct, frozen=True, kw_only=True):
        label: str = "a"

    def __init__(self, settings, gateway):
        self.counter = Counter("own_requests", "Requests.", ["label"], registry=gateway.registry)
        self.mine = self.counter.labels(settings.label)

    def request(self, flow):
        self.mine.inc()


class Stubborn:
    """Takes new settings only up to ten."""

    class Settings(Struct, frozen=True, kw_only=True):
        number: int = 1

    def __init__(self, settings, gateway):
        self.number = settings.number

    def reload(self, settings):
        if settings.number > 10:
            raise ValueError("too many")
        self.number = settings.number

    def responseheaders(self, flow):
        flow.response.headers["x-number"] = str(self.number)
'''


def held(gateway: Gateway) -> Made:
    """What the profile's file holds."""
    made: Made = yaml.safe_load(Path(gateway.profile).read_text())
    return made


def write(gateway: Gateway, made: Made) -> None:
    """The file in one go, as an editor does it: another one in its place."""
    new = Path(gateway.profile).with_suffix(".new")
    new.write_text(yaml.safe_dump(made, sort_keys=False))
    new.replace(gateway.profile)


async def outcomes(gateway: Gateway) -> tuple[int, int]:
    """How many profiles have taken over, and how many were refused."""
    figures = await gateway.metrics()
    name = "holdfast_profile_reloads_total"
    return int(figures[name, "outcome=ok"]), int(figures[name, "outcome=rejected"])


async def change(gateway: Gateway, edit: Callable[[Made], object], *, refused: bool = False, hup: bool = True) -> None:
    """Edit the profile, have it read, and wait for the verdict; it has to be the one that is expected."""
    before = await outcomes(gateway)
    made = held(gateway)
    edit(made)
    write(gateway, made)
    if hup:
        gateway.send(signal.SIGHUP)
    expected = (before[0], before[1] + 1) if refused else (before[0] + 1, before[1])

    async def said() -> bool:
        return await outcomes(gateway) != before

    await until(said, within=10, what="the verdict on the profile")
    assert await outcomes(gateway) == expected, gateway.log()


def quiet(made: Made) -> Made:
    """Only SIGHUP counts, so that a test knows what it has caused."""
    made["watch"] = False
    return made


def put(made: Made, dotted: str, value: object) -> None:
    """One key."""
    *path, last = dotted.split(".")
    for key in path:
        made = made.setdefault(key, {})
    made[last] = value


def entry_of(made: Made, name: str) -> Any:
    """The settings of an addon by its name, or what stands under `with`."""
    for entry in made["addons"]:
        if isinstance(entry, dict) and name in (entry.get("name"), *entry):
            return entry["with"] if "use" in entry else entry[name]
    raise KeyError(name)


def banner(text: str, name: str = "banner", **more: Any) -> Made:
    """An entry of somebody's addon."""
    return {"use": "own_addons:Banner", "name": name, "with": {"text": text, **more}}


def life(folder: Path) -> list[str]:
    """What the addons have gone through."""
    file = folder / "life.txt"
    return file.read_text().splitlines() if file.exists() else []
