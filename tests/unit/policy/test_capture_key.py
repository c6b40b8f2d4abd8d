"""The key of a capture: what it may be, and what it is in a body."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.capture_key import LONGEST, key_in_body, parse_key, refuse_secret_key
from holdfast.policy.json_paths import parse_path

PLACE = parse_path("$.order.id")


@pytest.mark.parametrize("text", ["json:$", "json:$..id", "json:$.items[*].id", "json:$.*", "json:order.id", "json:$."])
def test_a_key_names_one_value(text: str) -> None:
    """A path that could hit several, or everything, is a fault that says what to write."""
    with pytest.raises(ValueError, match=r"\$\."):
        parse_key(text)


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ('{"order": {"id": "A-7"}}', "A-7"),
        ('{"order": {"id": 7}, "id": 8}', "7"),
        ('{"order": {"id": 12345678901234567890.50}}', "12345678901234567890.50"),
        ('{"order": {"id": true}}', "true"),
        ('\ufeff{"Order": {"ID": "B\\u00e9"}}', "Bé"),
        ('{"order": {"id": null}}', None),
        ('{"order": {"id": ""}}', None),
        ('{"order": {"id": {"a": 1}}}', None),
        ('{"order": {"id": [1]}}', None),
        ('{"order": {"id": 1, "id": 2}}', None),
        ('{"order": {}}', None),
        ('{"order": 1}', None),
        ('[{"order": {"id": 1}}]', None),
        ('{"order": {"id": 1}} trailing', None),
        ("id=1", None),
        ("", None),
        ('{"order": {"id": "%s"}}' % ("x" * (LONGEST + 1)), None),
    ],
)
def test_the_value_at_the_place(body: str, key: str | None) -> None:
    """One text, number, true or false; what is missing, twice, or names nothing is None, and the path is the key."""
    assert key_in_body(body.encode(), ["application/json"], PLACE) == key


def test_bytes_that_others_may_read_otherwise_are_no_key() -> None:
    """Another charset, compression, no UTF-8."""
    body = b'{"order": {"id": 1}}'
    assert key_in_body(body, [], PLACE) == "1"
    assert key_in_body(body, ["application/json; charset=utf-16"], PLACE) is None
    assert key_in_body(b"\x1f\x8b\x08" + body, ["application/json"], PLACE) is None
    assert key_in_body(b'{"order": {"id": "\xff"}}', ["application/json"], PLACE) is None


@given(st.binary(max_size=60))
def test_any_body_has_a_key_or_none(body: bytes) -> None:
    """Nothing that a client sends is an exception."""
    assert key_in_body(body, ["application/json"], parse_path("$[0]")) != ""


@pytest.mark.parametrize(
    ("pattern", "refused"),
    [
        ("$.order.id", True),
        ("$.ORDER.Id", True),
        ("$['order']", True),
        ("$.order.*", True),
        ("$..id", True),
        ("$..order", True),
        ("$", True),
        ("$.*.id", True),
        ("$.order.id.part", False),
        ("$.order.name", False),
        ("$.id", False),
        ("$..id..x", False),
        ("$[0].id", False),
    ],
)
def test_what_is_redacted_cannot_be_the_key(pattern: str, refused: bool) -> None:
    """The value itself, or anything that it is in; what only lies beside or below it does no harm."""
    rule = parse_key("json:$.order.id")
    if refused:
        with pytest.raises(ValueError, match="is redacted by"):
            refuse_secret_key(rule, (), [parse_path("$.other"), parse_path(pattern)])
    else:
        refuse_secret_key(rule, (), [parse_path(pattern)])


def test_an_element_of_a_list_is_covered_by_any_element() -> None:
    """Indexes are compared as numbers."""
    rule = parse_key("json:$.items[3].id")
    refuse_secret_key(rule, (), [parse_path("$.items[2].id")])
    for pattern in ("$.items[3]", "$.items[*].id", "$..items[3].id"):
        with pytest.raises(ValueError, match="cannot be the key"):
            refuse_secret_key(rule, (), [parse_path(pattern)])
