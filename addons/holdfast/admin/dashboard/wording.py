"""Times, text and bodies as the page shows them."""

from __future__ import annotations

from codecs import getincrementaldecoder
from dataclasses import dataclass
from datetime import UTC, datetime

from tornado.escape import xhtml_escape

from holdfast.policy.envelope import HeaderMap, wire_text
from holdfast.policy.wire import header_fields
from holdfast.top.wording import age

SHOWN_BODY = 4000  # bytes


def shown(value: object) -> str:
    """Text that may be from anybody, as HTML. What has no picture, turns others around or is no character is `�`."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return xhtml_escape("".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text))


@dataclass(frozen=True, slots=True)
class Moment:
    """A time as UTC, and how long ago (or from) `now` it is. Epoch seconds."""

    at: float
    now: float

    @property
    def iso(self) -> str:
        """For `datetime=`."""
        return self._written("%Y-%m-%dT%H:%M:%SZ")

    @property
    def utc(self) -> str:
        """With the day where it is another than today."""
        today = self.iso[:10] == Moment(self.now, self.now).iso[:10]
        return self._written("%H:%M:%S UTC" if today else "%Y-%m-%d %H:%M:%S UTC")

    @property
    def ago(self) -> str:
        """In words."""
        seconds = self.now - self.at
        return f"in {age(-seconds)}" if seconds <= -1 else f"{age(max(0.0, round(seconds)))} ago"

    def _written(self, form: str) -> str:
        try:
            return datetime.fromtimestamp(self.at, UTC).strftime(form)
        except (OverflowError, ValueError, OSError):  # a number that no calendar has
            return f"{self.at:g}"


def minute(at: float) -> str:
    """Hour and minute, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M")


def counted(number: int, noun: str) -> str:
    """`1 tag`, `2 tags`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def fields(headers: HeaderMap) -> list[tuple[str, str]]:
    """Name and value of each header field."""
    return [(wire_text(name), wire_text(value)) for name, value in header_fields(headers)]


def body_text(body: bytes, *, truncated: bool = False) -> str:
    """The beginning; of what is no text only how much it is. Empty for no body."""
    is_cut = len(body) > SHOWN_BODY or truncated  # and that may be within a character
    try:
        text = getincrementaldecoder("utf-8")().decode(body[:SHOWN_BODY], final=not is_cut)
    except UnicodeDecodeError:
        return f"({counted(len(body), 'byte')}, not text)"
    more = " kept, the rest was cut off" if truncated else " in all"
    return text + (f"\n… ({counted(len(body), 'byte')}{more})" if is_cut else "")
