"""JSON texts laid out for people: one member a line, and not a character changed of any name, string or number."""

from __future__ import annotations

import json
import re

_PIECES = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_INDENT = "  "


def indented(text: str, longest: int) -> str | None:
    """The text laid out, or as it is where that would be more than `longest` characters. None if it is not JSON.

    Numbers are not read and written again: 1.10 stays 1.10, and so do members that are there twice.
    """
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    laid_out = _laid_out(_PIECES.findall(text), longest)
    return text.strip() if laid_out is None else laid_out


def _laid_out(pieces: list[str], longest: int) -> str | None:
    out: list[str] = []
    depth = size = 0
    for place, piece in enumerate(pieces):
        before = pieces[place - 1] if place else ""
        if piece in ("}", "]"):
            depth -= 1
        ends = piece in ("}", "]")
        if before != "," and ends == (before in ("{", "[")):  # beside a colon, or in an empty pair of brackets
            added = f" {piece}" if before == ":" else piece
        else:
            added = "\n" + _INDENT * depth + piece
        if piece in ("{", "["):
            depth += 1
        size += len(added)
        if size > longest:
            return None
        out.append(added)
    return "".join(out)


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
