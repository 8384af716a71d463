"""One payment of an agent in this process: who waits for it, and what presenting it does to its record.

The control flow is buy.py's, which also sees to it that nobody else presents it meanwhile.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from guardian.errors import NotSent, ReplyLost, StoreUnavailable
from guardian.flow.buy_record import Goods, Kept, opened, presenting, sealed
from guardian.flow.heard import Heard
from guardian.flow.live import Live, until_recorded
from guardian.flow.paid import PaidExchange
from guardian.flow.parts import Parts
from guardian.flow.present import (
    MOVED,
    Pace,
    Said,
    copied,
    is_elsewhere,
    is_goods,
    kept_goods,
    said,
    told_paid,
)
from guardian.flow.sealing import Sealing
from guardian.flow.watch import Watch
from guardian.policy.layers import InForce
from guardian.settlement.record import Settlement
from guardian.settlement.states import UNPAID, AnswerEvent, Money, MoneyEvent
from guardian.upstream.reply import Reply

LEFT_CHECK_S = 0.25
"""How long a caller may have left before its payment is in doubt for others that look at the record."""


class Buying:
    """A payment that is being presented or waited for.

    exchanges: of all who wait; may_send: claimed here and not sent yet; said: the seller's last words.
    """

    def __init__(self, parts: Parts, live: Live, watch: Watch, sealing: Sealing) -> None:
        self.live = live
        self.exchanges: list[PaidExchange] = []
        self.may_send = False
        self.pace = Pace()
        self.said = Said()
        self._parts = parts
        self._watch = watch
        self._sealing = sealing
        self._opened: tuple[bytes, Kept | None] = (b"", None)

    @property
    def kept(self) -> Kept | None:
        """What presents it again; None where nothing is kept, or nothing that we can read."""
        body, kept = self._opened
        if body is not self.live.record.body:
            kept = opened(self.live.record, self._sealing)
            self._opened = (self.live.record.body, kept)
        return kept

    @property
    def goods(self) -> Goods | None:
        """They came, and nobody was there to take them."""
        return self.kept.goods if self.kept else None

    @property
    def over(self) -> bool:
        """It can answer nobody any more: delivered, or proven never to have paid."""
        return self.live.handed_out or self.live.record.money in UNPAID

    @property
    def deserted(self) -> bool:
        """Whoever waited for it here has left."""
        return bool(self.exchanges) and all(one.gone for one in self.exchanges)

    def is_turn_of(self, exchange: PaidExchange) -> bool:
        """Who is still there goes first; who has left goes on for who comes back."""
        return not exchange.gone or self.deserted

    def is_due(self, now: float) -> bool:
        """It may be presented now."""
        if self.live.record.money is Money.PENDING:
            return self.may_send
        return self.kept is not None and now >= self.pace.next_at

    async def surely(self, *moves: Callable[[], Awaitable[object]]) -> None:
        """Record what is known, in this order; as soon as the store is back where it is away."""

        async def all_of_them() -> None:
            while left:
                await left[0]()
                left.pop(0)

        left = list(moves)
        try:
            await all_of_them()
        except StoreUnavailable:
            self._parts.tasks.spawn(until_recorded(all_of_them), "bought")

    # -- presenting it

    async def present(self, exchange: PaidExchange, own: bool, in_force: InForce, other: Live | None) -> bool:
        """Ask the seller once; True when the caller was given the goods. own: it is this caller's own
        payment, which goes as it came; other: a payment of its own that this one is used in place of.
        Raises NotSent where this was the first time, and ReplyLost where the caller saw the answer break."""
        self.may_send, goods, moved = False, False, False
        began = asyncio.get_running_loop().time()
        try:
            async with self._looked_after(exchange, in_force.confirmation_time_s):
                reply = await exchange.ask(None if own else self._headers(exchange))
                moved = is_elsewhere(reply)
                goods = not moved and await is_goods(reply, exchange.method)
                if moved:
                    self.said = Said(reply.status, MOVED)
                else:
                    self.said = Said(reply.status) if goods else await said(reply)
            if not goods:
                self._heard(exchange, f"http {reply.status}", self.said)
        except NotSent as fault:
            self._heard(exchange, f"not sent: {fault}", Said())
            if await self.live.money(MoneyEvent.NOT_SENT, str(fault), reopens=True):
                await self.surely(functools.partial(self.live.answered, AnswerEvent.TOLD_FAILURE))
                raise
            self.said = Said(reason="not_sent", message=str(fault))
        except ReplyLost as fault:
            self.said = Said(reason="reply_lost", message=str(fault))
            self._heard(exchange, f"reply lost: {fault}", self.said)
        finally:
            self.pace.after(began, in_force.block_time_s)
        if goods:
            return await self._hand_on(exchange, reply, other)
        if moved:
            return await self._send_on(exchange, reply, other)
        await self._doubt(f"http {self.said.status}" if self.said.status else self.said.reason)
        return False

    async def _send_on(self, exchange: PaidExchange, reply: Reply, other: Live | None) -> bool:
        """The caller learns where to go, and takes the payment along. The seller may have taken it all the
        same, so it is in doubt, and listed if it was and nobody comes for it."""
        await self._doubt(f"http {reply.status}")
        told = AnswerEvent.LEFT
        try:
            if await exchange.answer(reply):
                told = AnswerEvent.TOLD_PENDING
        finally:
            await self.surely(functools.partial(self.live.answered, told, "sent on"))
            if other is not None:
                never = functools.partial(other.money, MoneyEvent.NOT_SENT, "sent on", reopens=True)
                await self.surely(never, functools.partial(other.answered, told))
        return True

    async def follow(self, fresh: Settlement) -> None:
        """It was sent on, and comes to where it is taken: from now on it pays for this request. Raises
        StoreUnavailable."""
        facts = ("purchase", "resource", "verb", "request_hash", "body")
        changes = {fact: getattr(fresh, fact) for fact in facts}
        await self.live.fact("sent_on", fresh.resource, reason="", **changes)
        self.pace = Pace()

    def _heard(self, exchange: PaidExchange, note: str, said: Said) -> None:
        """To be written with what follows from it."""
        body, whole = said.held
        now = self._parts.clock()
        self.live.heard.append(Heard(now, exchange.route, said.status, note, body, whole))

    def _headers(self, exchange: PaidExchange) -> Sequence[tuple[bytes, bytes]]:
        kept = self.kept
        assert kept is not None  # is_due
        return presenting(exchange.headers, kept)

    @asynccontextmanager
    async def _looked_after(self, exchange: PaidExchange, overdue_s: float) -> AsyncIterator[None]:
        """Ask the chain once a confirmation is overdue, and notice when the caller leaves."""
        timer = asyncio.get_running_loop().call_later(overdue_s, self._watch.begin, self.live)
        task = asyncio.get_running_loop().create_task(self._notice_leaving(exchange))
        try:
            yield
        finally:
            timer.cancel()
            task.cancel()

    async def _notice_leaving(self, exchange: PaidExchange) -> None:
        while not exchange.gone:  # noqa: ASYNC110 - the plane knows, and has no event for it
            await asyncio.sleep(LEFT_CHECK_S)
        if self.live.record.money is Money.PENDING:
            self._parts.tasks.spawn(self._doubt("the caller left before an answer"), "left")

    async def _doubt(self, note: str) -> None:
        """What was presented was not answered with the goods: only the chain can tell now (law 3)."""
        facts: dict[str, object] = {"reason": self.said.reason, "message": self.said.message}
        if self.said.hint and not self.live.record.chain_proven:
            facts["hint"] = self.said.hint

        async def move() -> None:
            if not await self.live.money(MoneyEvent.DOUBT, note, tainted=True, **facts):
                await self.live.fact("refused", note, **facts)
            self._watch.begin(self.live)

        await self.surely(move)

    # -- the goods

    async def _hand_on(self, exchange: PaidExchange, reply: Reply, other: Live | None) -> bool:
        """To the caller; kept for the next where it has left."""
        if exchange.gone:
            return await self._keep(exchange, await self._gathered(reply), reply)
        copy = copied(reply)
        await self._bind(other)
        try:
            delivered = await exchange.answer(reply)
        except ReplyLost as fault:
            self.said = Said(reply.status, "reply_lost", str(fault))
            self._heard(exchange, f"the reply broke off: {fault}", self.said)
            await self._doubt("the reply broke off")
            await self.surely(functools.partial(self.live.answered, AnswerEvent.LEFT))
            raise
        if delivered:
            await self.delivered(other, *told_paid(reply))
        else:
            await self._keep(exchange, copy, reply)
        return True

    async def _gathered(self, reply: Reply) -> Goods | None:
        try:
            return await kept_goods(reply)
        except ReplyLost:
            return None

    async def _keep(self, exchange: PaidExchange, goods: Goods | None, reply: Reply) -> bool:
        """Nobody was there: the next caller for the same gets it. False: this one was not answered."""
        changes = self._reported(*told_paid(reply))
        body, now = goods.body if goods is not None else b"", self._parts.clock()
        note = "the goods came when nobody was there"
        self.live.heard.append(
            Heard(now, exchange.route, reply.status, note, body, goods is not None, shown=False)
        )
        if goods is not None and (kept := self.kept) is not None:
            whole = msgspec.structs.replace(kept, goods=goods)
            changes["body"] = sealed(whole, self.live.key, self._sealing)

        async def move() -> None:
            if not await self.live.money(MoneyEvent.REPORTED_PAID, "delivered to nobody", **changes):
                await self.live.fact("kept", "the goods came when nobody was there", **changes)
            self._watch.begin(self.live)

        await self.surely(move, functools.partial(self.live.answered, AnswerEvent.LEFT))
        return False

    async def hand_out(self, exchange: PaidExchange, other: Live | None) -> bool:
        """Give the kept goods to a caller; True when it was answered, whether or not it heard."""
        goods = self.goods
        if goods is None:
            return False
        await self._bind(other)
        if await exchange.answer(goods.reply()):
            await self.delivered(other, False, None)
        return True

    async def _bind(self, other: Live | None) -> None:
        """Before it is answered: a payment that this one answers is never sent itself."""
        if other is not None:
            await self.surely(functools.partial(other.bound, self.live.record))

    async def delivered(self, other: Live | None, paid: bool, transaction: object) -> None:
        """It has bought what it can buy; the record says so as soon as it can."""
        live, by = self.live, other.record.id if other else ""
        live.delivered = True
        facts = self._reported(paid, transaction)

        async def reported() -> None:
            if not await live.money(MoneyEvent.REPORTED_PAID, **facts) and facts:
                await live.fact("reported_paid", **facts)

        async def told() -> None:
            more = {"replayed_by": other.key} if other else {}
            await live.answered(AnswerEvent.DELIVERED, f"for {by}" if by else "", body=b"", **more)
            self._watch.begin(live)

        await self.surely(reported, told)
        if other is not None:
            by = f"by {live.record.id}"
            await self.surely(functools.partial(other.answered, AnswerEvent.DELIVERED, by))

    def _reported(self, paid: bool, transaction: object) -> dict[str, object]:
        """What a receipt says: kept, not trusted (law 8)."""
        facts: dict[str, object] = {"vouched": True} if paid else {}
        if transaction and not self.live.record.chain_proven:
            facts["hint"] = transaction
            if not self.live.record.watched:
                facts["transaction"] = transaction
        return facts
