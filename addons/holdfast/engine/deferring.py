"""Libraries that mitmproxy loads at its start, and a gateway hardly ever uses: loaded when they are.

A sixth of mitmproxy's start goes to LDAP, for proxies that ask it for passwords, and to the web framework of the pages
under `mitm.it`. While mitmproxy's addons are loaded others stand in for them, and afterwards nothing of that is left in
the way of whoever imports them. Only a process that we start ourselves can have it so; `HOLDFAST_ENGINE=plain` has not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

_ADDONS, _PAGES = "mitmproxy.addons", "mitmproxy.addons.onboardingapp"


def load_addons() -> None:
    """Load mitmproxy's addons without them; nothing if they have been loaded."""
    if os.environ.get("HOLDFAST_ENGINE") == "plain" or _ADDONS in sys.modules:
        return
    found = PathFinder.find_spec("werkzeug")
    # Of all of werkzeug its addons want one module, which needs nothing else of it.
    werkzeug = _StandIn("werkzeug", {"__path__": found.submodule_search_locations if found else []})
    stand_ins = (_StandIn("ldap3"), werkzeug, _StandIn(_PAGES, {"app": _Pages()}))
    absent = [each for each in stand_ins if each.__name__ not in sys.modules]
    sys.modules.update({each.__name__: each for each in absent})
    try:
        import_module(_ADDONS)
    finally:
        for each in absent:
            del sys.modules[each.__name__]
        if werkzeug in absent:
            sys.modules.pop("werkzeug.security", None)  # it belongs to a package that is no more


class _StandIn(ModuleType):
    """What a name of the module is comes from the module itself, which is imported for it."""

    def __init__(self, name: str, names: Mapping[str, object] | None = None) -> None:
        super().__init__(name)
        vars(self).update(names or {})

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            raise AttributeError(f"module {self.__name__!r} is not loaded yet, and has no {name!r}")
        return getattr(import_module(self.__name__), name)


class _Pages:
    """The WSGI application of these pages, and what is set for it until it is there."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        app = import_module(_PAGES).app
        app.config.update(self.config)
        return app(environ, start_response)  # type: ignore[no-any-return]
