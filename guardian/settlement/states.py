"""The two state machines, as tables: what the chain did, and what the caller was told.

No I/O, no clock. Nothing outside this package decides a move. Every state has a row; a terminal
state has an empty one. `money_after` and `answer_after` are the only way to move.
"""

from enum import StrEnum

from guardian.errors import IllegalMove


class Money(StrEnum):
    """What the chain did with an authorization."""

    IDLE = "idle"
    PENDING = "pending"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    UNRESOLVED = "unresolved"
    POLLING = "polling"
    CONFIRMED_LATE = "confirmed_late"
    FAILED_ORPHANED = "failed_orphaned"


class MoneyEvent(StrEnum):
    """What can be learnt about the money."""

    SENT = "sent"  # the next instruction sends /settle
    NOT_SENT = "not_sent"  # provably nothing was executed
    REFUSED = "refused"  # a definitive refusal of an untainted attempt
    REPORTED_PAID = "reported_paid"  # a facilitator says success
    DOUBT = "doubt"  # ambiguous reply, no reply, or the settlement timeout
    WATCHED = "watched"  # the watcher has the authorization
    RESENT = "resent"  # the same authorization again, nonce shown unused
    CHAIN_PAID = "chain_paid"  # the transfer stands in a block deep enough
    CHAIN_UNPAID = "chain_unpaid"  # proof that it never can or did move
    CHAIN_UNDONE = "chain_undone"  # a reorganisation took back the transfer that was shown


class Answer(StrEnum):
    """What the caller of /settle was told."""

    NONE = "none"
    HELD = "held"
    ACCEPTED = "accepted"
    PENDING = "pending"
    REFUSED = "refused"
    ABANDONED = "abandoned"


class AnswerEvent(StrEnum):
    """What happened between us and the caller."""

    HOLD = "hold"  # a caller waits
    DELIVERED = "delivered"  # success was written to an open connection
    TOLD_PENDING = "told_pending"
    TOLD_FAILURE = "told_failure"
    LEFT = "left"  # the caller was gone before the answer


MONEY: dict[Money, dict[MoneyEvent, Money]] = {
    Money.IDLE: {
        MoneyEvent.SENT: Money.PENDING,
        MoneyEvent.NOT_SENT: Money.FAILED,
        MoneyEvent.REFUSED: Money.FAILED,
    },
    Money.PENDING: {
        MoneyEvent.NOT_SENT: Money.FAILED,
        MoneyEvent.REFUSED: Money.FAILED,
        MoneyEvent.REPORTED_PAID: Money.CONFIRMED,
        MoneyEvent.CHAIN_PAID: Money.CONFIRMED,
        MoneyEvent.DOUBT: Money.UNRESOLVED,
    },
    # A facilitator's success is kept, not trusted (law 8): the chain may still deny it. What the chain itself
    # has shown may be undone by a reorganisation deeper than the confirmations: a doubt like any other.
    Money.CONFIRMED: {
        MoneyEvent.CHAIN_PAID: Money.CONFIRMED,
        MoneyEvent.CHAIN_UNPAID: Money.FAILED,
        MoneyEvent.CHAIN_UNDONE: Money.POLLING,
    },
    Money.FAILED: {},
    Money.UNRESOLVED: {
        MoneyEvent.WATCHED: Money.POLLING,
        MoneyEvent.RESENT: Money.UNRESOLVED,
        MoneyEvent.REPORTED_PAID: Money.CONFIRMED_LATE,  # unwatched networks only
        MoneyEvent.CHAIN_PAID: Money.CONFIRMED_LATE,
        MoneyEvent.CHAIN_UNPAID: Money.FAILED_ORPHANED,
    },
    Money.POLLING: {
        MoneyEvent.RESENT: Money.POLLING,
        MoneyEvent.CHAIN_PAID: Money.CONFIRMED_LATE,
        MoneyEvent.CHAIN_UNPAID: Money.FAILED_ORPHANED,
    },
    Money.CONFIRMED_LATE: {
        MoneyEvent.CHAIN_PAID: Money.CONFIRMED_LATE,
        MoneyEvent.CHAIN_UNPAID: Money.FAILED_ORPHANED,
        MoneyEvent.CHAIN_UNDONE: Money.POLLING,
    },
    Money.FAILED_ORPHANED: {},
}

