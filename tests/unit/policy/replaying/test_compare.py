"""policy.replaying.compare: how an answer differs from the recorded one, and what does not count."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.policy.redaction import RedactionRules, mask_body, mask_headers
from holdfast.policy.replaying.compare import NOISY_HEADERS, Difference, NoiseRules, Observed, compare
from holdfast.policy.replaying.likeness import first_difference

fixed = settings(derandomize=True, deadline=None)
NOISE = NoiseRules()
MASK = "[redacted]"
JSON = "application/json"
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
BODIES = (
    TREES.map(lambda tree: json.dumps(tree).encode()) | st.binary(max_size=30) | st.text(max_size=30).map(str.encode)
)
HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "etag", "set-cookie", "date", "x-a"]),
    st.sampled_from([JSON, "text/plain", "image/png", "a=b", MASK, "é\n"])
    | st.lists(st.sampled_from(["a=b", "c=d"]), min_size=2, max_size=3).map(tuple),
)
ANSWERS = st.builds(Observed, st.integers(200, 201), HEADERS, BODIES, truncated=st.booleans())
RULES = st.builds(
    NoiseRules,
    json_paths=st.sampled_from([(), ("$..a",), ("$[0]", "$.*")]),
    timestamps=st.booleans(),
    uuids=st.booleans(),
    most=st.just(10_000),
)


def answer(body: bytes | str = b"", content_type: str = "text/plain", **changes: Any) -> Observed:
    """A 200 with this body."""
    raw = body.encode() if isinstance(body, str) else body
    return replace(Observed(200, body=raw, content_type=content_type), **changes)


def found(one: Observed, other: Observed, noise: NoiseRules = NOISE) -> list[tuple[str, str, str]]:
    """The differences as plain tuples."""
    return [(each.where, each.recorded, each.replayed) for each in compare(one, other, noise)]


@fixed
@given(ANSWERS, RULES)
def test_an_answer_does_not_differ_from_itself(one: Observed, noise: NoiseRules) -> None:
    """Whatever is in it."""
    assert compare(one, one, noise) == []


@fixed
@given(ANSWERS, ANSWERS, RULES)
def test_the_sides_can_be_swapped(one: Observed, other: Observed, noise: NoiseRules) -> None:
    """The same places differ; each text is printable, short, and on its own side."""
    there, back = compare(one, other, noise), compare(other, one, noise)
    swapped = {Difference(each.where, each.replayed, each.recorded) for each in back}
    assert set(there) == swapped
    for each in there:
        assert all(text.isprintable() and len(text) < 1000 for text in (each.where, each.recorded, each.replayed))
        assert len(each.where) <= 200


def test_another_status_is_a_difference() -> None:
    """The first in the list."""
    assert found(answer(b"a"), answer(b"b", status=500))[0] == ("status", "200", "500")


# -- headers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(NOISY_HEADERS))
def test_fields_that_change_with_every_answer_do_not_count(name: str) -> None:
    """Date, ids, traces, timings, and what belongs to the connection."""
    assert found(answer(headers={name: "1"}), answer(headers={name.title(): "2"})) == []
    assert found(answer(headers={name: "1"}), answer()) == []


@pytest.mark.parametrize(
    ("recorded", "replayed", "expected"),
    [
        ({"etag": '"1"'}, {"ETag": '"1"'}, None),
        ({"etag": '"1"'}, {"etag": '"2"'}, ("header:etag", '"1"', '"2"')),
        ({"etag": '"1"'}, {}, ("header:etag", '"1"', "nothing")),
        ({}, {"etag": ""}, ("header:etag", "nothing", "")),
        ({"link": ("a", "b")}, {"link": ("a", "c")}, ("header:link", "a, b", "a, c")),
        ({"link": ("a", "b")}, {"link": ("b", "a")}, ("header:link", "a, b", "b, a")),
        ({"link": ("a", "b")}, {"link": ("a",)}, ("header:link", "a, b", "a")),
        ({"x": "a\x1bb"}, {"x": "c"}, ("header:x", r"a\x1bb", "c")),
        ({"x": "a" * 200}, {"x": "a" * 150 + "b"}, ("header:x", "…" + "a" * 70, "…" + "a" * 20 + "b")),
        ({"x": "a" * 200}, {"x": "b"}, ("header:x", "a" * 80 + "…", "b")),
    ],
)
def test_other_fields_are_compared_by_name(recorded: Any, replayed: Any, expected: Any) -> None:
    """Names in any case, values in their order, shown from shortly before they part."""
    assert found(answer(headers=recorded), answer(headers=replayed)) == ([expected] if expected else [])


def test_fields_as_they_came_off_the_wire_are_taken_too() -> None:
    """As a list they mean the same as in a record."""
    wire = ((b"Vary", b"a"), (b"X", b"\xe9"), (b"Vary", b"b"))
    assert found(answer(headers=wire), answer(headers={"vary": "a, b", "x": "\xe9"})) == []


@pytest.mark.parametrize(
    ("recorded", "replayed", "differ"),
    [
        ("sid=1; Path=/", "sid=2; Path=/", False),
        (("a=1", "b=2"), ("b=3", "a=4"), False),
        ("sid=1", "session=1", True),
        (("a=1", "b=2"), "a=1", True),
        (MASK, ("a=1", "b=2"), False),
        (MASK, None, False),
    ],
)
def test_of_cookies_the_names_count(recorded: Any, replayed: Any, differ: bool) -> None:
    """Their values are new with each session."""
    other = {} if replayed is None else {"set-cookie": replayed}
    assert bool(found(answer(headers={"set-cookie": recorded}), answer(headers=other))) is differ


def test_the_rules_name_the_fields_that_do_not_count() -> None:
    """All of them, in any case: whoever wants the default too adds to it."""
    noise = NoiseRules(headers=frozenset({"ETag"}))
    assert found(answer(headers={"etag": "1", "date": "1"}), answer(headers={"etag": "2", "date": "2"}), noise) == [
        ("header:date", "1", "2")
    ]


# -- JSON -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "replayed", "expected"),
    [
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}', []),
        ("[1, 1.0, 1e2]", "[1.0, 1, 100]", []),
        ('{"a": 1}', '{"a": 2}', [("json:$.a", "1", "2")]),
        ('{"a": 1}', '{"a": "1"}', [("json:$.a", "1", '"1"')]),
        ('{"a": 1}', '{"a": true}', [("json:$.a", "1", "true")]),
        ('{"a": null}', "{}", [("json:$.a", "null", "nothing")]),
        ("{}", '{"a": {"x": 1}}', [("json:$.a", "nothing", "an object of 1")]),
        ('{"a": [1, 2]}', '{"a": {}}', [("json:$.a", "a list of 2", "an object of 0")]),
        (
            '{"a": [0, 1, {"b": 1}]}',
            '{"a": [0, 2, {"b": 2}]}',
            [("json:$.a[1]", "1", "2"), ("json:$.a[2].b", "1", "2")],
        ),
        ("[1]", "[1, 2]", [("json:$[1]", "nothing", "2")]),
        ('{"a b": {"c\'": 1}}', '{"a b": {"c\'": 2}}', [("json:$['a b'][\"c'\"]", "1", "2")]),
        ('{"a": "x\\u0007"}', '{"a": "x"}', [("json:$.a", '"x\\x07"', '"x"')]),
        ("[1e400]", "[1e401]", [("json:$[0]", "1E+400", "1E+401")]),
        ("[" + "9" * 5000 + "]", "[" + "9" * 4999 + "8]", [("json:$[0]", "9" * 80 + "…", "9" * 80 + "…")]),
        ("1", "2", [("json:$", "1", "2")]),
        ("\ufeff[1]", "[1]", []),
    ],
)
def test_json_is_compared_by_its_structure(recorded: str, replayed: str, expected: list[Any]) -> None:
    """Members by name, elements by index, numbers by value; spaces and the order of members do not count."""
    assert found(answer(recorded, JSON), answer(replayed, JSON)) == expected


@pytest.mark.parametrize(
    ("recorded", "replayed", "where"),
    [
        (answer("[1]", ""), answer("[2]", "text/html"), "json:$[0]"),
        (answer(' {"a":1}', "application/problem+json"), answer('{"a":2}', JSON), "json:$.a"),
        (answer("1", JSON), answer("2", "text/plain"), "body"),
        (answer("1.0"), answer("1"), "body"),
        (answer("[1", JSON), answer("[2", JSON), "body"),
        (answer("[NaN]", JSON), answer("[1]", JSON), "body"),
        (answer("[1e99999999999999999999]", JSON), answer("[1]", JSON), "body"),
        (answer("[" * 100_000, JSON), answer("[1]", JSON), "body"),
        (answer('{"a":1}', JSON), answer("<h1>502</h1>", "text/html"), "body"),
        (answer("1", "", headers={"content-type": "Application/JSON; charset=utf-8"}), answer("2", JSON), "json:$"),
    ],
)
def test_json_is_what_is_called_so_or_looks_like_it(recorded: Observed, replayed: Observed, where: str) -> None:
    """If both are; anything else is compared as text."""
    assert [place for place, *_ in found(recorded, replayed) if not place.startswith("header:")] == [where]


def test_json_deeper_than_the_stack_is_compared_all_the_same() -> None:
    """By whatever can be said of it; a stranger's body must not raise."""
    deep = "[" * 900 + "%d" + "]" * 900
    assert len(found(answer(deep % 1, JSON), answer(deep % 2, JSON))) == 1


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$.a", ["json:$.b[0].a", "json:$.b[1].a"]),
        ("$..a", []),
        ("$.B[*].A", ["json:$.a"]),
        ("$.b[0]", ["json:$.a", "json:$.b[1].a"]),
        ("$.b", ["json:$.a"]),
        ("$", []),
    ],
)
def test_values_at_the_paths_of_the_rules_do_not_count(path: str, expected: list[str]) -> None:
    """Nor does it whether they are there at all."""
    one = answer('{"a": 1, "b": [{"a": 1}, {"a": 1}]}', JSON)
    other = answer('{"a": 2, "b": [{"a": {"x": 2}}, {}]}', JSON)
    assert [where for where, *_ in found(one, other, NoiseRules(json_paths=(path,)))] == expected


