"""Events to addons by a table, in place of mitmproxy's walk over all addons for each event.

For every event mitmproxy looks at each of its forty addons, and at those nested in them, for a method of the event's
name. Here that is done once, and again when the list of addons, an addon registered at run time, or an option has
changed. The rules are mitmproxy's: the order of the chain, `AddonHalt` ends the event, any other exception ends it for
the addon at the top level that it came from and for those nested there, and is logged; plain and async methods.

What is left out beside mitmproxy's own: a method that an addon gives itself later, by assignment, is found at the next
of those changes. (mitmproxy 12.2)
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Awaitable, Callable, Generator, Iterator
from types import CoroutineType
from typing import Any

from mitmproxy import flow
from mitmproxy.addonmanager import AddonManager, cut_traceback
from mitmproxy.exceptions import AddonHalt, AddonManagerError, OptionsError
from mitmproxy.hooks import Hook, UpdateHook
from mitmproxy.master import Master

mitmproxy_log = logging.getLogger("mitmproxy.addonmanager")  # where its users look for it
type Handler = Callable[..., Any]
type Steps = Generator[Awaitable[Any], None, None]
type Groups = tuple[tuple[Handler, ...], ...]  # one for each addon at the top level that has any


class HookTable:
    """The handlers of each event. Stands in for the manager's `trigger_event` and `handle_lifecycle`."""

    def __init__(self, manager: AddonManager) -> None:
        self._manager = manager
        self._groups: dict[str, Groups] = {}
        self._chain: list[Any] = []
        self._length = 0  # of the chain, which is added to in place, or replaced
        self._version = 0
        self.sift: Callable[[object, str, Handler], Handler | None] = lambda _addon, _event, handler: handler

    def forget(self, updated: object = None) -> None:
        """Something has changed: look again."""
        self._groups = {}
        self._version += 1

    @property
    def version(self) -> int:
        """Another one after each change."""
        self._look_at_the_chain()
        return self._version

    def groups(self, kind: type[Hook]) -> Groups:
        """The handlers of this event, in order."""
        self._look_at_the_chain()
        found = self._groups.get(kind.name)
        if found is None:
            found = self._groups[kind.name] = tuple(self._look(kind))
        return found

    async def trigger_event(self, event: Hook) -> None:
        """Every handler of this event, one after the other."""
        await finish(self._asked(self.groups(type(event)), event.args()))

    async def handle_lifecycle(self, event: Hook) -> None:
        """The event, and after one about a flow the news that it has changed."""
        await finish(self._lifecycle(self.groups(type(event)), event.args()))

    def at_once(self, kind: type[Hook], subject: object) -> Awaitable[None] | None:
        """As `handle_lifecycle` for an event that is about one `subject`, on the spot.

        None: everybody has been asked. Else one of them has something to wait for, and this is the rest.
        """
        groups = self.groups(kind)
        for place, group in enumerate(groups):
            handlers = iter(group)
            try:
                for handler in handlers:
                    result = handler(subject)
                    if result is not None and _is_awaitable(result):
                        first = (_giving(result), *handlers)
                        return finish(self._lifecycle((first, *groups[place + 1 :]), [subject]))
            except AddonHalt:
                break
            except OptionsError:
                raise
            except Exception as error:  # noqa: BLE001  # an addon's, whatever it is
                _report(error, "at_once")
        if (told := self.groups(UpdateHook)) and isinstance(subject, flow.Flow):
            return finish(self._asked(told, [[subject]]))
        return None

    def _lifecycle(self, groups: Groups, arguments: list[Any]) -> Steps:
        yield from self._asked(groups, arguments)
        if isinstance(arguments[0], flow.Flow) and (told := self.groups(UpdateHook)):
            yield from self._asked(told, [[arguments[0]]])

    def _asked(self, groups: Groups, arguments: list[Any]) -> Steps:
        for group in groups:
            try:
                for handler in group:
                    result = handler(*arguments)
                    if result is not None and _is_awaitable(result):
                        yield result
            except AddonHalt:
                return
            except OptionsError:
                raise
            except Exception as error:  # noqa: BLE001  # an addon's, whatever it is
                _report(error, "_asked")

    def _look_at_the_chain(self) -> None:
        chain = self._manager.chain
        if chain is not self._chain or len(chain) != self._length:
            self._chain, self._length = chain, len(chain)
            self.forget()

    def _look(self, kind: type[Hook]) -> Iterator[tuple[Handler, ...]]:
        event = object.__new__(kind)  # of which no more than the name is asked for
        for addon in self._chain:
            group: list[Handler] = []
            try:
                for owner, handler in self._manager._iter_hooks(addon, event):
                    if asked := self.sift(owner, kind.name, handler):
                        group.append(asked)
            except AddonManagerError as error:
                group.append(_raising(error))  # when its turn comes, as it would be
            if group:
                yield tuple(group)


async def finish(steps: Steps) -> None:
    """Take all the steps."""
    try:
        awaited = next(steps)
        while True:
            try:
                await awaited
            except BaseException as error:  # noqa: BLE001  # the step's own affair
                awaited = steps.throw(error)
            else:
                awaited = next(steps)
    except StopIteration:
        return


def _is_awaitable(result: object) -> bool:
    return type(result) is CoroutineType or inspect.isawaitable(result)


def _giving(begun: Awaitable[Any]) -> Handler:
    """One that has been asked already."""
    return lambda *_: begun


def _report(error: Exception, asked_in: str) -> None:
    _, _, trace = sys.exc_info()
    told = (type(error), error, cut_traceback(cut_traceback(trace, asked_in), "finish"))
    mitmproxy_log.error(f"Addon error: {error}", exc_info=told)  # mitmproxy's own words


def _raising(error: AddonManagerError) -> Handler:
    def refuse(*_: object) -> None:
        raise error

    return refuse


def dispatch_by_table(master: Master) -> HookTable:
    """From now on events of this mitmproxy go by a table."""
    manager = master.addons
    table = HookTable(manager)
    register = manager.register

    def registered(addon: Any) -> Any:
        table.forget()
        try:
            return register(addon)  # type: ignore[no-untyped-call]
        finally:
            table.forget()

    manager.register = registered  # type: ignore[method-assign]
    manager.trigger_event = table.trigger_event  # type: ignore[method-assign]
    manager.handle_lifecycle = table.handle_lifecycle  # type: ignore[method-assign]
    master.options.changed.connect(table.forget)
    return table


def table_of(master: Master) -> HookTable | None:
    """The table by which events of this mitmproxy go, if they do."""
    table = getattr(master.addons.trigger_event, "__self__", None)
    return table if isinstance(table, HookTable) else None
