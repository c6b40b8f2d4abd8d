"""`replay` and `redrive`: captures are sent again, by the replayer or by hand."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from holdfast.captures import GIVEN_UP, Capture, State
from holdfast.captures.documents import answer
from holdfast.captures.opening import Places, opened
from holdfast.captures.preparing import prepared
from holdfast.captures.redriving import GONE, UNDER_WAY, Redriven, Redriver
from holdfast.captures.view import Captures
from holdfast.commands.captures import by_hand, text
from holdfast.commands.captures.asking import AT_ONCE, choice, message_of, named, places, remark, say
from holdfast.commands.control import printable
from holdfast.policy.endpoint import Endpoint

_STEPS = 4  # a second, at most
_GROUPED_BY = ("state", "route", "error", "reason")
_HAND = "send it by hand with `holdfast captures replay ID --to URL`, if its request is still kept somewhere"
type Report = Callable[[Sequence[Redriven]], None]


# -- replay -----------------------------------------------------------------------------------------------------------


async def replayed(args: argparse.Namespace) -> int:
    """Each of the ids; 1 where one of them could not be sent."""
    where = places(args)
    to = by_hand.server(args.to) if args.to else None
    ids = list(dict.fromkeys(args.ids))
    async with opened(where) as view:
        chosen = [await named(view, each) for each in ids]
        if to:
            for capture in chosen:
                await _by_hand(args, where, view, capture, to)
            return 0
        _check_that_somebody_replays(where)
        if args.dry_run:
            results = [_foreseen(capture) for capture in chosen]
        else:
            results = await where.redriver(view).redrive(chosen)
    _tell(args, results)
    return 0 if all(each.done for each in results) else 1


async def _by_hand(args: argparse.Namespace, where: Places, view: Captures, capture: Capture, to: Endpoint) -> None:
    request = prepared(where, capture, await message_of(view, capture))
    line = f"{request.method} {request.target}"
    about = {"id": capture.id, "to": to.name, "method": request.method, "target": request.target}
    if args.dry_run:
        headers = by_hand.fields_to_show(request)
        if args.json:
            say(about | {"headers": dict(headers), "body_bytes": len(request.body)}, indent=None)
            return
        fields = [f"{name}: {value}" for name, value in headers.items()]
        shown = [f"{capture.id} would be sent to {to.name}:", "", line, *fields, "", f"{len(request.body)} bytes"]
        print("\n".join(map(printable, shown)))
        return
    told = await asyncio.to_thread(by_hand.send, request, to)
    if args.json:
        document = answer(told.status, told.headers, told.body, told.truncated)
        say(about | {"duration_ms": told.duration_ms, "answer": document}, indent=None)
        return
    print(printable(f"{capture.id}: {line} to {to.name}, answered in {told.duration_ms:.0f} ms"))
    print(f"\n{text.answer(told.status, told.headers, told.body, truncated=told.truncated)}\n")


def _foreseen(capture: Capture) -> Redriven:
    pending = capture.state == "pending"
    return Redriven(capture.id, not pending, UNDER_WAY if pending else f"would be sent again: it is {capture.state}")


def _check_that_somebody_replays(where: Places) -> None:
    """ValueError, saying what to do, where nothing that is put back would ever be sent."""
    if where.is_replayed and where.replayer and where.audit is None:
        raise ValueError("name the audit store of this outbox by --audit: the replayer has to be told as well")
    if where.is_replayed:
        return
    why = "nothing is replayed from its broker" if where.publishes else "the profile has no replayer"
    raise ValueError(f"{why}, so it would not be sent: name a server by `captures replay ID --to URL`")


def _tell(args: argparse.Namespace, results: Sequence[Redriven]) -> None:
    for each in results:
        print(text.line(_document(each)) if args.json else printable(f"{each.id}  {each.detail}"))
    if any(each.gone for each in results):
        remark(_HAND)


def _document(result: Redriven) -> dict[str, object]:
    return {"id": result.id, "redriven": result.done, "detail": result.detail}


# -- redrive ----------------------------------------------------------------------------------------------------------


async def redriven(args: argparse.Namespace) -> int:
    """What would be done; with --yes it is done. 1 where one of them could not be sent again."""
    if not args.rate > 0:
        raise ValueError("--rate is a number above 0")
    chosen = choice(args, GIVEN_UP)
    where = places(args)
    _check_that_somebody_replays(where)
    states: frozenset[State] = chosen.states or frozenset()
    async with opened(where) as view:
        if args.ids:
            wanted = [await named(view, each) for each in dict.fromkeys(args.ids)]
        else:
            wanted = [capture async for capture in view.each(chosen)]
        # Oldest first: those of one key go in the order in which they were captured.
        wanted = sorted(wanted, key=lambda each: (each.captured, each.id))[: args.limit]
        if not args.yes:
            _foretell(args, wanted, states)
            return 0
        results = await _paced(args, where.redriver(view), view, wanted, states)
    return 0 if all(each.done for each in results) else 1


def _foretell(args: argparse.Namespace, wanted: Sequence[Capture], states: frozenset[State]) -> None:
    would = [capture for capture in wanted if capture.state in states]
    groups = Counter((each.state, each.route, each.error, each.reason) for each in would)
    others = [_passed_over(each, states) for each in wanted if each.state not in states]
    if args.json:
        say(
            {
                "dry_run": True,
                "would_redrive": len(would),
                "groups": [dict(zip(_GROUPED_BY, group, strict=True)) | {"captures": n} for group, n in groups.items()],
                "passed_over": [_document(each) for each in others],
            }
        )
        return
    if would:
        print(text.counted(groups.items(), _GROUPED_BY))
    for each in others:
        print(printable(f"{each.id}  {each.detail}"))
    remark(f"{len(would)} captures would be sent again, {args.rate:g} a second; add --yes to do it")


def _passed_over(capture: Capture, states: frozenset[State]) -> Redriven:
    wanted = " and ".join(sorted(states))
    return Redriven(capture.id, False, f"passed over: it is {capture.state}, and --state asks for {wanted}")


async def _paced(
    args: argparse.Namespace, redriver: Redriver, view: Captures, wanted: list[Capture], states: frozenset[State]
) -> list[Redriven]:
    """In small steps. What has changed meanwhile is looked at again before each."""
    results: list[Redriven] = []
    size = max(1, min(AT_ONCE, int(args.rate / _STEPS)))
    with _reporting(args, len(wanted)) as report:
        for start in range(0, len(wanted), size):
            began = time.monotonic()
            ids = [each.id for each in wanted[start : start + size]]
            now = await view.of(ids)
            ours = [now[each] for each in ids if each in now and now[each].state in states]
            others = {each: now[each] for each in ids if each in now and now[each].state not in states}
            done = [*await redriver.redrive(ours), *(_passed_over(each, states) for each in others.values())]
            done += [Redriven(each, False, GONE, gone=True) for each in ids if each not in now]
            report(done)
            results += done
            if start + size < len(wanted):
                await asyncio.sleep(max(0.0, len(ids) / args.rate - (time.monotonic() - began)))
    count = sum(each.done for each in results)
    if args.json or not sys.stdout.isatty():
        print(text.line({"redriven": count, "of": len(results)}))
    else:
        _tell(args, [each for each in results if not each.done])
        print(f"{count} of {len(results)} captures are sent again; `holdfast captures list` tells what becomes of them")
    return results


@contextmanager
def _reporting(args: argparse.Namespace, total: int) -> Iterator[Report]:
    """A bar on a terminal, a line of JSON for each everywhere else."""
    if args.json or not sys.stdout.isatty():
        yield lambda done: print(*(text.line(_document(each)) for each in done), sep="\n", flush=True)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(TextColumn("redriving"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.advance(task, len(done))
