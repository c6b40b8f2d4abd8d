"""`list`, `show` and `export`: nothing changes."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import TextIO

from holdfast.audit import AttemptLog
from holdfast.captures.documents import readable, summary, whole
from holdfast.captures.merging import is_chosen
from holdfast.captures.opening import opened
from holdfast.captures.view import PAGE, Captures
from holdfast.commands.captures import by_hand, text
from holdfast.commands.captures.asking import choice, message_of, named, places, profile_of, remark, say
from holdfast.errors import HoldfastError
from holdfast.outbox import OutboxRecord
from holdfast.policy.endpoint import base_url
from holdfast.policy.envelope import CapturedRequest, from_json
from holdfast.policy.replaying.curl import curl_command


async def listed(args: argparse.Namespace) -> int:
    """A table, or a JSON list."""
    chosen = choice(args)
    async with opened(places(args)) as view:
        found = await view.newest(chosen, args.limit)
    if args.json:
        say([summary(capture) for capture in found])
        return 0
    print(text.list_table(found, time.time()))
    if not found:
        remark("no captures")
    return 0


async def shown(args: argparse.Namespace) -> int:
    """All there is of one."""
    base = by_hand.server(args.url).name if args.url else base_url(profile_of(args).listen)
    async with opened(places(args)) as view:
        capture = await named(view, args.id)
        if args.curl:
            record = from_json((await message_of(view, capture)).value)
            command = _curl(record, base)
            if args.json:
                say({"id": capture.id, "curl": command})
            else:
                print(command)
            return 0
        message, replays = await view.message(capture.id), await view.attempts(capture.id)
    if args.json:
        say(whole(capture, message, replays))
        return 0
    about = readable(message)
    parts = [text.about(capture, about, time.time()), text.attempts(about, replays), _last_answer(about, replays)]
    parts.append(_request(about, base) if about else "The request is not kept here any more, or cannot be read.")
    print("\n\n".join(part for part in parts if part))
    return 0


def _last_answer(record: CapturedRequest | None, replays: list[AttemptLog]) -> str:
    last = next((each for each in reversed(replays) if each.status is not None), None)
    if last and last.status is not None:
        shown = text.answer(last.status, last.headers, last.body, truncated=last.body_truncated)
        return f"The last replay was answered:\n\n{shown}"
    if record and record.response:
        told = record.response
        shown = text.answer(told.status, told.headers, told.body_bytes(), truncated=told.body_truncated)
        return f"The upstream had answered:\n\n{shown}"
    return ""


def _request(record: CapturedRequest, base: str) -> str:
    try:
        return f"The request as a curl command:\n\n{curl_command(record, base)}"
    except ValueError as error:
        return f"The request cannot be written as a curl command: {error}"


def _curl(record: CapturedRequest, base: str) -> str:
    try:
        return curl_command(record, base)
    except ValueError as error:
        raise HoldfastError(f"{record.id} cannot be written as a curl command: {error}") from error


# -- export -----------------------------------------------------------------------------------------------------------


async def exported(args: argparse.Namespace) -> int:
    """The envelopes as they are published, one JSON object a line."""
    with _destination(args) as file:
        async with opened(places(args)) as view:
            count = await _write_lines(args, view, file)
    if args.output:
        remark(f"{count} captures written to {args.output}")
    return 0


def _destination(args: argparse.Namespace) -> AbstractContextManager[TextIO]:
    return Path(args.output).open("w", encoding="utf-8") if args.output else nullcontext(sys.stdout)


async def _write_lines(args: argparse.Namespace, view: Captures, file: TextIO) -> int:
    count = 0
    async for record in _records(args, view):
        if count == args.limit:
            break
        envelope = record.value.decode()
        # To a terminal in ASCII, which is the same JSON: what is in it must not reach it as a control sequence.
        file.write((text.line(json.loads(envelope)) if file.isatty() else envelope) + "\n")
        count += 1
    return count


async def _records(args: argparse.Namespace, view: Captures) -> AsyncIterator[OutboxRecord]:
    """Those of the outbox whose captures are chosen."""
    chosen = choice(args)
    if view.outbox is None:
        raise HoldfastError("there is no outbox to export from: name its file by --outbox")
    records = view.outbox.export(route=chosen.route, error=chosen.error, since=chosen.since)
    while page := await asyncio.to_thread(lambda: list(islice(records, PAGE))):
        merged = await view.merged(page)
        for record, capture in zip(page, merged, strict=True):
            if is_chosen(capture, chosen):
                yield record
