"""Brings the tables of a PostgreSQL database to the newest form: Alembic, with the steps of `migrations/versions`.

Several replayers may start at once: one of them does it, the others wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors

from holdfast.audit.postgres_link import Connection, Link, cut, unavailable
from holdfast.errors import StoreUnavailable

REVISIONS = ("0001", "0002")  # of migrations/versions, oldest first
VERSION_TABLE = "holdfast_audit_version"
LEAST_VERSION = 130000
_SECONDS = 120.0  # for all steps, and for waiting until another replayer has done them

_one_at_a_time = threading.Lock()  # Alembic keeps what it is at in variables of its modules


async def prepare(link: Link) -> int:
    """Check the server and migrate; the number that keeps our locks apart from those of other schemas.

    StoreUnavailable, with what to do.
    """
    password = link.settings.get("password", "")
    try:
        async with asyncio.timeout(link.timeout):
            version, number = await _look(link)
        if version != REVISIONS[-1]:
            if version and version not in REVISIONS:
                raise StoreUnavailable(
                    f"{link.name} was written by a newer Holdfast (version {version}): upgrade this one"
                )
            await _upgrade(link)
    except TimeoutError as error:
        raise StoreUnavailable(
            f"{link.name} did not answer within {link.timeout:g} s: see whether it runs and can be reached"
        ) from error
    except (psycopg.Error, OSError) as error:
        raise unavailable(error, link.name, link.timeout, password) from error
    return number


async def _look(link: Link) -> tuple[str, int]:
    conn = await psycopg.AsyncConnection.connect(**link.settings, autocommit=True)  # type: ignore[arg-type]
    # Closing a connection by a deadline is left to the cut: a server that is silent would not answer a goodbye either.
    watchdog = asyncio.get_running_loop().call_later(link.timeout, cut, conn)
    try:
        if conn.info.server_version < LEAST_VERSION:
            raise StoreUnavailable(f"{link.name} is older than version 13: upgrade it")
        if conn.info.parameter_status("server_encoding") != "UTF8":
            raise StoreUnavailable(f"{link.name} does not hold every character: create it with ENCODING 'UTF8'")
        return await _version(conn), await _number(link, conn)
    finally:
        watchdog.cancel()
        await conn.close()


async def _version(conn: Connection) -> str:
    found = await (await conn.execute("SELECT to_regclass(%s) IS NOT NULL", (VERSION_TABLE,))).fetchone()
    if not (found and found[0]):
        return ""
    row = await (await conn.execute(f"SELECT version_num FROM {VERSION_TABLE}")).fetchone()  # noqa: S608
    return str(row[0]) if row else ""


async def _number(link: Link, conn: Connection) -> int:
    row = await (await conn.execute("SELECT current_schema(), hashtext('holdfast ' || current_schema())")).fetchone()
    if row is None or row[0] is None:
        raise StoreUnavailable(f"{link.name} has no schema to make tables in: create the one that search_path names")
    return int(row[1])


async def _upgrade(link: Link) -> None:
    opened: list[psycopg.Connection[Any]] = []
    loop = asyncio.get_running_loop()

    def give_up() -> None:
        for conn in opened:
            cut(conn)

    watchdog = loop.call_later(_SECONDS, give_up)
    try:
        await asyncio.to_thread(_upgrade_in_thread, link, opened)
    finally:
        watchdog.cancel()


def _upgrade_in_thread(link: Link, opened: list[psycopg.Connection[Any]]) -> None:
    # They take a while to load, and are needed once in the life of a database.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    def connect() -> psycopg.Connection[Any]:
        opened.append(psycopg.connect(**link.settings))  # type: ignore[arg-type]
        opened[-1].execute("SELECT set_config('lock_timeout', %s, false)", (str(round(_SECONDS * 1000)),))
        opened[-1].commit()
        return opened[-1]

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes["version_table"] = VERSION_TABLE
    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
    try:
        with _one_at_a_time, engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as error:
        if isinstance(error.orig, errors.InsufficientPrivilege):
            raise StoreUnavailable(
                f"{link.name}: this user may not make tables: GRANT CREATE ON SCHEMA to it, or start once as its owner"
            ) from error
        raise error.orig or error from error
    finally:
        engine.dispose()
