"""What a browser holds instead of the token: values that only this process can sign, each for one purpose.

The secret is made at the start, so a restart ends every session; sessions that were ended by hand are remembered until
they would have run out. Times are epoch seconds.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import Callable

LASTS = 12 * 3600  # seconds of a session
TOLD_FOR = 20  # seconds for which a note is shown
_MOST_ENDED = 10_000
_LONGEST_NOTE = 400  # characters: browsers keep cookies of up to 4 KiB
NOBODY = ""  # whose forms are those of a gateway without a token


class Sessions:
    """Session cookies, tokens of forms, and the notes that tell what was done."""

    def __init__(self, clock: Callable[[], float], secret: bytes | None = None) -> None:
        self._clock = clock
        self._secret = secret or secrets.token_bytes(32)
        self._ended: dict[str, float] = {}  # when each would have run out, by its id

    def open(self) -> str:
        """The cookie of a new session."""
        return self._sealed("session", f"{self._clock() + LASTS:.0f}.{secrets.token_urlsafe(16)}")

    def holder(self, cookie: str) -> str | None:
        """The id of the session; None for what is none, has run out or was ended."""
        told = self._unsealed("session", cookie)
        if told is None or told in self._ended or float(told.partition(".")[0]) <= self._clock():
            return None
        return told

    def end(self, cookie: str) -> None:
        """From now on it opens nothing."""
        session, now = self.holder(cookie), self._clock()
        if session is None:
            return
        self._ended = {each: until for each, until in self._ended.items() if until > now}
        if len(self._ended) >= _MOST_ENDED:
            self._ended, self._secret = {}, secrets.token_bytes(32)  # nothing is forgotten, so everybody is signed out
        self._ended[session] = float(session.partition(".")[0])

    def form_token(self, session: str) -> str:
        """What every form of this session carries."""
        return self._mac("form", session)

    def is_form_token(self, given: str, session: str) -> bool:
        """Whether the form was made for this session."""
        return hmac.compare_digest(given.encode(), self.form_token(session).encode())

    def note(self, text: str, *, good: bool) -> str:
        """A cookie that has the next page tell what was done, or why it was not."""
        return self._sealed(
            "note", _encoded(json.dumps([self._clock() + TOLD_FOR, text[:_LONGEST_NOTE], good]).encode())
        )

    def noted(self, cookie: str) -> tuple[str, bool] | None:
        """(text, whether it was done), None for what is no note, or an old one."""
        told = self._unsealed("note", cookie)
        if told is None:
            return None
        until, text, good = json.loads(base64.urlsafe_b64decode(told + "=" * (-len(told) % 4)))
        return (str(text), bool(good)) if until > self._clock() else None

    def _sealed(self, purpose: str, value: str) -> str:
        return f"{value}~{self._mac(purpose, value)}"

    def _unsealed(self, purpose: str, given: str) -> str | None:
        value, _, mac = given.rpartition("~")
        return value if hmac.compare_digest(mac.encode(), self._mac(purpose, value).encode()) else None

    def _mac(self, purpose: str, value: str) -> str:
        return _encoded(hmac.digest(self._secret, f"{purpose}:{value}".encode(), "sha256"))


class Tries:
    """Wrong tokens by address: after `most` within `span` seconds no more are looked at from there."""

    def __init__(self, most: int = 5, span: float = 60.0, addresses: int = 1000) -> None:
        self._most, self._span, self._addresses = most, span, addresses
        self._wrong: dict[str, list[float]] = {}

    def wait(self, address: str, now: float) -> float:
        """Seconds until another may be tried; 0 if one may now."""
        wrong = [at for at in self._wrong.get(address, ()) if at > now - self._span]
        return wrong[-self._most] + self._span - now if len(wrong) >= self._most else 0.0

    def failed(self, address: str, now: float) -> None:
        """One was wrong. The address that was heard of longest ago makes room."""
        wrong = self._wrong.pop(address, [])
        if len(self._wrong) >= self._addresses:
            del self._wrong[next(iter(self._wrong))]
        self._wrong[address] = [*wrong[-self._most + 1 :], now]


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
