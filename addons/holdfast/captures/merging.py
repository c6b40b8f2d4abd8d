"""What the outbox and the audit store say of a capture, in the words of this room. Pure."""

from __future__ import annotations

from holdfast.audit import Entry, Filter
from holdfast.audit import State as AuditState
from holdfast.captures import Capture, Choice, State
from holdfast.outbox.record import OutboxRecord, Where
from holdfast.outbox.record import State as OutboxState

_TO_AUDIT: dict[State, AuditState] = {
    "pending": "open",
    "delivered": "delivered",
    "dead": "dead",
    "parked": "parked",
    "discarded": "discarded",
}
_FROM_AUDIT: dict[AuditState, State] = {theirs: ours for ours, theirs in _TO_AUDIT.items()}


def outbox_words(*, publishes: bool) -> dict[OutboxState, State]:
    """What an outbox means by its states. Where it publishes nothing, a record is `sent` once it is delivered."""
    return {
        "pending": "pending",
        "sent": "published" if publishes else "delivered",
        "quarantined": "dead",
        "discarded": "discarded",
    }


def from_entry(entry: Entry) -> Capture:
    """As the audit store knows it."""
    return Capture(
        id=entry.id,
        captured=entry.captured,
        state=_FROM_AUDIT[entry.state],
        route=entry.route,
        method=entry.method,
        path=entry.path,
        error=entry.error,
        status=entry.status if entry.last_status is None else entry.last_status,
        reason=entry.reason,
        attempts=entry.attempts,
        last_error=entry.last_error,
        due=entry.due if entry.state == "open" else None,
        settled=entry.settled,
        redrive=entry.redrive,
        key=entry.key,
        known=True,
    )


def from_record(record: OutboxRecord, *, publishes: bool) -> Capture:
    """As an outbox knows it, for a capture that the audit store has never seen."""
    state = outbox_words(publishes=publishes)[record.state]
    reason = ""
    if record.state == "quarantined":
        reason = "damaged, or refused by the broker" if publishes else "damaged, or given up"
    return Capture(
        id=record.id,
        captured=record.created,
        state=state,
        route=record.route,
        method=record.method,
        path=record.path,
        error=record.error,
        status=record.status,
        reason=reason,
        settled=record.sent if state == "delivered" else None,
        key=record.key,
    )


def audit_filter(choice: Choice) -> Filter | None:
    """The same for the audit store; None where it can have none."""
    found: Filter = {"route": choice.route, "error": choice.error, "status": choice.status, "key": choice.key}
    found["since"], found["until"] = choice.since, choice.until
    if choice.states is not None:
        found["states"] = [_TO_AUDIT[state] for state in sorted(choice.states) if state in _TO_AUDIT]
        if not found["states"]:
            return None
    return found


def outbox_filter(choice: Choice, *, publishes: bool) -> Where | None:
    """As far as an outbox can choose by it (see `is_chosen`); None where it can have none."""
    found: Where = {"route": choice.route, "error": choice.error, "status": choice.status, "since": choice.since}
    if choice.states is not None:
        theirs = [word for word, ours in outbox_words(publishes=publishes).items() if ours in choice.states]
        if not theirs:
            return None
        if len(theirs) == 1:
            found["state"] = theirs[0]
    return found


def is_chosen(capture: Capture, choice: Choice) -> bool:
    """Whether all of the choice holds."""
    wanted = (
        (choice.route, capture.route),
        (choice.error, capture.error),
        (choice.status, capture.status),
        (choice.key, capture.key),
    )
    return (
        all(asked is None or asked == found for asked, found in wanted)
        and (choice.states is None or capture.state in choice.states)
        and (choice.since is None or capture.captured >= choice.since)
        and (choice.until is None or capture.captured < choice.until)
    )
