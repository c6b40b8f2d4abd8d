"""The upstream leg on mitmproxy's own async core; the only place that touches mitmproxy's internals.

- `upstream` is the addon: it puts our HTTP layer under each client connection. `leg` is what all of it shares.
- `http_layer`, `stream` and `attempts` are that layer: attempts, timeouts, retries, the last answer.
- `faulty_stream` is the same stream where faults are asked for: its attempts or its answer fail on purpose.
- `watch` looks after servers that are held back: health checks, early recovery.
- `interim` and `connection_fields` mend what stock passes on wrongly: 1xx answers, hop-by-hop header fields.
- `failures` names what went wrong; `timers` bounds how long anything may take; `hooks` are the events for addons.
- `placement` puts addons onto the manager in order; `gate` opens, drains and closes the listening socket.
- `speed` has what only makes mitmproxy faster, and can be left out: `dispatch`, events by a table, and `speedups`.
- `deferring` loads mitmproxy without what a gateway hardly ever uses of it.
- `selfcheck` compares the installed mitmproxy with what all of this was written against.
"""

SUPPORTED = "12.2"  # the line of mitmproxy that all of it was written against
