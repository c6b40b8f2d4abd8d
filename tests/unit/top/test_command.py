"""The command line of `holdfast top`."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.cli import main


@pytest.mark.parametrize(
    ("interval", "told"),
    [("1ms", "--interval is from 0.1s to 1h, not 1ms"), ("2h", "--interval is from"), ("soon", "duration")],
)
def test_an_interval_that_makes_no_sense_is_refused(
    interval: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, before anybody is asked."""
    assert main(["top", "--profile", "sidecar", "--interval", interval]) == 2
    assert told in capsys.readouterr().err


def test_a_profile_without_a_control_surface_cannot_be_watched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2."""
    file = tmp_path / "p.yaml"
    file.write_text("version: 1\nextends: minimal\nadmin: {listen: null}\n")
    assert main(["top", "--once", "--profile", str(file)]) == 2
    assert "has no admin.listen" in capsys.readouterr().err
