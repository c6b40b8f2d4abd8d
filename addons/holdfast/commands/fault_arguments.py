"""The command line of `holdfast faults`."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add_faults(command: argparse.ArgumentParser, control: Callable[[argparse.ArgumentParser], None]) -> None:
    """`control` adds what every command for a running gateway has."""
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    control(actions.add_parser("list", help="the rules, and how often each has acted"))
    clear = actions.add_parser("clear", help="take rules away")
    clear.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    control(clear)
    one = actions.add_parser("set", help="add a rule, or replace the one of this name")
    one.add_argument("name", metavar="NAME", help="its label; where it is a kind of fault, --fault may be left out")
    one.add_argument("--fault", metavar="KIND", help="latency status reset hang truncate corrupt slow refuse")
    one.add_argument("--at", metavar="PLACE", help="client (default) or upstream")
    one.add_argument("--route", metavar="R", help="only this route, by the router's name")
    one.add_argument("-X", "--method", action="append", default=[], metavar="M", help="only this; may be repeated")
    one.add_argument("--path", metavar="P", help="only this, such as /api/users/{id}")
    one.add_argument("--server", metavar="URL", help="only attempts at this one")
    one.add_argument("--delay", metavar="TIME", help="before it happens, such as 200ms")
    one.add_argument("--jitter", metavar="TIME", help="longer or shorter by so much")
    one.add_argument("--status", metavar="CODE", help="of the answer in place of the true one")
    one.add_argument("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="of that answer")
    one.add_argument("--body", metavar="TEXT", help="of that answer")
    one.add_argument("--after", metavar="SIZE", help="of a body, before it is cut off")
    one.add_argument("--rate", metavar="SIZE", help="bytes a second of a slow body")
    one.add_argument("--share", metavar="PERCENT", help="how likely, such as 20%%")
    one.add_argument("--script", metavar="STEPS", help="for one request after the other, such as fail*2,pass")
    one.add_argument("--repeat", action="store_true", help="the script, again and again")
    one.add_argument("--times", metavar="N", help="over after it has acted so often")
    one.add_argument("--lasts", metavar="TIME", help="over after this time")
    control(one)
