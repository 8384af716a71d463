"""Who presents a payment does it alone, here and among the replicas, for as long as the seller takes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from guardian.errors import StoreUnavailable
from guardian.flow.live import Live
from guardian.flow.parts import Parts
from guardian.flow.replicas import Replicas

LEASE_S: Final = 6.0
"""How long a replica that dies while it presents a payment keeps the others from doing so."""

RENEW_S: Final = 2.0


class Alone:
    """One presentation of a payment at a time."""

    def __init__(self, parts: Parts, replicas: Replicas) -> None:
        self._parts = parts
        self._replicas = replicas

    @asynccontextmanager
    async def presenting(self, live: Live) -> AsyncIterator[bool]:
        """False: another replica is at it, or nobody can tell."""
        async with live.handing_out:
            if self._replicas.alone:
                yield True
                return
            name, me = f"present/{live.key}", f"{self._parts.replica}/{id(asyncio.current_task())}"
            if not await self._leased(name, me):
                await asyncio.sleep(RENEW_S / 4)
                yield False
                return
            await self._refresh(live)
            renewing = asyncio.get_running_loop().create_task(self._renew(name, me))
            try:
                yield True
            finally:
                renewing.cancel()
                self._parts.tasks.spawn(self._resign(name, me), "resign")

    async def _leased(self, name: str, me: str) -> bool:
        try:
            return await self._parts.store.lease(name, me, LEASE_S) is not None
        except StoreUnavailable:
            return False

    async def _refresh(self, live: Live) -> None:
        with contextlib.suppress(StoreUnavailable):
            await live.refresh()

    async def _renew(self, name: str, me: str) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            await self._leased(name, me)

    async def _resign(self, name: str, me: str) -> None:
        with contextlib.suppress(StoreUnavailable):
            await self._parts.store.resign(name, me)
