"""Which addon has which name: the built-in ones, those that other packages announce, and any by its dotted path.

Nothing is imported before an addon is asked for, so a profile pays only for what it names.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct

ENTRY_POINT_GROUP = "holdfast.addons"

# name -> (module, class). In the order in which the reference lists them, which is that of a usual chain.
BUILT_IN: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "router": ("holdfast.router", "Router"),
        "metrics": ("holdfast.metrics", "Metrics"),
        "tracing": ("holdfast.tracing", "Tracing"),
        "cache": ("holdfast.cache", "Cache"),
        "surrogate": ("holdfast.surrogate", "Surrogate"),
        "understudy": ("holdfast.understudy", "Understudy"),
        "faults": ("holdfast.faults", "Faults"),
        "interceptor": ("holdfast.interceptor", "Interceptor"),
        "replayer": ("holdfast.replayer", "ReplayerAddon"),
        "failure_sink": ("holdfast.failure_sink", "FailureSink"),
        "notifier": ("holdfast.notifier", "Notifier"),
    }
)

# A class, a factory, or now and then a ready-made instance: mitmproxy asks nothing of an addon's type.
AddonType = Any


def known_names() -> list[str]:
    """The names a profile may use: the built-in ones, then those of installed packages."""
    announced = {entry.name for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}
    return [*BUILT_IN, *sorted(announced - set(BUILT_IN))]


def resolve(name_or_path: str) -> AddonType:
    """The addon of a built-in name, of an entry point, or at `package.module:Class`.

    LookupError for a name nobody knows, ImportError with the cause for an addon that cannot be imported.
    """
    if name_or_path in BUILT_IN:
        module, attribute = BUILT_IN[name_or_path]
        return _imported(name_or_path, lambda: _attribute(module, attribute))
    if ":" in name_or_path:
        module, _, attribute = name_or_path.partition(":")
        return _imported(name_or_path, lambda: _attribute(module, attribute))
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP, name=name_or_path):
        return _imported(name_or_path, entry.load)
    raise LookupError(f"there is no addon named {name_or_path!r}")


def is_built_in(addon: object, *names: str) -> bool:
    """Whether it is an object of one of these built-in addons' classes. Asking imports none of them."""
    places = (BUILT_IN[name] for name in names)
    classes = (getattr(sys.modules.get(module), attribute, None) for module, attribute in places)
    return isinstance(addon, tuple(found for found in classes if found))


def settings_class(addon: AddonType) -> type[Struct] | None:
    """The `Settings` of an addon class that has its settings checked and handed over as one object."""
    settings = getattr(addon, "Settings", None) if isinstance(addon, type) else None
    return settings if isinstance(settings, type) and issubclass(settings, Struct) else None


def _attribute(module: str, path: str) -> AddonType:
    if not module or not path:
        raise ImportError('write it as "package.module:Class"')
    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _imported(name: str, load: Callable[[], AddonType]) -> AddonType:
    try:
        return load()
    except (Exception, SystemExit) as error:  # whatever another package may do on import
        missing = isinstance(error, ModuleNotFoundError)
        hint = " (install its package, or put its folder on PYTHONPATH)" if missing else ""
        raise ImportError(f"{name!r} cannot be imported: {type(error).__name__}: {error}{hint}") from error
