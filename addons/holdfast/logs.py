"""Log lines of Holdfast's own: a constant message and structured fields, for people or as JSON, to standard error.

Fields come by `extra=`. Secrets never get here: paths are logged without their query, header fields not at all.
"""

from __future__ import annotations

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
        fields = " ".join(f"{key}={_plain(value)}" for key, value in fields_of(record).items())
        line = f"{time} {record.levelname} {record.getMessage()} {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _plain(value: object) -> str:
    text = str(value)
    # A line break in a value would forge a log line.
    return json.dumps(text) if not text or any(c in ' "=' or not c.isprintable() for c in text) else text


def set_up_logs(settings: LogSettings) -> None:
    """Send `holdfast.*` to standard error in the profile's format; mitmproxy's own log stays as it is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if settings.format == "json" else HumanLines())
    root = logging.getLogger("holdfast")
    root.handlers = [handler]
    root.propagate = False
    root.setLevel(settings.level.upper())
