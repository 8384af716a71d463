"""The way of an agent's payment: record, present, hold, watch, present again, deliver; or say 503.

All control flow of paid requests on the agent plane stands here. What a reply means is decided in
`present.py`, what becomes of one record in `buying.py`, what the chain did in `watch.py`.
"""

import asyncio
import contextlib
import functools

from guardian.errors import BadPayment, NotSent, ReplyLost, SpendingDenied, StoreUnavailable
from guardian.flow import buy_answers as answers
from guardian.flow.alone import Alone
from guardian.flow.buy_record import asker_of, fits, is_for, purchase_of, recorded
from guardian.flow.buying import Buying
from guardian.flow.buys import Buys
from guardian.flow.demands import Demands
from guardian.flow.fresh import can_be_watched
from guardian.flow.live import Live
from guardian.flow.paid import PaidExchange
from guardian.flow.parts import Parts
from guardian.flow.present import MOVED, is_elsewhere, told_paid
from guardian.flow.sealing import Sealing
from guardian.flow.settle import SettleFlow
from guardian.flow.signatures import Signatures
from guardian.flow.spending import Held, Spending
from guardian.flow.stay import Stay
from guardian.flow.terms import Terms
from guardian.policy.layers import InForce
from guardian.settlement.record import AGENT, Settlement, begun
from guardian.settlement.states import UNPAID, AnswerEvent, Money, MoneyEvent
from guardian.upstream.reply import Reply
from guardian.wire.payment import Payment
from guardian.wire.sent import SentPayment, read_sent_payment


