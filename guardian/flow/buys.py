"""The agents' payments of this process: found by key, kept while somebody waits; and what they tell of
buyers and sellers. No control flow of a purchase."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from guardian.errors import StoreUnavailable
from guardian.flow.buy_record import v1_terms
from guardian.flow.buying import Buying
from guardian.flow.diagnosis import Kind, is_charged_on_4xx
from guardian.flow.live import Live
from guardian.flow.newest import Newest
from guardian.flow.paid import PaidExchange
from guardian.flow.parts import Parts, log
from guardian.flow.sealing import Sealing
from guardian.flow.settle import SettleFlow
from guardian.flow.spending import Spending
from guardian.flow.undelivered import Undelivered
from guardian.flow.watch import facts
from guardian.settlement.record import AGENT, Settlement
from guardian.settlement.states import IN_DOUBT, PAID, UNPAID, Answer, Money
from guardian.store.protocol import PAGE_LIMIT
from guardian.wire.demand import Offer, read_demand

LOOP_SIGNATURES: Final = 3
"""From the third signature for one purchase that was not delivered, its buyer loops."""

PURCHASES_COUNTED: Final = 4096


class Buys:
    """All of them. open: those that something may still come of, of all replicas; complete once `looked`."""

    def __init__(self, parts: Parts, settle: SettleFlow, sealing: Sealing, spending: Spending) -> None:
        self._parts = parts
        self._spending = spending
        self._settle = settle
        self._sealing = sealing
        self._here: dict[str, Buying] = {}
        self._signatures = Newest[tuple[str, str], int](PURCHASES_COUNTED)
        self._charged = Newest[str, None](PURCHASES_COUNTED)
        self.open = Undelivered()
        self.looked = False
        settle.lives.told.append(self._told)

    async def start(self) -> None:
        """Learn of every payment that is open, and from now on of those that others move."""
        self._parts.store.listen("record", self._moved_elsewhere)
        with contextlib.suppress(StoreUnavailable):  # then before the first payment
            await self.look()

    async def look(self) -> None:
        """Read all that is open. Raises StoreUnavailable."""
        store, before = self._parts.store, float("inf")
        for record in await store.open_records():
            self.open.put(record)
        while page := await store.page(orphans=True, limit=PAGE_LIMIT, before=before):
            for record in page:
                self.open.put(record)
            before = page[-1].created_at
        self.looked = True

    @asynccontextmanager
    async def of(
        self, key: str, exchange: PaidExchange, record: Settlement | None = None
    ) -> AsyncIterator[Buying]:
        """The payment of a key, with this caller waiting for it. record: as the store has it."""
        lives = self._settle.lives
        live = await lives.attach(record) if record is not None else lives.of(key)
        buying = self._here.get(key)
        if buying is None:
            buying = self._here[key] = Buying(self._parts, live, self._settle.watch, self._sealing)
        live.callers += 1
        buying.exchanges.append(exchange)
        if record is not None and live.record.money in IN_DOUBT:
            self._settle.watch.begin(live)
        try:
            yield buying
        finally:
            live.callers -= 1
            buying.exchanges.remove(exchange)
            if not buying.exchanges:
                self._here.pop(key, None)
            lives.forget(live)

    async def standing(self, record: Settlement) -> Settlement | None:
        """The newest version of a record, if no other payment may be sent for the same before it is
        over: it is in doubt, or paid for nothing; None where it is merely under way. Raises
        StoreUnavailable."""
        newest = await self._parts.store.get(record.key)
        if newest is None:
            return None
        self.open.put(newest)
        live, here = self._settle.lives.known(record.key), self._here.get(record.key)
        if (
            newest.paid_by
            or newest.closed_by
            or newest.answer is Answer.ACCEPTED
            or (live and live.delivered)
        ):
            return None
        left = here is not None and here.deserted and not here.may_send
        if newest.money in PAID:
            reuses = self._parts.policy.in_force(newest.network, route=newest.route).settle.reuse_orphans
            return newest if reuses != "off" and (newest.tainted or newest.orphan or left) else None
        return newest if newest.money in IN_DOUBT or (newest.money is Money.PENDING and left) else None

    async def offers_of(self, purchase: str) -> list[Offer]:
        """What open v1 payments of a purchase answered: it is known longer than the demands themselves.
        Raises StoreUnavailable."""
        found: list[Offer] = []
        for record in self.open.of(purchase):
            newest = await self._parts.store.get(record.key)
            if newest is not None and (terms := v1_terms(newest, self._sealing)):
                demand = read_demand((), b'{"x402Version":1,"accepts":[%b]}' % terms)
                found += demand.offers if demand else ()
        return found

    async def refresh(self, live: Live) -> None:
        """Read what another replica has written about a payment that it drives."""
        if live.record.owner != self._parts.replica:
            with contextlib.suppress(StoreUnavailable):
                await live.refresh()

    def signed(self, record: Settlement) -> None:
        """A payment was signed for a purchase: one too many shows a buyer that loops."""
        count = self._signatures.get(_buyer(record), 0) + 1
        self._signatures.put(_buyer(record), count)
        if count >= LOOP_SIGNATURES:
            self._diagnosed(Kind.BUYER_LOOPS, record)
            log.warning(
                "a buyer signs again and again for one purchase",
                extra={"settlement": record.id, "route": record.route, "signatures": count},
            )

    def charged(self, live: Live) -> None:
        """A seller was paid and goes on refusing; once for each payment."""
        id = live.record.id
        if id not in self._charged:
            self._charged.put(id, None)
            self._diagnosed(Kind.CHARGED_ON_4XX, live.record)
            log.warning("a seller was paid and refuses", extra=facts(live) | {"route": live.record.route})

    def _diagnosed(self, kind: Kind, record: Settlement) -> None:
        self._parts.diagnosis.of_route(kind, self._parts.policy, record.route, record.id)

    def _told(self, live: Live, old: Settlement) -> None:
        new = live.record
        if new.plane != AGENT:
            return
        self.open.put(new)
        telemetry = self._parts.telemetry
        if new.answer is Answer.ACCEPTED and old.answer is not Answer.ACCEPTED:
            self._signatures.pop(_buyer(new), None)
            telemetry.bought(new.route, "delivered_late" if new.tainted else "delivered")
        self._spending.moved(old, new)
        if new.money in UNPAID and old.money not in UNPAID and new.vouched and not new.undone:
            self._diagnosed(Kind.RECEIPT_LIES, new)
            log.error("a receipt says paid and the chain has no transfer", extra=facts(live))
        if new.chain_proven and not old.chain_proven and not live.callers and is_charged_on_4xx(new):
            self.charged(live)  # where somebody waits, the seller is asked again first

    def _moved_elsewhere(self, message: bytes) -> None:
        key = message.decode()
        if key.startswith(f"{AGENT}/"):
            self._parts.tasks.spawn(self._look(key), "record")

    async def _look(self, key: str) -> None:
        with contextlib.suppress(StoreUnavailable):  # what is lost here, the claim of a purchase finds
            if (record := await self._parts.store.get(key)) is not None:
                self.open.put(record)


def _buyer(record: Settlement) -> tuple[str, str]:
    """One purchase of one payer: those who show nothing share the name of a purchase."""
    return record.purchase, record.payer
