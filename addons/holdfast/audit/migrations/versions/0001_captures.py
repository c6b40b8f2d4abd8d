"""The tables as they began: captures, what they came to, the log, and the messages of those that were given up."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
CREATE TABLE captures (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text NOT NULL UNIQUE, lane bigint NOT NULL,
  key text NOT NULL, route text NOT NULL, method text NOT NULL, path text NOT NULL, error text NOT NULL,
  captured float8 NOT NULL, arrived float8 NOT NULL, status integer, traceparent text NOT NULL,
  redrive integer NOT NULL, state text NOT NULL DEFAULT 'open', reason text NOT NULL DEFAULT '',
  attempts integer NOT NULL DEFAULT 0, due float8 NOT NULL, place text NOT NULL DEFAULT '', owner text NOT NULL,
  claim_until float8 NOT NULL, last_status integer, last_error text, settled_at float8
)
""",
    "CREATE INDEX captures_open ON captures (lane, seq) WHERE state = 'open'",
    "CREATE INDEX captures_claimed ON captures (lane) WHERE state = 'open' AND claim_until > 0",
    "CREATE INDEX captures_due ON captures (due) WHERE state = 'open'",
    "CREATE INDEX captures_captured ON captures (captured, seq)",
    "CREATE INDEX captures_state ON captures (state, captured, seq)",
    "CREATE INDEX captures_route ON captures (route, captured, seq)",
    "CREATE INDEX captures_key ON captures (lane, captured, seq)",
    """
CREATE TABLE processed_events (
  event_id text PRIMARY KEY REFERENCES captures (id) ON DELETE CASCADE, outcome text NOT NULL, reason text NOT NULL,
  processed_at float8 NOT NULL, attempts integer NOT NULL, status integer
)
""",
    "CREATE INDEX processed_events_at ON processed_events (processed_at)",
    """
CREATE TABLE audit_log (
  sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id text NOT NULL, at float8 NOT NULL,
  kind text NOT NULL, owner text NOT NULL, server text NOT NULL, error text, status integer,
  duration_ms float8 NOT NULL, headers text NOT NULL, body bytea NOT NULL, body_truncated boolean NOT NULL,
  traceparent text NOT NULL, outcome text NOT NULL, reason text NOT NULL, effective boolean NOT NULL
)
""",
    "CREATE INDEX audit_log_event ON audit_log (event_id, sequence)",
    """
CREATE TABLE dead_letters (
  event_id text PRIMARY KEY REFERENCES captures (id) ON DELETE CASCADE, message_key text NOT NULL,
  value bytea NOT NULL, headers text NOT NULL
)
""",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("outcomes are not thrown away: restore a backup instead")
