"""logs: structured lines that nobody can forge."""

import asyncio
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Literal

import pytest

from holdfast.logs import HumanLines, JsonLines, add_to_lines, line_maker, set_up_logs, tell
from holdfast.profile.settings import LogSettings


def record(message: str, **fields: object) -> logging.LogRecord:
    """A log record with extra fields."""
    made = logging.makeLogRecord({"name": "holdfast.access", "levelno": 20, "levelname": "INFO", "msg": message})
    vars(made).update(fields)
    return made


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Afterwards the log goes where it went before."""
    root = logging.getLogger("holdfast")
    handlers, propagate, level = root.handlers, root.propagate, root.level
    yield
    root.handlers, root.propagate = handlers, propagate
    root.setLevel(level)


def test_a_json_line_is_one_object_with_the_fields() -> None:
    """One line per event, for collectors."""
    line = JsonLines().format(record("request", route="user", status=200, path="/a\nb"))
    assert "\n" not in line
    document = json.loads(line)
    assert (document["message"], document["route"], document["status"]) == ("request", "user", 200)
    assert document["time"].endswith("+00:00")


def test_a_human_line_quotes_what_could_be_mistaken() -> None:
    """A line break or a blank in a value must not look like another field or line."""
    line = HumanLines().format(record("request", path="/a b\nINFO forged", status=200, empty=""))
    assert "\n" not in line
    assert r'path="/a b\nINFO forged"' in line
    assert "status=200" in line and 'empty=""' in line


def test_the_trace_of_an_exception_is_kept() -> None:
    """In both formats."""
    try:
        raise ValueError("boom")
    except ValueError:
        failed = record("addon failed")
        failed.exc_info = sys.exc_info()
    assert "boom" in HumanLines().format(failed)
    assert "boom" in json.loads(JsonLines().format(failed))["trace"]


def test_the_event_log_of_a_front_end_gets_the_fields_but_no_requests() -> None:
    """It knows no fields, and has the requests in its flow list."""
    told: list[logging.LogRecord] = []
    events = logging.Handler()
    events.handle = lambda record: told.append(record) or True  # type: ignore[method-assign,func-returns-value]
    set_up_logs(LogSettings(), events, to_stderr=False)
    logging.getLogger("holdfast.access").info("request", extra={"route": "user"})
    logging.getLogger("holdfast.live").warning("100% refused", extra={"fault": "a b"})
    assert [(each.getMessage(), each.levelno) for each in told] == [('100% refused fault="a b"', logging.WARNING)]


@pytest.mark.parametrize("form", ["human", "json"])
async def test_a_line_that_is_told_without_a_record_is_the_same(
    form: Literal["human", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is in its fields; and where somebody else listens, there is a record."""
    logger = logging.getLogger("holdfast.told")
    fields = {"path": "/a b", "status": 200, "reason": "", "forged": "x\ny=1", "none": None, "odd": "\u00e4\u2028"}
    set_up_logs(LogSettings(format=form))
    logger.info("request", extra=fields)
    tell(logger, "request", fields)
    await asyncio.sleep(0)
    one, other = (re.sub(r"\d\d:\d\d:\d\d(\.\d+)?", "", line) for line in capsys.readouterr().err.strip().split("\n"))
    assert one == other
    records: list[logging.LogRecord] = []
    logging.getLogger("holdfast").addHandler(listener := logging.Handler())
    listener.emit = records.append  # type: ignore[method-assign]
    tell(logger, "request", fields)
    assert [vars(record)["path"] for record in records] == ["/a b"]


class Told(io.StringIO):
    """A stream that can be gone."""

    gone = False

    def write(self, text: str) -> int:
        """As a closed pipe."""
        if self.gone:
            raise BrokenPipeError
        return super().write(text)

    def listen(self, settings: LogSettings) -> None:
        """Get what is logged under these settings."""
        set_up_logs(settings)
        (lines,) = logging.getLogger("holdfast").handlers
        assert isinstance(lines, logging.StreamHandler)
        lines.setStream(self)


@pytest.fixture
def stream() -> Told:
    """Where the log may go."""
    return Told()