def test_a_path_that_cannot_be_read_is_refused() -> None:
    """With an example of one."""
    with pytest.raises(ValueError, match="is no JSON path"):
        NoiseRules(json_paths=("a.b",))


@fixed
@given(
    st.dictionaries(st.text(st.characters(exclude_characters="'\""), min_size=1, max_size=4), st.integers(), min_size=1)
)
def test_a_path_that_is_reported_can_be_put_into_the_rules(members: dict[str, int]) -> None:
    """It is written as the rules read it, as long as its names are printable and not too long."""
    one, other = (json.dumps([{name: value + more for name, value in members.items()}]) for more in (0, 1))
    places = [where.removeprefix("json:") for where, *_ in found(answer(one, JSON), answer(other, JSON))]
    assert len(places) == len(members)
    if all(name.isprintable() for name in members):
        assert found(answer(one, JSON), answer(other, JSON), NoiseRules(json_paths=tuple(places))) == []


def test_the_number_of_differences_is_bounded() -> None:
    """Two answers that have nothing in common would otherwise fill a log."""
    one, other = answer(json.dumps([0] * 1000), JSON), answer(json.dumps([1] * 1000), JSON, status=500)
    assert len(found(one, other)) == 50
    assert [where for where, *_ in found(one, other, NoiseRules(most=2))] == ["status", "json:$[0]"]


