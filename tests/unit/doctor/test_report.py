"""The findings as people and programs get them."""

from __future__ import annotations

from holdfast.doctor.finding import Finding
from holdfast.doctor.report import document, text

FINDINGS = [
    Finding("python", "ok", "3.13.0", "not shown"),
    Finding("redis", "warning", "a long sentence " * 12, "and what to do about it " * 8),
    Finding("upstream http://127.0.0.1:3000", "failing", "is \x1b[31mred\x1b[0m and\nbroken", "mend it"),
    Finding("kafka", "skipped", "kafka://user:opensesame@host", ""),
]


def test_no_line_is_longer_than_a_terminal() -> None:
    """80 columns; continued lines stand below the first."""
    lines = text("sidecar", FINDINGS, colours=False).splitlines()
    assert max(map(len, lines)) <= 80
    assert "          -> and what to do about it and what" in "\n".join(lines)
    assert lines[-1] == "1 ok, 1 warning, 1 failing, 1 skipped"
    assert "not shown" not in "\n".join(lines)


def test_what_is_longer_than_a_line_stays_whole() -> None:
    """A path or a command is there to be copied."""
    path = "/" + "very/" * 30 + "long"
    assert path in text("p", [Finding("outbox", "failing", path, path)], colours=False)


def test_nothing_from_outside_reaches_the_terminal_as_a_control_sequence() -> None:
    """Nor does a password reach anybody."""
    plain = text("p\x1b[2J", FINDINGS, colours=False)
    assert "\x1b" not in plain
    assert "opensesame" not in plain + str(document("p", FINDINGS))


def test_colours_are_for_the_status_alone() -> None:
    """Each has one, and it ends again."""
    coloured = text("p", FINDINGS, colours=True)
    assert coloured.count("\x1b[") == 2 * len(FINDINGS)
    assert "\x1b[31mfailing \x1b[0m" in coloured


def test_programs_get_every_finding_and_the_counts() -> None:
    """`ok` is whether nothing fails."""
    whole = document("sidecar", FINDINGS)
    assert whole["ok"] is False
    assert whole["counts"] == {"ok": 1, "warning": 1, "failing": 1, "skipped": 1}
    assert [each["name"] for each in whole["findings"]] == [each.name for each in FINDINGS]  # type: ignore[attr-defined]
    assert document("sidecar", FINDINGS[:2])["ok"] is True
