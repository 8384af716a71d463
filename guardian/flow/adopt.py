"""Records whose process has gone are taken up again: at the start, and when another replica dies.

A record that says "sent" may have been executed, whatever became of who sent it (law 1); one that was
only claimed was never sent (law 2). Each is taken up by one replica: by compare-and-set.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence

from guardian.flow.live import Live
from guardian.flow.lives import Lives
from guardian.flow.parts import Parts
from guardian.flow.send import Sender
from guardian.flow.watch import Watch
from guardian.settlement.record import AGENT, Settlement
from guardian.settlement.states import Money, MoneyEvent

Before = Callable[[Settlement], Awaitable[Sequence[Settlement]]]

OPEN_PURCHASE = {
    "reason": "settlement_pending",
    "message": "An earlier payment of this purchase is open: present this one again, do not pay again.",
}


class Adoption:
    """Takes up what others have left."""

    def __init__(self, parts: Parts, lives: Lives, sender: Sender, watch: Watch, before: Before) -> None:
        """before: the payments of the same purchase that stand before a record."""
        self._parts = parts
        self._lives = lives
        self._sender = sender
        self._watch = watch
        self._before = before

    async def adopt_from_all_but(self, alive: Collection[str]) -> int:
        """Every open record that none of these replicas drives; the number of them."""
        left = [record for record in await self._parts.store.open_records() if record.owner not in alive]
        for record in left:
            await self.adopt(record)
        return len(left)

    async def adopt(self, record: Settlement) -> None:
        """Drive a record from here."""
        live = await self._lives.attach(record)
        if not await live.taken_up(record.owner, self._parts.replica):
            return self._lives.forget(live)
        live.driven = live.record.money is not Money.IDLE
        if live.record.money is Money.IDLE:
            await self._begin(live)
        self._watch.begin(live)
        self._lives.forget(live)

    async def _begin(self, live: Live) -> None:
        """Never sent: who waits for it here gets it sent, else it may be presented again."""
        if live.record.paid_by:  # bound while that did not yet close a record: it is never sent
            await live.money(MoneyEvent.NOT_SENT, "paid by another payment")
            return
        if not live.callers or live.record.plane == AGENT:  # who waits there sends it itself
            await live.money(MoneyEvent.NOT_SENT, "stopped before sending", reopens=True)
        elif await self._before(live.record):
            await live.money(MoneyEvent.NOT_SENT, "another payment is open", reopens=True, **OPEN_PURCHASE)
        elif await live.money(MoneyEvent.SENT, "taken over before it was sent"):
            live.driven = True
            self._sender.start(live)
