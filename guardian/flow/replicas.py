"""What the processes on one store agree on: who is alive, and who watches which network.

Everything rests on leases, which end by themselves, and on compare-and-set of the records: a replica that
was thought dead and is not can do no harm, because its late writes meet a newer version. Messages between
replicas only make things quicker; what gets lost is found by looking (NET_S).

With a store that only this process uses, it is alone, alive, and watches everything.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from guardian.errors import StoreUnavailable
from guardian.facilitator.circuit import CircuitKey
from guardian.flow.parts import Parts, log
from guardian.wire.names import Network

ALIVE_S = 3.0
"""A replica that has not renewed its lease for so long is gone, and its records are taken up."""

BEAT_S = 0.75
"""Between two renewals: three may get lost."""

LEAST_LEAD_S = 1.0
"""Shortest lease over a network: below it, a pause of the collector would change the watcher."""

LEAD_BLOCKS = 1.2
BEATS_PER_LEAD = 4
"""A lease over a network lasts so many block times, renewed so often in it: another replica watches at
the latest after one and a half block times."""

NET_S = 5.0
"""How often a replica looks for itself at what messages should have told."""

ALONE_S = 10.0
"""How long a replica that dies while it hands out a success keeps the others from doing so."""

LOOK_S = 0.02

ANSWER_LOOKS = 10
"""How often a replica looks for another one's sign of life before it looks at the lease again."""

HEARD_LIMIT = 1000
"""Names of replicas that are remembered: each start has a new one."""


class UnusedNonce(msgspec.Struct, frozen=True):
    """The watcher's word that a nonce is unused as of a new head, for whoever holds a caller."""

    key: str
    in_mempool: bool


Told = Callable[[str], Coroutine[Any, Any, None]]