# -- text and bytes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "replayed", "expected"),
    [
        ("a\nb\nc", "a\nx\ny", ("line 2: b", "line 2: x")),
        ("a\nb", "a", ("line 2: b", "line 2: nothing")),
        ("a", "a\n", ("line 2: nothing", "line 2: ")),
        ("a\r\nb", "a\nb", (r"line 1: a\r", "line 1: a")),
        ("", "a", ("line 1: ", "line 1: a")),
        ("x" * 100 + "a", "x" * 100 + "b", ("line 1: …" + "x" * 20 + "a", "line 1: …" + "x" * 20 + "b")),
    ],
)
def test_of_other_text_the_first_line_that_differs_is_shown(
    recorded: str, replayed: str, expected: tuple[str, str]
) -> None:
    """Numbered from 1."""
    assert found(answer(recorded), answer(replayed)) == [("body", *expected)]


@pytest.mark.parametrize(
    ("recorded", "replayed", "expected"),
    [
        (b"\x00\x01\x02", b"\x00\x01\x03\xff", ("3 bytes, at 2: 02", "4 bytes, at 2: 03 ff")),
        (b"\x00\x01", b"\x00", ("2 bytes, at 1: 01", "1 bytes, at 1: the end")),
        (bytes(10_000) + b"\1", bytes(10_000) + b"\2", ("10001 bytes, at 10000: 01", "10001 bytes, at 10000: 02")),
        (bytes(4096), bytes(4097), ("4096 bytes, at 4096: the end", "4097 bytes, at 4096: 00")),
        (bytes(5000), bytes(4097), ("5000 bytes, at 4097: 00 00 00 00 00 00 00 00", "4097 bytes, at 4097: the end")),
        (b"\xff" * 20, b"text", ("20 bytes, at 0: ff ff ff ff ff ff ff ff", "4 bytes, at 0: 74 65 78 74")),
    ],
)
def test_of_other_bytes_the_length_and_the_first_difference_are_shown(
    recorded: bytes, replayed: bytes, expected: tuple[str, str]
) -> None:
    """Binary is what is not UTF-8 or has a NUL in it, and is not declared to be text."""
    kind = "application/octet-stream"
    assert found(answer(recorded, kind), answer(replayed, kind)) == [("body", *expected)]


