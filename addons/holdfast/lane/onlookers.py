"""Who needs to see hits. While somebody does, they go the ordinary way, through every hook.

An addon that is not known here may do anything: with a hook for requests or responses it is an onlooker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mitmproxy import addonmanager
from mitmproxy.addons import disable_h2c, dumper, onboarding, serverplayback, tlsconfig, update_alt_svc
from mitmproxy.options import Options

from holdfast.engine.speedups.idle import is_idle
from holdfast.guard import Guard
from holdfast.profile.settings import AddonEntry
from holdfast.registry import BUILT_IN, resolve

HOOKS = ("requestheaders", "request", "responseheaders", "response", "error", "update", "injection")
"""mitmproxy's for requests and responses, and what the engine asks an addon that makes some of them fail."""

# Of the built-in addons. What they do, they do to what goes upstream, comes from there, or fails; or hits are counted
# for them (`gateway.CountsHits`). The others, `faults` and `tracing`, have to do with each answer.
UNCONCERNED = frozenset(
    {"router", "metrics", "cache", "surrogate", "understudy", "interceptor", "replayer", "failure_sink", "notifier"}
)

# mitmproxy's own that leave hits alone whatever its options say.
INDIFFERENT = (
    disable_h2c.DisableH2C,  # it takes off what makes a request none of the cache's
    onboarding.Onboarding,  # what it answers, it answers before the cache is asked
    tlsconfig.TlsConfig,  # so with this one
    update_alt_svc.UpdateAltSvc,  # a response with Alt-Svc is not remembered
)


def onlookers(chain: list[Any], options: Options, *, logged: bool) -> Iterator[str]:
    """The names of those of mitmproxy's addons who need to see hits. `logged`: the access log has a line for each."""
    for addon in addonmanager.traverse(chain):
        if _needs_to_see(addon, options, logged=logged):
            yield str(getattr(addon, "name", type(addon).__name__.lower()))


def onlookers_of(entries: Iterable[AddonEntry]) -> list[str]:
    """The names of a profile's addons who need to see hits, as far as their classes tell."""
    return [each.name for each in entries if _may_need_to_see(each.target)]


def _needs_to_see(addon: object, options: Options, *, logged: bool) -> bool:
    if isinstance(addon, Guard) and addon.entry.target in BUILT_IN:
        return addon.entry.target not in UNCONCERNED
    if not _has_hooks(addon):
        return False
    if type(addon) is dumper.Dumper:  # it prints a line, which the access log has as well, or more
        return int(options.flow_detail) > (1 if logged else 0)
    if type(addon) is serverplayback.ServerPlayback:
        return bool(options.server_replay)
    package = type(addon).__module__.partition(".")[0]
    of_the_chain = package == "holdfast" and not isinstance(addon, Guard)
    return not (of_the_chain or isinstance(addon, INDIFFERENT) or is_idle(addon))


def _may_need_to_see(target: str) -> bool:
    if target in BUILT_IN:
        return target not in UNCONCERNED
    found = resolve(target)
    return _has_hooks(found) or hasattr(found, "addons") or not isinstance(found, type)


def _has_hooks(addon: object) -> bool:
    return any(callable(getattr(addon, hook, None)) for hook in HOOKS)
