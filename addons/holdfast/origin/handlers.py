"""The sample backend's answers: what lies under `/api`, and the control and the log beside it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler, stream_request_body

from holdfast.origin.state import LOG_LENGTH, Misbehaviour, OriginState
from holdfast.profile.values import Duration, Size

FRESH = "max-age=10, stale-while-revalidate=30, stale-if-error=600"
KEPT_BODY = 2**20  # of a larger body only the hash is known
PAGE = b"0123456789abcdef" * 4096
type Method = Callable[..., Awaitable[None]]


class JsonHandler(RequestHandler):
    """Writes JSON, errors included."""

    def initialize(self, state: OriginState, refuse: Callable[[float], None]) -> None:
        self.state = state
        self.refuse = refuse

    def answer(self, value: object, status: int = 200) -> None:
        """Finish with a JSON body."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value) + "\n")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.answer({"status": status_code, "error": self._reason}, status_code)

    def log_exception(self, *args: Any) -> None:
        """A refused request is an answer, not something to warn about."""
        if not isinstance(args[1], HTTPError):
            super().log_exception(*args)


@stream_request_body
class ApiHandler(JsonHandler):
    """Base of everything under `/api`: reads and hashes the body; each method first asks `is_served`."""

    def prepare(self) -> None:
        self.kept = bytearray()
        self.body_bytes = 0
        self.digest = hashlib.sha256()
        self.gone = asyncio.Event()
        self.noted = False

    def data_received(self, chunk: bytes) -> None:
        self.digest.update(chunk)
        self.body_bytes += len(chunk)
        self.kept += chunk[: max(0, KEPT_BODY - len(self.kept))]

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.gone.set()
        if not self.noted:
            self._note(complete=False)

    async def head(self, *args: str) -> None:
        await self.get(*args)

    async def _not_allowed(self, *args: str) -> None:
        if await self.is_served():
            raise HTTPError(405)

    get: Method = _not_allowed
    post: Method = _not_allowed
    put: Method = _not_allowed
    delete: Method = _not_allowed
    patch: Method = _not_allowed
    options: Method = _not_allowed

    async def is_served(self) -> bool:
        """Note what arrived, do what was asked for; false if that already was the answer."""
        self._note(complete=True)
        told = self._told()
        await self._wait(float(Duration(told.delay)))
        if told.hang:
            await self._hang()
        if told.reset or self.gone.is_set():
            self._cut()
            return False
        if told.fail is not None:
            self.answer({"status": told.fail, "error": "told to fail"}, told.fail)
        return told.fail is None

    def body_fields(self) -> dict[str, Any]:
        """The body as a JSON object; 400 if it is none."""
        try:
            return msgspec.json.decode(bytes(self.kept), type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise HTTPError(400, reason="The body must be a JSON object") from error

    def may_be_kept(self, *tags: str) -> None:
        """Tell caches how long, and the names under which they purge it."""
        self.set_header("Cache-Control", FRESH)
        self.set_header("Surrogate-Key", " ".join(tags))
        self.set_header("Cache-Groups", '"users"')

    def has_changed(self) -> None:
        """Tell caches that no answer about users is good any more (RFC 9875, section 3)."""
        self.set_header("Cache-Group-Invalidation", '"users"')

    def _note(self, *, complete: bool) -> None:
        self.noted = True
        self.state.served += 1
        entry = {
            "number": self.state.served,
            "id": self.request.headers.get("X-Request-ID"),
            "at": time.time(),
            "method": self.request.method,
            "path": self.request.path,
            "query": self.request.query,
            "headers": {name.lower(): value for name, value in self.request.headers.items()},
            "body_bytes": self.body_bytes,
            "body_sha256": self.digest.hexdigest(),
            "complete": complete,
        }
        self.state.log.append(entry)
        line = f"{entry['number']} {self.request.method} {self.request.uri} {self.body_bytes}B id={entry['id']}"
        say(line if complete else f"{line} (cut short)")

    def _told(self) -> Misbehaviour:
        """What was said for all requests, overlaid by what this one asks for in its header or query."""
        asked = {}
        for key in ("fail", "delay", "hang"):
            value = self.request.headers.get(f"X-Origin-{key}") or self.get_query_argument(key, "")
            if value:
                asked[key] = value
        everyone = msgspec.structs.asdict(self.state.next_misbehaviour())
        try:
            return msgspec.convert({**everyone, **asked}, Misbehaviour, strict=False)
        except msgspec.ValidationError as error:
            raise HTTPError(400, str(error), reason="Cannot misbehave like that") from error

    async def _wait(self, seconds: float) -> None:
        if seconds:
            await asyncio.wait([asyncio.ensure_future(self.gone.wait())], timeout=seconds)

    async def _hang(self) -> None:
        """Say nothing until the client leaves or the origin is told something else."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self.gone, self.state.changed)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _cut(self) -> None:
        stream = self.detach() if not self.gone.is_set() else None
        if stream is not None:
            stream.close()


class HealthHandler(ApiHandler):
    """`GET /api/health`."""

    async def get(self) -> None:
        if await self.is_served():
            self.answer({"status": "ok", "served": self.state.served})


class UsersHandler(ApiHandler):
    """`GET` and `POST /api/users`."""

    async def get(self) -> None:
        if await self.is_served():
            self.may_be_kept("users")
            self.answer({"users": list(self.state.users.values())})

    async def post(self) -> None:
        if await self.is_served():
            user = self.state.add_user(self.body_fields())
            self.has_changed()
            self.set_header("Location", f"/api/users/{user['id']}")
            self.answer(user, 201)


class UserHandler(ApiHandler):
    """`GET`, `PUT` and `DELETE /api/users/{id}`."""

    async def get(self, number: str) -> None:
        if await self.is_served():
            user = self._known(number)
            self.may_be_kept("users", f"user-{user['id']}")
            self.answer(user)

    async def put(self, number: str) -> None:
        if await self.is_served():
            self._known(number).update({**self.body_fields(), "id": int(number)})
            self.has_changed()
            self.answer(self._known(number))

    async def delete(self, number: str) -> None:
        if await self.is_served():
            del self.state.users[self._known(number)["id"]]
            self.has_changed()
            self.set_status(204)

    def _known(self, number: str) -> dict[str, Any]:
        try:
            return self.state.users[int(number)]
        except (KeyError, ValueError) as error:
            raise HTTPError(404, reason="No such user") from error


class DataHandler(ApiHandler):
    """`GET /api/data`, as large as asked for; `POST` says what it was sent."""

    async def get(self) -> None:
        if not await self.is_served():
            return
        size = self.get_query_argument("size", "")
        if not size:
            self.answer({"data": [1, 2, 3], "at": time.time()})
            return
        await self._pour(self._size(size))

    async def post(self) -> None:
        if await self.is_served():
            self.answer({"bytes": self.body_bytes, "sha256": self.digest.hexdigest()})

    def _size(self, text: str) -> int:
        try:
            return int(Size(text))
        except ValueError as error:
            raise HTTPError(400, str(error), reason="size must be like 10MiB") from error

    async def _pour(self, left: int) -> None:
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("Content-Length", str(left))
        try:
            while left > 0:
                self.write(PAGE[:left])
                left -= len(PAGE)
                await self.flush()
        except StreamClosedError:
            return  # the client left; there is nobody to tell


class MissingHandler(ApiHandler):
    """Any other path: 404, and noted like the rest."""

    async def is_served(self) -> bool:
        if await super().is_served():
            raise HTTPError(404)
        return False


class ControlHandler(JsonHandler):
    """`/_control`: what is wrong with this origin on purpose."""

    def get(self) -> None:
        self.answer(msgspec.structs.asdict(self.state.misbehaviour))

    def post(self) -> None:
        try:
            told = msgspec.json.decode(self.request.body or b"{}", type=Misbehaviour)
        except msgspec.DecodeError as error:
            self.answer({"status": 400, "error": str(error)}, 400)
            return
        self.state.tell(told)
        if told.refuse:
            asyncio.get_running_loop().call_soon(self.refuse, float(Duration(told.refuse)))
        self.get()


class LogHandler(JsonHandler):
    """`/_log`: the requests that arrived, the newest last."""

    def get(self) -> None:
        last = self.get_query_argument("last", str(LOG_LENGTH))
        if not last.isdecimal():
            raise HTTPError(400, reason="last must be a number")
        self.answer({"served": self.state.served, "requests": list(self.state.log)[-int(last) :] if int(last) else []})

    def delete(self) -> None:
        self.state.log.clear()
        self.state.served = 0
        self.answer({"served": 0, "requests": []})


def say(line: str) -> None:
    """Print: this is a program for people, and its output is its interface."""
    print(line, flush=True)  # noqa: T201


ROUTES: dict[str, type[JsonHandler]] = {
    r"/api/health": HealthHandler,
    r"/api/users": UsersHandler,
    r"/api/users/([^/]+)": UserHandler,
    r"/api/data": DataHandler,
    r"/_control": ControlHandler,
    r"/_log": LogHandler,
    r".*": MissingHandler,
}
