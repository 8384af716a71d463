"""One purchase, one payment (law 5): which records are of one purchase, and which of them block.

Pure functions that every store uses, so that all of them answer alike. No I/O, no clock.
"""

from typing import Protocol

from guardian.settlement.record import FACILITATOR, Settlement
from guardian.settlement.states import IN_DOUBT, PAID, UNPAID, Answer, Money
from guardian.wire.names import Address, Network

EXACT = "exact"
"""The scheme whose amount is fixed when it is signed; what `upto` asks for is known after the work alone."""


class Purchase(Protocol):
    """What names a purchase, on a record and on a payment that has none yet."""

    @property
    def scheme(self) -> str: ...
    @property
    def network(self) -> Network: ...
    @property
    def asset(self) -> Address: ...
    @property
    def payer(self) -> Address: ...
    @property
    def pay_to(self) -> Address: ...
    @property
    def amount(self) -> int: ...
    @property
    def resource(self) -> str: ...


def same_purchase(a: Purchase, b: Purchase) -> bool:
    """Same payer, payee, token, amount and network, and no two different resources named."""
    return (
        a.payer == b.payer
        and a.pay_to == b.pay_to
        and a.amount == b.amount
        and a.asset == b.asset
        and a.network == b.network
        and (a.resource == b.resource or not a.resource or not b.resource)
    )


def pays_for(record: Settlement, asked: Purchase) -> bool:
    """Whether what is on record of an authorization is the payment that is asked for: in this token, to
    this payee, and not for less. Two signatures may share a nonce, and one may be shown with other terms."""
    if record.pay_to != asked.pay_to or record.asset != asked.asset:
        return False
    return record.amount >= asked.amount or (record.scheme == asked.scheme != EXACT)


def same_bought(a: Settlement, b: Settlement) -> bool:
    """The same purchase on the same plane: payments of agents and of sellers never meet, even where
    they are of one authorization. Agents name theirs; where no chain is asked, none waits for another."""
    if a.plane != b.plane:
        return False
    if a.plane == FACILITATOR:
        return same_purchase(a, b)
    return a.watched and b.watched and a.payer == b.payer and a.purchase == b.purchase


def is_unsettled_purchase(record: Settlement) -> bool:
    """In doubt, or paid and neither accepted nor closed: what a purchase lookup finds."""
    return record.money in IN_DOUBT or (record.money in PAID and not _is_over(record))


def is_under_way(record: Settlement) -> bool:
    """Being sent, or paid and its caller not yet answered: by a replica that should be alive."""
    unanswered = record.money in PAID and record.answer in (Answer.NONE, Answer.HELD)
    return record.money is Money.PENDING or unanswered


def is_forsaken(record: Settlement) -> bool:
    """Being sent, and its caller has left or was told that the outcome is not known: who asked for it may
    sign another one."""
    return record.money is Money.PENDING and record.answer not in (Answer.NONE, Answer.HELD)


def _is_over(record: Settlement) -> bool:
    """Nothing is owed for this payment any more: delivered, refunded or written off."""
    return record.answer is Answer.ACCEPTED or bool(record.closed_by)


def stands(record: Settlement) -> bool:
    """In doubt or charged for nothing: the next payment of the purchase waits for it. Not one that has bought
    its delivery, and that a reorganisation has put in doubt again."""
    return record.orphan or (record.money in IN_DOUBT and record.answer is not Answer.ACCEPTED)


def blocks(other: Settlement, new: Settlement) -> bool:
    """Whether `other` forbids sending `new`: same purchase, and in doubt or charged for nothing.

    A record that another one paid for never moved money of its own, so it blocks nobody.
    """
    return stands(other) and not other.paid_by and other.key != new.key and same_bought(other, new)


def is_disposable(record: Settlement) -> bool:
    """Whether retention may delete it: terminal, and no standing orphan and no unpaid delivery.

    `confirmed` is terminal only with the chain's proof, or where no chain is watched.
    """
    if record.money in PAID:
        proven = record.chain_proven or not record.watched
        return proven and _is_over(record)
    return record.money in UNPAID and not record.unpaid
