"""`captures show --curl`, pasted into bash: what arrives is what was captured."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from holdfast.policy.envelope import CapturedRequest, encode_body, header_map
from holdfast.policy.hop_by_hop import end_to_end
from holdfast.policy.replaying.curl import curl_command
from holdfast.policy.wire import wire_bytes, wire_text
from holdfast.testing import MisbehavingOrigin

pytestmark = pytest.mark.any_engine

Fields = list[tuple[bytes, bytes]]
FRAMING = {b"host", b"content-length"}
JSON = (b"content-type", b"application/json")
ODD = b"a 'quoted' \"value\" $HOME `id` \\ ! # ; & | > * ? ~ \t caf\xe9 \xc3\xa9 %41"
CASES: dict[str, tuple[str, bytes, Fields, bytes]] = {
    "a plain POST": ("POST", b"/api/users?x=1&y=%20", [JSON], b'{"a": 1}'),
    "a GET": ("GET", b"/", [(b"accept", b"*/*"), (b"user-agent", b"client/1.0")], b""),
    "no header at all": ("GET", b"/a", [], b""),
    "HEAD": ("HEAD", b"/a", [], b""),
    "DELETE with a body": ("DELETE", b"/a", [JSON], b"[1]"),
    "a method of its own": ("BREW", b"/pot", [], b""),
    "POST of nothing": ("POST", b"/a", [(b"content-length", b"0")], b""),
    "odd values": ("PUT", b"/a", [(b"x-odd", ODD), (b"x-empty", b""), (b"x-two", b"1"), (b"x-two", b"2")], ODD),
    "bytes": ("POST", b"/a", [(b"content-type", b"application/octet-stream")], bytes(range(256)) * 40),
    "a NUL": ("POST", b"/a", [], b"a\0b"),
    "line ends": ("POST", b"/a", [], b"a\r\nb\n\n"),
    "like a file": ("POST", b"/a", [], b"@/etc/passwd"),
    "large text": ("POST", b"/a", [], b"0123456789" * 50_000),
    "a text in UTF-8": ("PATCH", b"/a", [JSON], '{"né": "日本"}'.encode()),
    "a path with dots": ("GET", b"/a/../b/./c", [], b""),
    "a path with brackets": ("GET", b"/[1-3]/{a,b}?q[]=1", [], b""),
    "a path with bytes": ("GET", b"/caf\xe9?\xff='\"", [], b""),
    "an asterisk": ("OPTIONS", b"*", [], b""),
    "its connection's": ("POST", b"/a", [(b"connection", b"x-me"), (b"x-me", b"1"), (b"te", b"trailers")], b"x"),
}  # fmt: skip


def record(method: str, target: bytes, fields: Fields, body: bytes) -> CapturedRequest:
    """As the failure sink writes it."""
    text, encoding = encode_body(body)
    return CapturedRequest(
        id="0199e0c2-7c1e-7d3a-9c55-0d1f5a2b6c7d",
        timestamp=1.0,
        method=method,
        uri=wire_text(target),
        path=wire_text(target.partition(b"?")[0]),
        query_string=wire_text(target.partition(b"?")[2]),
        headers=header_map(fields),
        body=text,
        body_encoding=encoding,
        remote_addr="127.0.0.1",
        backend_url="http://127.0.0.1:1",
        error="connection_refused",
        error_reason="",
        request_id="",
        route="",
    )


async def run_in_bash(command: str, folder: Path) -> tuple[int, bytes]:
    """Exit code and output of what was pasted."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "--norc"),
        cwd=folder,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(folder), "LANG": "C.UTF-8"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(20):
        out, _ = await process.communicate(command.encode() + b"\n")
    assert process.returncode is not None
    return process.returncode, out


async def check(origin: MisbehavingOrigin, case: tuple[str, bytes, Fields, bytes], folder: Path) -> None:
    """Paste it, and compare."""
    method, target, fields, body = case
    origin.forget()
    code, out = await run_in_bash(curl_command(record(*case), origin.url), folder)
    assert code == 0, out
    (arrived,) = origin.requests
    assert (arrived.method, arrived.target.encode("latin-1"), arrived.body) == (method, target, body)
    got = [(wire_bytes(name.lower()), wire_bytes(value)) for name, value in arrived.headers]
    wanted = [(n, v) for n, v in end_to_end(fields) if n not in FRAMING | {b"te"}]
    assert sorted(field for field in got if field[0] not in FRAMING) == sorted(wanted)


@pytest.mark.parametrize("name", CASES)
async def test_what_is_pasted_arrives_as_it_was_captured(name: str, tmp_path: Path) -> None:
    """Method, target, header and body, byte for byte; curl adds Host and a length, and nothing else."""
    assert shutil.which("curl"), "curl is needed"
    async with MisbehavingOrigin() as origin:
        await check(origin, CASES[name], tmp_path)


async def test_bytes_of_all_kinds_arrive(tmp_path: Path, seed: int) -> None:
    """Random ones, twenty times."""
    dice = random.Random(seed)
    legal = [*range(0x21, 0x7F), *range(0x80, 0x100)]
    async with MisbehavingOrigin() as origin:
        for _ in range(20):
            target = b"/" + bytes(dice.choice([byte for byte in legal if byte != 0x23]) for _ in range(20))
            value = b"v" + bytes(dice.choice([0x20, 0x09, *legal]) for _ in range(30)) + b"v"
            await check(origin, ("POST", target, [(b"x-any", value)], dice.randbytes(dice.randrange(1, 60))), tmp_path)