class BuyFlow:
    """Guards every payment that an agent sends: the `PaidFlow` of the agent plane."""

    def __init__(self, parts: Parts, settle: SettleFlow, signatures: Signatures, sealing: Sealing) -> None:
        self._parts = parts
        self._settle = settle
        self._signatures = signatures
        self._sealing = sealing
        self._terms = Terms()
        self._demands = Demands(parts, self._terms, settle.health)
        self._alone = Alone(parts, settle.replicas)
        self.spending = Spending(parts)
        self.buys = Buys(parts, settle, sealing, self.spending)

    async def start(self) -> None:
        """Learn what the store holds; once it is open."""
        await self.buys.start()
        await self._demands.start()
        self._parts.tasks.spawn(self._settle_up(), "spending")

    async def _settle_up(self) -> None:
        with contextlib.suppress(StoreUnavailable):  # then as soon as a budget is full
            await self.spending.settle_up()

    async def handle(self, exchange: PaidExchange) -> None:
        """Answer a request that pays, or one that was told to. Raises NotSent and ReplyLost."""
        try:
            if not self.buys.looked:
                await self.buys.look()
            if exchange.demand is None:
                await self._pays(exchange)
            else:
                await self._is_told_to_pay(exchange, exchange.demand)
        except StoreUnavailable as fault:  # only before anything is sent: see Buying.surely
            await exchange.answer(answers.no_record(str(fault)))
        except SpendingDenied as refusal:
            self._parts.telemetry.bought(exchange.route, "denied")
            await exchange.answer(answers.denied(refusal))

    # -- a request that pays

    async def _pays(self, exchange: PaidExchange) -> None:
        try:
            sent = await self._sent(exchange)
            record = self._record(sent, exchange)
        except BadPayment:
            await self.spending.admit_unreadable(exchange)
            self._parts.telemetry.bought(exchange.route, "unreadable")
            await exchange.answer(await exchange.ask())
            return
        async with self.buys.of(record.key, exchange) as buying:
            if record.watched:
                await self._guarded(buying, record, sent.payment, exchange)
            else:
                await self._passed_on(buying, record, sent.payment, exchange)

    async def _sent(self, exchange: PaidExchange) -> SentPayment:
        """The payment in a request, with the terms that it answers, as far as anything here knows them.
        Raises BadPayment."""
        offers = self._terms.of(exchange)
        sent = read_sent_payment(exchange.headers, offers)
        assert sent is not None  # the plane saw the header
        if not offers and not sent.payment.asset:  # v1, and what was demanded is forgotten
            kept = await self.buys.offers_of(purchase_of(exchange))
            sent = read_sent_payment(exchange.headers, kept) or sent
        return sent

    def _record(self, sent: SentPayment, exchange: PaidExchange) -> Settlement:
        return recorded(
            sent,
            exchange,
            self._sealing,
            now=self._parts.clock(),
            owner=self._parts.replica,
            watched=can_be_watched(sent.payment, self._parts.watchers),
            head=self._parts.head(sent.payment.network),
        )

    async def _guarded(
        self, buying: Buying, fresh: Settlement, payment: Payment, exchange: PaidExchange
    ) -> None:
        """Watched by the chain: never presented beside another payment for the same."""
        live = buying.live
        first = await self._before(fresh)
        money, offered = Money.IDLE if first else Money.PENDING, self._terms.original(exchange)
        await self._claim(buying, begun(fresh, money, offered), payment, exchange)
        if live.record.paid_by:
            await exchange.answer(answers.bound(live.record))
            return
        follows = live.record.reason == MOVED and live.record.purchase != fresh.purchase
        if live.record.purchase != fresh.purchase and not follows:
            return await self._passes(exchange, live.record)
        if live.record.plane != AGENT or buying.over:
            return await self._passes(exchange, live.record)
        if live.record.signature_hash != payment.signature_hash and not await self._proven(payment):
            return await self._passes(exchange, live.record)
        if follows:
            await buying.follow(fresh)
            self.buys.open.put(live.record)
        while (follows or live.record.money is Money.IDLE) and (first := await self._before(live.record)):
            if not await self._proven(payment):
                await live.money(MoneyEvent.NOT_SENT, "its signature is not proven", reopens=True)
                await exchange.answer(answers.unproven(first))
                return
            async with self.buys.of(first.key, exchange, first) as before:
                if await self._served(before, exchange, live):
                    return
        await self._may_send(buying, payment, exchange)
        if not await self._served(buying, exchange):
            await self._refused(buying, exchange)

    async def _claim(
        self, buying: Buying, fresh: Settlement, payment: Payment, exchange: PaidExchange
    ) -> None:
        """Write the record before anything is sent (law 2), or take the one there is. Raises
        SpendingDenied, where there is none yet, or one of other contents."""
        live, held = buying.live, None
        async with live.claiming:
            if not live.claimed:
                if fresh.money is Money.PENDING:
                    held = await self.spending.admit(fresh, payment, exchange, unknown=True)
                claim = await self._parts.store.claim(fresh)
                live.record, live.claimed = claim.record, True
                await self._counts(live, held, claim.created, payment, exchange)
                buying.may_send = claim.created and claim.record.money is Money.PENDING
                if claim.created:
                    self.buys.signed(claim.record)
                    if claim.record.money is not fresh.money:  # something stands before it
                        await self.buys.look()
                else:
                    self._settle.watch.begin(live)
            record = live.record
            if record.spend != fresh.spend:
                await self.spending.admit_another(payment, exchange)
            if record.money is Money.FAILED and record.reopens and not record.paid_by:
                await live.restart(begun(fresh, Money.IDLE))
        self.buys.open.put(live.record)

    async def _counts(
        self, live: Live, held: Held | None, created: bool, payment: Payment, exchange: PaidExchange
    ) -> None:
        """What was held before the claim, as the claim came out."""
        if held is not None and live.record.money is Money.IDLE:  # it is held when it is sent
            await self.spending.give_back(held)
        elif held is not None and created and held.late:
            try:
                await self.spending.admit(live.record, payment, exchange, unknown=False)
            except SpendingDenied as refusal:
                await live.money(MoneyEvent.NOT_SENT, str(refusal), reopens=True)
                raise

    async def _may_send(self, buying: Buying, payment: Payment, exchange: PaidExchange) -> None:
        """One that stood behind another, or was not sent when it came first, counts once it is sent."""
        live = buying.live
        async with live.claiming:
            if live.record.money is Money.IDLE:
                try:
                    await self.spending.admit(live.record, payment, exchange, unknown=False)
                except SpendingDenied as refusal:
                    if await live.never_sent(str(refusal)):
                        raise
            buying.may_send |= await live.money(MoneyEvent.SENT)

    async def _before(self, record: Settlement) -> Settlement | None:
        """A payment of the same purchase that stands before this one."""
        for other in self.buys.open.of(record.purchase, record.payment_id):
            if is_for(other, record) and (stands := await self.buys.standing(other)):
                return stands
        return None

    async def _proven(self, payment: Payment) -> bool:
        """Only the payer may have what an earlier payment of its bought."""
        return await self._signatures.recovered(payment)

    async def _passes(self, exchange: PaidExchange, record: Settlement) -> None:
        """Delivered, proven never to pay, or sent for another request: it pays for nothing here, and the
        seller's own word about it harms nobody. One that was not sent yet would pay, and count nowhere."""
        waits = record.money is Money.IDLE
        await exchange.answer(answers.waits(record) if waits else await exchange.ask())

    async def _refused(self, buying: Buying, exchange: PaidExchange) -> None:
        """Proven never to have paid, or somebody else got the goods: the seller's last word passes. Raises
        NotSent where it never left, because whoever was to send it could not."""
        if buying.live.record.money is Money.FAILED and buying.live.record.reopens:
            raise NotSent("another request with this payment could not be sent")
        reply = buying.said.reply() if buying.live.record.money in UNPAID else None
        await exchange.answer(reply or await exchange.ask())
        if buying.live.record.money in UNPAID:
            await buying.surely(functools.partial(buying.live.answered, AnswerEvent.TOLD_FAILURE))
            self._parts.telemetry.bought(exchange.route, "unpaid")

    async def _passed_on(
        self, buying: Buying, fresh: Settlement, payment: Payment, exchange: PaidExchange
    ) -> None:
        """No chain to ask: as it is, once, and on record."""
        live = buying.live
        begins = begun(fresh, Money.PENDING, self._terms.original(exchange))
        await self._claim(buying, begins, payment, exchange)
        if live.record.money is Money.IDLE:
            await self._may_send(buying, payment, exchange)
        self._parts.telemetry.bought(exchange.route, "unwatched")
        try:
            reply = await exchange.ask()
            handed = 200 <= reply.status < 400 and await exchange.answer(reply)
        except NotSent as fault:
            await buying.surely(functools.partial(live.money, MoneyEvent.NOT_SENT, str(fault), reopens=True))
            raise
        except ReplyLost as fault:
            await buying.surely(functools.partial(live.money, MoneyEvent.DOUBT, str(fault), tainted=True))
            raise
        if handed and not is_elsewhere(reply):
            return await buying.delivered(None, *told_paid(reply))
        doubt = functools.partial(live.money, MoneyEvent.DOUBT, f"http {reply.status}", tainted=True)
        await buying.surely(doubt, functools.partial(live.answered, AnswerEvent.TOLD_FAILURE))
        if reply.status >= 400:
            await exchange.answer(reply)

    # -- a request that does not pay, and was told to

    async def _is_told_to_pay(self, exchange: PaidExchange, demand: Reply) -> None:
        """A payment that exists answers it before its client signs another one."""
        found = self.buys.open.of(purchase_of(exchange))
        read = self._terms.read(exchange, demand)
        for record in found:
            if record.asker != asker_of(exchange) or not fits(record, read.offers):
                continue
            if (stands := await self.buys.standing(record)) is None:
                continue
            async with self.buys.of(stands.key, exchange, stands) as buying:
                if await self._served(buying, exchange):
                    return
        await exchange.answer(await self._demands.fitted(exchange, demand, read))

    # -- waiting for a payment, and presenting it

    async def _served(self, buying: Buying, exchange: PaidExchange, other: Live | None = None) -> bool:
        """Hold the caller until this payment has answered it, or can answer nobody any more (False).

        other: a payment of the caller's own, that this one is used in place of.
        """
        live, loop = buying.live, asyncio.get_running_loop()
        stay = Stay(buying, exchange, self._in_force(live.record, exchange), loop.time())
        while not buying.over:
            if stay.anyone:
                return False
            if stay.is_over(loop.time()) or (self._settle.holding.draining and not buying.may_send):
                await self._not_yet(stay, other)
                return True
            if stay.is_next(loop.time()):
                if await self._presented(stay, other):
                    return True
            else:
                await live.change(stay.wait_s(loop.time()))
                await self.buys.refresh(live)
        return False

    def _in_force(self, record: Settlement, exchange: PaidExchange) -> InForce:
        return exchange.generation.policy.in_force(record.network, route=record.route)

    async def _presented(self, stay: Stay, other: Live | None) -> bool:
        """Ask the seller, or hand out what it gave when nobody was there; nobody else does meanwhile."""
        buying, exchange = stay.buying, stay.exchange
        own = exchange.demand is None and other is None
        try:
            async with self._alone.presenting(buying.live) as alone:
                if not alone or buying.over:
                    return False
                if buying.goods is not None:
                    return await buying.hand_out(exchange, other)
                stay.asks()
                return await buying.present(exchange, own, stay.in_force, other)
        finally:
            buying.live.wake()

    async def _not_yet(self, stay: Stay, other: Live | None) -> None:
        """The hold is over. Nothing is said that makes a client pay again."""
        buying, live, exchange = stay.buying, stay.buying.live, stay.exchange
        if buying.may_send and buying.deserted:
            buying.may_send = False
            left = functools.partial(live.money, MoneyEvent.NOT_SENT, "its caller left first", reopens=True)
            await buying.surely(left)
        told = AnswerEvent.LEFT
        if not exchange.gone:
            block_time_s, said = stay.in_force.block_time_s, buying.said.status
            reply = answers.not_yet(live.record, block_time_s=block_time_s, upstream_said=said)
            if await exchange.answer(reply):
                told = AnswerEvent.TOLD_PENDING
            self._parts.telemetry.bought(exchange.route, "paid_undelivered" if live.paid else "in_doubt")
            if live.record.chain_proven and live.paid and 400 <= said < 500:
                self.buys.charged(live)
        if other is not None:
            note = f"{live.record.id} stands before it"
            await buying.surely(
                functools.partial(other.money, MoneyEvent.NOT_SENT, note, reopens=True),
                functools.partial(other.answered, told),
            )
        if told is AnswerEvent.TOLD_PENDING or buying.deserted:
            await buying.surely(functools.partial(live.answered, told, "the hold is over"))
