"""What is read again and again is not copied, checked or listed each time.

- An option is read some twenty times a request, and mitmproxy makes a deep copy each time. What cannot change is not
  copied.
- Every message checks the types of its fields by walking their annotations. Types that are right are known by a look.
- Every event lists the fields of its class; they are remembered.
- A context is forked for each request, and makes a server connection that is thrown away at once.
- Every flow has an identifier at random, for which the operating system is asked; it is asked for many at once.
(mitmproxy 12.2)
"""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any, TypeVar

from mitmproxy import flow, hooks, http, optmanager
from mitmproxy.master import Master
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.utils import typecheck

from holdfast.engine.speedups.replacing import Replacement
from holdfast.request_ids import new_request_id

T = TypeVar("T")
_FIXED = frozenset({bool, int, float, str, bytes, type(None)})


def _option(self: optmanager.OptManager, attr: str) -> Any:
    try:
        option = vars(self)["_options"][attr]
    except KeyError:
        raise AttributeError(f"No such option: {attr}") from None
    value = option.value
    if value is optmanager.unset:
        value = option._default
    return value if type(value) in _FIXED else option.current()


# -- messages ---------------------------------------------------------------------------------------------------------

_RIGHT: dict[str, tuple[type, ...]] = {
    "http_version": (bytes,),
    "headers": (http.Headers,),
    "content": (bytes, type(None)),
    "trailers": (http.Headers, type(None)),
    "timestamp_start": (float, int),
    "timestamp_end": (float, int, type(None)),
    "host": (str,),
    "port": (int,),
    "method": (bytes,),
    "scheme": (bytes,),
    "authority": (bytes,),
    "path": (bytes,),
    "status_code": (int,),
    "reason": (bytes,),
}


def _check_types(self: http.MessageData) -> None:
    for name, value in vars(self).items():
        right = _RIGHT.get(name)
        if right is None or type(value) not in right:
            for field in dataclasses.fields(self):  # mitmproxy's own words for what is wrong, if it is
                typecheck.check_option_type(field.name, getattr(self, field.name), field.type)
            return


# -- events -----------------------------------------------------------------------------------------------------------

_fields: dict[type, tuple[str, ...]] = {}


def _arguments(self: hooks.Hook) -> list[Any]:
    names = _fields.get(type(self))
    if names is None:
        names = _fields[type(self)] = tuple(field.name for field in dataclasses.fields(self))  # type: ignore[arg-type]
    return [getattr(self, name) for name in names]


# -- contexts ---------------------------------------------------------------------------------------------------------


def _fork(self: Context) -> Context:
    fork = object.__new__(type(self))
    fork.client, fork.options, fork.server, fork.layers = self.client, self.options, self.server, self.layers.copy()
    return fork


# -- what is made of classes that are known ---------------------------------------------------------------------------

_made: set[type] = set()


def _checked_once(stock: Any) -> Any:
    def new(cls: type[T], *args: Any, **kwargs: Any) -> T:
        if cls in _made:
            return object.__new__(cls)
        made: T = stock(cls, *args, **kwargs)  # mitmproxy looks at what kind of class it is
        _made.add(cls)
        return made

    return new


class _Identifiers:
    """In the place of the module `uuid`: mitmproxy wants one for each flow, as text."""

    uuid4 = staticmethod(new_request_id)

    def __getattr__(self, name: str) -> Any:
        return getattr(uuid, name)


REPLACEMENTS = (
    Replacement(flow, "uuid", _Identifiers()),
    Replacement(optmanager.OptManager, "__getattr__", _option),
    Replacement(http.MessageData, "__post_init__", _check_types),
    Replacement(hooks.Hook, "args", _arguments),
    Replacement(Context, "fork", _fork),
    Replacement(commands.StartHook, "__new__", _checked_once(commands.StartHook.__new__)),
    Replacement(events.CommandCompleted, "__new__", _checked_once(events.CommandCompleted.__new__)),
)
EXPECTED = (
    (optmanager.OptManager.__getattr__, "self attr"),
    (optmanager._Option.current, "self"),
    (http.MessageData.__post_init__, "self"),
    (typecheck.check_option_type, "name value typeinfo"),
    (hooks.Hook.args, "self"),
    (Context.__init__, "self client options"),
    (Context.fork, "self"),
    (commands.StartHook.__new__, "cls args kwargs"),
    (events.CommandCompleted.__new__, "cls args kwargs"),
)


def remember_values(_: Master) -> None:
    """In this process from now on."""
    for each in REPLACEMENTS:
        each.put()
