"""Which records of a key are not settled: an index of its own, made when somebody first asks for it.

Whoever does not care for the order of keys pays nothing for it. Once made it is kept by triggers, so that it is right
whichever process changes a state. It holds pending records, and published ones until `forget` is told that they are
settled. It can be made anew from the other tables, so that nothing else relies on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import apsw

_IS_THERE = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'waiting')"
_MAKE = """
CREATE TABLE waiting (key TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (key, seq)) STRICT, WITHOUT ROWID;
INSERT INTO waiting SELECT key, seq FROM captures
    WHERE seq IN (SELECT seq FROM ledger NOT INDEXED WHERE state IN ('pending', 'sent'));
CREATE TRIGGER waiting_stored AFTER INSERT ON ledger WHEN NEW.state = 'pending' BEGIN
    INSERT OR IGNORE INTO waiting SELECT key, seq FROM captures WHERE seq = NEW.seq;
END;
CREATE TRIGGER waiting_again AFTER UPDATE OF state ON ledger WHEN NEW.state IN ('pending', 'sent') BEGIN
    INSERT OR IGNORE INTO waiting SELECT key, seq FROM captures WHERE seq = NEW.seq;
END;
CREATE TRIGGER waiting_given_up AFTER UPDATE OF state ON ledger WHEN NEW.state IN ('discarded', 'quarantined') BEGIN
    DELETE FROM waiting WHERE key = (SELECT key FROM captures WHERE seq = NEW.seq) AND seq = NEW.seq;
END;
CREATE TRIGGER waiting_pruned AFTER DELETE ON ledger BEGIN
    DELETE FROM waiting WHERE key = (SELECT key FROM captures WHERE seq = OLD.seq) AND seq = OLD.seq;
END;
"""
_FORGET = """
DELETE FROM waiting WHERE key = ? AND seq = ? AND (SELECT state FROM ledger WHERE seq = waiting.seq) = 'sent'
"""
WAITING = """
SELECT w.seq, l.id, l.state FROM waiting w CROSS JOIN ledger l ON l.seq = w.seq
WHERE w.key = ? AND w.seq > ? ORDER BY w.seq LIMIT ?
"""


class Waiting(NamedTuple):
    """A record that somebody of its key may have to wait for."""

    seq: int
    id: str
    state: Literal["pending", "sent"]


def make_index(db: apsw.Connection) -> None:
    """Within a transaction; does nothing where it is there already."""
    if not db.execute(_IS_THERE).get:
        db.execute(_MAKE)


def forget(db: apsw.Connection, key: str, seqs: Iterable[int]) -> None:
    """These are settled, unless somebody has queued them again meanwhile."""
    db.executemany(_FORGET, [(key, seq) for seq in seqs])
