"""The replayer: sends captured requests again, in order, once it is safe, and keeps what became of each.

Place it before `failure_sink`: what is on its way at a stop is then settled before the outbox is closed. It works in
the gateway itself where the broker is `embedded://` (see `embedded`), and otherwise in processes of `holdfast consume`.
The rules are those of `policy.replaying`; what was sent, and what became of it, is in the audit store, which every
gateway with this addon opens, so that a client can ask for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from mitmproxy.http import HTTPFlow
from mitmproxy.utils import asyncio_utils
from prometheus_client import Counter

from holdfast.errors import HoldfastError, StoreUnavailable
from holdfast.exchange import exchange_of
from holdfast.failure_sink import FailureSinkSettings, settings_in
from holdfast.gateway import HAS_ANSWER, Gateway, Health, Settled, WouldDo
from holdfast.policy.replaying.verdict import ReplayRules
from holdfast.replay.queues import Queues
from holdfast.replay.report import ReplayFigures, ReplayReport
from holdfast.replay.settings import ReplayerSettings

if TYPE_CHECKING:
    from holdfast.audit import Audit, AuditStats
    from holdfast.notifying.callbacks import Callbacks
    from holdfast.replay.preparing import Preparation
    from holdfast.replay.replayer import Replayer
    from holdfast.replay.sending import ChainSender, Sent
    from holdfast.replay.source import Source, SourceHealth

logger = logging.getLogger(__name__)
_FIGURES_EVERY = 2.0
_PRUNE_EVERY = 300.0
_OUTBOX_EVERY = 0.1
_CALLBACK = 5.0  # seconds for one try to post an outcome
_AGAIN = 2.0  # seconds between two tries to open the audit store
_LATER = ("holdfast.audit.opening", "holdfast.replay.opening", "holdfast.replay.replayer", "holdfast.replay.preparing")


class ReplayerAddon:
    """Runs the loop of `replay.replayer`, and answers what became of a capture."""

    Settings = ReplayerSettings

    def __init__(self, settings: ReplayerSettings, gateway: Gateway) -> None:
        self._gateway = gateway
        self._settings = settings
        self._rules = settings.rules()
        self._audit: Audit | None = None
        self._fault = "not open yet"
        self._source: Source | None = None
        self._replayer: Replayer | None = None
        self._queues = Queues(gateway.leg, settings.pace(), lambda: gateway.in_flight)
        self._sender: ChainSender | None = None
        self._preparation: Preparation | None = None
        self._keys = settings.signing_keys()
        self._has_keys = asyncio.Event()
        self._note_keys()
        self._callbacks: Callbacks | None = None
        self._called_back = Counter(
            "holdfast_callbacks", "Outcomes posted, by what became of it.", ["outcome"], registry=gateway.registry
        )
        self._report = ReplayReport(gateway.registry, gateway.wall_clock)
        self._figures: tuple[AuditStats | None, SourceHealth | None] = (None, None)
        self._tasks: list[asyncio.Task[None]] = []
        self._running: asyncio.Task[None] | None = None
        gateway.registry.register(
            ReplayFigures(lambda: self._figures, lambda: self._queues.held_up, gateway.wall_clock)
        )
        gateway.checks["replayer"] = self._check

    def reload(self, settings: ReplayerSettings) -> None:
        """These hold for replays from now on; where they come from and are kept stays as it was."""
        self._keys = settings.signing_keys()
        self._settings, self._rules = settings, settings.rules()
        self._note_keys()
        if self._callbacks:
            self._callbacks.keys = self._keys
        self._queues.follow(settings.pace())
        if self._sender:
            self._sender.body_kept = int(settings.answer_body)
        if self._preparation:
            self._preparation.rules = settings.request_rules()

    # -- life -------------------------------------------------------------------------------------------------------

    def running(self) -> None:
        self._running = asyncio_utils.create_task(self._run(), name="replayer", keep_ref=True)

    async def done(self) -> None:
        """Let what is on its way end, as long as the profile allows."""
        try:
            if self._replayer and self._running:
                self._replayer.stop()
                await asyncio.wait([self._running], timeout=float(self._gateway.profile.shutdown_grace))
        finally:  # whoever asked for it may lose patience
            for task in (*self._tasks, self._running):
                if task:
                    task.cancel()
            if self._running:
                await asyncio.wait([self._running], timeout=1.0)
            if self._audit:
                await self._audit.close()

    # -- what became of captures ------------------------------------------------------------------------------------

    @property
    def audit(self) -> Audit | None:
        """The store, once it is open."""
        return self._audit

    async def settled(self, ids: Sequence[str]) -> set[str]:
        """Which of these captures are settled. StoreUnavailable if nobody can say."""
        if self._audit is None:
            raise StoreUnavailable(self._fault)
        found = await self._audit.entries({"ids": list(ids)}, limit=len(ids))
        return {entry.id for entry in found if entry.state != "open"}

    def shows_answer(self, route: str) -> bool:
        """Whether whoever has the id of a capture of this route may see what the replay was answered."""
        return self._settings.shows_answer(route)

    async def would_do(self, flow: HTTPFlow) -> WouldDo:
        """With a capture of it."""
        if flow.response and "withheld" not in exchange_of(flow):
            return HAS_ANSWER
        if self._gateway.sink is None:
            return WouldDo(False, "there is no failure_sink, so there is nothing to replay")
        here = "" if self._replays_here(settings_in(self._gateway.profile)) else " (by `holdfast consume`)"
        settled, attempts = " ".join(self._settings.delivered), self._settings.attempts
        return WouldDo(
            True, f"sends a capture of it again{here}, at most {attempts} times, until it is answered {settled}"
        )

    # -- parts ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._replay()
        except Exception as error:  # the gateway goes on without, and says so
            logger.exception("nothing is replayed")
            self._fault = f"nothing is replayed: {error}"

    async def _replay(self) -> None:
        await self._gateway.serving.wait()  # no client should wait for what is only needed behind its back
        for module in _LATER:
            await asyncio.to_thread(import_module, module)
        sink = settings_in(self._gateway.profile)
        audit = await self._opened()
        self._audit, self._fault = audit, ""
        self._tasks = [
            asyncio_utils.create_task(self._look(audit), name="replay figures", keep_ref=True),
            asyncio_utils.create_task(self._tidy(audit), name="replay retention", keep_ref=True),
        ]
        if not self._replays_here(sink):
            return
        assert sink
        from holdfast.replay.opening import open_source
        from holdfast.replay.preparing import Preparation
        from holdfast.replay.replayer import Replayer, ReplayLimits
        from holdfast.replay.sending import ChainSender

        await self._until_it_leads()
        self._source = open_source(sink, self._settings.kafka, self._gateway)
        self._sender = ChainSender(self._gateway, int(self._settings.answer_body), self._gateway.wall_clock)
        self._preparation = Preparation(
            self._settings.request_rules(), self._seal_key, continues_spans=lambda: not _traces(self._gateway)
        )
        self._replayer = Replayer(
            self._source,
            audit,
            self._sender,
            self._preparation.prepare,
            self._rules_of,
            self._queues,
            self._report,
            self._tell,
            self._calling_back,
            owner=await self._owner(sink),
            clock=self._gateway.wall_clock,
            limits=ReplayLimits(hold=float(self._settings.hold)),
        )
        logger.info("replaying", extra={"audit": type(audit).__name__, "from": sink.broker.partition("://")[0]})
        self._tasks.append(asyncio_utils.create_task(self._call_back(audit), name="callbacks", keep_ref=True))
        await self._replayer.run()

    async def _until_it_leads(self) -> None:
        """One of several workers replays for all: captures of one key may be in the outbox of any of them."""
        if worker := self._gateway.worker:
            await worker.leading.wait()

    async def _owner(self, sink: FailureSinkSettings) -> str:
        """A name for claims, which nobody else has while this process lives.

        Whoever has locked an outbox goes on where the process before was killed, and need not wait until that one's
        claims run out.
        """
        host = socket.gethostname()
        if self._gateway.role == "consumer" or sink.broker != "embedded://":
            return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
        while self._gateway.sink is None or self._gateway.sink.outbox is None:
            self._fault = "the outbox is not open"
            await asyncio.sleep(_OUTBOX_EVERY)
        self._fault = ""
        return f"{host}:{self._gateway.sink.outbox.path}"

    def _seal_key(self) -> str:
        sink = settings_in(self._gateway.profile)
        return sink.seal_key if sink else ""

    def _rules_of(self, route: str) -> ReplayRules:
        return self._rules.get(route) or self._rules[""]

    async def _opened(self) -> Audit:
        """An audit store that is away is waited for."""
        from holdfast.audit.opening import open_audit

        warned = False
        while True:
            try:
                audit = open_audit(self._settings.audit, self._gateway.wall_clock)
                await audit.open()
            except (HoldfastError, OSError) as error:
                self._fault = f"the audit store cannot be used: {error}"
                if not warned:
                    logger.warning("audit store not open, nothing is replayed", extra={"reason": str(error)})
                    warned = True
                await asyncio.sleep(_AGAIN)
            else:
                return audit

    def _replays_here(self, sink: FailureSinkSettings | None) -> bool:
        if sink is None:
            self._fault = "the profile has no failure_sink, so there is nothing to replay"
            logger.warning("nothing is replayed", extra={"reason": self._fault})
            return False
        if self._gateway.role == "consumer":
            return True
        embedded = self._settings.embedded
        return embedded == "on" or (embedded == "auto" and sink.broker == "embedded://")

    def _tell(self, settled: Settled) -> None:
        if self._callbacks:
            self._callbacks.wake()
        for listener in self._gateway.listeners:
            try:
                listener.capture_settled(settled)
            except Exception:  # whoever it is, the outcome is stored and the next capture waits
                logger.exception("outcome not heard", extra={"addon": type(listener).__name__, "id": settled.id})

    def _note_keys(self) -> None:
        if self._keys:
            self._has_keys.set()

    def _calling_back(self, settled: Settled, sent: Sent | None) -> tuple[str, bytes] | None:
        url = self._settings.callback_url(settled.route)
        if url is None:
            return None
        from holdfast.notifying.documents import outcome_document
        from holdfast.replay.sending import answer_of

        told = answer_of(sent.log) if sent and self._settings.shows_answer(settled.route) else None
        return url, outcome_document(settled, told)

    async def _call_back(self, audit: Audit) -> None:
        """Once there are keys to sign with."""
        await self._has_keys.wait()
        from holdfast.notifying.callbacks import Callbacks
        from holdfast.notifying.posting import poster

        self._callbacks = Callbacks(
            audit.callbacks,
            self._keys,
            poster(_CALLBACK),
            self._gateway.wall_clock,
            count=lambda outcome: self._called_back.labels(outcome).inc(),
        )
        await self._callbacks.run()

    async def _look(self, audit: Audit) -> None:
        """At figures that a scrape must not wait for."""
        while True:
            stats: AuditStats | None = None
            health: SourceHealth | None = None
            with contextlib.suppress(HoldfastError):
                stats = await audit.stats(self._gateway.wall_clock())
            with contextlib.suppress(HoldfastError, OSError):
                health = await self._source.health() if self._source else None
            self._figures = stats, health
            await asyncio.sleep(_FIGURES_EVERY)

    async def _tidy(self, audit: Audit) -> None:
        while True:
            now = self._gateway.wall_clock()
            with contextlib.suppress(HoldfastError):
                await audit.prune(now - float(self._settings.retention), ("delivered", "discarded"))
                await audit.prune(now - float(self._settings.keep_dead), ("dead", "parked"))
            await asyncio.sleep(_PRUNE_EVERY)

    async def _check(self) -> Health:
        if self._audit is None or self._fault:
            return Health("failing", self._fault)
        if self._replayer is None:
            worker = self._gateway.worker
            by = "another worker" if worker and not worker.leading.is_set() else "`holdfast consume`"
            return Health("ok", f"replays are made elsewhere: by {by}")
        stats, source = self._figures
        figures: dict[str, object] = {"under_way": self._queues.under_way}
        if stats:
            figures |= {"open": stats.due + stats.waiting, "dead": stats.by_state.get("dead", 0)}
        if source and source.lag is not None:
            figures["lag"] = source.lag
        trouble = self._replayer.trouble or ("" if source is None or source.ok else source.detail)
        waits = "waits for the upstream" if self._queues.held_up else ""
        return Health("failing" if trouble else "ok", trouble or waits, figures)


def _traces(gateway: Gateway) -> bool:
    return any(entry.target == "tracing" for entry in gateway.profile.addons)
