"""What addons need of each other: an interceptor that withholds requests has to have them stored somewhere."""

from __future__ import annotations

from typing import Any

from holdfast.errors import Fault
from holdfast.profile.entries import path_of
from holdfast.profile.nodes import Where, join
from holdfast.profile.settings import Profile


def unmet_needs(profile: Profile) -> list[Fault]:
    """A fault for each key that can do nothing without another addon; anybody's class may be that one."""
    if any(entry.target == "failure_sink" or ":" in entry.target for entry in profile.addons):
        return []
    return [
        Where(entry.file, entry.line).fault(
            join(path_of(entry.name), key), "stores requests before they are sent: it needs the addon failure_sink"
        )
        for entry in profile.addons
        if entry.target == "interceptor"
        for key in _withholding(entry.settings)
    ]


def _withholding(settings: Any) -> list[str]:
    found = [("", settings), *((f"routes.{name}.", route) for name, route in settings.routes.items())]
    modes = [f"{path}mode" for path, each in found if each.mode == "always"]
    return modes + [f"{path}order" for path, each in found if each.order]
