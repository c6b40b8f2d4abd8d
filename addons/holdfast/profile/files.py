"""One file to one tree."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from holdfast.errors import Fault, ProfileError
from holdfast.profile.compose import ROOT, compose
from holdfast.profile.hints import found
from holdfast.profile.nodes import Scalar, Table, TreeBuilder, Where

_LARGEST = 1024 * 1024


def read_table(file: Path, env: Mapping[str, str], where: Where, path: str) -> tuple[Table, list[Fault]]:
    """The file's mapping and what is wrong with it; ProfileError where that leaves nothing to go on with.

    `where` and `path` are those of the name that led here: a file that cannot be read has no lines to point to.
    """
    text = _text(file, where, path)
    root = compose(text, str(file))
    if root is None:
        return Table(Where(str(file), 1)), []
    builder = TreeBuilder(str(file), env)
    tree = builder.build(root)
    if isinstance(tree, Scalar) and tree.is_null():
        tree = Table(tree.where)
    if not isinstance(tree, Table):
        message = f"expected a mapping that begins with 'version: 1'; found {found(tree)}"
        raise ProfileError([*builder.faults, tree.where.fault(ROOT, message)])
    return tree, builder.faults


def _text(file: Path, where: Where, path: str) -> str:
    try:
        if not _ends(file):
            raise OSError("this is no regular file")
        with file.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ProfileError([where.fault(path, f"{str(file)!r} cannot be read: {reason}")]) from error
    if len(data) > _LARGEST:
        raise ProfileError([where.fault(path, f"{str(file)!r} is larger than a profile may be (1MiB)")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ProfileError([Fault(str(file), line, ROOT, "is not UTF-8 text")]) from error


def _ends(file: Path) -> bool:
    """A pipe that lies in a folder waits for ever for somebody to write; the shell's own, `<(...)`, is written to."""
    mode = file.stat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or (stat.S_ISFIFO(mode) and file.is_relative_to("/dev"))
