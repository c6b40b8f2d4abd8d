"""`holdfast run`: the gateway under mitmdump (or mitmweb), with the profile deciding everything mitmproxy is told."""

from __future__ import annotations

import argparse
import resource
from dataclasses import replace
from typing import TYPE_CHECKING

from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.tools import cmdline
from mitmproxy.tools.main import run as run_mitmproxy

from holdfast.loader import Loader
from holdfast.policy.endpoint import parse_endpoint, parse_listen
from holdfast.profile.settings import Profile
from holdfast.source import ProfileSource

if TYPE_CHECKING:
    from holdfast.workers.worker import Worker


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends it. ProfileError before anything has been started."""
    source = ProfileSource(args.profile, _overrides(args))
    profile = source.load()
    _raise_file_limit()

    def serve(source: ProfileSource, profile: Profile, worker: Worker | None = None) -> int:
        arguments = [*mitmproxy_arguments(profile, web=args.web), *args.mitmproxy_args]
        parser = cmdline.mitmweb if args.web else cmdline.mitmdump

        def master(options: Options) -> Master:
            made = _web(options) if args.web else _dump(options)
            made.addons.add(Loader(source, profile, worker=worker))
            return made

        run_mitmproxy(master, parser, arguments)  # type: ignore[arg-type]  # any callable that makes a master
        return 0

    if args.workers == 1:
        return serve(source, profile)
    from holdfast.workers.starting import refuse_workers, run_workers

    refuse_workers(args.workers, web=args.web)
    return run_workers(args.workers, source, profile, serve)


def _dump(options: Options) -> Master:
    from mitmproxy.tools.dump import DumpMaster

    return DumpMaster(options)


def _web(options: Options) -> Master:
    """Imported only where it is wanted: with its server it takes a third of the start."""
    from mitmproxy.tools.web.master import WebMaster

    return WebMaster(options)


def mitmproxy_arguments(profile: Profile, *, web: bool) -> list[str]:
    """The command line that mitmproxy gets. The socket stays closed until the chain runs (see `engine.gate`)."""
    host, port = parse_listen(profile.listen)
    options = {"server": "false", "listen_host": host, "listen_port": str(port)}
    if web:
        options["web_open_browser"] = "false"
    else:
        options |= {"flow_detail": "0", "termlog_verbosity": "warn"}  # the access log says it
    # Always http: the upstream leg decides on TLS, and with https mitmproxy would open a UDP port for HTTP/3 as well.
    server = replace(parse_endpoint(profile.upstream.each_server()[0].url), scheme="http")
    arguments = ["--mode", f"reverse:{server}"]
    for name, value in options.items():
        arguments += ["--set", f"{name}={value}"]
    return arguments


def _overrides(args: argparse.Namespace) -> dict[str, object]:
    given: dict[str, object] = {}
    if args.upstream:
        given["upstream.servers"] = list(args.upstream)
    if args.listen:
        given["listen"] = args.listen
    if args.admin:
        given["admin.listen"] = args.admin
    return given


def _raise_file_limit() -> None:
    """Each client needs up to two sockets, and the usual soft limit of 1024 is met at 500 of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 16
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
