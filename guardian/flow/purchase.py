"""One purchase, one payment (law 5): a newly signed payload waits for the payment before it.

The second authorization is answered with the first one's transaction and never settled, or goes
its own way once the first is proven not to have paid, or has bought its own delivery.
"""

import asyncio
from collections.abc import Iterable

from guardian.errors import StoreUnavailable
from guardian.flow import answers
from guardian.flow.handing import Handing
from guardian.flow.holding import Holding
from guardian.flow.live import Live
from guardian.flow.lives import Lives
from guardian.flow.parts import Call, Generation, Parts, Visit, log
from guardian.flow.replicas import Replicas
from guardian.flow.signatures import Signatures
from guardian.flow.watch import Watch
from guardian.settlement.purchase import is_forsaken, same_purchase, stands
from guardian.settlement.record import FACILITATOR, Settlement
from guardian.settlement.states import IN_DOUBT, PAID, AnswerEvent
from guardian.wire.payment import Payment

LOOKS, LOOK_AGAIN_S = 30, 0.1
"""At payments of a purchase that other replicas have under way: each finds more of them, or one gone, or
one that is just being answered."""

UNWATCHED_LIFE_S = 300.0
"""How long an unwatched payment in doubt stands before others when it names no expiry: the SDKs'
usual validity."""


