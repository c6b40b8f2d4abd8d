"""An audit store from a profile's URL; not opened yet.

./holdfast-audit.db               an SQLite file
sqlite:///relative.db             the same; with four slashes from the root: sqlite:////var/lib/holdfast/audit.db
postgresql://user@host/database   shared; whatever libpq understands in a URL, e.g. ?sslmode=verify-full
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from holdfast.audit import Audit
from holdfast.audit.sqlite import SqliteAudit

_WRITE = "write ./audit.db, sqlite:///audit.db, sqlite:////absolute/audit.db or postgresql://user@host/database"


def open_audit(url: str, clock: Callable[[], float]) -> Audit:
    """ValueError, with what to write instead, for a URL that names no audit store; it never shows a password.

    StoreUnavailable where the packages for PostgreSQL are not installed.
    """
    file = file_of(url)
    if file:
        return SqliteAudit(file, clock)
    from holdfast.audit.postgres import PostgresAudit  # a replayer without PostgreSQL does not need its packages

    return PostgresAudit(url, clock)


def file_of(url: str) -> Path | None:
    """The SQLite file that a URL names, None for PostgreSQL. ValueError as above."""
    scheme, found, rest = url.partition("://")
    if not found:
        return _file(url, url)
    if scheme == "sqlite":
        if not rest.startswith("/"):
            raise ValueError(f"{url!r} has too few slashes: {_WRITE}")
        return _file(rest[1:], url)
    if scheme in ("postgresql", "postgres"):
        return None
    raise ValueError(f"{masked(url)!r} names no audit store: {_WRITE}")


def masked(url: str) -> str:
    """Without what may be a password, wherever in the URL: it goes into messages."""
    url = re.sub(r"(:/*).*@", r"\1***@", url, count=1, flags=re.S)
    return re.sub(r"(?i)(password|secret|key|token)=[^&]*", r"\1=***", url)


def _file(path: str, url: str) -> Path:
    if not path or path.endswith("/") or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|:", path) or "?" in path or "\0" in path:
        raise ValueError(f"{masked(url)!r} names no file: {_WRITE}")
    return Path(path)