@fixed
@given(st.binary(max_size=9000), st.binary(max_size=4), st.binary(max_size=4))
def test_the_first_difference_is_where_it_is(same: bytes, one: bytes, other: bytes) -> None:
    """Found piece by piece, it is what a search byte by byte finds."""
    left, right = same + one, same + other
    pairs = enumerate(zip(left, right, strict=False))
    expected = next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))
    assert first_difference(left, right) == expected


def test_a_declared_text_in_another_charset_is_compared_as_text() -> None:
    """Byte for byte, as latin-1."""
    assert found(answer(b"a\n\xe9\0"), answer(b"a\n\xe8\0")) == [("body", r"line 2: é\x00", r"line 2: è\x00")]


@pytest.mark.parametrize(
    ("recorded", "replayed", "expected"),
    [
        (answer("abc", truncated=True), answer("abcdef"), []),
        (answer("abcdef"), answer("abc", truncated=True), []),
        (answer("abc", truncated=True), answer("abcdef", truncated=True), []),
        (answer("abx", truncated=True), answer("abcdef"), [("body", "line 1: abx", "line 1: abc")]),
        (answer("abc", truncated=True), answer("ab"), [("body", "line 1: abc", "line 1: ab")]),
        (answer('{"a": 1, "b', JSON, truncated=True), answer('{"a": 1, "b": 2}', JSON), []),
        (
            answer('{"a": 1}', JSON, truncated=True),
            answer('{"a":  1}', JSON),
            [("body", 'line 1: {"a": 1}', 'line 1: {"a":  1')],
        ),
        (
            answer("a\u20ac".encode()[:-1], truncated=True),
            answer("b\u20ac".encode()),
            [("body", "line 1: a", "line 1: b")],
        ),
    ],
)
def test_a_body_that_is_cut_short_is_compared_as_far_as_both_go(
    recorded: Observed, replayed: Observed, expected: list[Any]
) -> None:
    """As text, even within a character; but one that ends before the cut is shorter, and differs."""
    assert found(recorded, replayed) == expected


# -- marks of redaction ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "replayed", "differ"),
    [
        (answer(MASK, JSON), answer('{"a": 1}', JSON), False),
        (answer(b"\0\xff", "image/png"), answer(MASK, "image/png"), False),
        (answer("a=[redacted]&b"), answer("a=1\n2&b"), False),
        (answer('{"a": "[redacted]", "b": 1}', JSON), answer('{"a": {"x": 1}, "b": 1}', JSON), False),
        (answer('{"a": "[redacted]"}', JSON), answer("{}", JSON), False),
        (answer('{"a": "[redacted]", "b": 1}', JSON), answer('{"a": 1, "b": 2}', JSON), True),
        (answer('{"a": "/?t=[redacted]&x"}', JSON), answer('{"a": "/?t=1&x"}', JSON), False),
        (answer("a=1&pin=[redacted]&b=2"), answer("a=1&pin=1234&b=2"), False),
        (answer("pin=1234&b=2"), answer("pin=[redacted]&b=2"), False),
        (answer("a=1&pin=[redacted]&b=2"), answer("a=1&pin=1234&b=3"), True),
        (answer("a=[redacted]&a"), answer("a=&a"), False),
        (answer("a=[redacted]&a"), answer("a=a"), True),
        (answer("aXa[redacted]aXa"), answer("aXaXa"), True),
        (answer("x[redacted]y[redacted]z"), answer("x1y2z"), False),
        (answer("x[redacted]y[redacted]z"), answer("x12z"), True),
        (answer("x[redacted]y[redacted]y"), answer("xy"), True),
        (answer("x[redacted]y"), answer("zx1y"), True),
        (answer("[redacted]\nb"), answer("a\n[redacted]"), False),
        (answer("[redacted]\nb\nc"), answer("a\n[redacted]\nd"), True),
        (answer(headers={"location": "/?token=[redacted]"}), answer(headers={"location": "/?token=1"}), False),
        (answer(headers={"location": "/a?token=[redacted]"}), answer(headers={"location": "/b?token=1"}), True),
        (answer(headers={"x-key": MASK}), answer(headers={"x-key": ("a", "b")}), False),
        (answer(headers={"x-key": MASK}), answer(), False),
    ],
)
def test_a_mark_of_redaction_stands_for_anything(recorded: Observed, replayed: Observed, differ: bool) -> None:
    """What it hides cannot be compared; what stands around it can."""
    assert bool(found(recorded, replayed)) is differ


