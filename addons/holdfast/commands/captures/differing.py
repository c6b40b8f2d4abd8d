"""`diff`: the answer of a replay beside the one that was recorded when the request was captured.

Both are redacted by the profile's rules first, so that no secret shows and none makes a difference.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict, replace

from mitmproxy.net import encoding

from holdfast.audit import AttemptLog
from holdfast.captures.opening import Places, opened
from holdfast.captures.preparing import prepared
from holdfast.commands.captures import by_hand, text
from holdfast.commands.captures.asking import message_of, named, places, remark, say
from holdfast.commands.control import printable
from holdfast.failure_sink import FailureSinkSettings, redaction_rules
from holdfast.policy.envelope import CapturedRequest, UpstreamAnswer, from_json
from holdfast.policy.redaction import redact
from holdfast.policy.replaying.compare import NOISY_HEADERS, NoiseRules, Observed, compare
from holdfast.policy.wire import HeaderMap, encode_body, first_value

SAME, DIFFERENT, NOTHING_TO_COMPARE = 0, 1, 2


async def compared(args: argparse.Namespace) -> int:
    """0: no difference that counts; 1: there are some; 2: one of the answers is missing. ValueError for a path."""
    rules = _noise(args)
    where = places(args)
    to = by_hand.server(args.to) if args.to else None
    async with opened(where) as view:
        capture = await named(view, args.id)
        message = await message_of(view, capture)
        record, last = from_json(message.value), _last_answered(await view.attempts(capture.id))
    replay = _of_log(last) if last else None
    if to:
        sent = await asyncio.to_thread(by_hand.send, prepared(where, capture, message), to)
        now = _answer(sent.status, sent.headers, sent.body, sent.truncated)
        recorded, replay = _against(args, record.response, replay), now
    else:
        recorded = record.response
    if recorded is None or replay is None:
        return _cannot(args, capture.id, capture.error, recorded, replay)
    one, other = (_observed(record, each, where) for each in (recorded, replay))
    found = compare(one, other, rules)
    if args.json:
        both = {"recorded": {"status": one.status}, "replayed": {"status": other.status}}
        say({"id": capture.id, "same": not found, **both, "differences": [asdict(each) for each in found]})
    elif found:
        print(text.table([("where", "recorded", "replayed"), *((e.where, e.recorded, e.replayed) for e in found)]))
    else:
        print(printable(f"{capture.id}: no difference"))
    return DIFFERENT if found else SAME


def _noise(args: argparse.Namespace) -> NoiseRules:
    return NoiseRules(
        headers=NOISY_HEADERS | frozenset(args.ignore_header),
        json_paths=tuple(args.ignore),
        timestamps=args.ignore_times,
        uuids=args.ignore_uuids,
    )


def _last_answered(attempts: list[AttemptLog]) -> AttemptLog | None:
    return next((each for each in reversed(attempts) if each.status is not None), None)


def _against(
    args: argparse.Namespace, recorded: UpstreamAnswer | None, replay: UpstreamAnswer | None
) -> UpstreamAnswer | None:
    if args.against == "recorded":
        return recorded
    return replay if args.against == "replay" else recorded or replay


def _cannot(
    args: argparse.Namespace, capture_id: str, error: str, first: UpstreamAnswer | None, second: UpstreamAnswer | None
) -> int:
    """Why there is nothing to compare."""
    why = []
    if first is None:
        why.append(f"no answer was recorded: it was captured because of {error}")
    if second is None:
        why.append("no replay has been answered yet; --to sends it now")
    elif first is None:
        why.append("`captures show` has the answer of the replay")
    if args.json:
        say({"id": capture_id, "same": None, "why": "; ".join(why), "differences": []})
    else:
        remark(printable(f"{capture_id}: nothing to compare: {'; '.join(why)}"))
    return NOTHING_TO_COMPARE


# -- answers ----------------------------------------------------------------------------------------------------------


def _of_log(log: AttemptLog) -> UpstreamAnswer:
    assert log.status is not None
    return _answer(log.status, log.headers, log.body, log.body_truncated)


def _answer(status: int, headers: HeaderMap, body: bytes, truncated: bool) -> UpstreamAnswer:
    written, how = encode_body(body, first_value(headers, "content-type"))
    return UpstreamAnswer(status=status, headers=headers, body=written, body_encoding=how, body_truncated=truncated)


def _observed(record: CapturedRequest, answer: UpstreamAnswer, where: Places) -> Observed:
    """Without its content coding, redacted, as the comparison takes it."""
    headers, body = _decoded(answer.headers, answer.body_bytes(), answer.body_truncated)
    plain = _answer(answer.status, headers, body, answer.body_truncated)
    rules = redaction_rules((where.sink or FailureSinkSettings()).redact)
    told = redact(replace(record, response=plain), rules).record.response
    assert told
    return Observed(told.status, told.headers, told.body_bytes(), truncated=told.body_truncated)


def _decoded(headers: HeaderMap, body: bytes, truncated: bool) -> tuple[HeaderMap, bytes]:
    """What is cut short, or is not coded as it says, stays as it is."""
    coding = first_value(headers, "content-encoding")
    if not coding or truncated:
        return headers, body
    try:
        decoded: bytes = encoding.decode(body, coding)  # type: ignore[assignment]  # of bytes it makes bytes
    except ValueError:
        return headers, body
    return {name: value for name, value in headers.items() if name != "content-encoding"}, decoded
