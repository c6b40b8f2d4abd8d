"""Puts a chain onto mitmproxy: what the front ends see.

`mitmdump -s addons/main.py` and `mitmweb -s ...` name the profile by the option `holdfast`, `holdfast run` hands it
over ready.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Literal

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader as OptionLoader
from mitmproxy.exceptions import AddonManagerError, OptionsError

from holdfast.chain import build_chain
from holdfast.ending import end_process
from holdfast.engine.front_ends import event_log, owns_terminal
from holdfast.engine.placement import is_placed, place
from holdfast.engine.selfcheck import check_engine
from holdfast.errors import EngineMismatch, HoldfastError, ProfileError
from holdfast.gateway import Gateway
from holdfast.live import Live
from holdfast.logs import set_up_logs
from holdfast.profile.settings import Profile
from holdfast.source import ProfileSource

if TYPE_CHECKING:
    from holdfast.workers.worker import Worker

logger = logging.getLogger(__name__)
_HELP = "Holdfast profile: a shipped profile's name or a YAML file. Default: the environment's HOLDFAST_PROFILE."


class Loader:
    """Loads the chain into the running mitmproxy; a profile that cannot be loaded ends the process with status 2."""

    name = "holdfast"

    def __init__(
        self,
        source: ProfileSource | None = None,
        profile: Profile | None = None,
        role: Literal["gateway", "consumer"] = "gateway",
        worker: Worker | None = None,
    ) -> None:
        self._worker = worker
        self._role = role
        self._source = source
        self._profile = profile

    def load(self, loader: OptionLoader) -> None:
        loader.add_option("holdfast", str, os.environ.get("HOLDFAST_PROFILE", ""), _HELP)
        if self._source:
            self._install(self._source)

    def configure(self, updated: set[str]) -> None:
        if self._source:
            if "holdfast" in updated and ctx.options.holdfast:
                raise OptionsError("another profile needs a new start; what is in this one's files is followed")
            return
        if not ctx.options.holdfast:
            end_process("no profile: add --set holdfast=sidecar, or set HOLDFAST_PROFILE (see `holdfast profiles`)", 2)
        if is_placed(ctx.master):
            # mitmproxy loads a script anew when its file changes. The chain that runs has requests in flight.
            logger.warning("main.py was loaded again: the chain stays as it is until the next start")
            return
        self._source = ProfileSource(ctx.options.holdfast)
        self._install(self._source)

    def _install(self, source: ProfileSource) -> None:
        try:
            check_engine()
            profile = self._profile or source.load()
            set_up_logs(profile.log, event_log(ctx.master), to_stderr=not owns_terminal(ctx.master))
            chain = build_chain(profile, self._role, worker=self._worker)
            ctx.options.update(**chain.options(ctx.options, profile))
            joining = _joining(chain.gateway, self._worker) if self._worker else []
            place(ctx.master, [*chain.addons, Live(chain, source), *joining])
        except (ProfileError, EngineMismatch) as e:
            end_process(str(e), 2)
        except (OptionsError, AddonManagerError, HoldfastError) as e:
            end_process(f"the chain could not be loaded: {e}", 2)
        logger.info("chain loaded", extra={"addons": [entry.name for entry in profile.addons]})


def _joining(gateway: Gateway, worker: Worker) -> list[object]:
    """What makes the gateway one of several; a single one loads nothing of it."""
    from holdfast.engine.sharing import share_ports
    from holdfast.workers.membership import Membership

    share_ports()
    return [Membership(gateway, worker)]
