"""Captured requests on their way home: taken from Kafka or from the outbox, sent again in order, once it is safe.

    source      where captures come from and where they go: the Protocol
    outbox      an outbox of this machine as a source
    kafka       topics of Kafka as a source
    lanes       the order per key, and what is to be done when: in memory, no I/O
    queues      what may be sent, for each pool of servers
    pace        how many at once: slow start, way for live traffic, one probe at a time at an upstream that fails
    preparing   from a message to the request
    sending     one request through the gateway's own upstream leg, and what came of it
    recorder    outcomes on their way to the audit store, many at a time
    delivering  one replay of one capture, from its message to what is done about the answer
    settling    how a capture leaves: delivered, dead, handed on, or somebody else's
    tasks       what is under way beside the loop
    replayer    the loop that brings all of it together

What was sent and what became of it is in `holdfast.audit`; the rules that decide are in `holdfast.policy.replaying`.
"""
