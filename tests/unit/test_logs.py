"""logs: structured lines that nobody can forge."""

import json
import logging
import re
import sys
from typing import Literal

import pytest

from holdfast.logs import HumanLines, JsonLines, set_up_logs, tell
from holdfast.profile.settings import LogSettings


def record(message: str, **fields: object) -> logging.LogRecord:
    """A log record with extra fields."""
    made = logging.makeLogRecord({"name": "holdfast.access", "levelno": 20, "levelname": "INFO", "msg": message})
    vars(made).update(fields)
    return made


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
    root = logging.getLogger("holdfast")
    before = root.handlers, root.propagate, root.level
    try:
        set_up_logs(LogSettings(), events, to_stderr=False)
        logging.getLogger("holdfast.access").info("request", extra={"route": "user"})
        logging.getLogger("holdfast.live").warning("100% refused", extra={"fault": "a b"})
    finally:
        root.handlers, root.propagate = before[:2]
        root.setLevel(before[2])
    assert [(each.getMessage(), each.levelno) for each in told] == [('100% refused fault="a b"', logging.WARNING)]


@pytest.mark.parametrize("form", ["human", "json"])
def test_a_line_that_is_told_without_a_record_is_the_same(
    form: Literal["human", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is in its fields; and where somebody else listens, there is a record."""
    logger, kept = logging.getLogger("holdfast.told"), logging.getLogger("holdfast").handlers
    fields = {"path": "/a b", "status": 200, "reason": "", "forged": "x\ny=1", "none": None, "odd": "\u00e4\u2028"}
    try:
        set_up_logs(LogSettings(format=form))
        logger.info("request", extra=fields)
        tell(logger, "request", fields)
        one, other = (
            re.sub(r"\d\d:\d\d:\d\d(\.\d+)?", "", line) for line in capsys.readouterr().err.strip().split("\n")
        )
        assert one == other
        records: list[logging.LogRecord] = []
        logging.getLogger("holdfast").addHandler(listener := logging.Handler())
        listener.emit = records.append  # type: ignore[method-assign]
        tell(logger, "request", fields)
        assert [vars(record)["path"] for record in records] == ["/a b"]
    finally:
        logging.getLogger("holdfast").handlers = kept
