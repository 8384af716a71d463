"""What somebody else wants to hear of: which moves are news, and one piece of it on its way. No I/O."""

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from guardian.settlement.record import AGENT, Settlement
from guardian.settlement.states import IN_DOUBT, UNPAID, Answer, Money


class Kind(StrEnum):
    """What can be subscribed to."""

    UNRESOLVED = "payment.unresolved"  # sent, and whether it paid is not known: the chain is asked
    CONFIRMED_LATE = "payment.confirmed_late"  # it was in doubt, and it paid
    FAILED = "payment.failed"  # refused, or proven never to have paid
    ORPHANED = "payment.orphaned"  # paid, and nobody was handed what it bought
    DELIVERED = "payment.delivered"  # the success, or the goods, were handed out
    UNPAID = "payment.unpaid"  # a success was told for money that never moved
    REFUNDED = "payment.refunded"
    WRITTEN_OFF = "payment.written_off"
    CIRCUIT_OPENED = "circuit.opened"
    CIRCUIT_CLOSED = "circuit.closed"


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one webhook.

    id: the same however often it is sent, so that its receiver can tell; hook: the webhook's name; subject:
    what it is about, a record's key or a circuit's: those of one subject are sent one after the other; at:
    Unix seconds of the event; body: JSON as it is sent. attempts: made so far; due: Unix seconds, not to be
    sent before; why: it was not taken; dead: it is not sent any more until somebody says so.
    """

    id: str
    hook: str
    subject: str
    kind: Kind
    at: float
    body: str
    attempts: int = 0
    due: float = 0.0
    why: str = ""
    dead: bool = False


def kinds_of(old: Settlement, new: Settlement) -> tuple[Kind, ...]:
    """What a durable move is news of, in the order in which it should be heard."""
    return tuple(_kinds(old, new))


def _kinds(old: Settlement, new: Settlement) -> Iterator[Kind]:
    if new.money is not old.money:
        if new.money in IN_DOUBT and old.money not in IN_DOUBT:
            yield Kind.UNRESOLVED
        elif new.money is Money.CONFIRMED_LATE:
            yield Kind.CONFIRMED_LATE
        elif new.money in UNPAID and not new.paid_by:
            yield Kind.FAILED
    if _lied(new) and not _lied(old):
        yield Kind.UNPAID
    if new.orphan and not old.orphan and not old.closed_by:
        yield Kind.ORPHANED
    if new.answer is Answer.ACCEPTED and old.answer is not Answer.ACCEPTED and not new.paid_by:
        yield Kind.DELIVERED
    if new.closed_by and not old.closed_by:
        yield Kind.REFUNDED if new.refund_transaction else Kind.WRITTEN_OFF


def _lied(record: Settlement) -> bool:
    """A facilitator or a seller has said that it was paid, and it was not."""
    receipt = record.plane == AGENT and record.vouched and record.money in UNPAID
    return record.unpaid or receipt
