"""Header fields looked up, set and removed in one step each.

mitmproxy's `Headers` is a `MultiDict` is a `MutableMapping`: one look-up goes through five functions, and through two
more for each field. A request has some fifty look-ups. The rules are mitmproxy's: names are compared without regard to
case, several values of one name are joined by a comma, text is UTF-8 with stray bytes as surrogates. (mitmproxy 12.2)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mitmproxy.coretypes.multidict import MultiDict
from mitmproxy.http import Headers
from mitmproxy.master import Master

from holdfast.engine.speedups.replacing import Replacement

_lowered: dict[str | bytes, bytes] = {}
_MEMO = 1024
"""Names that are asked for are few, and written in the code; those that a client brings are compared, and not kept."""


def _name(name: Any) -> bytes:
    try:
        return _lowered[name]
    except KeyError:
        raw = _raw(name).lower()
        if len(_lowered) < _MEMO:
            _lowered[name] = raw
        return raw


def _raw(text: Any) -> bytes:
    if type(text) is str:
        return text.encode("utf-8", "surrogateescape")
    if text is None or isinstance(text, bytes):
        return text  # type: ignore[return-value]  # None fails later, as in mitmproxy
    if isinstance(text, str):
        return text.encode("utf-8", "surrogateescape")
    raise TypeError(f"Expected str or bytes, but got {type(text).__name__}.")


def _getitem(self: Headers, key: str | bytes) -> str:
    wanted = _name(key)
    found = [value for name, value in self.fields if name.lower() == wanted]
    if not found:
        raise KeyError(key)
    return (found[0] if len(found) == 1 else b", ".join(found)).decode("utf-8", "surrogateescape")


def _get(self: Headers, key: str | bytes, default: Any = None) -> Any:
    wanted = _name(key)
    found = [value for name, value in self.fields if name.lower() == wanted]
    if not found:
        return default
    return (found[0] if len(found) == 1 else b", ".join(found)).decode("utf-8", "surrogateescape")


def _contains(self: Headers, key: object) -> bool:
    wanted = _name(key)
    for name, _ in self.fields:  # noqa: SIM110  # a loop is quicker than a generator
        if name.lower() == wanted:
            return True
    return False


def _get_all(self: Headers, name: str | bytes) -> list[str]:
    wanted = _name(name)
    return [value.decode("utf-8", "surrogateescape") for key, value in self.fields if key.lower() == wanted]


def _setitem(self: Headers, key: str | bytes, value: str | bytes) -> None:
    wanted, raw = _name(key), _raw(value)
    for name, _ in self.fields:
        if name.lower() == wanted:
            self.set_all(key, [value])
            return
    self.fields = (*self.fields, (_raw(key), raw))


def _add(self: Headers, key: str | bytes, value: str | bytes) -> None:
    self.fields = (*self.fields, (_raw(key), _raw(value)))


def _set_all(self: Headers, name: str | bytes, values: Iterable[str | bytes]) -> None:
    wanted, raw = _name(name), _raw(name)
    left = [_raw(value) for value in values]
    left.reverse()
    kept: list[tuple[bytes, bytes]] = []
    for field in self.fields:
        if field[0].lower() != wanted:
            kept.append(field)
        elif left:
            kept.append((field[0], left.pop()))
    while left:
        kept.append((raw, left.pop()))
    self.fields = tuple(kept)


def _delitem(self: Headers, key: str | bytes) -> None:
    wanted = _name(key)
    kept = tuple([field for field in self.fields if field[0].lower() != wanted])
    if len(kept) == len(self.fields):
        raise KeyError(_raw(key))
    self.fields = kept


def _bytes(self: Headers) -> bytes:
    return b"".join([b"%s: %s\r\n" % field for field in self.fields])


def _init(self: Headers, fields: Iterable[tuple[bytes, bytes]] = (), **headers: str | bytes) -> None:
    pairs: Any = tuple([tuple(field) for field in fields])
    self.fields = pairs
    for key, value in pairs:
        if not isinstance(key, bytes) or not isinstance(value, bytes):
            raise TypeError("Header fields must be bytes.")
    for name, text in headers.items():
        self[_raw(name).replace(b"_", b"-")] = text


REPLACEMENTS = (
    Replacement(Headers, "__init__", _init),
    Replacement(Headers, "__getitem__", _getitem),
    Replacement(Headers, "get", _get),
    Replacement(Headers, "__contains__", _contains),
    Replacement(Headers, "get_all", _get_all),
    Replacement(Headers, "__setitem__", _setitem),
    Replacement(Headers, "add", _add),
    Replacement(Headers, "set_all", _set_all),
    Replacement(Headers, "__delitem__", _delitem),
    Replacement(Headers, "__bytes__", _bytes),
)
EXPECTED = (
    (Headers.__init__, "self fields headers"),
    (Headers.__getitem__, "self key"),
    (Headers.get, "self key default"),
    (Headers.__contains__, "self key"),
    (Headers.get_all, "self name"),
    (Headers.__setitem__, "self key value"),
    (Headers.add, "self key value"),
    (Headers.set_all, "self name values"),
    (Headers.__delitem__, "self key"),
    (Headers.__bytes__, "self"),
    (MultiDict.__init__, "self fields"),
)
"""Of `Headers` as it is when this is imported: before anything is put in its place."""


def look_up_in_one_step(_: Master) -> None:
    """Every `Headers` of this process does so from now on."""
    for each in REPLACEMENTS:
        each.put()
