"""The way of a settle, in one screen: look, claim, wait, send, watch, hold, answer, record.

All control flow of POST /settle stands here. What a reply means is decided in `settlement/`,
what the chain did in `flow/watch.py`, how one authorization is sent in `flow/send.py`.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import TracebackType

import msgspec

from guardian.errors import StoreUnavailable
from guardian.flow import answers
from guardian.flow.adopt import Adoption
from guardian.flow.ask import Question, ask_each
from guardian.flow.health import Health
from guardian.flow.leading import Leading
from guardian.flow.live import Live, until_recorded
from guardian.flow.lives import Lives
from guardian.flow.parts import Call, Parts
from guardian.flow.preflight import Preflight
from guardian.flow.purchase import Purchases
from guardian.flow.replicas import Replicas, UnusedNonce
from guardian.flow.send import Sender
from guardian.flow.signatures import Signatures
from guardian.flow.watch import Watch
from guardian.policy.layers import InForce
from guardian.settlement.classify import Operation
from guardian.settlement.preflight import Finding
from guardian.settlement.record import Settlement, begun
from guardian.settlement.states import OPEN, Answer, AnswerEvent, Money, MoneyEvent
from guardian.telemetry import SpanName
from guardian.wire.payment import Method, Payment, read_payment
from guardian.wire.stripped import stripped

CALLER_CHECK_S = 1.0
"""How long a departed caller may go unnoticed while it is held."""


class SettleFlow:
    """Guards every /settle that passes."""

    def __init__(self, parts: Parts, signatures: Signatures, preflight: Preflight) -> None:
        self._parts = parts
        self._preflight = preflight
        self._signatures = signatures
        self.replicas = Replicas(parts)
        self.watch = Watch(parts, self.replicas)
        self.lives = Lives(parts, self.watch)
        self.health = Health(parts, self.replicas.leads)
        self.lives.told.append(self.health.moved)
        self._sender = Sender(parts, self.watch)
        self.watch.send_again = self._sender.start
        self.draining = False
        self._join()
        self.purchases = Purchases(parts, signatures, self)

    def _join(self) -> None:
        """Let the other replicas' words reach this one's parts."""
        adoption = Adoption(self._parts, self.lives, self._sender, self.watch, self._before)
        leading = Leading(self._parts, self.lives, self.watch)
        self.replicas.take_up = adoption.adopt_from_all_but
        self.replicas.lead = leading.lead
        self.replicas.watch_here = leading.watch_here
        self.replicas.changed = self._refresh
        self.replicas.unused = self._unused_elsewhere

    async def _before(self, record: Settlement) -> list[Settlement]:
        return await self.purchases.before(record, self._parts.generation)

    async def _refresh(self, key: str) -> None:
        live = self.lives.known(key)
        if live is not None and live.claimed:
            await live.refresh()
            self.lives.forget(live)

    def _unused_elsewhere(self, finding: UnusedNonce) -> None:
        live = self.lives.known(finding.key)
        if live is not None and live.claimed and live.callers:
            self.watch.unused(live, finding.in_mempool)

    async def settle(self, call: Call) -> None:
        """Settle once, answer once. Raises BadPayment and StoreUnavailable before anything is sent."""
        payment = read_payment(call.body)
        if payment.method is Method.BATCH and not payment.nonce:
            return await self._pass(payment, call)
        looked = await self._preflight.look(payment, call)
        if looked.refusal and not await self._is_known(payment):
            return await self._refuse(payment, call, looked.refusal)
        network = call.generation.policy.in_force(payment.network, call.only)
        live = self.lives.of(payment.key)
        live.callers += 1
        begun = time.monotonic()
        with self._parts.telemetry.span(SpanName.SETTLE, network=payment.network, scheme=payment.scheme):
            await self._guarded(live, payment, call, network, begun, looked.unfit)
        self._parts.telemetry.settle_answered(
            payment.network,
            live.record.facilitator,
            live.record.money,
            time.monotonic() - begun,
        )

    async def _is_known(self, payment: Payment) -> bool:
        """An authorization with a record is answered from it, whatever has become of it since."""
        return payment.key in self.lives or await self._parts.store.get(payment.key) is not None

    async def _refuse(self, payment: Payment, call: Call, finding: Finding) -> None:
        await call.answer(200, (), answers.refused_by_preflight(payment, finding))
        self._parts.telemetry.settle_answered(payment.network, "", "preflight", 0.0)

    async def _guarded(
        self,
        live: Live,
        payment: Payment,
        call: Call,
        network: InForce,
        begun: float,
        unfit: frozenset[str],
    ) -> None:
        live.calls.append(call)
        try:
            blocked = await self._claim(live, payment, call, network)
            if not live.driven:
                live.unfit = unfit
            if blocked and await self.purchases.answered(live, payment, call, begun):
                return
            await self._set_going(live, payment, call, network)
            await self.hold(live, call, begun)
            await self._answer(live, payment, call)
        finally:
            live.callers -= 1
            live.calls.remove(call)
            if live.unrecorded and not live.callers:
                self._parts.tasks.spawn(self._recorded(live), "success")
            if live.claimed and not live.callers and live.record.money is Money.IDLE:
                self.watch.begin(live)  # never sent: closed when it has expired
            self.lives.forget(live)

    async def _recorded(self, live: Live) -> None:
        """Nobody took the success along: it is written by itself."""
        await until_recorded(live.record_kept)
        self.lives.forget(live)

    async def _pass(self, payment: Payment, call: Call) -> None:
        """A batch sweep carries nothing that makes it unique and may rightly be repeated."""
        in_force = call.generation.policy.in_force(payment.network, call.only)
        question = Question.of(Operation.SETTLE, payment, call, wait_s=in_force.settle.hold_s)
        tried = await ask_each(self._parts, question)
        if tried.reply:
            await call.answer(200, tried.headers, tried.reply.body)
        else:
            await call.answer(200, (), answers.no_reply(payment, tried.verdict.message))

    async def _claim(self, live: Live, payment: Payment, call: Call, network: InForce) -> bool:
        """Write the record, or attach to the one there is. True: another payment stands before it."""
        fresh = self._record(payment, call.body, network)
        if not live.claimed:  # before the lock: what was left behind may be this very record
            beside = await self.purchases.none_left_behind(fresh)
            if self.purchases.forsaken(fresh, beside):  # it waits for that one's end
                fresh = msgspec.structs.replace(fresh, money=Money.IDLE)
        async with live.claiming:
            if not live.claimed:
                claim = await self._parts.store.claim(fresh)
                live.record, live.claimed = claim.record, True
                self.lives.claimed(live)
                live.driven = claim.record.owner != self._parts.replica  # another replica drives it
            elif not live.driven and live.record.money in (Money.IDLE, Money.PENDING):
                await live.refresh()  # attached from a list, whose word may be older than what was told
            if live.record.money in OPEN and not live.headers:
                live.headers, live.only, live.generation = call.headers, call.only, call.generation
            if self._may_begin_again(live, payment):
                # Idle, so that payments which came since are looked at before it is sent (law 5).
                await live.restart(msgspec.structs.replace(fresh, money=Money.IDLE))
                live.driven, live.sent = False, False
                live.headers, live.only, live.generation = call.headers, call.only, call.generation
        if live.record.paid_by:
            return True
        if live.record.money is Money.IDLE and not live.driven:
            return bool(await self.purchases.before(live.record, call.generation))
        return False

    def _may_begin_again(self, live: Live, payment: Payment) -> bool:
        """A failure that was never executed binds neither the payer nor another signature."""
        record = live.record
        if record.money is not Money.FAILED or record.tainted or record.chain_proven or live.sending:
            return False
        if record.paid_by:  # bound to an earlier payment for good
            return False
        return record.reopens or record.signature_hash != payment.signature_hash

    async def _set_going(self, live: Live, payment: Payment, call: Call, network: InForce) -> None:
        """Send what nobody has sent yet. In doubt without a watcher, the caller's own repeat goes to
        the same facilitator, as it would without us: only it can reconcile."""
        if live.in_doubt and not live.record.watched and not live.sending:
            if await self.replicas.first(f"send/{live.key}", network.settlement_timeout_s):
                live.only, live.generation = live.record.facilitator, call.generation
                self._sender.start(live)
        elif live.record.money in (Money.IDLE, Money.PENDING) and not live.driven:
            live.driven, live.unsent = True, None
            if live.record.money is Money.PENDING:  # claimed as sent already: no delay is due
                self._sender.start(live)
            else:
                self._parts.tasks.spawn(self._drive(live, payment, network), "drive")

    async def _drive(self, live: Live, payment: Payment, network: InForce) -> None:
        if delay_s := self._signatures.delay_s(payment, network):
            await asyncio.sleep(delay_s)
        try:
            moved = await live.money(MoneyEvent.SENT) or live.record.money is Money.PENDING
            if moved and live.record.owner == self._parts.replica:  # not taken up while we were stopped
                self._sender.start(live)
        except StoreUnavailable as fault:  # no record, no settle (law 10)
            live.driven, live.unsent = False, fault
            live.wake()

    async def hold(self, live: Live, call: Call, begun: float, first: Live | None = None) -> None:
        """Keep the caller until there is an answer, the hold is over, or it has left."""
        watched = first or live
        settle = call.generation.policy.in_force(live.record.network, call.only).settle
        while not (self._ready(watched) or self.draining or call.gone):
            if watched.unsent:
                raise watched.unsent
            if watched.in_doubt and watched.record.answer is Answer.NONE:
                with suppress(StoreUnavailable):  # it may have been sent: «nothing was sent» would be a lie
                    await watched.answered(AnswerEvent.HOLD)
            limit_s = settle.hold_s if watched.record.hint else settle.hold_without_hash_s
            left_s = begun + limit_s - time.monotonic()
            if left_s <= 0:
                return
            await watched.change(min(left_s, CALLER_CHECK_S))
            if watched.record.owner != self._parts.replica:  # its messages may get lost
                with suppress(StoreUnavailable):
                    await watched.refresh()

    def _ready(self, live: Live) -> bool:
        record = live.record
        if live.paid:
            return record.transaction is not None or not record.watched
        return live.final or (live.in_doubt and not record.watched and not live.sending)

    async def _answer(self, live: Live, payment: Payment, call: Call) -> None:
        if call.gone:
            return await self._left(live)
        if live.paid or live.handed_out:
            return await self.hand_out(live, payment, call)
        if live.final:
            await call.answer(200, live.reply_headers, answers.failure(live.record))
            return await self.told(live, AnswerEvent.TOLD_FAILURE)
        await self._not_known(live, call, "the hold is over")

    async def _not_known(self, live: Live, call: Call, why: str) -> None:
        told = AnswerEvent.TOLD_PENDING if live.record.hint else AnswerEvent.TOLD_FAILURE
        if live.record.money is Money.PENDING:  # whoever is told that may sign anew at once, elsewhere
            await self.told(live, told, why)
            await call.answer(200, (), answers.pending(live.record))
        else:
            await call.answer(200, (), answers.pending(live.record))
            await self.told(live, told, why)

    async def hand_out(self, live: Live, payment: Payment, call: Call) -> None:
        """The success, to exactly one caller with a proven signature (law 4)."""
        try:
            await self._hand_out(live, payment, call)
        except StoreUnavailable:  # who else may have it is not known, and it may have been sent
            await self._not_known(live, call, "the store is away")

    async def _hand_out(self, live: Live, payment: Payment, call: Call) -> None:
        async with self.alone_with(live) as alone:
            if alone and not (live.paid or live.handed_out):  # taken up meanwhile, and in doubt there
                return await self._not_known(live, call, "another replica has it in doubt")
            if not alone or live.handed_out or not await self._signatures.proven(live.record, payment):
                self._parts.telemetry.duplicate(live.record.network)
                await call.answer(200, (), answers.duplicate(live.record))
                return
            body = answers.success(live.record, live.reply_body)
            if await call.answer(200, live.reply_headers, body):
                await self.delivered(live)
            else:
                await self._left(live)

    def alone_with(self, live: Live) -> AbstractAsyncContextManager[bool]:
        """Nobody else hands out this success meanwhile, here or at another replica; False: it may be."""
        return _AloneHere(live.handing_out) if self.replicas.alone else self._alone_everywhere(live)

    @asynccontextmanager
    async def _alone_everywhere(self, live: Live) -> AsyncIterator[bool]:
        async with live.handing_out, self.replicas.only_here(f"hand/{live.key}") as alone:
            if alone:
                await live.refresh()
            yield alone

    async def delivered(self, live: Live, note: str = "", **changes: object) -> None:
        """It was handed out: nobody else gets it, and the record says so as soon as it can."""
        live.delivered = True
        await self.told(live, AnswerEvent.DELIVERED, note, body=b"", **changes)

    async def told(self, live: Live, event: AnswerEvent, note: str = "", **changes: object) -> None:
        """Record what a caller was told, as soon as the store can: what nobody was handed must be listed."""
        try:
            await live.answered(event, note, **changes)
        except StoreUnavailable:
            again = functools.partial(live.answered, event, note, **changes)
            self._parts.tasks.spawn(until_recorded(again), "told")

    async def _left(self, live: Live) -> None:
        if live.callers <= 1:
            kept = {"body": stripped(live.record.body)} if live.paid else {}
            await self.told(live, AnswerEvent.LEFT, "", **kept)

    def _record(self, payment: Payment, body: bytes, network: InForce) -> Settlement:
        now = self._parts.clock()
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
            owner=self._parts.replica,
            created_at=now,
            updated_at=now,
            body=body,
        )
        # The store's own look at earlier payments goes by resource; a wider reach is looked up first.
        looks_wider = network.settle.reuse_orphans == "same_payee"
        waits = looks_wider or self._signatures.delay_s(payment, network) > 0
        return begun(fresh, Money.IDLE if waits else Money.PENDING)

    def rewatch(self, network: str) -> None:
        """Another watcher looks at this network from now on."""
        for live in self.lives:
            if live.claimed and live.record.network == network:
                self.watch.move(live)

    def drain(self) -> None:
        """Let every held caller have the answer there is: its record goes on without it."""
        self.draining = True
        for live in self.lives:
            live.wake()


class _AloneHere(AbstractAsyncContextManager[bool]):
    """A lock that says yes: what being alone amounts to while no other process uses the store."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock

    async def __aenter__(self) -> bool:
        await self._lock.acquire()
        return True

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
