"""Who needs to see hits. While somebody does, they go the ordinary way, through every hook.

An addon that is not known here may do anything: with a hook for requests or responses it is an onlooker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mitmproxy import addonmanager
from mitmproxy.options import Options

from holdfast.guard import Guard
from holdfast.profile.settings import AddonEntry
from holdfast.registry import resolve

HOOKS = ("requestheaders", "request", "responseheaders", "response", "error", "update", "injection")
"""mitmproxy's for requests and responses, and what the engine asks an addon that makes some of them fail."""

# Of a profile's addons. What they do, they do to what goes upstream, comes from there, or fails; or hits are counted
# for them (`gateway.CountsHits`).
UNCONCERNED = frozenset(
    {"router", "metrics", "cache", "surrogate", "understudy", "interceptor", "replayer", "failure_sink", "notifier"}
)

type Idle = Callable[[Options], bool]


def _always(_: Options) -> bool:
    return True


def _unless(name: str) -> Idle:
    return lambda options: not getattr(options, name)


# mitmproxy's own, by name: whether they leave hits alone under these options.
IDLE: dict[str, Idle] = {
    "anticache": _unless("anticache"),
    "anticomp": _unless("anticomp"),
    "blocklist": _unless("block_list"),
    "disableh2c": _always,  # it takes off what makes a request none of the cache's
    "dumper": lambda options: options.flow_detail < 2,  # a line, which the access log has as well (`onlookers`)
    "maplocal": _unless("map_local"),
    "mapremote": _unless("map_remote"),
    "modifybody": _unless("modify_body"),
    "modifyheaders": _unless("modify_headers"),
    "onboarding": _always,  # what it answers is no hit
    "proxyauth": _unless("proxyauth"),
    "save": _unless("save_stream_file"),
    "savehar": _unless("hardump"),
    "serverplayback": _unless("server_replay"),
    "stickyauth": _unless("stickyauth"),
    "stickycookie": _unless("stickycookie"),
    "tlsconfig": _always,  # it answers for one path, before the cache is asked
    "updatealtsvc": _always,  # a response with Alt-Svc is not remembered
    "upstreamauth": _unless("upstream_auth"),
}


def onlookers(chain: list[Any], options: Options, *, logged: bool) -> Iterator[str]:
    """The names of those of mitmproxy's addons who need to see hits. `logged`: the access log has a line for each."""
    for addon in addonmanager.traverse(chain):
        name = str(getattr(addon, "name", type(addon).__name__.lower()))
        unseen = name == "dumper" and options.flow_detail > 0 and not logged
        if _has_hooks(addon) and (unseen or not _leaves_alone(addon, options)):
            yield name


def onlookers_of(entries: Iterable[AddonEntry]) -> list[str]:
    """The names of a profile's addons who need to see hits, as far as their classes tell."""
    return [each.name for each in entries if each.target not in UNCONCERNED and _may_have_hooks(each.target)]


def _leaves_alone(addon: object, options: Options) -> bool:
    if isinstance(addon, Guard):
        return addon.entry.target in UNCONCERNED
    package = type(addon).__module__.partition(".")[0]
    idle = IDLE.get(type(addon).__name__.lower()) if package == "mitmproxy" else None
    return package == "holdfast" or (idle is not None and idle(options))


def _has_hooks(addon: object) -> bool:
    return any(callable(getattr(addon, hook, None)) for hook in HOOKS)


def _may_have_hooks(target: str) -> bool:
    found = resolve(target)
    return _has_hooks(found) or hasattr(found, "addons") or not isinstance(found, type)
