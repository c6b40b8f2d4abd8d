"""Follows the profile while the gateway runs: on SIGHUP, on the command `holdfast.reload`, and when its files change.

A profile that is wrong, or asks for what needs a restart, is refused as a whole with every fault, and the one that
holds goes on. How one takes over from the other is in `takeover`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator

from mitmproxy import command, ctx
from mitmproxy.addonmanager import Loader as OptionLoader
from mitmproxy.utils import asyncio_utils
from prometheus_client import Counter, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from holdfast.chain import Chain
from holdfast.errors import Fault, ProfileError
from holdfast.gateway import Gateway
from holdfast.profile.compose import ROOT
from holdfast.source import ProfileSource, Seen
from holdfast.takeover import settle, take_over
from holdfast.workers.wire import TookOver

logger = logging.getLogger(__name__)
LOOK_EVERY = 1.0
UNTOUCHED = 0.5  # seconds that files must stay the same: somebody may be in the middle of writing them
LOOKS = 10  # after so many in a row that all differ, they are taken as they are


class Live:
    """Comes after the gate: a chain is followed once it serves."""

    name = "holdfast-live"

    def __init__(self, chain: Chain, source: ProfileSource) -> None:
        self._chain = chain
        self._gateway = chain.gateway
        self._source = source
        self._asked = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._terminal = False
        self._reloads = Counter(
            "holdfast_profile_reloads",
            "Profiles read while running, by what became of them: ok or rejected.",
            ["outcome"],
            registry=chain.registry,
        )
        for outcome in ("ok", "rejected"):
            self._reloads.labels(outcome)
        chain.registry.register(ProfileState(self._gateway))

    # -- life -------------------------------------------------------------------------------------------------------

    def load(self, loader: OptionLoader) -> None:
        # Already here: without a handler a signal that comes during a slow start would end the process.
        self._terminal = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and has_terminal()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hung_up)

    def running(self) -> None:
        self._task = asyncio_utils.create_task(self._run(), name="live profile", keep_ref=True)

    def done(self) -> None:
        # The signal stays handled: until the very end it must not end the process.
        if self._task:
            self._task.cancel()

    @command.command("holdfast.reload")  # type: ignore[untyped-decorator]
    def ask(self) -> str:
        """Read the profile anew. What becomes of it is in the log."""
        self._asked.set()
        return f"{self._source.name} is being read: the log tells what becomes of it"

    async def reload(self) -> tuple[Fault, ...]:
        """Read the profile and let it take over; the faults for which it was refused, none if it holds now."""
        async with self._one_at_a_time:
            try:
                # In a thread: it may import modules.
                profile = await asyncio.to_thread(self._source.load)
                if self._gateway.phase != "serving":
                    return ()
                turnover = take_over(self._chain, profile, self._source.place)
            except ProfileError as error:
                return self._refused(error.faults)
            except Exception as error:
                logger.exception("profile could not be followed")
                return self._refused((Fault(self._source.name, 0, ROOT, f"{type(error).__name__}: {error}"),))
            self._gateway.refused = ()
            self._reloads.labels("ok").inc()
            logger.info("profile taken over", extra={"profile": profile.source, **turnover.told})
            if self._gateway.worker:
                self._gateway.worker.say(TookOver())
            await settle(turnover)
            return ()

    # -- parts ------------------------------------------------------------------------------------------------------

    def _refused(self, faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
        self._gateway.refused = faults
        self._reloads.labels("rejected").inc()
        told = {"profile": self._source.name, "faults": len(faults)}
        logger.warning("profile not taken over, the old one stays", extra=told)
        for fault in faults:
            logger.warning("profile fault", extra={"fault": str(fault)})
        return faults

    def _hung_up(self) -> None:
        if self._terminal and not has_terminal():
            logger.info("the terminal is gone: stopping")
            ctx.master.shutdown()
        else:
            self._asked.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._until_wanted()
                await self.reload()
            except Exception:  # the task must live: without it no profile is followed any more
                logger.exception("live profile failed")
                await asyncio.sleep(LOOK_EVERY)

    async def _until_wanted(self) -> None:
        while not await self._is_asked(LOOK_EVERY):
            if self._gateway.profile.watch and await self._has_changed():
                return

    async def _has_changed(self) -> bool:
        """Whether the files hold something new: said once they are not being written any more, or somebody asks."""
        seen = await self._look()
        for _ in range(LOOKS):
            if seen == self._source.seen:
                return False
            if await self._is_asked(UNTOUCHED):
                return True
            before, seen = seen, await self._look()
            if seen == before:
                return True
        return True

    async def _is_asked(self, within: float) -> bool:
        try:
            async with asyncio.timeout(within):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    async def _look(self) -> Seen:
        return await asyncio.to_thread(self._source.look)


class ProfileState(Collector):
    """When the profile took over, and whether its files hold one that was refused; read when Prometheus asks."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def describe(self) -> list[Metric]:
        """Empty: the names collide with nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape."""
        loaded, good = self._gateway.profile_since, not self._gateway.refused
        yield GaugeMetricFamily("holdfast_profile_loaded_timestamp_seconds", "When it took over.", value=loaded)
        told = "0 while the profile's files hold what was refused."
        yield GaugeMetricFamily("holdfast_profile_last_reload_successful", told, value=float(good))


def has_terminal() -> bool:
    """Whether this process can still be reached from the terminal that it was started on."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
