"""The addon that makes a gateway one of several: it comes last, so that a worker is said to serve once it does."""

from __future__ import annotations

import logging
from typing import Any

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader as OptionLoader
from mitmproxy.utils import asyncio_utils

from holdfast.admin.faults import answer_faults, take_live_faults
from holdfast.gateway import Gateway
from holdfast.process_metrics import register_process
from holdfast.workers.figures import figures_of
from holdfast.workers.whole import HealthOfAll
from holdfast.workers.wire import Serving
from holdfast.workers.worker import Worker

logger = logging.getLogger(__name__)


class Membership:
    """Listens to the line from the start, says when it serves, and ends the gateway when the parent has gone."""

    name = "holdfast-worker"

    def __init__(self, gateway: Gateway, worker: Worker) -> None:
        self._gateway = gateway
        self._worker = worker
        register_process(gateway.registry)
        own = gateway.health
        gateway.health = HealthOfAll(worker, own).document

        async def figures(_: object) -> object:
            return figures_of(gateway.registry, gateway.minutes)

        async def health(_: object) -> dict[str, Any]:
            return (await own())[1]

        worker.answer("figures", figures)
        worker.answer("health", health)
        answer_faults(gateway, worker)

    def load(self, loader: OptionLoader) -> None:
        asyncio_utils.create_task(self._belong(), name="line to the parent", keep_ref=True)

    async def running(self) -> None:
        await take_live_faults(self._gateway, self._worker)
        self._worker.say(Serving())

    async def _belong(self) -> None:
        await self._worker.run()
        if self._gateway.phase != "draining":
            logger.warning("the parent of the workers is gone: stopping")
            ctx.master.shutdown()