FIELDS: dict[str, object] = {
    "request_id": "first",
    "route": "user",
    "path": '/a "b"\nforged é',
    "duration_ms": 0.0,
    "x": 1,
}


@pytest.mark.parametrize("style", ["json", "human"])
async def test_a_line_put_together_from_pieces_is_what_the_logger_would_have_written(
    stream: Told, style: Literal["json", "human"]
) -> None:
    """Byte for byte but for the time, whatever is in the fields."""
    stream.listen(LogSettings(format=style))
    access = logging.getLogger("holdfast.access")
    write = line_maker(access, "request", FIELDS, ("request_id", "duration_ms"))
    for told, number in (("abc-1.~_", 0.125), ("0" * 128, 12345.678), ("r", 0.0), ("r", 1e-05)):
        stream.truncate(0)
        stream.seek(0)
        access.info("request", extra={**FIELDS, "request_id": told, "duration_ms": number})
        write(told, number)
        await asyncio.sleep(0)
        first, second = (
            re.sub(r"\d\d:\d\d:\d\d(\.\d+)?", "T", each) for each in stream.getvalue().splitlines(keepends=True)
        )
        assert first == second and told in second


async def test_ready_lines_keep_their_place_among_the_others(stream: Told) -> None:
    """They wait for the next turn of the loop at most, and no line goes before one that was said earlier."""
    stream.listen(LogSettings())
    access = logging.getLogger("holdfast.access")
    write = line_maker(access, "request", FIELDS, ("request_id", "duration_ms"))
    write("one", 1.0)
    write("two", 1.0)
    assert stream.getvalue() == ""
    access.info("three")
    write("four", 1.0)
    await asyncio.sleep(0)
    text = stream.getvalue()
    places = [text.index(each) for each in ("one", "two", "three", "four")]
    assert places == sorted(places) and text.count("\n") == 4


async def test_a_reader_that_is_gone_fails_no_request(stream: Told) -> None:
    """The line is lost, as with any other."""
    stream.listen(LogSettings())
    write = line_maker(logging.getLogger("holdfast.access"), "request", FIELDS, ("request_id", "duration_ms"))
    stream.gone = True
    write("one", 1.0)
    await asyncio.sleep(0)
    stream.gone = False
    write("two", 1.0)
    await asyncio.sleep(0)
    assert "one" not in stream.getvalue() and "two" in stream.getvalue()


async def test_no_line_is_made_where_the_level_wants_none(stream: Told) -> None:
    """`log.level: warning` leaves out the access log, however its lines come about."""
    stream.listen(LogSettings(level="warning"))
    line_maker(logging.getLogger("holdfast.access"), "request", FIELDS, ("request_id", "duration_ms"))("one", 1.0)
    await asyncio.sleep(0)
    assert stream.getvalue() == ""


async def test_whoever_else_listens_gets_records(stream: Told) -> None:
    """A handler of somebody's own, or a filter: then the logger is asked each time."""
    stream.listen(LogSettings())
    heard: list[logging.LogRecord] = []
    own = logging.Handler()
    own.handle = lambda record: heard.append(record) or True  # type: ignore[method-assign,func-returns-value]
    access = logging.getLogger("holdfast.access")
    access.addHandler(own)
    try:
        line_maker(access, "request", FIELDS, ("request_id", "duration_ms"))("one", 1.0)
    finally:
        access.removeHandler(own)
    assert [vars(each)["request_id"] for each in heard] == ["one"] and "one" in stream.getvalue()


@pytest.mark.parametrize("form", ["human", "json"])
async def test_what_every_line_of_a_process_has_is_in_each(
    form: Literal["human", "json"], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever way it is written: with a record, without one, or put together from pieces."""
    monkeypatch.setattr("holdfast.logs._of_the_process", {})
    add_to_lines(worker=2)
    logger = logging.getLogger("holdfast.told")
    set_up_logs(LogSettings(format=form))
    logger.info("done", extra={"path": "/"})
    tell(logger, "done", {"path": "/"})
    await asyncio.sleep(0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(("worker=2 path=/" if form == "human" else '"worker": 2, "path": "/"') in line for line in lines)
