"""A captured request as a curl command, for pasting into bash or zsh.

What arrives is the request as it was captured, byte for byte, without the fields that belong to a connection or carry
the framing; curl adds none of its own but `Host` and, to a body, its length. The text is printable ASCII, whatever
the client has sent: other bytes are written as $'\\351'.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Iterable

from holdfast.policy.envelope import CapturedRequest
from holdfast.policy.hop_by_hop import end_to_end
from holdfast.policy.redaction import MASK
from holdfast.policy.replaying.requests import has_sendable_line, is_sendable
from holdfast.policy.wire import header_fields, wire_bytes, wire_text

LONGEST_ARGUMENT = 65_536  # Linux takes 131,072 bytes in one; quoting may double what is quoted
_NOT_WRITTEN = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect", b"trailer", b"te"})
_CURLS_OWN = (b"user-agent", b"accept")  # sent unless they are taken out
_WITH_A_BODY = frozenset({"POST", "PUT", "PATCH"})
# A path that curl passes on as it stands: no dot segments, none of the marks that it expands.
_PLAIN_TARGET = re.compile(
    r"/(?!\.)(?:[A-Za-z0-9_~%:@!$&'()*+,;=-]|\.|/(?!\.))*(?:\?[A-Za-z0-9_~%:@!$&'()*+,;=./?-]*)?"
)


def curl_command(record: CapturedRequest, base: str) -> str:
    """Several lines, the first ones comments on what is missing. `base`: scheme, host and port, no path.

    ValueError, saying why, for a record that is no request which could be sent.
    """
    if not has_sendable_line(record.method, record.uri):
        raise ValueError("its method or its target is not one that can be sent")
    body = record.body_bytes()
    fields = end_to_end(header_fields(record.headers))
    comments = list(_comments(record, fields))
    kept = [(name, value) for name, value in fields if name not in _NOT_WRITTEN and not _is_left_out(name, value)]
    piped = len(body) > LONGEST_ARGUMENT or not _is_text(body)
    words = [*_target(record, base), *map(_header, kept), *_taken_out(kept, body), *_body(record, body, piped)]
    command = " \\\n  ".join(["curl -i", *words])
    if piped:
        command = f"printf %s {base64.b64encode(body).decode()} | base64 -d | {command}"
    return "\n".join([*comments, command])


def quoted(value: bytes) -> str:
    """One word of a shell command. NUL, which no argument can hold, is left out."""
    value = value.replace(b"\0", b"")
    if all(0x20 <= byte <= 0x7E for byte in value):
        return shlex.quote(value.decode("ascii"))
    return "$'" + "".join(map(_escaped, value)) + "'"


def _escaped(byte: int) -> str:
    if byte in b"'\\":
        return "\\" + chr(byte)
    if byte in b"\n\t\r":
        return {10: "\\n", 9: "\\t", 13: "\\r"}[byte]
    # Three octal digits: whatever follows cannot become a part of it.
    return chr(byte) if 0x20 <= byte <= 0x7E else f"\\{byte:03o}"


def _target(record: CapturedRequest, base: str) -> list[str]:
    words = []
    if record.method == "HEAD" and not record.body:
        words.append("--head")
    elif record.method != "GET" or record.body:
        words.append(f"-X {quoted(wire_bytes(record.method))}")
    if _PLAIN_TARGET.fullmatch(record.uri):
        return [*words, quoted(wire_bytes(base.rstrip("/") + record.uri))]
    return [*words, f"--request-target {quoted(wire_bytes(record.uri))}", quoted(wire_bytes(base.rstrip("/") + "/"))]


def _header(field: tuple[bytes, bytes]) -> str:
    name, value = field
    return f"-H {quoted(name + b': ' + value if value else name + b';')}"  # `name:` would take it out


def _taken_out(kept: Iterable[tuple[bytes, bytes]], body: bytes) -> list[str]:
    """Fields that curl would add."""
    names = {name for name, _ in kept}
    own = (*_CURLS_OWN, b"content-type", b"expect") if body else (*_CURLS_OWN, b"content-type")
    return [f"-H {quoted(name + b':')}" for name in own if name not in names]


def _body(record: CapturedRequest, body: bytes, piped: bool) -> list[str]:
    if piped:
        return ["--data-binary @-"]
    if body or ("content-length" in record.headers and record.method in _WITH_A_BODY):
        return [f"--data-raw {quoted(body)}"]
    return []


def _is_text(body: bytes) -> bool:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(each.isprintable() or each in "\n\r\t" for each in text)


def _is_left_out(name: bytes, value: bytes) -> bool:
    return value == MASK.encode() or not is_sendable(name, value)


def _comments(record: CapturedRequest, fields: Iterable[tuple[bytes, bytes]]) -> Iterable[str]:
    for name, value in fields:
        if value == MASK.encode():
            yield f"# redacted: add  -H '{_shown(name)}: ...'"
        elif not is_sendable(name, value):
            yield f"# left out: the header field {_shown(name)}, which cannot be sent"
    for masked in record.redacted:
        is_said = masked.startswith("header:") and masked.count(":") == 1
        if not is_said and not masked.startswith(("response.", "backend_url:")):  # which are not of the request
            yield f"# redacted: {_shown(wire_bytes(masked))}, in whose place {MASK} is sent"
    if record.body_truncated:
        yield "# cut short: the body is only the beginning of what was sent"


def _shown(name: bytes) -> str:
    return "".join(c if " " <= c <= "~" and c != "'" else "?" for c in wire_text(name))[:200]