class Replicas:
    """This process among the others on its store."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = parts.store
        self._led: set[str] = set()
        self._leading = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._alive: frozenset[str] = frozenset()
        self._heard_at: dict[str, float] = {}
        self.take_up: Callable[[frozenset[str]], Awaitable[int]] = _nothing_to_take_up
        self.watch_here: Told = _unheard
        self.changed: Told = _unheard
        self.unused: Callable[[UnusedNonce], None] = lambda finding: None
        self.lead: Callable[[frozenset[str]], Awaitable[None]] = _nothing_to_lead
        self.circuit: Callable[[CircuitKey, str], None] = lambda key, state: None

    @property
    def alone(self) -> bool:
        """No other process can use this store."""
        return not self._store.shared

    def leads(self, network: str) -> bool:
        """Whether this replica watches a network."""
        return self.alone or network in self._led

    async def start(self) -> int:
        """Be alive, take up what was left, and look after both from now on; how many records."""
        me = self._parts.replica
        if not self.alone:
            self._listen()
            if await self._store.lease(f"replica/{me}", me, ALIVE_S) is None:
                raise StoreUnavailable(f"another replica calls itself {me}; give each its own name")
            for network in self._parts.watchers:
                await self._lead(network)
            self._tasks = [asyncio.create_task(self._beat()), asyncio.create_task(self._look())]
        self._alive = await self._holders() | {me}
        return await self.take_up(self._alive)

    async def stop(self) -> None:
        """Leave: the others take up what is open. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            self._tasks = []
            with contextlib.suppress(StoreUnavailable):
                for network in list(self._led):
                    await self._store.resign(f"watch/{network}", self._parts.replica)
                await self._store.resign(f"replica/{self._parts.replica}", self._parts.replica)
                await self._store.tell("gone", self._parts.replica.encode())

    async def look(self) -> None:
        """Look now for what messages or leases should have brought; raises StoreUnavailable."""
        if not self.alone:
            return await self._look_once()
        await self.take_up(self._alive)
        await self.lead(frozenset(self._parts.watchers))

    def ask_to_watch(self, key: str) -> None:
        """Have the watcher of its network look at this authorization."""
        self._say("watch", key.encode())

    def tell_unused(self, finding: UnusedNonce) -> None:
        """Tell whoever holds a caller."""
        self._say("unused", msgspec.json.encode(finding))

    def tell_circuit(self, key: CircuitKey, state: str) -> None:
        """Tell of a circuit of ours that has changed."""
        self._say("circuit", msgspec.json.encode((key, state)))

    @asynccontextmanager
    async def only_here(self, name: str, limit_s: float = ALONE_S) -> AsyncIterator[bool]:
        """Nobody else is in a block of this name; False where that could not be had in time."""
        if self.alone:
            yield True
            return
        me, until = f"{self._parts.replica}/{id(asyncio.current_task())}", time.monotonic() + limit_s
        got = await self._store.lease(name, me, ALONE_S)
        while not got and time.monotonic() < until:
            await asyncio.sleep(LOOK_S)
            got = await self._store.lease(name, me, ALONE_S)
        try:
            yield bool(got)
        finally:
            if got:
                self._do(self._store.resign(name, me))

    async def first(self, name: str, ttl_s: float) -> bool:
        """Whether this replica is the one to do this, for the next while."""
        return self.alone or await self._store.lease(name, self._parts.replica, ttl_s) is not None

    async def outlives(self, owner: str) -> bool:
        """Whether another replica was alive after now; False: it has gone, and what it left is taken up."""
        asked = looked = time.monotonic()
        self._say("alive?", owner.encode())
        while owner in await self._holders():
            # A lease that is found held after its whole length was renewed meanwhile.
            if looked > asked + ALIVE_S or await self._heard_from(owner, asked):
                return True
            looked = time.monotonic()
        await self._look_once()
        return False

    async def _heard_from(self, owner: str, since: float) -> bool:
        """Whether it has answered; waits a little."""
        for _ in range(ANSWER_LOOKS):
            if self._heard_at.get(owner, 0.0) > since:
                return True
            await asyncio.sleep(LOOK_S)
        return False

    # -- what others say

    def _listen(self) -> None:
        heard = {
            "record": lambda message: self._do(self.changed(message.decode())),
            "watch": lambda message: self._do(self.watch_here(message.decode())),
            "unused": lambda message: self.unused(msgspec.json.decode(message, type=UnusedNonce)),
            "gone": lambda message: self._do(self._look_once()),
            "circuit": self._circuit_elsewhere,
            "alive?": self._asked,
            "alive": self._heard_of,
        }
        for topic, called in heard.items():
            self._store.listen(topic, called)
        self._store.lost_touch(lambda: self._do(self._look_once()))

    def _circuit_elsewhere(self, message: bytes) -> None:
        self.circuit(*msgspec.json.decode(message, type=tuple[CircuitKey, str]))

    def _asked(self, message: bytes) -> None:
        if message.decode() == self._parts.replica:
            self._say("alive", message)

    def _heard_of(self, message: bytes) -> None:
        self._heard_at[message.decode()] = time.monotonic()
        while len(self._heard_at) > HEARD_LIMIT:
            del self._heard_at[next(iter(self._heard_at))]

    def _say(self, topic: str, message: bytes) -> None:
        if not self.alone:
            self._do(self._store.tell(topic, message))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        self._parts.tasks.spawn(self._tried(work), "replicas")

    async def _tried(self, work: Awaitable[None]) -> None:
        with contextlib.suppress(StoreUnavailable):  # the next look finds what this one would have
            await work

    # -- loops

    async def _beat(self) -> None:
        """Renew every lease, in good time for the shortest of them."""
        alive_at = 0.0
        while True:
            now = time.monotonic()
            try:
                if now >= alive_at:
                    await self._be_alive()
                    alive_at = now + BEAT_S
                for network in list(self._parts.watchers):
                    await self._lead(network)
            except StoreUnavailable as fault:
                log.warning("leases cannot be renewed", extra={"why": str(fault)})
                await self._lose_all()
            await asyncio.sleep(
                min((self._beat_s(network) for network in self._parts.watchers), default=BEAT_S)
            )

    async def _be_alive(self) -> None:
        await self._store.lease(f"replica/{self._parts.replica}", self._parts.replica, ALIVE_S)
        if self._alive - await self._holders() - {self._parts.replica}:
            self._do(self._look_once())

    def _lead_s(self, network: str) -> float:
        return max(LEAST_LEAD_S, LEAD_BLOCKS * self._parts.policy.network(network).block_time_s)

    def _beat_s(self, network: str) -> float:
        return min(BEAT_S, self._lead_s(network) / BEATS_PER_LEAD)

    async def _lead(self, network: Network) -> None:
        lease = await self._store.lease(f"watch/{network}", self._parts.replica, self._lead_s(network))
        leads = lease is not None
        if leads is not (network in self._led):
            (self._led.add if leads else self._led.discard)(network)
            log.info("watching" if leads else "no longer watching", extra={"network": network})
            self._do(self._follow())  # it takes a while to begin with many, and the lease is short

    async def _follow(self) -> None:
        """Watch where this replica leads by now, and nowhere else."""
        async with self._leading:
            await self.lead(frozenset(self._led))

    async def _lose_all(self) -> None:
        """Without the store nobody knows who leads: better nobody than two for long."""
        self._led.clear()
        await self._follow()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(NET_S)
            await self._tried(self._look_once())

    async def _look_once(self) -> None:
        """Who is alive; what the others have left; what this replica leads and does not watch yet."""
        self._alive = await self._holders() | {self._parts.replica}
        if taken := await self.take_up(self._alive):
            log.info("taken up from a replica that has gone", extra={"records": taken})
        await self._follow()

    async def _holders(self) -> frozenset[str]:
        return frozenset((await self._store.holders("replica/")).values())


async def _nothing_to_take_up(alive: frozenset[str]) -> int:
    return 0


async def _unheard(key: str) -> None: ...


async def _nothing_to_lead(networks: frozenset[str]) -> None: ...
