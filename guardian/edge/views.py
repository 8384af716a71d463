"""What may be shown of a record: no body, no signature. Pure."""

import msgspec

from guardian.logs import redact
from guardian.settlement.record import Settlement

ACTION = {
    "idle": "reject",
    "pending": "wait",
    "confirmed": "deliver",
    "failed": "reject",
    "unresolved": "wait",
    "polling": "wait",
    "confirmed_late": "deliver",
    "failed_orphaned": "reject",
}
"""What follows from each money state for whoever waits (the mission's table)."""


_KEPT_BACK = ("body", "events", "attempts")
"""A body holds a signature; what was heard of attempts, some kB each, stands in the evidence."""


def payment_view(record: Settlement) -> dict[str, object]:
    """What a caller may know of a payment: /payments/<id> needs no key, so it names no party."""
    return {
        "id": record.id,
        "money": record.money,
        "answer": record.answer,
        "action": "reject" if record.closed_by else ACTION[record.money],
        "network": record.network,
        "transaction": record.transaction or "",
        "reportedTransaction": record.hint or "",
        "watched": record.watched,
        "orphan": record.orphan,
        "refundTransaction": record.refund_transaction or "",
        "reason": redact(record.reason),
        "createdAt": record.created_at,
        "updatedAt": record.updated_at,
    }


def settlement_view(record: Settlement) -> dict[str, object]:
    """All that an operator may see: everything but the signed body."""
    shown = {name: getattr(record, name) for name in record.__struct_fields__ if name not in _KEPT_BACK}
    # A careless facilitator's error text may quote all that it was sent.
    said = {name: redact(getattr(record, name)) for name in ("reason", "message", "resource")}
    events = [msgspec.to_builtins(event) | {"note": redact(event.note)} for event in record.events]
    # Amounts exceed what JSON numbers hold exactly, so they travel as decimal strings.
    return (
        shown
        | said
        | {
            "amount": str(record.amount),
            "orphan": record.orphan,
            "unpaid": record.unpaid,
            "events": events,
        }
    )
