"""What is asked of PostgreSQL. Many rows travel as one JSON text, so that a call of any size is few statements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from holdfast.audit import rows as r

_TYPES = {
    **dict.fromkeys(("seq", "lane"), "bigint"),
    **dict.fromkeys(("status", "redrive", "attempts", "last_status"), "integer"),
    **dict.fromkeys(("captured", "arrived", "due", "claim_until", "settled_at", "processed_at", "at"), "float8"),
    **dict.fromkeys(("body_truncated", "effective"), "boolean"),
    "duration_ms": "float8",
}  # of columns that are not text; bytes travel in base64
_BYTES = ("body", "value", "document")
STRIPES = (
    1024  # locks stand for keys: so many that few collide, so few that a server's table of locks holds all of them
)


def packed(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as `_recordset` reads them."""
    return msgspec.json.encode([dict(zip(columns, row, strict=True)) for row in rows]).decode()


def _recordset(columns: Sequence[str]) -> str:
    typed = ", ".join(f"{name} {_TYPES.get(name, 'text')}" for name in columns)
    return f"json_to_recordset(%s::json) AS n ({typed})"


def _read(name: str) -> str:
    return f"decode(n.{name}, 'base64')" if name in _BYTES else f"n.{name}"


def _insert(table: str, columns: Sequence[str]) -> str:
    # The rows come in their order, and so do the numbers that the table gives them.
    names, values = ", ".join(columns), ", ".join(map(_read, columns))
    return f"INSERT INTO {table} ({names}) SELECT {values} FROM {_recordset(columns)}"  # noqa: S608 - constants


def _upsert(table: str, columns: Sequence[str]) -> str:
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns[1:])
    return f"{_insert(table, columns)} ON CONFLICT ({columns[0]}) DO UPDATE SET {changes}"


_HELD = ", ".join(f"c.{name}" for name in r.HELD)

