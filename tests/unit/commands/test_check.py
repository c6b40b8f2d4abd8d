"""check: what it says of a profile that is right."""

from pathlib import Path

import pytest

from holdfast.commands.check import hits_told
from holdfast.profile.load import load_profile

CASES = {
    "[metrics]": [],
    "[metrics, cache, surrogate]": ["hits      fast lane"],
    "[cache: {fast_lane: false}]": ["hits      no fast lane (`fast_lane: false`)"],
    "[cache, faults, {use: 'mitmproxy.addons.comment:Comment'}, {use: 'mitmproxy.addons.anticache:AntiCache'}]": [
        "hits      no fast lane: faults, AntiCache may need to see them"
    ],
    "[{router: {routes: [{name: a, path: /a}, {name: b, path: /b}]}},"
    " {cache: {fast_lane: false, routes: {a: {fast_lane: true}, b: {grace: 1s}}}}]": [
        "hits      no fast lane (`fast_lane: false`), but fast lane on a"
    ],
}


@pytest.mark.parametrize("addons", CASES)
def test_which_way_hits_go(tmp_path: Path, addons: str) -> None:
    """An addon with a hook for requests or responses may need to see them; one without cannot."""
    file = tmp_path / "p.yaml"
    file.write_text(f"version: 1\nupstream: {{servers: ['http://127.0.0.1:1']}}\naddons: {addons}\n")
    assert hits_told(load_profile(str(file))) == CASES[addons]
