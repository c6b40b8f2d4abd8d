"""The tables of docs/security.md, made from those that the tests run.

`python -m tests.e2e.security_page` writes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from itertools import groupby
from pathlib import Path

from tests.e2e.attacks import ATTACKS, Attack
from tests.e2e.bad_responses import BAD_RESPONSES, BadResponse
from tests.e2e.h2_attacks import HTTP2_ATTACKS, Http2Attack

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
_PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def page(text: str) -> str:
    """The page with its tables as they should be."""
    made = {
        "http1": _table(map(_attack, ATTACKS)),
        "http2": _table(map(_http2_attack, HTTP2_ATTACKS)),
        "responses": _table(map(_response, BAD_RESPONSES)),
    }
    return _PLACE.sub(lambda place: f"{place[1]}\n{made[place[2]]}{place[3]}", text)


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    lines = []
    for group, members in groupby(rows, key=lambda row: row[0]):
        lines += [f"| {group} | What it gets |", "| --- | --- |"]
        lines += [f"| {name} | {gets} |" for _, name, gets in members] + [""]
    return "\n".join(lines)


def _attack(attack: Attack) -> tuple[str, str, str]:
    *_, last = attack.gets
    if attack.refused:
        gets = f"{_status(last)}, `{attack.fault}`"
    elif len(attack.gets) > 1:
        gets = f"{len(attack.gets)} requests, answered in their order"
    else:
        gets = "passes"
    return attack.group, attack.name, gets


def _http2_attack(attack: Http2Attack) -> tuple[str, str, str]:
    if attack.goaway:
        gets = f"the connection ends: GOAWAY `{attack.goaway}`"
    else:
        gets = f"{_status(attack.status)}, `{attack.fault}`" if attack.fault else "passes"
    return attack.group, attack.name, gets


def _response(bad: BadResponse) -> tuple[str, str, str]:
    if bad.status == 502:
        return bad.group, bad.name, "a failure of the server"
    dropped = b"evil" in bad.sent or bad.status == 204
    return bad.group, bad.name, "passes, without what does not belong to it" if dropped else "passes"


def _status(code: int) -> str:
    return f"{code} {HTTPStatus(code).phrase}"


def _names(rows: Iterable[Attack | Http2Attack | BadResponse]) -> Iterator[str]:
    yield from (f"{row.group}: {row.name}" for row in rows)


def doubled() -> set[str]:
    """Names that occur twice within a table."""
    tables = (list(_names(rows)) for rows in (ATTACKS, HTTP2_ATTACKS, BAD_RESPONSES))
    return {name for names in tables for name in names if names.count(name) > 1}


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
