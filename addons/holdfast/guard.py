"""Keeps one addon's exception from harming the others, and makes `on_error` mean something.

mitmproxy logs an addon's exception and goes on, which is failing open by accident. Around each addon of the profile
stands a `Guard` with the same hooks: an exception is logged with its trace and counted, and where the profile says
`closed` the request is answered 500 instead of going on without that addon.

A changed profile may take an addon out of the chain while events are on their way to it (see `takeover`): the guard
knows what its addon is busy with, and once it is `over` keeps everything but `done` from it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from mitmproxy.exceptions import AddonHalt, OptionsError
from mitmproxy.hooks import all_hooks
from mitmproxy.http import HTTPFlow

from holdfast.answering import as_response
from holdfast.exchange import exchange_of
from holdfast.policy.answer import addon_failed_answer
from holdfast.profile.settings import AddonEntry

logger = logging.getLogger(__name__)
Report = Callable[[str, str], None]
_SET_UP = frozenset({"load", "configure"})  # here mitmproxy wants to see the exception: it refuses the option or start


@dataclass(slots=True, eq=False)
class Life:
    """Of one addon and its sub-addons: how many events they are busy with, and whether they have left the chain."""

    busy: int = 0
    over: bool = False
    awaited: bool = False  # somebody waits for their rest
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def rested(self) -> None:
        """They are busy with none any more."""
        self._idle.set()

    async def rest(self) -> None:
        """Wait until there is nothing left that they are busy with."""
        while self.busy:
            self.awaited = True
            self._idle.clear()
            await self._idle.wait()


class Guard:
    """The addon `inner` with the same hooks and commands; `report(addon, hook)` counts each exception."""

    def __init__(
        self, inner: object, entry: AddonEntry, report: Report, name: str | None = None, life: Life | None = None
    ) -> None:
        self.inner = inner
        self.entry = entry
        self.name = name or entry.name
        self.life = life or Life()
        self._report = report
        for hook in all_hooks:
            function = getattr(inner, hook, None)
            if callable(function) and hook not in _SET_UP:
                setattr(self, hook, self._guarded(hook, function))

    @property
    def addons(self) -> list[Guard]:
        """The addon's own sub-addons, guarded one by one."""
        nested = getattr(self.inner, "addons", [])
        return [Guard(a, self.entry, self._report, _name_of(a), self.life) for a in nested]

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.inner, attribute)

    def __dir__(self) -> list[str]:
        return dir(self.inner)  # mitmproxy finds an addon's commands through dir()

    def _guarded(self, hook: str, function: Callable[..., Any]) -> Callable[..., Any]:
        life, always = self.life, hook == "done"
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def guarded_async(*args: Any) -> None:
                if always or not life.over:
                    await self._watched(hook, args, function(*args))

            return guarded_async

        @functools.wraps(function)
        def guarded(*args: Any) -> Awaitable[Any] | None:
            if life.over and not always:
                return None
            try:
                result = function(*args)
            except (AddonHalt, OptionsError):
                raise
            except Exception:  # noqa: BLE001
                self._failed(hook, args)
                return None
            # A plain function may still hand back something to wait for.
            return self._watched(hook, args, result) if result is not None and inspect.isawaitable(result) else None

        return guarded

    async def _watched(self, hook: str, args: tuple[Any, ...], result: Awaitable[Any]) -> None:
        life = self.life
        life.busy += 1
        try:
            await result
        except (AddonHalt, OptionsError):
            raise
        except Exception:  # noqa: BLE001  # that is what a guard is for
            self._failed(hook, args)
        finally:
            life.busy -= 1
            if not life.busy and life.awaited:
                life.rested()

    def _failed(self, hook: str, args: tuple[Any, ...]) -> None:
        logger.exception("addon failed", extra={"addon": self.name, "hook": hook, "on_error": self.entry.on_error})
        self._report(self.name, hook)
        if self.entry.on_error == "closed" and args and isinstance(args[0], HTTPFlow):
            close(args[0], hook, self.name)


def close(flow: HTTPFlow, hook: str, addon: str) -> None:
    """Fail this request with 500, as far as the client has not seen an answer yet."""
    exchange_of(flow)["closed_by"] = addon
    response = as_response(addon_failed_answer(addon), flow)
    if hook in ("requestheaders", "request_grown", "request"):
        # A response and a streamed body exclude each other in mitmproxy: the rest of the body is read and dropped.
        flow.request.stream = False
        flow.response = response
    elif hook == "responseheaders" and flow.response:
        flow.response.stream = False  # so that the stream can still replace it
    elif hook == "upstream_failed" or (hook == "response" and "capture_id" not in exchange_of(flow)):
        # An answer that names a capture stays: without it nobody would know of the record.
        flow.response = response


def _name_of(addon: object) -> str:
    return str(getattr(addon, "name", type(addon).__name__.lower()))
