"""Where a profile comes from: loaded as often as need be, and looked at in between for whether it has changed.

What counts is what the files hold, not their times: an editor replaces a file by another, a ConfigMap in Kubernetes
the folder behind a symbolic link, and `touch` changes nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from holdfast.profile.load import read_profile
from holdfast.profile.nodes import Where
from holdfast.profile.reading import Reading
from holdfast.profile.settings import Profile

Seen = Mapping[str, bytes]  # file -> digest
_LARGEST = 1024 * 1024 + 1  # a profile may be no larger


class ProfileSource:
    """A shipped profile's name or a file, with what the command line says over it. Any one thread at a time."""

    def __init__(self, name: str, overrides: Mapping[str, object] | None = None) -> None:
        self.name = name
        self.seen: Seen = {}  # the files as they were when the profile was loaded last
        self._overrides = dict(overrides or {})
        self._reading = Reading(os.environ)

    def load(self) -> Profile:
        """The profile as it is now. ProfileError with every fault."""
        before = self.look()
        importlib.invalidate_caches()  # a module that was not there before may be now
        self._reading = Reading(os.environ)
        try:
            return read_profile(self.name, self._reading, self._overrides)
        finally:
            # Those known before: as they were before they were read. If one has changed meanwhile, it will show.
            self.seen = {**self.look(), **{file: before[file] for file in self._reading.files if file in before}}

    def lay_over(self, path: str, value: object) -> None:
        """From the next `load` on this holds, whatever the files say."""
        self._overrides[path] = value

    def look(self) -> Seen:
        """The files that the profile was loaded from last, as they are now."""
        return {file: _digest(Path(file)) for file in self._reading.files}

    def place(self, path: str) -> Where:
        """Where this dotted path stands in the profile that was loaded last."""
        return self._reading.place(path)


def _digest(file: Path) -> bytes:
    try:
        # A pipe would wait for somebody to write, and can be read only once anyway.
        if not stat.S_ISREG(file.stat().st_mode):
            return b"not a file"
        with file.open("rb") as stream:
            return hashlib.blake2b(stream.read(_LARGEST)).digest()
    except (OSError, ValueError) as error:
        return str(error).encode()
