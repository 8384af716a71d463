"""What is due from time to time: finished records leave the store, open ones are counted. No decisions.

Which records may go is decided in `settlement/purchase.py`, how long they stay in the policy.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable

from guardian.errors import StoreUnavailable
from guardian.flow.live import Live
from guardian.flow.parts import Parts, log
from guardian.settlement.states import OPEN

PRUNE_EVERY_S = 600.0
PRUNE_STEP = 500
"""Records per step: a step holds up the writes of payments for some milliseconds."""

MAX_STEPS = 200
"""Of one round: 100,000 records every ten minutes keep up with 160 payments per second."""

COUNT_EVERY_S = 5.0


class Housekeeping:
    """Two small loops beside the flows."""

    def __init__(self, parts: Parts, lives: Iterable[Live]) -> None:
        self._parts = parts
        self._lives = lives
        self._tasks: list[asyncio.Task[None]] = []
        self._counted: set[str] = set()

    def start(self) -> None:
        """Begin both loops."""
        self._tasks = [asyncio.create_task(self._prune()), asyncio.create_task(self._count())]

    async def stop(self) -> None:
        """End both; idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _prune(self) -> None:
        while True:
            await self.prune_once()
            await asyncio.sleep(PRUNE_EVERY_S)

    async def prune_once(self) -> int:
        """One round; the number of records that left."""
        left, before = 0, self._parts.clock() - self._parts.policy.retention_s
        try:
            for _ in range(MAX_STEPS):
                gone = await self._parts.store.prune(before, PRUNE_STEP)
                left += gone
                if not gone:
                    break
        except StoreUnavailable as fault:
            log.warning("old records stay for now", extra={"why": str(fault)})
        if left:
            log.info("old records removed", extra={"records": left})
        return left

    async def _count(self) -> None:
        while True:
            self.count_once()
            await asyncio.sleep(COUNT_EVERY_S)

    def count_once(self) -> None:
        """Tell how many settlements are open on each network, zero where there were some before."""
        live = (one.record for one in self._lives if one.claimed)
        found = Counter(str(record.network) for record in live if record.money in OPEN)
        for network in self._counted | found.keys():
            self._parts.telemetry.open_settlements(network, found[network])
        self._counted = set(found)