@fixed
@given(st.dictionaries(st.sampled_from(["token", "name", "pin"]), st.text("ab&=", max_size=4), max_size=3))
def test_an_answer_does_not_differ_from_itself_redacted(members: dict[str, str]) -> None:
    """Whichever of the two was redacted."""
    rules = RedactionRules(json_paths=("$.pin",))
    headers = {"content-type": JSON, "location": "/?" + "&".join(f"{k}={v}" for k, v in members.items())}
    plain = Observed(200, headers, json.dumps(members).encode())
    body, _ = mask_body(plain.body, headers, rules)
    masked_headers, _, _ = mask_headers(headers, rules)
    masked = Observed(200, masked_headers, body)
    assert compare(masked, plain, NOISE) == compare(plain, masked, NOISE) == []


# -- timestamps and UUIDs -------------------------------------------------------------------------------------------

ONE_ID, OTHER_ID = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "C232AB00-9414-11EC-B3C8-9F6BDECED846"


@pytest.mark.parametrize(
    ("recorded", "replayed", "noise", "differ"),
    [
        ("2024-01-02T03:04:05Z", "2025-11-12T13:14:15.123456+01:00", {"timestamps": True}, False),
        ("at 2024-01-02 03:04:05.", "at 2025-11-12 13:14:15,5.", {"timestamps": True}, False),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "Mon, 07 Nov 1994 08:49:37 GMT", {"timestamps": True}, False),
        ("2024-01-02T03:04:05Z", "2025-11-12T13:14:15Z", {"uuids": True}, True),
        ("2024-01-02T03:04:05Z", "yesterday", {"timestamps": True}, True),
        ("2024-01-02", "2024-01-03", {"timestamps": True}, True),
        ("x 2024-01-02T03:04:05Z 1", "x 2025-01-02T03:04:05Z 2", {"timestamps": True}, True),
        ("1700000000", "1700000001", {"timestamps": True}, True),
        (ONE_ID, OTHER_ID, {"uuids": True}, False),
        (f"/orders/{ONE_ID}", f"/orders/{OTHER_ID}", {"uuids": True}, False),
        (f"/orders/{ONE_ID}", f"/users/{OTHER_ID}", {"uuids": True}, True),
        (ONE_ID, OTHER_ID, {"timestamps": True}, True),
        (ONE_ID + "0", OTHER_ID + "0", {"uuids": True}, True),
        ("0" + ONE_ID, "0" + OTHER_ID, {"uuids": True}, True),
    ],
)
def test_timestamps_and_uuids_count_as_the_same_where_the_rules_say_so(
    recorded: str, replayed: str, noise: dict[str, bool], differ: bool
) -> None:
    """In JSON texts, in other text and in header fields alike. A number is no timestamp."""
    rules = NoiseRules(**noise)
    for one, other in (
        (answer(json.dumps([recorded]), JSON), answer(json.dumps([replayed]), JSON)),
        (answer(recorded), answer(replayed)),
        (answer(headers={"x-a": recorded}), answer(headers={"x-a": replayed})),
    ):
        assert bool(found(one, other, rules)) is differ
        assert found(one, other), "without rules it is a difference"


def test_what_counts_as_the_same_does_not_hide_where_the_difference_is() -> None:
    """The line is shown without it."""
    one, other = answer(f"{ONE_ID} a"), answer(f"{OTHER_ID} b")
    assert found(one, other, NoiseRules(uuids=True)) == [("body", "line 1: <uuid> a", "line 1: <uuid> b")]
