"""Outcomes that are to be posted. No reference to `captures`: what waits stays when its capture is pruned."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

_STATEMENTS = (
    """
CREATE TABLE callbacks (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id text NOT NULL, redrive integer NOT NULL,
  url text NOT NULL, document bytea NOT NULL, state text NOT NULL DEFAULT 'waiting', tries integer NOT NULL DEFAULT 0,
  due float8 NOT NULL, last_error text, UNIQUE (event_id, redrive)
)
""",
    "CREATE INDEX callbacks_due ON callbacks (due, id) WHERE state = 'waiting'",
    "CREATE INDEX callbacks_given_up ON callbacks (event_id) WHERE state = 'given_up'",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("outcomes are not thrown away: restore a backup instead")
