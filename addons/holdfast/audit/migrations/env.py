"""Run by Alembic, on a connection that `migrating` has opened: in its transaction, one process at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

connection: Connection = context.config.attributes["connection"]
# Everybody else waits here until the transaction ends, and finds nothing left to do then.
connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('holdfast audit ' || current_schema()))"))
context.configure(connection=connection, version_table=context.config.attributes["version_table"])
with context.begin_transaction():
    context.run_migrations()