# Whoever changes anything of a key has its lock first, so that what is read behind this is not changed meanwhile. They
# are taken in the order of their numbers: two calls cannot wait for each other.
LOCK_BY_ID = f"""
SELECT pg_current_xact_id()::text, count(pg_advisory_xact_lock(%s, stripe)) FROM (
  SELECT DISTINCT (lane & {STRIPES - 1})::int AS stripe FROM (
    SELECT lane FROM captures WHERE id = ANY(%s) UNION ALL SELECT unnest(%s::bigint[])) AS lanes
  ORDER BY stripe) AS stripes
"""  # noqa: S608
LOCK_OWNED = f"""
SELECT pg_current_xact_id()::text, count(pg_advisory_xact_lock(%s, stripe)) FROM (
  SELECT DISTINCT (lane & {STRIPES - 1})::int AS stripe FROM captures
  WHERE state = 'open' AND claim_until > 0 AND owner = %s ORDER BY stripe) AS stripes
"""  # noqa: S608
BY_ID = f"SELECT {_HELD} FROM captures c WHERE c.id = ANY(%s)"  # noqa: S608
KNOWN = "SELECT id FROM captures WHERE id = ANY(%s)"
OWNED = f"SELECT {_HELD} FROM captures c WHERE state = 'open' AND claim_until > 0 AND owner = %s"  # noqa: S608
# The captures that are named and, of each of their keys and of those that are named, the oldest that is open and the
# one that is claimed for longest. The conditions are those of the partial indices; LIMIT has each key looked up.
WITH_FRONTS = f"""
WITH named AS (SELECT seq, lane, key, state FROM captures WHERE id = ANY(%s)),
k AS (SELECT lane, key FROM named WHERE state = 'open' UNION SELECT * FROM unnest(%s::bigint[], %s::text[])),
wanted AS (
  SELECT seq FROM named
  UNION SELECT o.seq FROM k CROSS JOIN LATERAL (
    SELECT seq FROM captures WHERE lane = k.lane AND key = k.key AND state = 'open' ORDER BY seq LIMIT 1) AS o
  UNION SELECT o.seq FROM k CROSS JOIN LATERAL (
    SELECT seq FROM captures WHERE lane = k.lane AND key = k.key AND state = 'open' AND claim_until > 0
    ORDER BY claim_until DESC LIMIT 1) AS o)
SELECT {_HELD} FROM wanted JOIN captures c ON c.seq = wanted.seq
"""  # noqa: S608
NEW = _insert("captures", r.ARRIVING)
CHANGE_COLUMNS = (*r.CHANGING, "seq")
CHANGE = f"""
UPDATE captures c SET {", ".join(f"{name} = n.{name}" for name in r.CHANGING)}
FROM {_recordset(CHANGE_COLUMNS)} WHERE c.seq = n.seq
"""  # noqa: S608
LOG = _insert("audit_log", r.LOG)
PROCESSED = _upsert("processed_events", r.PROCESSED)
UNPROCESSED = "DELETE FROM processed_events WHERE event_id = ANY(%s)"
# One by one, as bytes: messages may be large, and letters are few.
LETTER = f"""
INSERT INTO dead_letters ({", ".join(r.LETTER)}) VALUES (%s, %s, %s, %s) ON CONFLICT (event_id) DO UPDATE
SET {", ".join(f"{name} = excluded.{name}" for name in r.LETTER[1:])}
"""  # noqa: S608
NO_LETTER = "DELETE FROM dead_letters WHERE event_id = ANY(%s)"
ATTEMPTS = f"""
SELECT {", ".join(r.ATTEMPT)} FROM audit_log WHERE event_id = %s AND kind = 'attempt' ORDER BY at, sequence
"""  # noqa: S608
LETTERS = f"""
SELECT {", ".join(f"d.{name}" for name in r.LETTER)} FROM dead_letters d JOIN captures c ON c.id = d.event_id
WHERE d.event_id = ANY(%s) ORDER BY c.seq
"""  # noqa: S608
STATS = """
SELECT (SELECT json_object_agg(state, n) FROM (SELECT state, count(*) AS n FROM captures GROUP BY state) AS counts),
  (SELECT count(*) FROM captures WHERE state = 'open' AND due <= %(now)s),
  (SELECT count(*) FROM captures WHERE state = 'open' AND due > %(now)s),
  (SELECT min(captured) FROM captures WHERE state = 'open'),
  (SELECT count(*) FROM callbacks WHERE state = 'waiting')
"""
PRUNABLE = "SELECT event_id FROM processed_events WHERE processed_at < %s AND outcome = ANY(%s) LIMIT %s"
# Behind the locks it is looked at again: somebody may have had one of them sent again meanwhile.
PRUNE = """
WITH gone AS (
  DELETE FROM captures WHERE id = ANY(%s) AND settled_at < %s AND state = ANY(%s) RETURNING id
), lines AS (DELETE FROM audit_log USING gone WHERE event_id = gone.id)
SELECT count(*) FROM gone
"""
PRUNE_CALLBACKS = """
DELETE FROM callbacks b WHERE state = 'given_up' AND NOT EXISTS (SELECT 1 FROM captures c WHERE c.id = b.event_id)
"""
CALLBACK = f"{_insert('callbacks', r.QUEUED)} ON CONFLICT (event_id, redrive) DO NOTHING"
# A lease is a later `due`. Who takes at the same moment passes over what is locked here.
TAKE = f"""
WITH found AS MATERIALIZED (
  SELECT id, due FROM callbacks WHERE state = 'waiting' AND due <= %s ORDER BY due, id LIMIT %s FOR UPDATE SKIP LOCKED
), taken AS (
  UPDATE callbacks b SET due = %s FROM found WHERE b.id = found.id
  RETURNING {", ".join(f"b.{name}" for name in r.CALLBACK)}, found.due AS since)
SELECT {", ".join(r.CALLBACK)} FROM taken ORDER BY since, id
"""  # noqa: S608
DONE = "DELETE FROM callbacks WHERE id = ANY(%s)"
# A statement whose answer was lost is run again: where it has had its effect already it is not one more try.
LATER = """
UPDATE callbacks SET tries = tries + 1, due = %(due)s, last_error = %(error)s
WHERE id = %(id)s AND state = 'waiting' AND due <> %(due)s
"""
GIVEN_UP = """
UPDATE callbacks SET tries = tries + 1, state = 'given_up', last_error = %s WHERE id = %s AND state = 'waiting'
"""
