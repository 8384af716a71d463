"""What can not be true of a record: looked for when a store is checked. Pure.

No list of what may be, which the tables give, but of what no way of a payment leads to.
"""

from collections.abc import Iterator

from guardian.settlement.record import FACILITATOR, Settlement
from guardian.settlement.states import IN_DOUBT, PAID, UNPAID, Answer, Money


def contradictions(record: Settlement) -> tuple[str, ...]:
    """What is impossible about it, a few words each; nothing of a sound record."""
    return tuple(_found(record))


def _found(record: Settlement) -> Iterator[str]:
    final = record.money in PAID | UNPAID
    unsent = record.money in (Money.IDLE, Money.PENDING)
    seller = record.plane == FACILITATOR  # an agent may get its goods before its seller settles
    if seller and unsent and record.answer is Answer.ACCEPTED and not record.paid_by:
        yield f"accepted while money is {record.money}"
    if seller and record.paid_by and record.money in PAID | IN_DOUBT:
        yield f"paid by another payment while its own money is {record.money}"
    if record.chain_proven and not final:
        yield f"proven by the chain while money is {record.money}"
    if record.chain_proven and record.money in PAID and not record.transaction:
        yield "proven by the chain without a transaction"
    if unsent and record.tainted:
        yield f"in doubt once, while money is {record.money}"
    if record.closed_by and not final:
        yield f"closed as an orphan while money is {record.money}"
    if record.refund_transaction and not record.closed_by:
        yield "refunded by nobody"
    yield from _of_trail(record)


def _of_trail(record: Settlement) -> Iterator[str]:
    """A claim behind a blocking purchase is stored idle, whatever its first line says."""
    if record.version and record.events:
        last = record.events[-1]
        if (last.money, last.answer) != (record.money, record.answer):
            yield f"the audit trail ends with {last.money}/{last.answer}, not {record.money}/{record.answer}"
    if record.amount < 0 or record.version < 0:
        yield "a number below zero"
