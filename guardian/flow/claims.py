"""The record of a payment that is presented: written before anything is sent, or the one there is (law 10).

Decides nothing about the money but whether this payload is the first, one more, or one that may begin again.
"""

import msgspec

from guardian.flow.live import Live
from guardian.flow.lives import Lives
from guardian.flow.parts import Parts, Visit
from guardian.flow.purchase import Purchases
from guardian.flow.signatures import Signatures
from guardian.settlement.record import Settlement, begun
from guardian.settlement.states import OPEN, Money
from guardian.wire.payment import Method


class Claims:
    """Claims payments for this process, or attaches callers to what is claimed."""

    def __init__(self, parts: Parts, signatures: Signatures, lives: Lives, purchases: Purchases) -> None:
        self._parts = parts
        self._signatures = signatures
        self._lives = lives
        self._purchases = purchases

    async def claim(self, live: Live, visit: Visit) -> bool:
        """Write the record, or attach to the one there is. True: another payment stands before it."""
        fresh = self._fresh(visit)
        if not live.claimed:  # before the lock: what was left behind may be this very record
            beside = await self._purchases.none_left_behind(fresh)
            if self._purchases.forsaken(fresh, beside):  # it waits for that one's end
                fresh = msgspec.structs.replace(fresh, money=Money.IDLE)
        async with live.claiming:
            if not live.claimed:
                claim = await self._parts.store.claim(fresh)
                live.record, live.claimed = claim.record, True
                self._lives.claimed(live)
                live.driven = claim.record.owner != self._parts.replica  # another replica drives it
            elif not live.driven and live.record.money in (Money.IDLE, Money.PENDING):
                await live.refresh()  # attached from a list, whose word may be older than what was told
            if live.record.money in OPEN and not live.headers:
                live.goes_with(visit.call)
            if _may_begin_again(live, visit):
                # Idle, so that payments which came since are looked at before it is sent (law 5).
                await live.restart(msgspec.structs.replace(fresh, money=Money.IDLE))
                live.driven, live.sent = False, False
                live.goes_with(visit.call)
            if not live.driven:
                live.unfit = visit.unfit
        if live.record.paid_by:
            return True
        if live.record.money is Money.IDLE and not live.driven:
            return bool(await self._purchases.before(live.record, visit.call.generation))
        return False

    def _fresh(self, visit: Visit) -> Settlement:
        payment, now = visit.payment, self._parts.clock()
        # Signed for another contract than the token's (Circle Gateway): the token never sees its nonce.
        in_token = payment.domain_contract in ("", payment.asset)
        watched = payment.method is Method.EIP3009 and in_token and payment.network in self._parts.watchers
        fresh = Settlement(
            key=payment.key,
            id=payment.id,
            x402_version=payment.x402_version,
            scheme=payment.scheme,
            method=payment.method,
            network=payment.network,
            network_as_sent=payment.network_as_sent,
            asset=payment.asset,
            payer=payment.payer,
            pay_to=payment.pay_to,
            amount=payment.amount,
            nonce=payment.nonce,
            resource=payment.resource,
            valid_before=payment.valid_before,
            signature_hash=payment.signature_hash,
            vouched=self._signatures.vouched(payment),
            watched=watched,
            head=self._parts.head(payment.network) if watched else 0,
            owner=self._parts.replica,
            created_at=now,
            updated_at=now,
            body=visit.call.body,
        )
        # The store's own look at earlier payments goes by resource; a wider reach is looked up first.
        looks_wider = visit.in_force.settle.reuse_orphans == "same_payee"
        waits = looks_wider or self._signatures.delay_s(payment, visit.in_force) > 0
        return begun(fresh, Money.IDLE if waits else Money.PENDING)


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
