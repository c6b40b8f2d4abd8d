"""What a purge touched is fetched anew before somebody asks for it: most requested first, at a bounded rate.

Each gateway knows what its own clients ask for most. All of them hear of a purge, and fetch what is not fresh again by
then; who is asked twice is asked by two gateways in the same moment.

Of a request no more is kept than what selects the response: nobody's credentials are used to fetch for all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from mitmproxy.http import Headers, HTTPFlow, Request
from mitmproxy.utils import asyncio_utils
from prometheus_client import CollectorRegistry, Counter

from holdfast.caching.flow import Asked
from holdfast.caching.settings import RewarmSettings
from holdfast.engine.background import Mode
from holdfast.policy.caching.model import StoredResponse
from holdfast.policy.caching.vary import Selecting, selecting_fields
from holdfast.stores import EVERYTHING, url_tag

logger = logging.getLogger(__name__)
_PERSONAL = frozenset({"cookie", "authorization", "proxy-authorization"})


@dataclass(slots=True, eq=False)
class Wanted:
    """A response that clients ask for. `request` is what fetches it; `count` how often it was asked for, lately."""

    key: str
    asked: Asked
    request: Request
    mode: Mode
    tags: frozenset[str]
    count: int = 1


# None: nothing had to be fetched; otherwise whether the upstream has answered.
Fetch = Callable[[Wanted], Awaitable[bool | None]]


class Rewarming:
    """Counts what is asked for, and fetches it after purges."""

    def __init__(self, fetch: Fetch, registry: CollectorRegistry) -> None:
        self.settings: RewarmSettings | None = None
        self._fetch = fetch
        self._wanted: dict[tuple[str, Selecting], Wanted] = {}
        self._by_tag: dict[str, set[Wanted]] = {}
        self._due: dict[Wanted, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._fetched = Counter("holdfast_rewarmed", "Responses fetched anew because of a purge.", registry=registry)

    def note(self, flow: HTTPFlow, asked: Asked, key: str, stored: StoredResponse) -> None:
        """A client has been answered with what is stored, or is stored now."""
        if self.settings is None:
            return
        known = self._wanted.get((key, stored.selecting))
        if known:
            known.count += 1
            if known.tags != (tags := _tags(key, stored)):
                self._forget(known)
                self._remember(known, tags)
            return
        if any(name in _PERSONAL and value is not None for name, value in stored.selecting):
            return
        self._wanted[key, stored.selecting] = self._remember(_wanted(flow, asked, key, stored), _tags(key, stored))
        if len(self._wanted) > 2 * self.settings.remember:
            self._keep(self.settings.remember)

    def again(self, key: str, selecting: Selecting, times: int) -> None:
        """`note` for so many hits that were answered without a flow."""
        known = self._wanted.get((key, selecting))
        if known:
            known.count += times

    def purged(self, tags: Sequence[str]) -> None:
        """Whatever carries one of these tags has become unusable or stale."""
        if self.settings is None:
            return
        touched = {each for tag in tags for each in self._by_tag.get(tag, ())}
        for each in sorted(touched, key=lambda each: -each.count)[: self.settings.most]:
            self._due.setdefault(each)
        if self._due and (self._task is None or self._task.done()):
            self._task = asyncio_utils.create_task(self._run(), name="cache rewarming", keep_ref=True)

    def stop(self) -> None:
        """Fetch nothing more."""
        self._due.clear()

    async def _run(self) -> None:
        while self._due and self.settings:
            wanted = next(iter(self._due))
            del self._due[wanted]
            answered = await self._fetch(wanted)
            if answered is None:
                continue
            if not answered:
                logger.info("not fetched anew after a purge: the upstream fails", extra={"left": len(self._due)})
                self._due.clear()
                return
            self._fetched.inc()
            await asyncio.sleep(1 / self.settings.rate)

    # -- what is known ----------------------------------------------------------------------------------------------

    def _remember(self, wanted: Wanted, tags: frozenset[str]) -> Wanted:
        wanted.tags = tags
        for tag in tags:
            self._by_tag.setdefault(tag, set()).add(wanted)
        return wanted

    def _forget(self, wanted: Wanted) -> None:
        for tag in wanted.tags:
            among = self._by_tag[tag]
            among.discard(wanted)
            if not among:
                del self._by_tag[tag]

    def _keep(self, most: int) -> None:
        """The most requested; what counts is what was asked for lately, so that all counts are halved."""
        ranked = sorted(self._wanted.items(), key=lambda each: -each[1].count)
        for _, wanted in ranked[most:]:
            self._forget(wanted)
        self._wanted = dict(ranked[:most])
        for wanted in self._wanted.values():
            wanted.count = max(1, wanted.count // 2)


def _wanted(flow: HTTPFlow, asked: Asked, key: str, stored: StoredResponse) -> Wanted:
    request = flow.request.copy()
    selecting = selecting_fields(stored.selecting, flow.request.headers.fields)
    host = [(name, value) for name, value in request.headers.fields if name.lower() == b"host"]
    request.headers = Headers([*host, *selecting])
    request.method, request.content = "GET", b""
    request.headers.pop("content-length", None)
    named = [(name, value) for name, value in asked.fields if name.lower() == b"host"]
    bare = replace(asked, method="GET", fields=[*named, *selecting])
    return Wanted(key, bare, request, flow.client_conn.proxy_mode, frozenset())


def _tags(key: str, stored: StoredResponse) -> frozenset[str]:
    return frozenset((EVERYTHING, url_tag(key), *stored.tags))
