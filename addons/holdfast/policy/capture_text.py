"""A capture as people read it: the envelope, as a message of Kafka too, or with what became of it (GET /captures/ID).

Lenient where `envelope.from_json` is strict: of a record that is damaged, or of a newer schema, it shows what there is.
What it makes is bounded, however large the record.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

LARGEST = 4 << 20  # bytes that are parsed: more would hold up everything else
_SHOWN_TEXT, _SHOWN_BYTES, _SHOWN_ROWS, _SHOWN_VALUE, _MESSAGES = 8000, 512, 60, 400, 20
_ENVELOPE = ("method", "uri", "headers", "error_reason")
_MARKS = (b'"error_reason"', b'\\"error_reason\\"', b"ZXJyb3JfcmVhc29u", b"Vycm9yX3JlYXNvb", b"lcnJvcl9yZWFzb2")

type Document = Mapping[str, Any]


def looks_like_one(data: bytes) -> bool:
    """A quick look, before it is parsed: for a name that each envelope has, as JSON, as text in JSON, or in base64."""
    head = data[:64].lstrip()[:1]
    return len(data) <= LARGEST and head in (b"{", b"[") and any(mark in data for mark in _MARKS)


def capture_text(data: bytes) -> str:
    """ValueError where there is no capture in it."""
    if len(data) > LARGEST:
        raise ValueError(f"{len(data)} bytes are too many to be shown as a capture: {LARGEST} at most")
    documents, count = _documents(data)
    found = [_message_text(each) for each in documents]
    if not any(found):
        raise ValueError("there is no capture in it")
    shown = [text or "(a message that holds no capture)" for text in found]
    if count > _MESSAGES:
        shown.append(f"... and {count - _MESSAGES} more")
    return f"\n\n{'-' * 72}\n\n".join(shown) + "\n"


def _documents(data: bytes) -> tuple[list[object], int]:
    """One document, a list of them, or one a line: the first, and how many there are."""
    text = data.decode("utf-8", "replace")
    try:
        try:
            found = json.loads(text)
        except ValueError:
            lines = [line for line in text.splitlines() if line and not line.isspace()]
            return [json.loads(line) for line in lines[:_MESSAGES]], len(lines)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return (found[:_MESSAGES], len(found)) if isinstance(found, list) else ([found], 1)


def _message_text(document: object) -> str:
    """Empty where it is no capture."""
    if not isinstance(document, dict):
        return ""
    if _is_envelope(document):
        return _text({}, document)
    if _is_envelope(document.get("request")) or ("replays" in document and "captured" in document):
        request = document.get("request")
        return _text(document, request if isinstance(request, dict) else None)
    for name in ("value", "payload"):
        envelope = _inner(document.get(name))
        if envelope:
            return f"{_kafka(document)}\n\n{_text({}, envelope)}"
    return ""


def _is_envelope(document: object) -> bool:
    return isinstance(document, dict) and all(name in document for name in _ENVELOPE)


def _inner(value: object) -> Document | None:
    """What a message's value holds: an envelope, or the text of one, or that in base64."""
    if isinstance(value, str) and len(value) <= LARGEST:
        text = value if value.lstrip().startswith("{") else _from_base64(value)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) and _is_envelope(value) else None


