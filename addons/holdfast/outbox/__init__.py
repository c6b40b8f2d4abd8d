"""The outbox: captured requests on this machine's disk, until a broker has them.

What is true at every moment, whatever crashes:

1. A record whose `append` has returned is in the database, synced. A crash before that leaves all of it or nothing.
2. It stays `pending` until the broker has confirmed it. A crash after the confirmation and before the mark is on the
   disk publishes it once more, with the same id: at least once, never less.
3. Pending records are published in the order of storing, for each outbox; after a failure from the oldest one on. With
   one key, a record may come twice, but never for the first time after one that was stored later. What is put into
   quarantine or discarded leaves a gap; what is queued again comes at its own time.
4. Unsent records are never dropped to make room: at a bound an append is refused and says why. Sent and discarded ones
   are deleted after their retention, and before it, oldest first, when room is needed.
5. Every row carries a checksum. A damaged record is put into quarantine and costs only itself; a damaged file is put
   aside and begun anew with every whole record in it, in the same order, in the same state. A crash while this is done
   leaves the old file or the new one. Records that were sent may be sent again after it, if their state was lost.
6. A file is written by one process, which holds its lock for life, and by the command line, which changes states only.
   When the process is gone, another one that relays takes its lock and sends what it left.

`Outbox` stores and knows its own file; `Relay` publishes; `read_all` gives a view over the files of all processes.
"""

from __future__ import annotations

from holdfast.outbox.reader import OutboxReader, read_all
from holdfast.outbox.record import OutboxLimits, OutboxRecord, OutboxStats, State
from holdfast.outbox.relay import Relay, RelayLimits, RelayStats
from holdfast.outbox.store import Outbox

__all__ = [
    "Outbox",
    "OutboxLimits",
    "OutboxReader",
    "OutboxRecord",
    "OutboxStats",
    "Relay",
    "RelayLimits",
    "RelayStats",
    "State",
    "read_all",
]
