"""What the chain says about open settlements, turned into moves.

Only here does a finding touch a record. Sending again after the chain showed the nonce unused
(law 6) is decided here and done by the function handed in.
"""

import contextlib
import functools
from collections.abc import Awaitable, Callable

from guardian.chain.target import (
    Cancelled,
    Expired,
    Finding,
    Mismatch,
    Paid,
    Proof,
    Reorged,
    Reverted,
    Seen,
    Target,
    Unused,
)
from guardian.errors import ChainUnavailable, StoreUnavailable
from guardian.flow.diagnosis import Kind
from guardian.flow.live import Live, until_recorded
from guardian.flow.parts import Parts, log
from guardian.flow.replicas import Replicas, UnusedNonce
from guardian.settlement.record import AGENT, Settlement
from guardian.settlement.states import PAID, Answer, AnswerEvent, Money, MoneyEvent
from guardian.wire.names import TxHash
from guardian.wire.stripped import stripped

MISMATCH = Mismatch.__name__.lower()
"""What the audit trail says of a nonce that was used for another transfer."""

MARGIN_S = 6.0
"""SDK facilitators refuse an authorization with less than this left before validBefore."""

SUSPICIOUS_BLOCKS = 10
"""A reported success that this many blocks do not show is worth a warning before the proof."""