def _from_base64(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


# -- parts ------------------------------------------------------------------------------------------------------------


def _kafka(message: Document) -> str:
    rows = [(name, message[name]) for name in ("topic", "partition", "offset", "key") if message.get(name) is not None]
    headers = [(f"header {name}", value) for name, value in _kafka_headers(message.get("headers"))]
    return "\n".join(["Kafka message", *_aligned([*rows, *headers][:_SHOWN_ROWS])])


def _kafka_headers(given: object) -> Iterator[tuple[object, object]]:
    """An object; a list of pairs or of {key, value}; or names and values in turn, as kcat writes them."""
    if isinstance(given, dict):
        yield from given.items()
    if not isinstance(given, list):
        return
    if all(isinstance(each, str) for each in given):
        yield from zip(given[::2], given[1::2], strict=False)
    for each in given:
        if isinstance(each, dict):
            yield each.get("key", each.get("name", "?")), each.get("value", each.get("stringValue", ""))
        elif isinstance(each, list) and len(each) == 2:
            yield each[0], each[1]


def _text(about: Document, envelope: Document | None) -> str:
    request = envelope or {}
    parts = [
        "\n".join([f"Capture {_line(request.get('id') or about.get('id'))}", *_aligned(_facts(about, request))]),
        _attempts("Attempts", request.get("attempts")),
        _attempts("Replays", about.get("replays")),
        _request(request) if envelope is not None else "The request is not kept here any more.",
        _answer("The upstream's last answer", request.get("response")),
    ]
    replays = about.get("replays")
    last = replays[-1] if isinstance(replays, list) and replays else None
    parts.append(_answer("What the last replay was answered", last.get("answer") if isinstance(last, dict) else None))
    return "\n\n".join(part for part in parts if part)


def _facts(about: Document, request: Document) -> list[tuple[str, object]]:
    why = ": ".join(_line(request[name]) for name in ("error", "error_reason") if request.get(name))
    took = request.get("duration_ms")
    facts = [
        ("state", " ".join(_line(each) for each in (about.get("state"), about.get("reason")) if each)),
        ("when", _moment(request.get("timestamp", about.get("captured")))),
        ("from", request.get("remote_addr")),
        ("request", f"{_line(request.get('method'))} {_line(request.get('uri'))}" if request else about.get("path")),
        ("route", request.get("route") or about.get("route")),
        ("request id", request.get("request_id")),
        ("why", why or about.get("error")),
        ("answered", f"after {took:.0f} ms" if isinstance(took, int | float) and abs(took) < 1e15 else None),
        ("server", request.get("backend_url")),
        ("key", about.get("key")),
        ("idempotency", request.get("idempotency_key")),
        ("redacted", _redacted(request)),
        ("settled", _moment(about.get("settled")) if about.get("settled") else None),
        ("schema", request.get("schema")),
    ]
    return [(name, value) for name, value in facts if value not in (None, "")]


def _redacted(request: Document) -> str:
    names = request.get("redacted")
    if not isinstance(names, list) or not names:
        return ""
    listed = ", ".join(_line(name) for name in names[:_SHOWN_ROWS])
    return listed + (" (sealed: HOLDFAST_SEAL_KEY opens it)" if request.get("sealed") else " (masked)")


def _attempts(title: str, given: object) -> str:
    if not isinstance(given, list) or not given:
        return ""
    rows: list[Sequence[str]] = [("#", "server", "status", "error", "ms")]
    for number, each in enumerate(given[:_SHOWN_ROWS], 1):
        tried = each if isinstance(each, dict) else {"error": each}
        cells = [_line(_else_empty(tried.get(name))) for name in ("server", "status", "error", "duration_ms")]
        rows.append((str(number), *cells))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    more = [f"... and {len(given) - _SHOWN_ROWS} more"] if len(given) > _SHOWN_ROWS else []
    return "\n".join([title, *(f"  {line}" for line in (*lines, *more))])


def _request(request: Document) -> str:
    lines = ["Request", f"  {_line(request.get('method'))} {_line(request.get('uri'))}"]
    return "\n".join([*lines, *_headers(request), *_body(request)])


def _answer(title: str, given: object) -> str:
    if not isinstance(given, dict):
        return ""
    return "\n".join([title, f"  status {_line(given.get('status'))}", *_headers(given), *_body(given)])


def _headers(message: Document) -> Iterator[str]:
    headers = message.get("headers")
    pairs = list(headers.items()) if isinstance(headers, dict) else []
    for name, value in pairs[:_SHOWN_ROWS]:
        for each in value[:_SHOWN_ROWS] if isinstance(value, list) else [value]:
            yield f"  {_line(name)}: {_line(each)}"
    if len(pairs) > _SHOWN_ROWS:
        yield f"  ... and {len(pairs) - _SHOWN_ROWS} more"


def _body(message: Document) -> Iterator[str]:
    """Text as it is, JSON indented; of what is no text the beginning as a hex dump."""
    text = message.get("body")
    if not isinstance(text, str) or not text:
        return
    raw = _raw(text, message.get("body_encoding"))
    if raw is not None:
        try:
            text = raw.decode("utf-8")
            raw = None if "\0" not in text else raw
        except UnicodeDecodeError:
            pass
    yield ""
    if raw is not None:
        yield from (f"  {line}" for line in _hexdump(raw[:_SHOWN_BYTES]))
        size, shown = len(raw), _SHOWN_BYTES
    else:
        pretty = _pretty(text)
        yield from (f"  {_printable(line)}" for line in pretty[:_SHOWN_TEXT].split("\n"))
        size, shown = len(pretty), _SHOWN_TEXT
    if size > shown:
        yield f"  ... {size} {'characters' if raw is None else 'bytes'} in all"
    if message.get("body_truncated"):
        yield "  (cut short when it was kept)"


def _raw(text: str, encoding: object) -> bytes | None:
    if encoding != "base64":
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _pretty(text: str) -> str:
    if text[:1] not in "{[" or len(text) > _SHOWN_TEXT:
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _hexdump(raw: bytes) -> Iterator[str]:
    for start in range(0, len(raw), 16):
        row = raw[start : start + 16]
        plain = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        yield f"{start:06x}  {row.hex(' '):<47}  {plain}"


# -- words ------------------------------------------------------------------------------------------------------------


def _aligned(rows: Sequence[tuple[object, object]]) -> list[str]:
    named = [(_line(name), value) for name, value in rows]
    width = max((len(name) for name, _ in named), default=0)
    return [f"  {name:<{width}}  {_line(value)}" for name, value in named]


def _moment(given: object) -> str:
    if not isinstance(given, int | float) or isinstance(given, bool):
        return ""
    try:
        return datetime.fromtimestamp(given, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
    except (OverflowError, ValueError, OSError):
        return _line(given)


def _else_empty(value: object) -> object:
    return "" if value is None else value


def _line(value: object) -> str:
    """In one line, bounded, and nothing in it that a terminal would act on."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    shown = text if len(text) <= _SHOWN_VALUE else f"{text[:_SHOWN_VALUE]}... ({len(text)} characters)"
    return _printable(shown).replace("\t", " ")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\t" if c == "\t" else "?" for c in text)
