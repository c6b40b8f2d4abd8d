"""The servers of a test: they do what its script says, attempt after attempt."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path

from holdfast.policy.endpoint import parse_endpoint
from holdfast.profile.cases import Reply, ReplySettings
from holdfast.profile.tested import server_number
from holdfast.rehearsal.clock import Clock
from holdfast.testing import Answer, Break, Garbage, MisbehavingOrigin, Protocol, Received, Step, self_signed

_FILLING = b"x" * 1000  # the body of an answer that breaks off in the middle, where the script has none
_PROTOCOLS: Mapping[str, Protocol] = {"http": "http/1.1", "https": "any", "h2c": "h2"}


class Script:
    """What servers do next; the last reply holds on."""

    def __init__(self, replies: Reply | Sequence[Reply]) -> None:
        given = [replies] if isinstance(replies, int | str | ReplySettings) else replies
        whole = [_whole(each) for each in given] or [ReplySettings()]
        self._left = [each for each in whole for _ in range(each.times)]

    @property
    def refuses(self) -> bool:
        """Whether the next connection is refused."""
        return self._left[0].fail == "refused"

    def take(self) -> ReplySettings:
        """The next reply."""
        return self._left.pop(0) if len(self._left) > 1 else self._left[0]


@dataclass(slots=True, eq=False)
class Server:
    """One of them. `url` is the profile's."""

    url: str
    origin: MisbehavingOrigin
    script: Script
    listens: bool = False


class Servers:
    """All of them, by their number less one. `received` is what they got, with that number, in its order."""

    def __init__(self, urls: Sequence[str], folder: Path, clock: Clock) -> None:
        certificate = self_signed()
        self.ca_file = certificate.write(folder)
        self.received: list[tuple[int, Received]] = []
        self._clock = clock
        self._all: list[Server] = []
        shared = Script(200)
        for number, url in enumerate(urls, 1):
            scheme = parse_endpoint(url).scheme
            origin = MisbehavingOrigin(
                self._plan(number), tls=certificate if scheme == "https" else None, protocol=_PROTOCOLS[scheme]
            )
            self._all.append(Server(url, origin, shared))

    async def start(self) -> None:
        """Listen, each on a port of its own."""
        for server in self._all:
            await server.origin.start()
            server.listens = True

    async def stop(self) -> None:
        """Close every connection."""
        for server in self._all:
            await server.origin.stop()

    def addresses(self) -> dict[str, str]:
        """The profile's URLs, and where these servers listen."""
        found = {}
        for server in self._all:
            scheme = parse_endpoint(server.url).scheme
            found[server.url] = f"{scheme}://127.0.0.1:{server.origin.port}"
        return found

    def named(self, name: str) -> int:
        """The number of the server that a test means."""
        return server_number(name, [server.url for server in self._all])

    def shown(self, text: str) -> str:
        """With the profile's URLs in place of these servers' addresses."""
        for url, address in self.addresses().items():
            text = text.replace(address, url).replace(address.partition("://")[2], url.partition("://")[2])
        return text

    async def follow(self, shared: Reply | Sequence[Reply] | None, own: Mapping[str, Reply | Sequence[Reply]]) -> None:
        """From now on these scripts hold, where there are any."""
        if shared is not None:
            script = Script(shared)
            for server in self._all:
                server.script = script
        for name, replies in own.items():
            self._all[self.named(name) - 1].script = Script(replies)
        await self._settle(hang_up=True)

    async def refused(self, port: int) -> None:
        """A connection to this port has failed: if the script wanted that, it has been done."""
        for server in self._all:
            if server.origin.port == port and not server.listens:
                server.script.take()
        await self._settle()

    async def _settle(self, *, hang_up: bool = False) -> None:
        """Listen, or not, as the scripts say. `hang_up`: connections that are kept for later are none either."""
        for server in self._all:
            if not server.script.refuses and not server.listens:
                await server.origin.start()
                server.listens = True
            elif server.script.refuses:
                server.listens = False
                server.origin.refuse()
                if hang_up:
                    await server.origin.stop()

    def _plan(self, number: int) -> Callable[[Received], Step]:
        def step(received: Received) -> Step:
            return self._next(number, received)

        return step

    def _next(self, number: int, received: Received) -> Step:
        self.received.append((number, received))
        server = self._all[number - 1]
        reply = server.script.take()
        if reply.fail in ("hang", "stalled") or reply.delay:
            self._clock.hurry()
        else:
            self._clock.relax()
        step = _step(reply, http2=received.protocol == "HTTP/2")
        if not server.script.refuses:
            return step
        for other in self._all:
            if other.script is server.script:
                other.listens = False
                other.origin.refuse()
        return replace(step, announce=True) if isinstance(step, Answer) else step


def _whole(reply: Reply) -> ReplySettings:
    if isinstance(reply, ReplySettings):
        return reply
    return ReplySettings(status=reply) if isinstance(reply, int) else ReplySettings(fail=reply)


def _step(reply: ReplySettings, *, http2: bool) -> Step:
    answer = _answer(reply, http2=http2)
    match reply.fail:
        case None:
            return answer
        case "reset" | "refused":  # refused: a connection that was there already has been used
            return Break("request", "reset")
        case "closed":
            return Break("request", "fin")
        case "hang":
            return Break("request", "hang")
        case "garbage":
            return Garbage()
        case "truncated" | "stalled":
            answer = answer if len(answer.body) > 1 else replace(answer, body=_FILLING)
            return Break("body", "fin" if reply.fail == "truncated" else "hang", answer)


def _answer(reply: ReplySettings, *, http2: bool) -> Answer:
    headers = list(reply.headers.items())
    body = (reply.body or "").encode()
    if reply.json is not None:
        body = json.dumps(reply.json).encode()
        if "content-type" not in {name.lower() for name, _ in headers}:
            headers.append(("Content-Type", "application/json"))
    if http2:
        headers = [(name.lower(), value) for name, value in headers]
    reason = HTTPStatus(reply.status).phrase if reply.status in set(HTTPStatus) else "Unnamed"
    return Answer(reply.status, headers, body, delay=float(reply.delay), reason=reason)
