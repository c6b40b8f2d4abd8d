"""The command `holdfast`: parses, calls, exits. 0 done, 1 failed while running, 2 usage or profile fault."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from holdfast.commands.captures.arguments import add_captures
from holdfast.commands.fault_arguments import add_faults
from holdfast.engine.deferring import load_addons
from holdfast.errors import EngineMismatch, HoldfastError, ProfileError
from holdfast.garbage import pause

DEFAULT_PROFILE = "sidecar"
_ELSEWHERE = {"captures": "captures.acting", "profiles": "check"}
"""Commands whose function, of the same name, is not in the module of that name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Everything behind a bare -- is for mitmproxy; argparse would take it apart.
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    args = parser().parse_args(arguments[:cut])
    args.mitmproxy_args = arguments[cut + 1 :]
    try:
        return _call(args)
    except (ProfileError, EngineMismatch, ValueError) as e:
        print(e if isinstance(e, ProfileError) else f"holdfast: {e}", file=sys.stderr)
        return 2
    except HoldfastError as e:
        print(f"holdfast: {e}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader has had enough, as `head` has: nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _call(args: argparse.Namespace) -> int:
    """Import only what the command needs: `captures` must not wait for mitmproxy."""
    command = args.command
    if command == "origin":
        from holdfast.origin import main_origin

        main_origin(args.host, args.port)
        return 0
    if command in ("run", "consume"):
        pause()
        load_addons()
    if command == "check" and _plays(args):
        command = "rehearse"
    module = importlib.import_module(f"holdfast.commands.{_ELSEWHERE.get(command, command)}")
    return int(getattr(module, command)(args))


def _plays(args: argparse.Namespace) -> bool:
    """Whether the profile's tests are to be played. ValueError for options that would do nothing without."""
    if args.test is None and (args.inherited or args.junit or args.with_stores):
        raise ValueError("--inherited, --junit and --with-stores are about tests: add --test")
    return args.test is not None


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="holdfast", description="A fault-tolerant gateway made of mitmproxy addons.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _run(commands.add_parser("run", help="start the gateway", epilog="What follows -- is passed on to mitmproxy."))
    _consume(
        commands.add_parser("consume", help="replay what was captured", epilog="What follows -- is for mitmproxy.")
    )
    check = commands.add_parser("check", help="every fault of a profile at once, or its resolved chain")
    check.add_argument("profile", nargs="?", default=_default_profile(), metavar="PROFILE")
    check.add_argument("--schema", action="store_true", help="print the JSON Schema of profiles instead")
    check.add_argument("--json", action="store_true", help="the resolved profile as JSON, secrets masked")
    _rehearse(check)
    profiles = commands.add_parser("profiles", help="the shipped profiles, a line each")
    profiles.add_argument("--json", action="store_true")
    origin = commands.add_parser("origin", help="the sample backend")
    origin.add_argument("--host", default="127.0.0.1")
    origin.add_argument("--port", type=int, default=3000)
    add_captures(commands.add_parser("captures", help="the requests that were captured"), _profile)
    _purge(commands.add_parser("purge", help="make stored responses of a running gateway unusable, or stale"))
    _explain(commands.add_parser("explain", help="what a running gateway would do with a request, and why"))
    add_faults(commands.add_parser("faults", help="what fails on purpose in a running gateway"), _control)
    _top(commands.add_parser("top", help="a live view of a running gateway"))
    doctor = commands.add_parser("doctor", help="what is wrong with this machine and a profile, and what to do")
    _profile(doctor)
    doctor.add_argument("--json", action="store_true", help="for programs")
    return top


def _run(run: argparse.ArgumentParser) -> None:
    _profile(run)
    run.add_argument("--upstream", action="append", metavar="URL", help="in place of the profile's; may be repeated")
    run.add_argument("--listen", metavar="[HOST:]PORT", help="in place of the profile's")
    run.add_argument("--admin", metavar="[HOST:]PORT", help="in place of the profile's admin.listen")
    run.add_argument("--web", action="store_true", help="under mitmweb, to look at requests in a browser")
    run.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share the port; default: 1")


def _consume(consume: argparse.ArgumentParser) -> None:
    _profile(consume)
    consume.add_argument(
        "--upstream", action="append", metavar="URL", help="in place of the profile's; may be repeated"
    )
    consume.add_argument("--admin", metavar="[HOST:]PORT", help="health and metrics of the consumer; default: none")


def _rehearse(check: argparse.ArgumentParser) -> None:
    tests = check.add_argument_group("the tests that the profile carries")
    tests.add_argument(
        "--test",
        nargs="?",
        const="",
        metavar="PATTERN",
        help="play them, or those with such a name; 0: all came as it was to, 1: some did not",
    )
    tests.add_argument("--inherited", action="store_true", help="those of the profiles that it extends, too")
    tests.add_argument("--junit", metavar="FILE", help="write what became of them as XML for CI")
    tests.add_argument("--with-stores", action="store_true", help="use the profile's own Redis, Kafka, PostgreSQL")


def _purge(purge: argparse.ArgumentParser) -> None:
    _control(purge)
    purge.add_argument("--tag", action="append", default=[], metavar="T", help="a surrogate key; may be repeated")
    purge.add_argument("--url", action="append", default=[], metavar="U", help="as clients write it; may be repeated")
    purge.add_argument("--all", action="store_true", help="everything")
    purge.add_argument("--soft", action="store_true", help="stale instead of unusable: it may still serve in need")


def _explain(explain: argparse.ArgumentParser) -> None:
    _control(explain)
    explain.add_argument("target", metavar="URL", help="as clients write it, like http://127.0.0.1:8080/api/users/1")
    explain.add_argument("-X", "--method", default="GET")
    explain.add_argument("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="may be repeated")


def _top(view: argparse.ArgumentParser) -> None:
    _control(view)
    view.add_argument("--interval", default="1s", metavar="TIME", help="between two readings; default: 1s")
    view.add_argument("--once", action="store_true", help="one frame with the rates of one interval, and exit")


def _control(action: argparse.ArgumentParser) -> None:
    """What every command for a running gateway has."""
    _profile(action)
    action.add_argument("--admin", metavar="[HOST:]PORT", help="in place of the profile's admin.listen")
    action.add_argument("--json", action="store_true", help="for programs")


def _profile(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--profile",
        default=_default_profile(),
        metavar="NAME|FILE",
        help=f"default: the environment's HOLDFAST_PROFILE, else {DEFAULT_PROFILE}",
    )


def _default_profile() -> str:
    return os.environ.get("HOLDFAST_PROFILE") or DEFAULT_PROFILE
