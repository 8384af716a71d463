"""The durable record of one authorization, and the moves it can make. No I/O, no clock.

A record is immutable: a move gives the next version, which the store writes only where the
version it read is still the newest (compare-and-set). Times are Unix seconds, amounts atomic units.
"""

from collections.abc import Sequence

import msgspec

from guardian.errors import IllegalMove
from guardian.settlement.attempts import Attempt, with_attempts
from guardian.settlement.states import (
    Answer,
    AnswerEvent,
    Money,
    MoneyEvent,
    answer_after,
    is_orphan,
    is_unpaid,
    money_after,
)
from guardian.wire.names import Address, Network, Nonce, TxHash

FACILITATOR, AGENT = "facilitator", "agent"
"""The planes: a payment may stand on both, in a record each."""


class Event(msgspec.Struct, frozen=True):
    """One line of the audit trail. at: Unix seconds; note: why, free of secrets."""

    at: float
    name: str
    money: Money
    answer: Answer
    note: str = ""


class Settlement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the guardian knows of one authorization. As JSON it is written without what has its default.

    key: the identity, `network/asset/payer/nonce`; id: its public short form for /payments/<id>.
    body: the request as received, kept while it may have to be sent again; it holds a signature
    and never leaves the store. transaction: proven by the chain (or reported, where unwatched);
    hint: the newest hash a facilitator reported, which proves nothing. vouched: a facilitator has
    accepted this very signature; reopens: it failed without ever being executed, so that the same
    authorization may be presented again. owner: the replica that drives it. closed_by: the person who
    took this orphan off the queue, why in closed_note; refund_transaction: the hash, if it was by a refund.
    head: the highest block of its network that was known when it came, 0 where none was.

    plane: on which side of the seller it was seen. On the agent plane the key begins with `agent/`,
    resource is the URL that was asked, body is sealed, and what was bought is said by route, verb (of
    HTTP), purchase, payment_id and asker: see flow/buy_record.py; request_hash: sha256 of its body; spend:
    a short name of all that the spending policy was asked about.

    attempts: what was heard of it, of attempts_made the ones that are kept; none of a payment that was
    delivered at the first.
    """

    key: str
    id: str
    version: int = 0
    money: Money = Money.IDLE
    answer: Answer = Answer.NONE
    x402_version: int
    scheme: str
    method: str
    network: Network
    network_as_sent: str
    asset: Address
    payer: Address
    pay_to: Address
    amount: int
    nonce: Nonce
    resource: str = ""
    valid_before: int | None = None
    signature_hash: str = ""
    vouched: bool = False
    reopens: bool = False
    watched: bool = False
    head: int = 0
    tainted: bool = False
    facilitator: str = ""
    transaction: TxHash | None = None
    chain_proven: bool = False
    hint: TxHash | None = None
    reason: str = ""
    message: str = ""
    paid_by: str = ""
    replayed_by: str = ""
    owner: str = ""
    plane: str = FACILITATOR
    route: str = ""
    verb: str = ""
    purchase: str = ""
    payment_id: str = ""
    asker: str = ""
    request_hash: str = ""
    spend: str = ""
    closed_by: str = ""
    closed_note: str = ""
    refund_transaction: TxHash | None = None
    created_at: float
    updated_at: float
    body: bytes = b""
    events: tuple[Event, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    attempts_made: int = 0

    @property
    def orphan(self) -> bool:
        """Charged, nobody was handed the success, and nobody has refunded it or written it off."""
        return is_orphan(self.money, self.answer) and not self.closed_by

    @property
    def unpaid(self) -> bool:
        """Handed out as paid, and the money never moved; an agent that got something for nothing lost
        nothing."""
        return is_unpaid(self.money, self.answer) and self.plane == FACILITATOR and not self.paid_by

    @property
    def undone(self) -> bool:
        """The chain has shown its transfer and taken it back: who said that it was paid told no lie."""
        return any(line.name == MoneyEvent.CHAIN_UNDONE for line in self.events)


def begun(fresh: Settlement, money: Money, note: str = "") -> Settlement:
    """A new record with the first line of its audit trail: claimed, and to be sent at once or not."""
    line = Event(at=fresh.created_at, name="claimed", money=money, answer=fresh.answer, note=note)
    return msgspec.structs.replace(fresh, money=money, events=(line,))


EVENTS_KEPT = 200
"""Bound of the audit trail: far above any real life of a record, so that no loop can grow one."""


def after_money(
    record: Settlement, event: MoneyEvent, *, now: float, note: str = "", **changes: object
) -> Settlement:
    """The next version of a record after a money event; raises IllegalMove."""
    return _next(record, money_after(record.money, event), record.answer, event, now, note, changes)


def after_answer(
    record: Settlement, event: AnswerEvent, *, now: float, note: str = "", **changes: object
) -> Settlement:
    """The next version of a record after an answer event; raises IllegalMove."""
    return _next(record, record.money, answer_after(record.answer, event), event, now, note, changes)


def noted(record: Settlement, name: str, *, now: float, note: str = "", **changes: object) -> Settlement:
    """The next version with new facts and no move: a hint, an attempt's reply."""
    return _next(record, record.money, record.answer, name, now, note, changes)


def attempted(record: Settlement, attempts: Sequence[Attempt]) -> Settlement:
    """A version with what was heard of these attempts, to be written with a move or by itself."""
    return msgspec.structs.replace(
        record,
        attempts=with_attempts(record.attempts, attempts),
        attempts_made=record.attempts_made + sum(attempt.times for attempt in attempts),
    )


def refunded(record: Settlement, transaction: TxHash, *, by: str, now: float, note: str = "") -> Settlement:
    """The next version of an orphan whose payer has the money back; raises IllegalMove."""
    if record.watched and not record.chain_proven:
        raise IllegalMove(f"{record.id} is not proven by the chain yet: there may be nothing to refund")
    return _closed(record, "refunded", by, now, f"{transaction} {note}".strip(), note, transaction)


def written_off(record: Settlement, *, by: str, reason: str, now: float) -> Settlement:
    """The next version of an orphan that nothing more is done about; raises IllegalMove."""
    return _closed(record, "written_off", by, now, reason, reason, None)


def _closed(
    record: Settlement, name: str, by: str, now: float, said: str, note: str, refund: TxHash | None
) -> Settlement:
    if record.closed_by:
        raise IllegalMove(f"{record.id} was closed before, by {record.closed_by}")
    if not record.orphan:
        raise IllegalMove(f"{record.id} is no orphan: money {record.money}, answer {record.answer}")
    facts = {"closed_by": by, "closed_note": note, "refund_transaction": refund}
    return noted(record, name, now=now, note=f"by {by}: {said}", **facts)


def _next(
    record: Settlement,
    money: Money,
    answer: Answer,
    name: str,
    now: float,
    note: str,
    changes: dict[str, object],
) -> Settlement:
    line = Event(at=now, name=str(name), money=money, answer=answer, note=note)
    return msgspec.structs.replace(
        record,
        version=record.version + 1,
        money=money,
        answer=answer,
        updated_at=now,
        events=(*record.events, line)[-EVENTS_KEPT:],
        **changes,
    )