class Watch:
    """Begins watches and applies what they find."""

    def __init__(self, parts: Parts, replicas: Replicas) -> None:
        self._parts = parts
        self._replicas = replicas
        self.send_again: Callable[[Live], None] = lambda live: None
        self.attach: Callable[[Settlement], Awaitable[Live]]
        self.let_go: Callable[[Live], None] = lambda live: None
        self._watched: dict[str, Target] = {}

    def begin(self, live: Live) -> None:
        """Watch this authorization until there is proof; again only hands in a newer hash."""
        record = live.record
        watcher = self._parts.watchers.get(record.network)
        if watcher is None or not record.watched or record.chain_proven:
            return
        if record.money is Money.UNRESOLVED:
            self._parts.tasks.spawn(self._polling(live), "polling")
        if not self._replicas.leads(record.network):
            return self._replicas.ask_to_watch(record.key)
        known = self._watched.get(record.key)
        if known is not None and _terms(known) == _terms(record):
            if record.hint:
                watcher.hint(record.key, record.hint)
            return
        target = target_of(record, hint=record.hint, urgent=live.in_doubt)
        self._watched[record.key] = target
        watcher.watch(target, functools.partial(self._found, live, target))

    def move(self, live: Live) -> None:
        """Go on with the watcher there is now."""
        if live.key in self._watched:
            self._watched.pop(live.key)
            self.begin(live)

    def end(self, live: Live) -> None:
        """Another replica watches this network now."""
        self._watched.pop(live.key, None)
        if watcher := self._parts.watchers.get(live.record.network):
            watcher.forget(live.key)

    async def _polling(self, live: Live) -> None:
        with contextlib.suppress(StoreUnavailable):  # a finer word for a doubt; the next watch says it
            await live.money(MoneyEvent.WATCHED)

    def watching(self, key: str) -> bool:
        """There is no proof yet and the chain is being asked."""
        return key in self._watched

    def _found(self, live: Live, target: Target, finding: Finding) -> None:
        self._parts.tasks.spawn(until_recorded(lambda: self._apply(live, target, finding)), "finding")

    def unused(self, live: Live, in_mempool: bool) -> None:
        """The replica that watches has seen the nonce unused at a new head."""
        self._parts.tasks.spawn(self._told_unused(live, in_mempool), "finding")

    async def _told_unused(self, live: Live, in_mempool: bool) -> None:
        with contextlib.suppress(StoreUnavailable):  # the next head brings another word
            await self._seen_unused(live, in_mempool)

    async def _apply(self, live: Live, target: Target, finding: Finding) -> None:
        if isinstance(finding, Proof) and not self._replicas.alone:
            await live.refresh()
        if _terms(target) != _terms(live.record):  # refused meanwhile, and begun again with others
            return self.begin(live)
        self._parts.telemetry.finding(live.record.network, type(finding).__name__.lower())
        match finding:
            case Paid(transaction=transaction, block=block):
                await self._paid(live, transaction, block)
            case Cancelled() | Expired() | Mismatch():
                await self._unpaid(live, finding)
            case Seen(transaction=transaction):
                live.unused_blocks = 0
                await live.fact("seen", "in the mempool or a young block", hint=transaction)
            case Reverted(transaction=transaction):
                await live.fact("reverted", transaction, hint=live.record.hint)
            case Reorged(transaction=transaction):
                await self._reorged(live.record, transaction)
            case Unused(in_mempool=in_mempool):
                await self._seen_unused(live, in_mempool)
                if not live.callers:
                    self._replicas.tell_unused(UnusedNonce(live.key, in_mempool))

    async def _paid(self, live: Live, transaction: object, block: int) -> None:
        late = live.in_doubt
        if late and await self._settled_before_us(live, block):
            await live.answered(AnswerEvent.DELIVERED, "settled before the guardian saw it")
        self._watched.pop(live.key, None)
        moved = await live.money(
            MoneyEvent.CHAIN_PAID,
            f"block {block}",
            transaction=transaction,
            hint=transaction,
            chain_proven=True,
            **self._kept_of(live.record),
        )
        if not moved:
            log.error("the chain shows a transfer for a settlement recorded as failed", extra=facts(live))
        elif late:
            self._parts.telemetry.late_confirmation(
                live.record.network, self._parts.clock() - live.record.created_at
            )
            log.info("confirmed late", extra=facts(live))

    def _kept_of(self, record: Settlement) -> dict[str, object]:
        """Of a settle body that is never sent again, what an orphan's evidence needs; an agent's payment goes
        to its seller again."""
        if record.plane == AGENT:
            return {}
        over = record.answer is Answer.ACCEPTED
        return {"body": b"" if over or not record.body else stripped(record.body)}

    async def _reorged(self, known: Settlement, transaction: TxHash) -> None:
        """What was proven is in doubt again, and nobody is handed it meanwhile; the watch goes on, and may
        prove it again or away. It was let go of when it was proven, and others may have attached since."""
        live = await self.attach(known)
        live.held += 1
        try:
            await live.refresh()
            await self._undone(live, transaction)
            self._watched.pop(live.key, None)
            self.begin(live)
        finally:
            live.held -= 1
            self.let_go(live)
        log.error("a reorganisation has undone a transfer that was told as paid", extra=facts(live))

    async def _undone(self, live: Live, transaction: TxHash) -> None:
        """A doubt once more; but what a person has closed as an orphan stays closed."""
        learnt = {"chain_proven": False, "hint": transaction}
        if not live.record.closed_by:
            more = {"transaction": None, "tainted": True}
            if await live.money(MoneyEvent.CHAIN_UNDONE, transaction, **learnt, **more):
                return
        await live.fact("reorged", transaction, **learnt)

    async def _settled_before_us(self, live: Live, block: int) -> bool:
        """A payment that was over before it came here has bought its goods elsewhere: its signature
        stands on chain for everybody to read, so it must not buy anything a second time. A block that
        was not there yet is none of before, whatever its time: after a halt a chain dates them back."""
        if 0 < live.record.head < block:
            return False
        watcher = self._parts.watchers[live.record.network]
        try:
            return await watcher.is_earlier(block, live.record.created_at)
        except ChainUnavailable:
            return False

    async def _unpaid(self, live: Live, proof: Cancelled | Expired | Mismatch) -> None:
        self._watched.pop(live.key, None)
        kind = type(proof).__name__.lower()
        was_paid = live.record.money in PAID
        cause = {} if was_paid else {"message": f"{live.record.message} {UNPAID_BECAUSE[kind]}".strip()}
        if not was_paid and not live.record.reason:
            cause["reason"] = "payment_expired" if isinstance(proof, Expired) else "invalid_transaction_state"
        if live.record.money is Money.IDLE:
            await live.money(MoneyEvent.NOT_SENT, kind, **cause)
        elif live.record.money is Money.PENDING:  # claimed, and the caller lost before it was sent
            await live.money(MoneyEvent.DOUBT, "no reply before the chain's word", tainted=True)
        await live.money(MoneyEvent.CHAIN_UNPAID, kind, chain_proven=True, **cause)
        if live.record.unpaid:
            record = live.record
            self._parts.telemetry.unpaid_found(record.network)
            if not record.undone:
                self._parts.diagnosis.of_facilitator(
                    Kind.FACILITATOR_LIES, record.facilitator, record.network, record.id
                )
            log.error(
                "unpaid: a facilitator reported success and the chain has no transfer", extra=facts(live)
            )

    async def _seen_unused(self, live: Live, in_mempool: bool) -> None:
        live.unused_blocks = 0 if in_mempool else live.unused_blocks + 1
        await self._unused(live)

    async def _unused(self, live: Live) -> None:
        """The nonce is unused as of a new head: note it, and send again where that is safe."""
        if live.record.plane == AGENT:  # its seller settles it, at no facilitator of ours
            return
        generation = live.generation or self._parts.generation
        network = generation.policy.in_force(live.record.network, live.record.facilitator)
        if live.record.money in PAID:
            if live.unused_blocks == SUSPICIOUS_BLOCKS:
                log.error("a facilitator reported success that the chain does not show", extra=facts(live))
            return
        left_s = (live.record.valid_before or 0) - self._parts.clock()
        if live.record.hint:  # somebody broadcast it: sending again could only burn gas
            return
        wanted = live.callers and live.resends < network.retry.attempts and left_s > MARGIN_S
        if not wanted or live.unused_blocks < network.resend_after_blocks:
            return
        live.unused_blocks = 0
        if not await self._replicas.first(f"send/{live.key}", network.settlement_timeout_s):
            return  # a caller waits at another replica too, which sends it
        live.resends += 1
        await live.money(MoneyEvent.DOUBT, "no reply, and the nonce is unused", tainted=True)
        if await live.money(MoneyEvent.RESENT, "the nonce is unused"):
            live.generation = self._parts.generation
            self.send_again(live)


def _terms(of: Target | Settlement) -> tuple[object, ...]:
    """What the chain is asked about: with other terms, the same nonce is another question."""
    return of.asset, of.pay_to, of.amount, of.valid_before


UNPAID_BECAUSE = {
    "cancelled": "The payer cancelled this authorization on chain; nothing was charged.",
    "expired": "The authorization expired unused; nothing was charged.",
    MISMATCH: "The nonce was used for another transfer; this payment was not made.",
}


def target_of(record: Settlement, *, hint: TxHash | None = None, urgent: bool = False) -> Target:
    """What the chain is asked about a record. hint, urgent: as `Target` has them."""
    return Target(
        key=record.key,
        asset=record.asset,
        payer=record.payer,
        pay_to=record.pay_to,
        amount=record.amount,
        nonce=record.nonce,
        valid_before=record.valid_before,
        hint=hint,
        from_block_time=record.created_at,
        urgent=urgent,
    )


def facts(live: Live) -> dict[str, object]:
    """What a log line may say of a settlement: no signature, no key."""
    record = live.record
    return {
        "settlement": record.id,
        "network": record.network,
        "facilitator": record.facilitator,
        "transaction": record.transaction or record.hint,
        "money": str(record.money),
        "answer": str(record.answer),
    }
