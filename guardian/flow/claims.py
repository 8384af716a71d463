"""The record of a payment that is presented: written before anything is sent, or the one there is (law 10).

Decides nothing about the money but whether this payload is the first, one more, or one that may begin again.
"""

import msgspec

from guardian.flow.fresh import can_be_watched, fresh
from guardian.flow.live import Live
from guardian.flow.lives import Lives
from guardian.flow.parts import Parts, Visit
from guardian.flow.purchase import Purchases
from guardian.flow.signatures import Signatures
from guardian.settlement.record import Settlement, begun
from guardian.settlement.states import OPEN, Money


class Claims:
    """Claims payments for this process, or attaches callers to what is claimed."""

    def __init__(self, parts: Parts, signatures: Signatures, lives: Lives, purchases: Purchases) -> None:
        self._parts = parts
        self._signatures = signatures
        self._lives = lives
        self._purchases = purchases

    async def claim(self, live: Live, visit: Visit) -> bool:
        """Write the record, or attach to the one there is. True: another payment stands before it."""
        new = self._new(visit)
        if not live.claimed:  # before the lock: what was left behind may be this very record
            beside = await self._purchases.none_left_behind(new)
            if self._purchases.forsaken(new, beside):  # it waits for that one's end
                new = msgspec.structs.replace(new, money=Money.IDLE)
        async with live.claiming:
            if not live.claimed:
                claim = await self._parts.store.claim(new)
                live.record, live.claimed = claim.record, True
                self._lives.claimed(live)
                live.driven = claim.record.owner != self._parts.replica  # another replica drives it
            elif not live.driven and live.record.money in (Money.IDLE, Money.PENDING):
                await live.refresh()  # attached from a list, whose word may be older than what was told
            if live.record.money in OPEN and not live.headers:
                live.goes_with(visit.call)
            if _may_begin_again(live, visit):
                # Idle, so that payments which came since are looked at before it is sent (law 5).
                await live.restart(msgspec.structs.replace(new, money=Money.IDLE))
                live.driven, live.sent = False, False
                live.goes_with(visit.call)
            if not live.driven:
                live.unfit = visit.unfit
        if live.record.paid_by:
            return True
        if live.record.money is Money.IDLE and not live.driven:
            return bool(await self._purchases.before(live.record, visit.call.generation))
        return False

    def _new(self, visit: Visit) -> Settlement:
        payment, call = visit.payment, visit.call
        watched = can_be_watched(payment, self._parts.watchers)
        record = fresh(
            payment,
            call.body,
            owner=self._parts.replica,
            now=self._parts.clock(),
            watched=watched,
            head=self._parts.head(payment.network) if watched else 0,
            vouched=self._signatures.vouched(payment),
        )
        # The store's own look at earlier payments goes by resource; a wider reach is looked up first.
        looks_wider = visit.in_force.settle.reuse_orphans == "same_payee"
        waits = looks_wider or self._signatures.delay_s(payment, visit.in_force) > 0
        return begun(record, Money.IDLE if waits else Money.PENDING)


def _may_begin_again(live: Live, visit: Visit) -> bool:
    """A failure that was never executed binds neither the payer nor another signature or price, and what one
    facilitator refuses is no word of another one that the caller names."""
    record, payment, only = live.record, visit.payment, visit.call.only
    if record.money is not Money.FAILED or record.tainted or record.chain_proven or live.sending:
        return False
    if record.paid_by:  # bound to an earlier payment for good
        return False
    was = (record.signature_hash, record.pay_to, record.asset, record.amount)
    asked = (payment.signature_hash, payment.pay_to, payment.asset, payment.amount)
    elsewhere = bool(only and record.facilitator) and only != record.facilitator
    return record.reopens or elsewhere or was != asked
