"""logs: structured lines that nobody can forge."""

import json
import logging
import sys

from holdfast.logs import HumanLines, JsonLines


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
