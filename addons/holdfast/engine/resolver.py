"""Follows the names of upstream servers: each of several addresses behind a name is a server of its own.

Names are looked up at the start, every `dns.refresh` or as often as the answer's lifetime asks for, and soon after a
connection has failed; never in the path of a request. Until a name was found once, the name itself is connected to and
the operating system looks it up, so that a failure is the `dns_error` of that connection. After that a failed lookup
changes nothing, also where a name server says that there is no such name: the addresses known last are worth more than
the word of a name server that has just been emptied.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from mitmproxy.utils import asyncio_utils

from holdfast.engine.leg import Leg
from holdfast.engine.lookup import Found, LookupFailed, look_up
from holdfast.policy.names import is_name, servers_behind

logger = logging.getLogger(__name__)
LOOK_EVERY = 1.0  # at the names of the plans, whoever has changed them
SOONEST = 1.0  # between two lookups of a name, whatever failures and lifetimes say
AT_ONCE = 8  # lookups
MOST = 64  # servers behind a name

type LookUp = Callable[[str, Sequence[str]], Awaitable[Found]]
type _Key = tuple[str, tuple[str, ...]]  # a name, and the name servers to ask


@dataclass(slots=True)
class _Name:
    """What is known of a name. Times are seconds of the leg's clock."""

    due: float
    refresh: float
    asked: float = float("-inf")
    under_way: bool = False
    ips: tuple[str, ...] | None = None  # those that are servers; None until it was found once
    failing: bool = False
    crowded: bool = False


@dataclass(slots=True, eq=False)
class Resolver:
    """Runs from `start` to `stop`. Plans are read anew each time: a changed profile is followed."""

    leg: Leg
    look_up: LookUp = look_up
    _names: dict[_Key, _Name] = field(default_factory=dict)
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _task: asyncio.Task[None] | None = None
    _looking: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self) -> None:
        """On the running loop."""
        self.leg.unreached = self.hasten
        self._task = asyncio_utils.create_task(self._run(), name="upstream names", keep_ref=True)

    def stop(self) -> None:
        """Looking ends."""
        for task in [self._task, *self._looking]:
            if task:
                task.cancel()

    def hasten(self, host: str) -> None:
        """A connection to it has failed: perhaps it is elsewhere by now."""
        for (name, _), known in self._names.items():
            soon = max(self.leg.clock(), known.asked + SOONEST)
            if name == host and soon < known.due:
                known.due = soon
                self._hurry.set()

    def follow(self) -> None:
        """The plans have changed: they get at once what is known, and the names that are new are looked up."""
        self._apply()
        self._hurry.set()

    async def _run(self) -> None:
        while True:
            self._hurry.clear()
            self.look_around()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_next()):
                    await self._hurry.wait()

    def _until_next(self) -> float:
        due = min([known.due for known in self._names.values() if not known.under_way], default=float("inf"))
        return min(LOOK_EVERY, max(0.01, due - self.leg.clock()))

    def look_around(self) -> None:
        """Begin what lookups are due, and see to it that every pool has what is known."""
        now, wanted = self.leg.clock(), self._wanted()
        for gone in self._names.keys() - wanted.keys():
            del self._names[gone]
        for key, refresh in wanted.items():
            known = self._names.setdefault(key, _Name(due=now, refresh=refresh))
            if refresh < known.refresh:
                known.due = min(known.due, now + refresh)
            known.refresh = refresh
            if now >= known.due and not known.under_way:
                known.under_way, known.asked = True, now
                task = asyncio_utils.create_task(self._look(key, known), name="upstream lookup", keep_ref=True)
                self._looking.add(task)
                task.add_done_callback(self._looking.discard)
        self._apply()

    def _wanted(self) -> dict[_Key, float]:
        """The names of all pools with the seconds after which they are to be looked up again."""
        wanted: dict[_Key, float] = {}
        for plan in self.leg.pools().values():
            dns = plan.settings.dns
            for host in {server.endpoint.host for server in plan.pool.given}:
                if dns.expand and is_name(host):
                    key, refresh = (host, dns.servers), float(dns.refresh)
                    wanted[key] = min(refresh, wanted.get(key, refresh))
        return wanted

    def _apply(self) -> None:
        for plan in self.leg.pools().values():
            dns = plan.settings.dns
            for endpoint in {server.endpoint for server in plan.pool.given}:
                known = self._names.get((endpoint.host, dns.servers)) if dns.expand else None
                # Not found yet: a pool that was made of an older one may know more.
                waiting = known is not None and known.ips is None
                ips = known.ips if known and known.ips else ()
                if not waiting and plan.pool.ips(endpoint) != ips:
                    plan.pool.resolve(endpoint, ips)

    # -- one lookup -------------------------------------------------------------------------------------------------

    async def _look(self, key: _Key, known: _Name) -> None:
        host, name_servers = key
        lifetime = None
        try:
            async with self._slots:
                found = await self.look_up(host, name_servers)
            lifetime = found.ttl
            self._found(key, known, found)
        except LookupFailed as e:
            self._failed(host, known, str(e))
        except Exception as e:  # a name that is never looked up again would be worse
            logger.warning("upstream name lookup broke", extra={"server": host}, exc_info=e)
        finally:
            wait = known.refresh if lifetime is None else min(known.refresh, max(SOONEST, lifetime))
            known.under_way, known.due = False, self.leg.clock() + wait
            self._hurry.set()  # the loop waits until what is due next: it is to count anew

    def _found(self, key: _Key, known: _Name, found: Found) -> None:
        host, name_servers = key
        before = known.ips or ()
        ips = servers_behind(found.ips, before, alone=bool(name_servers))
        crowded = len(ips) > MOST
        if crowded and not known.crowded:
            logger.warning("upstream name has too many addresses", extra={"server": host, "used": MOST})
        if known.failing:
            logger.info("upstream name found again", extra={"server": host})
        known.ips, known.crowded, known.failing = ips[:MOST], crowded, False
        added, removed = set(known.ips) - set(before), set(before) - set(known.ips)
        if added or removed:
            told = {"server": host, "added": sorted(added), "removed": sorted(removed)}
            logger.info("upstream addresses changed", extra=told)
        self._apply()

    def _failed(self, host: str, known: _Name, reason: str) -> None:
        if not known.failing:
            told = {"server": host, "error": reason, "kept": list(known.ips or ())}
            logger.warning("upstream name not found", extra=told)
        known.failing = True
