"""From a profile to addons on mitmproxy, in the profile's order.

The order of every chain: the upstream leg, the intake, the profile's addons (each behind its guard), the access log,
the admin surface, the gate. `Loader` is what the front ends see: `mitmdump -s addons/main.py` and `mitmweb -s ...` name
the profile by the option `holdfast`, `holdfast run` hands it over ready.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader as OptionLoader
from mitmproxy.exceptions import AddonManagerError, OptionsError
from mitmproxy.hooks import all_hooks
from prometheus_client import CollectorRegistry, disable_created_metrics

from holdfast.accesslog import AccessLog, Observer
from holdfast.admin.health import HealthPage
from holdfast.admin.listener import AdminListener
from holdfast.ending import end_process
from holdfast.engine.gate import Gate
from holdfast.engine.leg import build_leg
from holdfast.engine.placement import is_placed, place
from holdfast.engine.selfcheck import check_engine
from holdfast.engine.timers import Timers
from holdfast.engine.upstream import UpstreamLeg, client_connection, engine_options
from holdfast.errors import EngineMismatch, Fault, HoldfastError, ProfileError
from holdfast.failure_sink import FailureSink
from holdfast.gateway import Gateway
from holdfast.guard import Guard
from holdfast.intake import Intake
from holdfast.logs import set_up_logs
from holdfast.metrics import Metrics
from holdfast.profile.load import load_profile
from holdfast.profile.settings import AddonEntry, Profile
from holdfast.registry import resolve, settings_class

logger = logging.getLogger(__name__)
_HELP = "Holdfast profile: a shipped profile's name or a YAML file. Default: the environment's HOLDFAST_PROFILE."


def build_addon(entry: AddonEntry, gateway: Gateway) -> object:
    """The addon that this entry names. ProfileError where its constructor refuses."""
    found = resolve(entry.target)
    try:
        if settings_class(found) is not None:
            return found(entry.settings, gateway)
        made = found(**entry.settings) if callable(found) else found  # a ready-made instance
    except Exception as e:
        raise _not_made(entry, f"the addon could not be made: {type(e).__name__}: {e}") from e
    if not any(callable(getattr(made, hook, None)) for hook in all_hooks) and not hasattr(made, "addons"):
        raise _not_made(entry, f"{entry.target} is no addon: it has no method named like an event, such as `request`")
    return made


def _not_made(entry: AddonEntry, fault: str) -> ProfileError:
    return ProfileError([Fault(entry.file, entry.line, f"addons.{entry.name}", fault)])


def build_chain(profile: Profile) -> tuple[Gateway, list[object]]:
    """The shared gateway and all addons in order, wired to each other; nothing has been started."""
    disable_created_metrics()  # a second series for each counter that nobody asked for
    registry = CollectorRegistry()
    gateway = Gateway(profile, build_leg(profile, Timers(client_connection), registry), registry)
    gateway.health = HealthPage(gateway).document
    addons = [(build_addon(entry, gateway), entry) for entry in profile.addons]
    sinks = [addon for addon, _ in addons if isinstance(addon, FailureSink)]
    gateway.sink = sinks[0] if sinks else None
    observers: list[Observer] = [addon.observe for addon, _ in addons if isinstance(addon, Metrics)]
    report = _counter(gateway)
    guards = [Guard(addon, entry, report) for addon, entry in addons]
    ends = [AccessLog(gateway, observers), AdminListener(gateway), Gate(gateway)]
    return gateway, [UpstreamLeg(gateway.leg, profile.upstream), Intake(gateway), *guards, *ends]


def _counter(gateway: Gateway) -> Callable[[str, str], None]:
    def report(addon: str, hook: str) -> None:
        gateway.addon_errors.labels(addon, hook).inc()

    return report


class Loader:
    """Loads the chain into the running mitmproxy; a profile that cannot be loaded ends the process with status 2."""

    name = "holdfast"

    def __init__(self, profile: Profile | None = None) -> None:
        self._profile = profile

    def load(self, loader: OptionLoader) -> None:
        loader.add_option("holdfast", str, os.environ.get("HOLDFAST_PROFILE", ""), _HELP)
        if self._profile:
            self._install()

    def configure(self, updated: set[str]) -> None:
        if self._profile:
            if "holdfast" in updated and ctx.options.holdfast:
                raise OptionsError("the profile cannot be changed while Holdfast runs: start it again")
            return
        if not ctx.options.holdfast:
            end_process("no profile: add --set holdfast=sidecar, or set HOLDFAST_PROFILE (see `holdfast profiles`)", 2)
        if is_placed(ctx.master):
            # mitmproxy loads a script anew when its file changes. The chain that runs has requests in flight.
            logger.warning("main.py was loaded again: the chain stays as it is until the next start")
            return
        self._install()

    def _install(self) -> None:
        try:
            check_engine()
            profile = self._profile = self._profile or load_profile(ctx.options.holdfast)
            set_up_logs(profile.log)
            ctx.options.update(**engine_options(profile))
            _, addons = build_chain(profile)
            place(ctx.master, addons)
        except (ProfileError, EngineMismatch) as e:
            end_process(str(e), 2)
        except (OptionsError, AddonManagerError, HoldfastError) as e:
            end_process(f"the chain could not be loaded: {e}", 2)
        logger.info("chain loaded", extra={"addons": [entry.name for entry in profile.addons]})
