"""`holdfast doctor`: examines this machine and a profile, and says what to do; nothing is changed anywhere."""

from __future__ import annotations

import argparse
import json
import os
import sys

from holdfast.doctor.examining import examine
from holdfast.doctor.finding import worst
from holdfast.doctor.report import document, text


def doctor(args: argparse.Namespace) -> int:
    """0 where nothing fails, warnings or not, else 1."""
    findings = examine(args.profile, os.environ)
    if args.json:
        print(json.dumps(document(args.profile, findings), indent=2))
    else:
        colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        print(text(args.profile, findings, colours=colours))
    return 1 if worst(findings) == "failing" else 0
