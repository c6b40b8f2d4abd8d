"""What mitmweb and the console have no public way for: argument types, taking a view away, the event log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from mitmproxy import contentviews, types
from mitmproxy.addons.eventstore import EventStore
from mitmproxy.command import CommandManager
from mitmproxy.contentviews import Contentview
from mitmproxy.master import Master

type Words = Callable[[], Sequence[str]]


class _Word(types._BaseType):
    """One word; `words` are what it may be completed to. Nothing is wrong with it: the commands say what is."""

    def __init__(self, kind: type[str], display: str, words: Words) -> None:
        self.typ, self.display, self._words = kind, display, words

    def completion(self, manager: CommandManager, t: object, s: str) -> Sequence[str]:
        return self._words()

    def parse(self, manager: CommandManager, t: object, s: str) -> str:
        return s

    def is_valid(self, manager: CommandManager, typ: object, val: object) -> bool:
        return isinstance(val, str)


def teach_argument(kind: type[str], display: str, words: Words) -> None:
    """From now on commands may have arguments of this type, which the console completes."""
    types.CommandTypes.typemap[kind] = _Word(kind, display, words)


def remove_view(kind: type[Contentview]) -> None:
    """Take the content views of this class out of mitmproxy's registry."""
    known: dict[str, Contentview] = getattr(contentviews.registry, "_by_name", {})
    for name in [name for name, view in known.items() if isinstance(view, kind)]:
        del known[name]


def event_log(master: Master) -> logging.Handler | None:
    """Of mitmweb or the console; None under mitmdump, which has none."""
    found = master.addons.get("eventstore")
    return found.logger if isinstance(found, EventStore) else None


def owns_terminal(master: Master) -> bool:
    """Whether the console draws on it: a line to standard error would be written across that."""
    return master.addons.get("consoleaddon") is not None
