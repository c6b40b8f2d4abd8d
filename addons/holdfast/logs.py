"""Log lines of Holdfast's own: a constant message and structured fields, for people or as JSON, to standard error.

Fields come by `extra=`. Secrets never get here: paths are logged without their query, header fields not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TextIO

from holdfast.profile.settings import LogSettings

_ENDS_A_VALUE = re.compile(r'[ "=]')
_PLAIN = re.compile(r"[!#-<>-~]+")  # visible ASCII without those
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "client", "taskName"}


_of_the_process: dict[str, object] = {}


def add_to_lines(**fields: object) -> None:
    """Every line of this process has these from now on."""
    _of_the_process.update(fields)


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What every line has, and what was given by `extra=`."""
    return {**_of_the_process, **{key: value for key, value in vars(record).items() if key not in _STANDARD}}


class JsonLines(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, then the fields."""

    def time(self, created: float) -> str:
        """As a line shows it."""
        return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")

    def line(self, logger: str, message: str, fields: Mapping[str, object]) -> str:
        """At INFO, now; as `format` writes a record with these fields."""
        head = {"time": self.time(time.time()), "level": "info", "logger": logger, "message": message}
        return json.dumps({**head, **_of_the_process, **fields}, default=str, ensure_ascii=False)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.time(record.created),
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

    _shown = (-1, "")  # the second that was last asked for

    def time(self, created: float) -> str:
        """As a line shows it."""
        second, shown = self._shown
        if second != int(created):
            shown = datetime.fromtimestamp(created, UTC).astimezone().strftime("%H:%M:%S")
            self._shown = int(created), shown
        return shown

    def line(self, logger: str, message: str, fields: Mapping[str, object]) -> str:
        """At INFO, now; as `format` writes a record with these fields. The logger is not shown."""
        return f"{self.time(time.time())} INFO {message}{_shown({**_of_the_process, **fields})}".rstrip()

    def format(self, record: logging.LogRecord) -> str:
        line = f"{self.time(record.created)} {record.levelname} {_told(record)}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class Lines(logging.StreamHandler[TextIO]):
    """To a stream, where lines that are ready made can be added to those of one turn of the event loop."""

    def __init__(self, formatter: JsonLines | HumanLines) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(formatter)
        self._ready: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._write_ready()
        super().emit(record)

    def add(self, line: str) -> None:
        """Write this, with its line break, before the event loop waits again."""
        if not self._ready:
            asyncio.get_running_loop().call_soon(self._write_ready)
        self._ready.append(line)

    def _write_ready(self) -> None:
        if self._ready:
            text = "".join(self._ready)
            self._ready.clear()
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more: no reason to fail a request
                self.stream.write(text)
                self.flush()


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
    return f"{record.getMessage()}{_shown(fields_of(record))}".rstrip()


def _shown(fields: Mapping[str, object]) -> str:
    return "".join([f" {key}={_plain(value)}" for key, value in fields.items()])


def _plain(value: object) -> str:
    if type(value) is str and _PLAIN.fullmatch(value):
        return value
    text = str(value)
    if type(value) is int or type(value) is float:
        return text
    # A line break in a value would forge a log line.
    return text if text and text.isprintable() and not _ENDS_A_VALUE.search(text) else json.dumps(text)


def set_up_logs(settings: LogSettings, events: logging.Handler | None = None, *, to_stderr: bool = True) -> None:
    """Send `holdfast.*` to standard error in the profile's format, and to the event log of a front end that has one.

    mitmproxy's own log stays as it is.
    """
    root = logging.getLogger("holdfast")
    root.handlers = [EventLog(events)] if events else []
    if to_stderr:
        root.handlers.append(Lines(JsonLines() if settings.format == "json" else HumanLines()))
    root.propagate = False
    root.setLevel(settings.level.upper())


def tell(logger: logging.Logger, message: str, fields: Mapping[str, object]) -> None:
    """As `logger.info` with these fields, which are none of a record's own. For the access log, as `line_maker` is.

    There is no record where nobody but `Lines` wants one.
    """
    if logger.isEnabledFor(logging.INFO):
        lines = _only_lines(logger)
        if lines and isinstance(lines.formatter, JsonLines | HumanLines):
            lines.add(lines.formatter.line(logger.name, message, fields) + "\n")
        else:
            logger.info(message, extra=fields)


def line_maker(
    logger: logging.Logger, message: str, fields: Mapping[str, object], varying: tuple[str, str]
) -> Callable[[str, float], None]:
    """What writes the INFO line of this message and these fields, with other values for two of them: a text, a number.

    The text is of letters, digits and `-._~`. The line is put together from pieces where nobody but `Lines` wants it.
    """
    text, number = varying
    if not logger.isEnabledFor(logging.INFO):
        return lambda told, value: None

    def plainly(told: str, value: float) -> None:
        logger.info(message, extra={**fields, text: told, number: value})

    lines = _only_lines(logger)
    if lines is None:
        return plainly
    assert isinstance(lines.formatter, JsonLines | HumanLines)
    pieces = _Pieces(lines.formatter, logger, message, fields, varying)
    return lambda told, value: lines.add(pieces.line(told, value))


class _Pieces:
    """A line as what stands before, between and behind its time, its text and its number."""

    def __init__(
        self,
        formatter: JsonLines | HumanLines,
        logger: logging.Logger,
        message: str,
        fields: Mapping[str, object],
        varying: tuple[str, str],
    ) -> None:
        # At random: nobody can put them into a path.
        text, number = secrets.token_hex(16), secrets.randbelow(10**12) + 0.125
        marks = {varying[0]: text, varying[1]: number}
        record = logger.makeRecord(logger.name, logging.INFO, "", 0, message, (), None, extra={**fields, **marks})
        line = formatter.format(record)
        self._formatter = formatter
        self._before, _, rest = line.partition(formatter.time(record.created))
        self._until_text, _, rest = rest.partition(text)
        self._until_number, _, self._behind = rest.partition(str(number))

    def line(self, text: str, number: float) -> str:
        now = time.time()
        return (
            f"{self._before}{self._formatter.time(now)}{self._until_text}{text}{self._until_number}{number}"
            f"{self._behind}\n"
        )


def _only_lines(logger: logging.Logger) -> Lines | None:
    """Who takes its records, where nobody else does and nobody sifts them."""
    takers = [each for each in _handlers(logger) if not isinstance(each, EventLog)]
    if len(takers) != 1 or type(takers[0]) is not Lines or logger.filters or takers[0].filters:
        return None
    return takers[0] if logging.getLogRecordFactory() is logging.LogRecord else None


def _handlers(logger: logging.Logger) -> list[logging.Handler]:
    """All that its records go to."""
    above = _handlers(logger.parent) if logger.propagate and logger.parent else []
    return [*logger.handlers, *above]
