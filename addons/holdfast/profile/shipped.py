"""The profiles that come with Holdfast: package data in a wheel, the folder `profiles/` in a checkout."""

from __future__ import annotations

from pathlib import Path

from holdfast.profile.hints import either_of

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder() -> Path:
    """Where the shipped profiles are."""
    packaged = _PACKAGE / "_profiles"
    return packaged if packaged.is_dir() else _PACKAGE.parents[1] / "profiles"


def shipped_profiles() -> list[tuple[str, str]]:
    """(name, story) of each; the story is the comment on the file's first line."""
    return [(file.stem, _story(file)) for file in sorted(shipped_folder().glob("*.yaml"))]


def is_shipped_name(name_or_path: str) -> bool:
    """A name has neither a slash nor a file's ending; anything else is a path."""
    return not ("/" in name_or_path or "\\" in name_or_path or name_or_path.endswith((".yaml", ".yml")))


def shipped_file(name: str) -> Path:
    """The file of a shipped profile. LookupError, with what there is, if there is none of this name."""
    names = [known for known, _ in shipped_profiles()]
    if name in names:
        return shipped_folder() / f"{name}.yaml"
    listed = f"there are {', '.join(names)}" if names else "there are none"
    hint = either_of(name, names)
    raise LookupError(
        f"there is no shipped profile {name!r}: {hint + ' ' if hint else ''}"
        f"({listed}; a file is named with a slash or its ending .yaml)"
    )


def _story(file: Path) -> str:
    with file.open(encoding="utf-8") as lines:
        first = lines.readline().strip()
    return first.lstrip("# ") if first.startswith("#") else ""
