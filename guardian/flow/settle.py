"""The way of a settle, in one screen: look, claim, wait, send, watch, hold, answer, record.

All control flow of POST /settle stands here. What a reply means is decided in `settlement/`,
what the chain did in `flow/watch.py`, how one authorization is sent in `flow/send.py`.
"""

import asyncio

from guardian.errors import StoreUnavailable
from guardian.flow import answers
from guardian.flow.ask import Question, ask_each
from guardian.flow.live import Live
from guardian.flow.parts import Call, Parts, log
from guardian.flow.purchase import Purchases
from guardian.flow.send import Sender
from guardian.flow.signatures import Signatures
from guardian.flow.watch import Watch, facts
from guardian.policy.model import NetworkPolicy
from guardian.settlement.classify import Operation
from guardian.settlement.record import Settlement, begun
from guardian.settlement.states import IN_DOUBT, OPEN, Answer, AnswerEvent, Money, MoneyEvent
from guardian.telemetry import SpanName
from guardian.wire.payment import Method, Payment, read_payment

CALLER_CHECK_S = 1.0
"""How long a departed caller may go unnoticed while it is held."""


class SettleFlow:
    """Guards every /settle that passes."""

    def __init__(self, parts: Parts, signatures: Signatures) -> None:
        self._parts = parts
        self._signatures = signatures
        self._watch = Watch(parts)
        self._sender = Sender(parts, self._watch)
        self._watch.send_again = self._sender.start
        self.lives: dict[str, Live] = {}
        self.draining = False
        self.purchases = Purchases(parts, signatures, self)

    async def settle(self, call: Call) -> None:
        """Settle once, answer once. Raises BadPayment and StoreUnavailable before anything is sent."""
        payment = read_payment(call.body)
        if payment.method is Method.BATCH and not payment.nonce:
            return await self._pass(payment, call)
        network = self._parts.policy.network(payment.network)
        live = self._live(payment.key)
        live.callers += 1
        begun = asyncio.get_running_loop().time()
        with self._parts.telemetry.span(SpanName.SETTLE, network=payment.network, scheme=payment.scheme):
            await self._guarded(live, payment, call, network, begun)
        self._parts.telemetry.settle_answered(
            payment.network,
            live.record.facilitator,
            live.record.money,
            asyncio.get_running_loop().time() - begun,
        )

    async def _guarded(
        self, live: Live, payment: Payment, call: Call, network: NetworkPolicy, begun: float
    ) -> None:
        try:
            blocked = await self._claim(live, payment, call, network)
            if blocked and await self.purchases.answered(live, payment, call, begun):
                return
            self._set_going(live, payment, network)
            await self.hold(live, call, begun)
            await self._answer(live, payment, call)
        finally:
            live.callers -= 1
            self.forget(live)

    async def _pass(self, payment: Payment, call: Call) -> None:
        """A batch sweep carries nothing that makes it unique and may rightly be repeated."""
        question = Question(
            operation=Operation.SETTLE,
            network=payment.network,
            scheme=payment.scheme,
            x402_version=payment.x402_version,
            headers=call.headers,
            body=call.body,
            timeout_s=self._parts.policy.network(payment.network).settlement_timeout_s,
            only=call.only,
        )
        tried = await ask_each(self._parts, question)
        if tried.reply:
            await call.answer(200, tried.headers, tried.reply.body)
        else:
            await call.answer(200, (), answers.no_reply(payment, tried.verdict.message))

    async def _claim(self, live: Live, payment: Payment, call: Call, network: NetworkPolicy) -> bool:
        """Write the record, or attach to the one there is. True: another payment stands before it."""
        async with live.claiming:
            if not live.claimed:
                claim = await self._parts.store.claim(self._record(payment, call.body, network))
                live.record, live.claimed = claim.record, True
            if live.record.money in OPEN and not live.headers:
                live.headers, live.only = call.headers, call.only
            if self._may_begin_again(live, payment):
                await live.restart(self._record(payment, call.body, network))
                live.driven, live.headers, live.only = False, call.headers, call.only
        if live.record.paid_by:
            return True
        if live.record.money is Money.IDLE and not live.driven:
            return bool(await self.purchases.before(live.record))
        return False

    def _may_begin_again(self, live: Live, payment: Payment) -> bool:
        """A failure that was never executed binds neither the payer nor another signature."""
        record = live.record
        if record.money is not Money.FAILED or record.tainted or record.chain_proven or live.sending:
            return False
        return record.reopens or record.signature_hash != payment.signature_hash

    def _set_going(self, live: Live, payment: Payment, network: NetworkPolicy) -> None:
        """Send what nobody has sent yet. In doubt without a watcher, the caller's own repeat goes to
        the same facilitator, as it would without us: only it can reconcile."""
        if live.in_doubt and not live.record.watched and not live.sending:
            live.only = live.record.facilitator
            self._sender.start(live)
        elif live.record.money in (Money.IDLE, Money.PENDING) and not live.driven:
            live.driven, live.unsent = True, None
            if live.record.money is Money.PENDING:  # claimed as sent already: no delay is due
                self._sender.start(live)
            else:
                self._parts.tasks.spawn(self._drive(live, payment, network), "drive")

    async def _drive(self, live: Live, payment: Payment, network: NetworkPolicy) -> None:
        if delay_s := self._signatures.delay_s(payment, network):
            await asyncio.sleep(delay_s)
        try:
            if await live.money(MoneyEvent.SENT) or live.record.money is Money.PENDING:
                self._sender.start(live)
        except StoreUnavailable as fault:  # no record, no settle (law 10)
            live.driven, live.unsent = False, fault
            live.wake()

    async def hold(self, live: Live, call: Call, begun: float, first: Live | None = None) -> None:
        """Keep the caller until there is an answer, the hold is over, or it has left."""
        settle, loop = self._parts.policy.settle, asyncio.get_running_loop()
        watched = first or live
        while not (self._ready(watched) or self.draining or call.gone):
            if watched.unsent:
                raise watched.unsent
            if watched.in_doubt and watched.record.answer is Answer.NONE:
                await watched.answered(AnswerEvent.HOLD)
            limit_s = settle.hold_s if watched.record.hint else settle.hold_without_hash_s
            left_s = begun + limit_s - loop.time()
            if left_s <= 0:
                return
            await watched.change(min(left_s, CALLER_CHECK_S))

    def _ready(self, live: Live) -> bool:
        record = live.record
        if live.paid:
            return record.transaction is not None or not record.watched
        return live.final or (live.in_doubt and not record.watched and not live.sending)

    async def _answer(self, live: Live, payment: Payment, call: Call) -> None:
        if call.gone:
            return await self._left(live)
        if live.paid or live.record.answer is Answer.ACCEPTED:
            return await self.hand_out(live, payment, call)
        if live.final:
            await call.answer(200, live.reply_headers, answers.failure(live.record))
            return await live.answered(AnswerEvent.TOLD_FAILURE)
        told = AnswerEvent.TOLD_PENDING if live.record.hint else AnswerEvent.TOLD_FAILURE
        await call.answer(200, (), answers.pending(live.record))
        await live.answered(told, "the hold is over")

    async def hand_out(self, live: Live, payment: Payment, call: Call) -> None:
        """The success, to exactly one caller with a proven signature (law 4)."""
        async with live.handing_out:
            if live.record.answer is Answer.ACCEPTED or not await self._signatures.proven(
                live.record, payment
            ):
                self._parts.telemetry.duplicate(live.record.network)
                await call.answer(200, (), answers.duplicate(live.record))
                return
            body = answers.success(live.record, live.reply_body)
            if await call.answer(200, live.reply_headers, body):
                await live.answered(AnswerEvent.DELIVERED)
            else:
                await self._left(live)

    async def _left(self, live: Live) -> None:
        if live.callers <= 1:
            await live.answered(AnswerEvent.LEFT)

    def _record(self, payment: Payment, body: bytes, network: NetworkPolicy) -> Settlement:
        now = self._parts.clock()
        watched = payment.method is Method.EIP3009 and payment.network in self._parts.watchers
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
            created_at=now,
            updated_at=now,
            body=body,
        )
        # The store's own look at earlier payments goes by resource; a wider reach is looked up first.
        looks_wider = self._parts.policy.settle.reuse_orphans == "same_payee"
        waits = looks_wider or self._signatures.delay_s(payment, network) > 0
        return begun(fresh, Money.IDLE if waits else Money.PENDING)

    def _moved(self, live: Live, old: Settlement) -> None:
        """Count and log what an operator wants to know of a move."""
        new = live.record
        self._tell_of_orphan(live)
        if new.money in IN_DOUBT and old.money not in IN_DOUBT:
            log.warning("in doubt: the chain is asked", extra=facts(live) | {"reason": new.reason})

    def _tell_of_orphan(self, live: Live) -> None:
        """Once, and only when nobody waits any more who may yet be handed the success."""
        if live.record.orphan and not live.callers and not live.told_of_orphan:
            live.told_of_orphan = True
            self._parts.telemetry.orphan_found(live.record.network)
            log.warning("orphan: charged, and nobody was handed the success", extra=facts(live))

    def _live(self, key: str) -> Live:
        live = self.lives.get(key)
        if live is None:
            live = self.lives[key] = Live(key, self._parts.store, self._parts.clock, self._moved)
        return live

    async def attach(self, record: Settlement) -> Live:
        """The live side of a record that the store gave."""
        live = self._live(record.key)
        async with live.claiming:
            if not live.claimed:
                live.record, live.claimed = record, True
        self._watch.begin(live)
        return live

    async def resume(self) -> int:
        """Take up every open record of an earlier process; the number of them."""
        records = await self._parts.store.open_records()
        for record in records:
            live = await self.attach(record)
            live.driven = record.money is not Money.IDLE
            if record.answer in (Answer.NONE, Answer.HELD):
                await live.answered(AnswerEvent.LEFT, "the guardian stopped before an answer")
            if record.money is Money.IDLE and not record.paid_by:
                await live.money(MoneyEvent.NOT_SENT, "stopped before sending", reopens=True)
            if record.money is Money.PENDING:
                await live.money(MoneyEvent.DOUBT, "stopped while sending", tainted=True)
            self._watch.begin(live)
            self.forget(live)
        return len(records)

    def drain(self) -> None:
        """Let every held caller have the answer there is: its record goes on without it."""
        self.draining = True
        for live in self.lives.values():
            live.wake()

    def forget(self, live: Live) -> None:
        """Let go of what nobody waits for and nothing more can be learnt about."""
        if live.claimed:
            self._tell_of_orphan(live)
        if live.callers or live.sending or not live.claimed:
            if not live.callers and not live.claimed:
                self.lives.pop(live.key, None)
            return
        if live.final and not self._watch.watching(live.record.key):
            self.lives.pop(live.record.key, None)
