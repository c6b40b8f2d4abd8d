"""Every call to Redis: bounded in time, skipped while a server does not answer, and what is known about that.

A server that fails is not asked again by callers. A beat in the background probes it, finds out whether the purge clock
and its records are still those of before (`redis_scripts.OPEN`), and tells listeners the clock while all is well.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from holdfast.stores.redis_batches import Batches, Command, is_small
from holdfast.stores.redis_nodes import Node, Nodes
from holdfast.stores.redis_record import Keys
from holdfast.stores.redis_scripts import ALLOW_OOM, OPEN, PURGE, READ, script_digest
from holdfast.stores.redis_wants import eviction_notice, memory_in

log = logging.getLogger(__name__)

BEAT = 0.25
_RECONNECT_WITHIN = 1.0  # of a probe, for which nobody waits: names, Sentinels and TLS take their time
_LOOK_AROUND = 60.0
_NO_ROOM = 10.0  # seconds for which a refusal for want of memory is told
_OVERSLEPT = 1.3  # times the bound
_LONGER = 0.01  # than usual: what is given more time than that has a large answer, and goes by itself
_DOUBTS = 3  # calls in a row that timed out while this process was busy, before it is taken for an outage


class Unreachable(Exception):  # never seen outside the stores
    """Redis, or the node that is needed, cannot be asked now; the text says why."""


class Refused(Exception):
    """Redis is there and says no; the text says why."""


class RedisLink:
    """`clock` is the highest value of the purge clock that was seen."""

    def __init__(
        self, nodes: Nodes, keys: Keys, timeout: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.nodes = nodes
        self.keys = keys
        self.timeout = timeout
        self.clock = 0
        self.calls = 0
        self.listeners: list[Callable[[int], None]] = []
        self.notices: list[str] = []  # what an operator should know although it works
        self._monotonic = monotonic
        self._flags = ALLOW_OOM
        self._run = ""
        self._map_is_old = False
        self._looked_around: float | None = None
        self._no_room = ("", 0.0)
        self._beating: asyncio.Task[None] | None = None
        self._batches: dict[Node, Batches] = {}

    async def start(self) -> None:
        """Try once, within the time of a probe; go on trying in the background."""
        if self.nodes.is_cluster:
            await self.nodes.refresh()
        await self._beat(first=True)
        self._beating = asyncio.create_task(self._watch(), name="redis beat")

    async def stop(self) -> None:
        if self._beating:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
            self._beating = None
        await self.nodes.close()

    @property
    def trouble(self) -> str:
        """Why the node with the purge clock cannot be asked; empty if it can."""
        return self.nodes.of(self.keys.purges).circuit.reason

    @property
    def no_room(self) -> str:
        """Why Redis has refused to keep something lately; empty if it has not."""
        reason, since = self._no_room
        return reason if self._monotonic() < since + _NO_ROOM else ""

    def made_room(self) -> None:
        """Something was kept."""
        self._no_room = ("", 0.0)

    @property
    def purge_digest(self) -> str:
        return script_digest(self._flags + PURGE)

    # --- asking ---

    async def ask(self, key: str, *commands: Command, bound: float | None = None, probing: bool = False) -> list[Any]:
        """The answers to commands about one key's slot, in one round trip. NOSCRIPT is an answer.

        Unreachable and Refused say that there is none. `probing`: even if the circuit is open.
        """
        bound = bound or self.timeout
        node = self.nodes.of(key)
        if node.circuit.is_open and not probing:
            raise Unreachable(node.circuit.reason)
        together = not probing and bound <= self.timeout + _LONGER and is_small(commands)
        answers = await (self._together(node, commands, bound) if together else self._call(node, commands, bound))
        elsewhere = next((each for each in answers if isinstance(each, AskError)), None)
        if elsewhere:
            address = (elsewhere.host or node.name.rpartition(":")[0], int(elsewhere.port))
            if isinstance(elsewhere, MovedError):
                self._map_is_old = True
                node = self.nodes.moved(key, address)
                answers = await self._call(node, commands, bound)
            else:
                node = self.nodes.at(address)
                answers = (await self._call(node, (("ASKING",), *commands), bound))[1:]
        for answer in answers:
            if isinstance(answer, ResponseError) and not isinstance(answer, NoScriptError):
                self._complain(node, answer)
        return answers

    async def ask_two(self, key: str, command: Command, other: str, question: Command) -> tuple[Any, Any]:
        """Two commands about two keys: in one round trip, or in two at the same time where two nodes have them."""
        if self.nodes.of(key) is self.nodes.of(other) and not self.nodes.is_cluster:
            first, second = await self.ask(key, command, question)
            return first, second
        async with asyncio.TaskGroup() as group:
            one = group.create_task(self._settled(key, command))
            two = group.create_task(self._settled(other, question))
        for found in (one.result(), two.result()):
            if isinstance(found, Exception):
                raise found
        return one.result(), two.result()

    async def _settled(self, key: str, command: Command) -> Any:
        """The answer or the exception, so that one does not cancel the other."""
        try:
            return (await self.ask(key, command))[0]
        except (Unreachable, Refused) as error:
            return error

    def _together(self, node: Node, commands: Sequence[Command], bound: float) -> Awaitable[list[Any]]:
        """With what others ask the node at this moment."""
        batches = self._batches.get(node)
        if batches is None:

            async def send(batch: Sequence[Command], within: float) -> list[Any]:
                if node.circuit.is_open:  # since it was asked
                    raise Unreachable(node.circuit.reason)
                return await self._call(node, batch, within)

            batches = self._batches[node] = Batches(send)
        return batches.ask(commands, bound)

    async def _call(self, node: Node, commands: Sequence[Command], bound: float) -> list[Any]:
        try:
            if node.gate.locked():
                async with asyncio.timeout(bound):
                    await node.gate.acquire()
            else:
                await node.gate.acquire()
        except TimeoutError:
            raise Unreachable("too many calls to Redis are under way") from None
        began = self._monotonic()
        self.calls += 1
        try:
            async with asyncio.timeout(bound):
                answers = await _execute(node, commands)
            node.doubts = 0
            return answers
        except TimeoutError:
            if self._monotonic() - began > bound * _OVERSLEPT and node.doubts < _DOUBTS:
                node.doubts += 1  # this process did not get to run in time: that says little about Redis
                raise Unreachable("this process is too busy to ask Redis") from None
            raise self._failed(node, f"Redis at {node.name} does not answer within {bound * 1000:.0f} ms") from None
        except (RedisError, OSError) as error:
            raise self._failed(node, f"Redis at {node.name}: {str(error) or type(error).__name__}") from error
        except Exception as error:  # whatever the client library trips over, an outage is no exception
            log.warning("the redis client has failed", exc_info=True)
            raise self._failed(node, f"Redis at {node.name}: {error!r}") from error
        finally:
            node.gate.release()

    def _complain(self, node: Node, answer: ResponseError) -> None:
        """Raise what an error that Redis has answered means."""
        text = f"Redis at {node.name}: {answer}"
        if isinstance(answer, ReadOnlyError):
            raise self._failed(node, f"Redis at {node.name} is a read-only replica")
        if isinstance(answer, ClusterDownError | MasterDownError):
            self._map_is_old = True
            raise self._failed(node, text)
        if isinstance(answer, OutOfMemoryError):
            self._no_room = (f"Redis at {node.name} is out of memory", self._monotonic())
            raise Refused(self._no_room[0])
        raise Refused(text)

    def _failed(self, node: Node, reason: str) -> Unreachable:
        was_open = node.circuit.is_open
        node.circuit.failed(reason)
        if not was_open:
            log.warning("redis cannot be used, going on without", extra={"node": node.name, "reason": reason})
        return Unreachable(reason)

    # --- probing ---

    async def check(self, *, bound: float | None = None, reload: bool = False) -> None:
        """See that the purge clock and its records are there and as they were, or begin anew. Raises like `ask`.

        `reload`: Redis has said that it does not know the scripts.
        """
        key = self.keys.purges
        role, clock, began, run = await self._open(bound)
        node = self.nodes.of(key)
        if role == b"replica":
            raise self._failed(node, f"Redis at {node.name} is a read-only replica")
        self.clock = max(self.clock, int(clock))
        if began:
            log.info("the purge clock in redis begins anew", extra={"node": node.name, "clock": self.clock})
        if reload or run.decode() != self._run:
            # Not before OPEN: knowing them is how the process is recognised.
            scripts = (("EVAL", READ, 1, key), ("EVAL", self._flags + PURGE, 1, key))
            await self.ask(key, *scripts, bound=bound, probing=True)
        self._run = run.decode()
        self._recovered(node)

    async def _open(self, bound: float | None) -> list[Any]:
        key = self.keys.purges
        try:
            command = ("EVAL", self._flags + OPEN, 1, key, self.clock, self.keys.channel)
            return cast("list[Any]", (await self.ask(key, command, bound=bound, probing=True))[0])
        except Refused as error:
            if not self._flags or "ompil" not in str(error):
                raise
            self._flags = ""  # Redis 6
            return await self._open(bound)

    def _recovered(self, node: Node) -> None:
        if node.circuit.is_open:
            log.info("redis can be used again", extra={"node": node.name})
        node.circuit.succeeded()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            try:
                await self._beat()
            except Exception:
                log.exception("the beat of redis has failed")

    async def _beat(self, *, first: bool = False) -> None:
        home = self.nodes.of(self.keys.purges)
        if first or home.circuit.due():
            await self._revive(home)
        elif not home.circuit.is_open:
            await _quietly(self.check())
        if not home.circuit.is_open:
            for listener in self.listeners:
                listener(self.clock)
        for node in self.nodes.all():
            if node is not home and node.circuit.due():
                await self._revive(node)
        if self._map_is_old or (self.nodes.is_cluster and any(node.circuit.is_open for node in self.nodes.all())):
            self._map_is_old = False
            await self.nodes.refresh()
        if not home.circuit.is_open and self._time_to_look_around():
            await _quietly(self._look_around())

    async def _revive(self, node: Node) -> None:
        """One that takes long to connect to is no worse for it; one that takes long to answer then is."""
        await node.drop_idle()
        for bound in (max(self.timeout, _RECONNECT_WITHIN), self.timeout):
            began = self._monotonic()
            if node is self.nodes.of(self.keys.purges):
                done = await _quietly(self.check(bound=bound))
            else:
                done = await _quietly(self._ping(node, bound))
            if not done or self._monotonic() - began <= self.timeout:
                return
            node.circuit.failed(f"Redis at {node.name} is slow")

    async def _ping(self, node: Node, bound: float) -> None:
        await self._call(node, (("PING",),), bound)
        self._recovered(node)

    def _time_to_look_around(self) -> bool:
        now = self._monotonic()
        if self._looked_around is not None and now < self._looked_around + _LOOK_AROUND:
            return False
        self._looked_around = now
        return True

    async def _look_around(self) -> None:
        """Settings of the server that weaken what is promised."""
        (memory,) = await self.ask(self.keys.purges, ("INFO", "memory"))
        notices = [notice] if isinstance(memory, bytes) and (notice := eviction_notice(memory_in(memory))) else []
        if self._run == "?":
            notices.append("INFO is not allowed: a restart from an older snapshot may bring back what was purged")
        for notice in notices:
            if notice not in self.notices:
                log.warning("redis is not set up as it should be", extra={"notice": notice})
        self.notices = notices


async def _execute(node: Node, commands: Sequence[Command]) -> list[Any]:
    """The answers in order, with errors that Redis answers among them.

    On a connection of the client's pool: its pipelines do far more than is needed here.
    """
    pool = node.client.connection_pool
    connection = await pool.get_connection()
    try:
        await connection.send_packed_command(connection.pack_commands(commands))
        return [await _answer(connection) for _ in commands]
    except BaseException:
        await connection.disconnect(nowait=True)  # what was asked would be answered to the next
        raise
    finally:
        await pool.release(connection)


async def _answer(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


async def _quietly(awaitable: Awaitable[None]) -> bool:
    """Whether it went well; what went wrong is known to the circuit."""
    try:
        await awaitable
    except (Unreachable, Refused):
        return False
    return True
