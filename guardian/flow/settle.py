"""The way of a settle, in one screen: look, claim, wait, send, watch, hold, answer, record.

All control flow of POST /settle stands here; `_guarded` is the whole of it. How a payment is claimed
stands in `flow/claims.py`, how it is sent in `flow/send.py`, how long callers wait in `flow/holding.py`,
what they are told in `flow/handing.py`; what a reply means is decided in `settlement/`, what the chain did
in `flow/watch.py`.
"""

import asyncio
import time

from guardian.errors import StoreUnavailable
from guardian.flow import answers
from guardian.flow.adopt import Adoption
from guardian.flow.ask import Question, ask_each
from guardian.flow.claims import Claims
from guardian.flow.handing import Handing
from guardian.flow.health import Health
from guardian.flow.holding import Holding
from guardian.flow.leading import Leading
from guardian.flow.live import Live, until_recorded
from guardian.flow.lives import Lives
from guardian.flow.parts import Call, Parts, Visit
from guardian.flow.preflight import Preflight
from guardian.flow.purchase import Purchases
from guardian.flow.replicas import Replicas, UnusedNonce
from guardian.flow.send import Sender
from guardian.flow.signatures import Signatures
from guardian.flow.watch import Watch
from guardian.policy.layers import InForce
from guardian.settlement.classify import Operation
from guardian.settlement.preflight import Finding
from guardian.settlement.purchase import pays_for
from guardian.settlement.record import Settlement
from guardian.settlement.states import Money, MoneyEvent
from guardian.telemetry import SpanName
from guardian.wire.payment import Method, Payment, read_payment


class SettleFlow:
    """Guards every /settle that passes."""

    def __init__(self, parts: Parts, signatures: Signatures, preflight: Preflight) -> None:
        self._parts = parts
        self._preflight = preflight
        self._signatures = signatures
        self.replicas = Replicas(parts)
        self.watch = Watch(parts, self.replicas)
        self.lives = Lives(parts, self.watch)
        self.watch.attach, self.watch.let_go = self.lives.attach, self.lives.forget
        self.health = Health(parts, self.replicas.leads)
        self.lives.told.append(self.health.moved)
        self._sender = Sender(parts, self.watch)
        self.watch.send_again = self._sender.start
        self._join()
        self.handing = Handing(parts, signatures, self.replicas)
        self.holding = Holding(parts)
        self.purchases = Purchases(
            parts, signatures, self.lives, self.watch, self.replicas, self.holding, self.handing
        )
        self._claims = Claims(parts, signatures, self.lives, self.purchases)

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
        in_force = call.generation.policy.in_force(payment.network, call.only)
        visit = Visit(payment, call, in_force, looked.unfit, time.monotonic())
        live = self.lives.of(payment.key)
        with self._parts.telemetry.span(SpanName.SETTLE, network=payment.network, scheme=payment.scheme):
            await self._guarded(live, visit)
        held_s = time.monotonic() - visit.since
        record = live.record
        self._parts.telemetry.settle_answered(payment.network, record.facilitator, record.money, held_s)

    async def _guarded(self, live: Live, visit: Visit) -> None:
        live.callers += 1
        live.calls.append(visit.call)
        try:
            blocked = await self._claims.claim(live, visit)
            if not pays_for(live.record, visit.payment):
                return await self.handing.refuse_as_taken(live, visit.call)
            if blocked and await self.purchases.answered(live, visit):
                return
            await self._set_going(live, visit)
            await self.holding.hold(live, visit)
            await self.handing.answer(live, visit.payment, visit.call)
        finally:
            live.callers -= 1
            live.calls.remove(visit.call)
            if live.unrecorded and not live.attended:
                self._parts.tasks.spawn(self._recorded(live), "success")
            if live.claimed and not live.callers and live.record.money is Money.IDLE:
                self.watch.begin(live)  # never sent: closed when it has expired
            self.lives.forget(live)

    async def _is_known(self, payment: Payment) -> bool:
        """An authorization with a record is answered from it, whatever has become of it since."""
        return payment.key in self.lives or await self._parts.store.get(payment.key) is not None

    async def _refuse(self, payment: Payment, call: Call, finding: Finding) -> None:
        await call.answer(200, (), answers.refused_by_preflight(payment, finding))
        self._parts.telemetry.settle_answered(payment.network, "", "preflight", 0.0)

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

    async def _set_going(self, live: Live, visit: Visit) -> None:
        """Send what nobody has sent yet. In doubt without a watcher, the caller's own repeat goes to
        the same facilitator, as it would without us: only it can reconcile."""
        if live.in_doubt and not live.record.watched and not live.sending:
            if await self.replicas.first(f"send/{live.key}", visit.in_force.settlement_timeout_s):
                live.only, live.generation = live.record.facilitator, visit.call.generation
                self._sender.start(live)
        elif live.record.money in (Money.IDLE, Money.PENDING) and not live.driven:
            live.driven, live.unsent = True, None
            if live.record.money is Money.PENDING:  # claimed as sent already: no delay is due
                self._sender.start(live)
            else:
                self._parts.tasks.spawn(self._drive(live, visit.payment, visit.in_force), "drive")

    async def _drive(self, live: Live, payment: Payment, in_force: InForce) -> None:
        if delay_s := self._signatures.delay_s(payment, in_force):
            await asyncio.sleep(delay_s)
        try:
            moved = await live.money(MoneyEvent.SENT) or live.record.money is Money.PENDING
            if moved and live.record.owner == self._parts.replica:  # not taken up while we were stopped
                self._sender.start(live)
        except StoreUnavailable as fault:  # no record, no settle (law 10)
            live.driven, live.unsent = False, fault
            live.wake()

    def rewatch(self, network: str) -> None:
        """Another watcher looks at this network from now on."""
        for live in self.lives:
            if live.claimed and live.record.network == network:
                self.watch.move(live)

    def drain(self) -> None:
        """Let every held caller have the answer there is: its record goes on without it."""
        self.holding.draining = True
        for live in self.lives:
            live.wake()
