"""Log lines of Holdfast's own: a constant message and structured fields, for people or as JSON, to standard error.

Fields come by `extra=`. Secrets never get here: paths are logged without their query, header fields not at all.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from datetime import UTC, datetime

from holdfast.profile.settings import LogSettings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "client", "taskName"}


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What was given by `extra=`."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class JsonLines(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": time,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in fields_of(record).items() if key not in line}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class HumanLines(logging.Formatter):
    """`12:30:01 INFO request route=user status=200`; a trace follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        line = f"{time} {record.levelname} {_told(record)}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class EventLog(logging.Handler):
    """Tells mitmweb's or the console's event log, which knows no fields. Requests are in the flow list there."""

    def __init__(self, events: logging.Handler) -> None:
        super().__init__()
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "holdfast.access":
            told = {"name": record.name, "levelno": record.levelno, "msg": _told(record), "exc_info": record.exc_info}
            with contextlib.suppress(RuntimeError):  # the event loop that shows it has ended
                self._events.handle(logging.makeLogRecord(told))


def _told(record: logging.LogRecord) -> str:
    fields = " ".join(f"{key}={_plain(value)}" for key, value in fields_of(record).items())
    return f"{record.getMessage()} {fields}".rstrip()


def _plain(value: object) -> str:
    text = str(value)
    # A line break in a value would forge a log line.
    return json.dumps(text) if not text or any(c in ' "=' or not c.isprintable() for c in text) else text


def set_up_logs(settings: LogSettings, events: logging.Handler | None = None, *, to_stderr: bool = True) -> None:
    """Send `holdfast.*` to standard error in the profile's format, and to the event log of a front end that has one.

    mitmproxy's own log stays as it is.
    """
    root = logging.getLogger("holdfast")
    root.handlers = [EventLog(events)] if events else []
    if to_stderr:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines() if settings.format == "json" else HumanLines())
        root.handlers.append(handler)
    root.propagate = False
    root.setLevel(settings.level.upper())
