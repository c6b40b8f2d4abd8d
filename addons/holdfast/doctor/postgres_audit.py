"""PostgreSQL as the audit store: reachable, new enough, with its tables or the right to make them."""

from __future__ import annotations

import time
from typing import Any

from holdfast.audit.opening import file_of, masked
from holdfast.doctor.case import Case, OtherClock
from holdfast.doctor.finding import PATIENCE, Finding, Job

_TABLES = ("captures", "processed_events", "audit_log", "dead_letters", "callbacks")
_LOOK = """
SELECT current_setting('server_version'), current_setting('server_version_num')::int,
  current_setting('server_encoding'), pg_is_in_recovery(), current_schema(),
  current_schema() IS NOT NULL AND has_schema_privilege(current_schema(), 'CREATE'),
  to_regclass(%s) IS NOT NULL, extract(epoch FROM clock_timestamp())::float8
"""
_RIGHTS = """
SELECT t FROM unnest(%s::text[]) AS t WHERE to_regclass(t) IS NOT NULL
  AND NOT has_table_privilege(to_regclass(t), 'SELECT, INSERT, UPDATE, DELETE')
"""
_NAME = "audit"


def jobs(case: Case) -> list[Job]:
    """Where it is an SQLite file, `places` examines it."""
    urls = [settings.audit for settings in case.settings("replayer")]
    if not urls:
        return [Job(_NAME, lambda: [Finding(_NAME, "skipped", "the profile has no replayer")])]
    return [Job(_NAME, lambda: [_examined(urls[0], case)])] if file_of(urls[0]) is None else []


def _examined(url: str, case: Case) -> Finding:
    try:
        import psycopg

        from holdfast.audit.migrating import LEAST_VERSION, REVISIONS, VERSION_TABLE
        from holdfast.audit.postgres_link import Link
    except ImportError as error:
        told = f"{masked(url)} needs packages that are not installed ({error})"
        return Finding(_NAME, "failing", told, "pip install 'holdfast[postgres]'")
    link = Link(url, PATIENCE)
    try:
        with psycopg.connect(**link.settings, autocommit=True) as conn:  # type: ignore[arg-type]
            conn.execute("SET default_transaction_read_only = on")
            conn.execute("SELECT set_config('statement_timeout', %s, false)", (str(round(PATIENCE * 1000)),))
            began = time.time()
            row: Any = conn.execute(_LOOK, (VERSION_TABLE,)).fetchone()
            ended = time.time()
            version, number, encoding, is_replica, schema, may_create, has_tables, clock = row
            case.clocks.append(OtherClock("PostgreSQL", clock - (began + ended) / 2, (ended - began) / 2))
            revision = _revision(conn, VERSION_TABLE) if has_tables else ""
            refused = [name for (name,) in conn.execute(_RIGHTS, (list(_TABLES),)).fetchall()] if has_tables else []
    except psycopg.OperationalError as error:
        told = f"{link.name} cannot be reached: {_said(error, link.settings)}"
        return Finding(_NAME, "failing", told, "start it, or correct user, password, host and database in `audit`")
    except psycopg.Error as error:
        told = f"{link.name} refuses: {_said(error, link.settings)}"
        return Finding(_NAME, "failing", told, "let the user of the URL own the tables of the audit")
    wrong = _wrong(number, LEAST_VERSION, encoding, is_replica=is_replica, schema=schema) or _tables_wrong(
        revision, REVISIONS, refused, may_create=may_create
    )
    if wrong:
        return Finding(_NAME, "failing", f"{link.name} {wrong[0]}", wrong[1])
    told = f"PostgreSQL {version.split()[0]} at {link.place}"
    if revision != REVISIONS[-1]:
        return Finding(_NAME, "ok", f"{told}; the first start makes its tables")
    return Finding(_NAME, "ok", f"{told}, tables of version {revision}")


def _wrong(number: int, least: int, encoding: str, *, is_replica: bool, schema: str | None) -> tuple[str, str] | None:
    if number < least:
        return f"is version {number // 10000}", f"upgrade it: {least // 10000} is the oldest that will do"
    if encoding != "UTF8":
        return f"has the encoding {encoding}", "create the database with ENCODING 'UTF8'"
    if is_replica:
        return "is a replica, and read-only", "name the primary, or all of them and target_session_attrs=read-write"
    if schema is None:
        return "has no schema to make tables in", "create the one that search_path names"
    return None


def _tables_wrong(
    revision: str, known: tuple[str, ...], refused: list[str], *, may_create: bool
) -> tuple[str, str] | None:
    if revision and revision not in known:
        return f"was written by a newer Holdfast (version {revision})", "upgrade this one"
    if revision != known[-1] and not may_create:
        return "does not let its user make tables", "GRANT CREATE ON SCHEMA ... TO ..., or start once as its owner"
    if refused:
        return f"does not let its user write {', '.join(refused)}", "let its user own the tables of the audit"
    return None


def _revision(conn: Any, table: str) -> str:
    row = conn.execute(f"SELECT version_num FROM {table}").fetchone()  # noqa: S608 - a constant
    return str(row[0]) if row else ""


def _said(error: Exception, settings: dict[str, str]) -> str:
    """Without the password."""
    told, password = " ".join(str(error).split()) or type(error).__name__, settings.get("password", "")
    return told.replace(password, "***") if password else told
