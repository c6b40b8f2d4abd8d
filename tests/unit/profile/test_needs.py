"""What an addon needs of another one is a fault of the profile where it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from holdfast.errors import ProfileError
from holdfast.profile.load import load_profile

ROUTER = {"router": {"routes": [{"name": "hooks", "path": "/hooks"}]}}


def written(folder: Path, *addons: object) -> str:
    file = folder / "p.yaml"
    upstream = {"servers": ["http://127.0.0.1:1"]}
    file.write_text(yaml.safe_dump({"version": 1, "upstream": upstream, "addons": [ROUTER, *addons]}))
    return str(file)


def test_an_interceptor_that_withholds_needs_a_failure_sink(tmp_path: Path) -> None:
    """Every key that says so is named; with the sink, or a class of somebody's that may be one, all is well."""
    routes = {"hooks": {"mode": "always", "answer": 202}}
    interceptor = {"interceptor": {"order": True, "routes": routes}}
    with pytest.raises(ProfileError) as refused:
        load_profile(written(tmp_path, interceptor))
    assert [fault.path for fault in refused.value.faults] == [
        "addons.interceptor.routes.hooks.mode",
        "addons.interceptor.order",
    ]
    assert "needs the addon failure_sink" in str(refused.value)
    assert load_profile(written(tmp_path, interceptor, "failure_sink"))
    assert load_profile(written(tmp_path, interceptor, {"use": "holdfast.failure_sink:FailureSink"}))
    assert load_profile(written(tmp_path, {"interceptor": {"order": False}}))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"mode": "always"}, "needs `answer: 202`"),
        ({"routes": {"hooks": {"mode": "always"}}}, "routes.hooks: `mode: always`"),
        ({"mode": "always", "answer": 202, "routes": {"hooks": {"answer": 503}}}, "routes.hooks: `mode: always`"),
        ({"answer": 202, "routes": {"hooks": {"mode": "always", "capture": False}}}, "cannot have `capture: false`"),
        ({"full": 500}, "429"),
    ],
)
def test_what_would_be_no_true_202_is_a_fault(tmp_path: Path, settings: dict[str, object], fault: str) -> None:
    """Accepting everything at once is only said with 202, and only of what is stored."""
    with pytest.raises(ProfileError) as refused:
        load_profile(written(tmp_path, {"interceptor": settings}, "failure_sink"))
    assert fault in str(refused.value)
