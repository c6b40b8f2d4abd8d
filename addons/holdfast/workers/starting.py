"""From the command line into the parent's loop: what has to be right before the first worker is forked."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable

from holdfast.admin.listener import admin_sockets
from holdfast.errors import ProfileError
from holdfast.garbage import before_forks, in_worker
from holdfast.logs import add_to_lines, set_up_logs
from holdfast.policy.endpoint import parse_listen
from holdfast.profile.settings import Profile
from holdfast.source import ProfileSource
from holdfast.workers.crew import Crew, Place
from holdfast.workers.ports import take_port
from holdfast.workers.supervisor import Supervisor
from holdfast.workers.worker import Worker

logger = logging.getLogger(__name__)
LEAST, PER_PROCESSOR = 16, 4  # workers that are no mistake: so many, or so many for each processor

NEEDED = ("mitmproxy.tools.dump", "holdfast.admin.server", "holdfast.workers.membership")
"""What every worker loads: it is shared by all if it is here before they are forked."""

Serve = Callable[[ProfileSource, Profile, Worker], int]


def refuse_workers(count: int, *, web: bool) -> None:
    """ValueError, with what to write instead, for what cannot be."""
    most = max(LEAST, PER_PROCESSOR * processors())
    if count < 1 or count > most:
        raise ValueError(f"--workers {count}: write 1 to {most}; one for each processor is usual, here {processors()}")
    if count > 1 and web:
        raise ValueError("--workers and --web: mitmweb shows the requests of one process; leave one of them out")
    if count > 1 and sys.platform != "linux":
        raise ValueError(f"--workers: {sys.platform} does not share connections of one port out; that takes Linux")


def processors() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def run_workers(count: int, source: ProfileSource, profile: Profile, serve: Serve) -> int:
    """Until a signal ends it; the exit status. HoldfastError for an address that cannot be had."""
    kept, listen = take_port(profile.listen)
    if parse_listen(profile.listen)[1] == 0:
        source.lay_over("listen", listen)
        profile = source.load()
    set_up_logs(profile.log)
    admin = admin_sockets(profile.admin.listen) if profile.admin.listen else []
    holds = profile

    def work(place: Place) -> int:
        in_worker()
        add_to_lines(worker=place.number)
        for each in kept:
            each.close()
        return serve(source, holds, Worker(place))

    def renew() -> None:
        nonlocal holds
        try:
            holds = source.load()
        except ProfileError:
            return  # it has changed again, and the workers say what is wrong with it
        set_up_logs(holds.log)

    if others := [each.name for each in threading.enumerate() if each is not threading.main_thread()]:
        logger.warning(
            "modules have started threads when they were loaded: workers go without", extra={"threads": others}
        )
    if count > processors():
        told = {"workers": count, "processors": processors()}
        logger.warning("more workers than processors: they will not be faster", extra=told)
    logger.info("starting workers", extra={"workers": count, "listen": listen, "pid": os.getpid()})
    for module in NEEDED:
        importlib.import_module(module)
    before_forks()
    return Supervisor(Crew(count, admin, work), renew, lambda: float(holds.shutdown_grace)).run()