ANSWER: dict[Answer, dict[AnswerEvent, Answer]] = {
    Answer.NONE: {
        AnswerEvent.HOLD: Answer.HELD,
        AnswerEvent.DELIVERED: Answer.ACCEPTED,
        AnswerEvent.TOLD_FAILURE: Answer.REFUSED,
        AnswerEvent.TOLD_PENDING: Answer.PENDING,
        AnswerEvent.LEFT: Answer.ABANDONED,
    },
    Answer.HELD: {
        AnswerEvent.HOLD: Answer.HELD,
        AnswerEvent.DELIVERED: Answer.ACCEPTED,
        AnswerEvent.TOLD_PENDING: Answer.PENDING,
        AnswerEvent.TOLD_FAILURE: Answer.REFUSED,
        AnswerEvent.LEFT: Answer.ABANDONED,
    },
    Answer.ACCEPTED: {},
    # Whoever was not handed the success may come again, and a further caller may be held.
    Answer.PENDING: {
        AnswerEvent.HOLD: Answer.HELD,
        AnswerEvent.DELIVERED: Answer.ACCEPTED,
        AnswerEvent.TOLD_PENDING: Answer.PENDING,
        AnswerEvent.TOLD_FAILURE: Answer.REFUSED,
        AnswerEvent.LEFT: Answer.ABANDONED,
    },
    Answer.REFUSED: {
        AnswerEvent.HOLD: Answer.HELD,
        AnswerEvent.DELIVERED: Answer.ACCEPTED,
        AnswerEvent.TOLD_PENDING: Answer.PENDING,
        AnswerEvent.TOLD_FAILURE: Answer.REFUSED,
        AnswerEvent.LEFT: Answer.ABANDONED,
    },
    Answer.ABANDONED: {
        AnswerEvent.HOLD: Answer.HELD,
        AnswerEvent.DELIVERED: Answer.ACCEPTED,
        AnswerEvent.TOLD_PENDING: Answer.PENDING,
        AnswerEvent.TOLD_FAILURE: Answer.REFUSED,
        AnswerEvent.LEFT: Answer.ABANDONED,
    },
}

PAID = frozenset({Money.CONFIRMED, Money.CONFIRMED_LATE})
UNPAID = frozenset({Money.FAILED, Money.FAILED_ORPHANED})
IN_DOUBT = frozenset({Money.UNRESOLVED, Money.POLLING})
OPEN = frozenset({Money.IDLE, Money.PENDING}) | IN_DOUBT


def money_after(state: Money, event: MoneyEvent) -> Money:
    """The money state after an event; raises IllegalMove where the table has no such move."""
    try:
        return MONEY[state][event]
    except KeyError:
        raise IllegalMove(f"money cannot go from {state} by {event}") from None


def answer_after(state: Answer, event: AnswerEvent) -> Answer:
    """The answer state after an event; raises IllegalMove where the table has no such move."""
    try:
        return ANSWER[state][event]
    except KeyError:
        raise IllegalMove(f"answer cannot go from {state} by {event}") from None


def is_orphan(money: Money, answer: Answer) -> bool:
    """The payer was charged and nobody holds the success: stands in the reconciliation queue."""
    return money in PAID and answer in (Answer.REFUSED, Answer.ABANDONED, Answer.PENDING)


def is_unpaid(money: Money, answer: Answer) -> bool:
    """A success was handed out for money that never moved: alert."""
    return answer is Answer.ACCEPTED and money in UNPAID
