"""recordings.form: what is written can be read, and what a person gets wrong is told with its line."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.policy.understudy.model import Recording
from holdfast.recordings.form import BrokenRecording, read_form, write_form

fixed = settings(derandomize=True, deadline=None, max_examples=60)
JSON = Recording(
    200, (("content-type", "application/json"),), b'{\n  "id": 3\n}', "GET /a?b=1", (("accept", "x"),), 1_795_289_349.0
)
wire = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30)
recordings = st.builds(
    Recording,
    status=st.integers(200, 599),
    headers=st.lists(st.tuples(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), wire), max_size=4).map(
        lambda pairs: tuple(sorted(pairs))
    ),
    body=st.recursive(st.none() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=3)).map(
        lambda value: json.dumps(value, indent=2).encode()
    ),
    request=wire.map(lambda text: f"GET /{text}"),
    when=st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), wire, max_size=2).map(
        lambda pairs: tuple(pairs.items())
    ),
    recorded=st.none() | st.integers(0, 2**32).map(float),
)


@fixed
@given(recordings)
def test_what_is_written_is_read_again(recording: Recording) -> None:
    """And is known for what the gateway wrote; with the line ends of another system, too."""
    text = write_form(recording)
    assert read_form(text.encode()).recording == recording
    assert read_form(text.replace("\n", "\r\n").encode()).recording == recording


def test_a_recording_of_json_is_yaml_in_two_documents() -> None:
    """An editor that knows YAML shows no faults."""
    head, body = yaml.safe_load_all(write_form(replace(JSON, body=b'{\n  "a": [\n    1,\n    "\xc3\xa9: #"\n  ]\n}')))
    assert (head["status"], head["when"]) == (200, {"accept": "x"})
    assert body == {"a": [1, "é: #"]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("status: 200", "status: 201"),
        ('"id": 3', '"id": 4'),
        ("accept: x", "accept: y"),
        ("request: GET /a?b=1", "request: GET /a"),
    ],
)
def test_an_edit_is_seen(before: str, after: str) -> None:
    """So that it is not overwritten."""
    text = write_form(JSON)
    assert before in text
    assert not read_form(text.encode()).recording.edited
    assert read_form(text.replace(before, after).encode()).recording.edited


def test_a_file_by_hand_needs_a_status_and_no_more() -> None:
    """Comments, an opening `---` and an empty section do no harm."""
    parsed = read_form(b"# mine\n---\nstatus: 404\nheaders:\n---\nanything: [\n")
    assert (parsed.recording.status, parsed.recording.body) == (404, b"anything: [")
    assert parsed.recording.edited
    assert read_form(b"status: 204").recording.body == b""


def test_values_are_texts_whatever_yaml_would_take_them_for() -> None:
    """`no`, numbers and dates in a header are what they look like; several values are a list."""
    text = b"status: '200'\nheaders:\n  x-a: no\n  x-b: 1.10\n  link: [one, two]\nrecorded: 2026-11-21\n"
    recording = read_form(text).recording
    assert recording.headers == (("x-a", "no"), ("x-b", "1.10"), ("link", "one"), ("link", "two"))
    assert recording.recorded == 1_795_219_200.0


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (b"", 1, "empty"),
        (b"# only this\n", 1, "empty"),
        (b"headers: {}\n", 1, "no `status`"),
        (b"request: GET /\nstatus: 2OO\n", 2, "from 200 to 599"),
        (b"status: 199\n", 1, "from 200"),
        ("status: ²00\n".encode(), 1, "from 200"),
        (b"status: 99999999999999999999\n", 1, "from 200"),
        (b"status: [200]\n", 1, "must be a text"),
        (b"status: 200\nstaus: 200\n", 2, "there is no key 'staus'"),
        (b"status: 200\nstatus: 201\n", 2, "twice"),
        (b"status: 200\nheaders:\n  a: b\n c: d\n", 4, "no YAML"),
        (b"status: 200\nheaders: {a: b\n", 3, "no YAML"),
        (b"status: 200\n\theaders: x\n", 2, "no YAML"),
        (b"status: 200\nheaders: text\n", 2, "names with values"),
        (b"status: 200\nheaders:\n  x: {y: z}\n", 3, "one line"),
        (b'status: 200\nheaders:\n  x: "a\\r\\nset-cookie: b"\n', 3, "one line"),
        (b"status: 200\nheaders:\n  x y: z\n", 3, "no name of a header field"),
        (b"status: 200\nheaders:\n  [a]: z\n", 3, "cannot be a name"),
        (b"status: 200\nheaders: " + b"[" * 100_000, 2, "levels deep"),
        (b"- " * 100_000, 1, "levels deep"),
        (b"status: 200\n# " + b"x" * 300_000, 1, "longer than"),
        (b"status: 200\nrecorded: yesterday\n", 2, "no moment"),
        (b"status: 200\nbody: ../../etc/passwd\n", 2, "no name of a file"),
        (b"status: 200\nbody: .hidden\n", 2, "no name of a file"),
        (b"status: 200\nbody: a.html\n---\nand this\n", 4, "names a file"),
        (b"status: 200\nheaders: {content-type: application/json}\n---\n{\n  \"a\": 1,\n}\n", 5, "no JSON"),
        (b"status: 200\n---\nlatin \xe9\n", 3, "not UTF-8"),
        (b"- a\n- b\n", 1, "names with values"),
        (b"just text\n", 1, "names with values"),
        (b"status: &a 200\nheaders: *b\n", 2, "no YAML"),
        (b"\0\0\0", 1, "no YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text: bytes, line: int, says: str) -> None:
    """A person edits these files."""
    with pytest.raises(BrokenRecording, match=says) as found:
        read_form(text)
    assert found.value.line == line


@fixed
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_rubbish_is_broken_or_read_and_nothing_else(data: bytes) -> None:
    """Whatever is in the folder."""
    with contextlib.suppress(BrokenRecording):
        assert read_form(data).recording.edited
