"""Holdfast: mitmproxy addons that make a fault-tolerant, caching, observable gateway of its reverse mode.

The map of the house:

- `cli` parses the command line and calls; `chain` makes the profile's addons, `loader` puts them onto mitmproxy.
- `live` follows a profile that changes (`source` says whether it has), `takeover` is how the next one comes to hold.
- `profile/` turns YAML into frozen typed settings or a list of faults; `registry` says which addon has which name.
- `engine/` is the only place that touches mitmproxy's internals: the upstream leg, its timers, the start-up gate.
- one addon, one file: `router`, `metrics`, `tracing`, `cache`, `surrogate`, `understudy`, `faults`, `interceptor`,
  `failure_sink`, `notifier`, `accesslog`, `intake`.
- `notifying/` is how notices and outcomes of captures get to others: webhooks, a topic, callbacks.
- `caching/` is what the cache is made of, `stores/` where it keeps responses: memory, Redis, one in front of the other.
- `recordings/` is how the understudy's recordings are written, read and found as files.
- `spool` keeps streamed bodies on disk until it is known how the request ends.
- `policy/` is pure: retry, failure kinds, fate, redaction, the envelope of a captured request.
- `outbox/` keeps captured requests on disk and relays them; `brokers/` are where they are relayed to.
- `marks` is what mitmweb shows beside a flow; `workbench/` the commands and the content view for whoever sits there.
- `admin/` is the control surface: health, metrics, captures, config.
- `doctor/` looks for what is wrong with a machine and a profile, and changes nothing.
- `testing` is for addon authors: a misbehaving origin, flow builders, a fixed clock.
"""