class Purchases:
    """Answers a payload whose purchase another payment may already have paid."""

    def __init__(
        self,
        parts: Parts,
        signatures: Signatures,
        lives: Lives,
        watch: Watch,
        replicas: Replicas,
        holding: Holding,
        handing: Handing,
    ) -> None:
        self._parts = parts
        self._signatures = signatures
        self._lives = lives
        self._watch = watch
        self._replicas = replicas
        self._holding = holding
        self._handing = handing

    async def before(self, record: Settlement, generation: Generation) -> list[Settlement]:
        """Payments of the same purchase that stand before this one, oldest first."""
        beside = await self.none_left_behind(record)
        found = await self._parts.store.of_purchase(
            record.network, record.payer, record.pay_to, record.asset, record.amount
        )
        return [*self._matching(found, record, generation), *self.forsaken(record, beside)]

    async def before_payment(self, payment: Payment, generation: Generation) -> list[Settlement]:
        """The same for a payload that has no record yet."""
        found = await self._parts.store.of_purchase(
            payment.network, payment.payer, payment.pay_to, payment.asset, payment.amount
        )
        return list(self._matching(found, payment, generation))

    def _matching(
        self, found: Iterable[Settlement], record: Settlement | Payment, generation: Generation
    ) -> Iterable[Settlement]:
        reuse, now = _reuse(record, generation), self._parts.clock()
        for first in found:
            if first.plane != FACILITATOR or first.key == record.key or first.paid_by:
                continue
            if not stands(first):
                continue
            if reuse == "off" and first.money not in IN_DOUBT:
                continue
            if not first.watched and first.money in IN_DOUBT and now > _over_at(first):
                continue  # nobody can resolve it: it must not bar the payer for ever
            if reuse == "same_payee" or same_purchase(first, record):
                yield first

    def forsaken(self, fresh: Settlement, beside: Iterable[Settlement]) -> list[Settlement]:
        """Payments of this purchase that are being sent and that nobody waits for: who asked for one may be
        the one who asks now, with another signature. beside: what `none_left_behind` gave."""
        here = [live.record for live in self._lives.of_payer(fresh.payer) if live.forsaken]
        if not here and not beside:
            return []
        elsewhere = [one for one in beside if is_forsaken(one)]
        found = {one.key: one for one in (*here, *elsewhere) if one.plane == FACILITATOR and not one.paid_by}
        return [one for one in found.values() if one.key != fresh.key and same_purchase(one, fresh)]

    async def none_left_behind(self, fresh: Settlement) -> list[Settlement]:
        """Wait until each payment of this purchase that another replica has under way is known to have a
        living one, or is in doubt; those with a living one. Raises StoreUnavailable.

        That a replica has died is noticed late, and a client whose connection broke may sign anew at once.
        """
        if self._replicas.alone:
            return []
        living = {self._parts.replica}
        for _ in range(LOOKS):
            found = await self._parts.store.under_way(fresh)
            beside = [one for one in found if one.key != fresh.key and same_purchase(one, fresh)]
            of = {one.owner for one in beside} - living
            if not of and not any(one.money in PAID and one.transaction for one in beside):
                return beside
            if not of:  # it is being handed out, or its caller was told something else: its record will say
                await asyncio.sleep(LOOK_AGAIN_S)
            for owner in of:
                if await self._replicas.outlives(owner):
                    living.add(owner)
        raise StoreUnavailable("a payment of this purchase was left behind and cannot be taken up")

    async def answered(self, live: Live, visit: Visit) -> bool:
        """Answer from the payment before this one; False: nothing stands before it any more."""
        payment, call = visit.payment, visit.call
        if live.record.paid_by:
            return await self._answered_as_bound(live, payment, call)
        while before := await self.before(live.record, call.generation):
            first = await self._attach(before[0])
            first.callers, first.others = first.callers + 1, first.others + 1
            try:
                await self._holding.hold(first, visit)
                if call.gone or not (first.final or first.handed_out):
                    await self._not_yet(live, first, call)
                    return True
                reuses = _reuse(live.record, call.generation) != "off"
                if first.paid and reuses and await self._paid_by(live, first, payment, call):
                    return True
            finally:
                first.callers, first.others = first.callers - 1, first.others - 1
                self._lives.forget(first)
        return False

    async def _attach(self, record: Settlement) -> Live:
        first = await self._lives.attach(record)
        self._watch.begin(first)
        return first

    async def _answered_as_bound(self, live: Live, payment: Payment, call: Call) -> bool:
        """A payload once bound to an earlier payment is never settled itself, whatever comes."""
        bound_to = await self._parts.store.get(live.record.paid_by)
        if bound_to is not None:
            first = await self._attach(bound_to)
            first.held += 1
            try:
                if first.paid and await self._paid_by(live, first, payment, call):
                    return True
            finally:
                first.held -= 1
                self._lives.forget(first)
        await call.answer(200, (), answers.duplicate(live.record))
        return True

    async def _not_yet(self, live: Live, first: Live, call: Call) -> None:
        if call.gone:
            return await live.answered(AnswerEvent.LEFT)
        await call.answer(200, (), answers.pending(live.record, first.record.hint))
        await live.answered(AnswerEvent.TOLD_PENDING, "an earlier payment of this purchase is open")

    async def _paid_by(self, live: Live, first: Live, payment: Payment, call: Call) -> bool:
        """Hand out the first payment's success; only to whoever holds the payer's key, which is looked at
        before the lease of who hands it out begins: it may take longer."""
        if first.handed_out or not first.paid:
            return False
        proven = await self._signatures.proven_anew(payment, call)
        async with self._handing.alone_with(first) as alone:
            if not alone or first.handed_out or not first.paid:
                return False
            if not proven:
                await call.answer(200, (), answers.unproven(live.record))
                await live.answered(AnswerEvent.TOLD_FAILURE, "the signature is not proven")
                return True
            # Bound before it is answered: a crash in between must not let this one be settled too.
            if live.record.paid_by != first.record.key and not await live.bound(first.record):
                await self._not_yet(live, first, call)
                return True
            if await call.answer(200, (), answers.paid_by_another(live.record, first.record)):
                await self._handing.delivered(first, f"for {live.record.id}", replayed_by=live.record.key)
                await self._handing.delivered(live, f"by {first.record.id}")
                self._parts.telemetry.orphan_replayed(live.record.network)
                log.info("orphan used", extra={"settlement": live.record.id, "paid_by": first.record.id})
            else:
                await live.answered(AnswerEvent.LEFT)
        return True


def _reuse(of: Settlement | Payment, generation: Generation) -> str:
    return generation.policy.network(of.network).settle.reuse_orphans


def _over_at(first: Settlement) -> float:
    """Unix seconds after which an unwatched authorization can no longer be executed."""
    return first.valid_before or first.created_at + UNWATCHED_LIFE_S
