"""The client of a test: one request over a connection of its own, and all that comes back."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

import h11

from holdfast.profile.cases import RequestSettings

PIECE = 64 * 1024


@dataclass(slots=True)
class Answered:
    """What came back. `complete`: to its end; `trouble` says what was wrong where it was not."""

    status: int | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False
    trouble: str = ""

    def header(self, name: str) -> str | None:
        """All values of this name, as one; None if there is none."""
        return joined(self.headers, name)


def joined(headers: list[tuple[str, str]], name: str) -> str | None:
    """All values of a header field, as one (RFC 9110, section 5.3)."""
    values = [value for key, value in headers if key.lower() == name.lower()]
    return ", ".join(values) if values else None


def request_of(request: str | RequestSettings) -> RequestSettings:
    """In its long form."""
    if isinstance(request, RequestSettings):
        return request
    method, _, path = request.partition(" ")
    return RequestSettings(method=method, path=path)


async def ask(port: int, request: RequestSettings) -> Answered:
    """Whatever comes back, which may be nothing; does not raise for that."""
    answered = Answered()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    talk = h11.Connection(h11.CLIENT)
    headers, body = _content(request, port)
    try:
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        asked = h11.Request(method=request.method, target=request.path, headers=encoded)
        events = [asked, h11.Data(data=body), h11.EndOfMessage()] if body else [asked, h11.EndOfMessage()]
        writer.write(b"".join(talk.send(event) or b"" for event in events))
        await writer.drain()
        await _listen(talk, reader, answered)
    except h11.LocalProtocolError as error:
        answered.trouble = f"such a request cannot be sent: {error}"
    except (OSError, EOFError, h11.RemoteProtocolError) as error:
        answered.trouble = str(error) or type(error).__name__
    finally:
        writer.transport.abort()
    return answered


async def _listen(talk: h11.Connection, reader: asyncio.StreamReader, answered: Answered) -> None:
    while True:
        event = talk.next_event()
        if event is h11.NEED_DATA:
            talk.receive_data(await reader.read(PIECE))
        elif isinstance(event, h11.Response):
            answered.status = event.status_code
            answered.headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in event.headers.raw_items()]
        elif isinstance(event, h11.Data):
            answered.body += event.data
        elif isinstance(event, h11.EndOfMessage):
            answered.complete = True
            return
        elif not isinstance(event, h11.InformationalResponse):
            raise EOFError("the connection was closed without an answer")


def _content(request: RequestSettings, port: int) -> tuple[list[tuple[str, str]], bytes]:
    """Header fields and body as they are sent."""
    headers, body = dict(request.headers), (request.body or "").encode()
    given = {name.lower() for name in headers}
    if request.json is not None:
        body = json.dumps(request.json).encode()
        if "content-type" not in given:
            headers["Content-Type"] = "application/json"
    if "host" not in given:
        headers = {"Host": f"127.0.0.1:{port}", **headers}
    if body or request.method not in ("GET", "HEAD"):
        headers["Content-Length"] = str(len(body))
    return list(headers.items()), body
