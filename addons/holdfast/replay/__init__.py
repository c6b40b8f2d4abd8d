"""Captured requests on their way home: taken from Kafka or from the outbox, sent again in order, once it is safe.

    source      where captures come from and where they go: the Protocol
    outbox      an outbox of this machine as a source
    kafka       topics of Kafka as a source
    lanes       the order per key, and what is to be done when: in memory, no I/O
    pace        how many at once: slow start, way for live traffic, one probe at a time at an upstream that fails
    sending     one request through the gateway's own upstream leg, and what came of it
    recorder    outcomes on their way to the audit store, many at a time
    replayer    the loop that brings all of it together

What was sent and what became of it is in `holdfast.audit`; the rules that decide are in `holdfast.policy.replaying`.
"""
