"""Does what the schedule says, keeps a diary of it, and puts everything right at the end.

Nothing here decides when; what cannot be done just then (a server is down already) is left out and noted.
"""

import asyncio
import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import redis

from guardian.sandbox.cable import Cable
from guardian.sandbox.chain import Chain, RpcError
from guardian.sandbox.chaos.ground import Ground, Replica
from guardian.sandbox.chaos.schedule import Fault
from guardian.sandbox.lying_node import LyingNode
from guardian.sandbox.redis_server import HOST, SERVICE, RedisServer
from guardian.sandbox.world import RunningFacilitator

DRAIN_NOTICE_S = 0.2
"""Between a replica's leaving the balancer and its SIGTERM."""

TERM_LIMIT_S = 40.0
"""Answers to held callers, replies under way, and leaving; the chart gives a pod 45 s."""

SECOND_SERVER_LIMIT_S = 20.0
WRONG_CHAIN = 1


@dataclass(frozen=True, slots=True)
class Done:
    """One line of the diary: what was wrong from when to when (Unix seconds)."""

    kind: str
    target: int
    begun: float
    ended: float
    done: bool = True


class Faults:
    """Performs a schedule on the ground."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._world = ground.world
        self._store = asyncio.Lock()
        self._chain = asyncio.Lock()
        self.diary: list[Done] = []
        self.late: list[str] = []
        self._doing: dict[str, Callable[[Fault], Awaitable[bool]]] = {
            "kill": self._kill,
            "term": self._term,
            "pause": self._pause,
            "misbehave": self._misbehave,
            "crash": self._crash,
            "release": self._release,
            "lie": self._lie,
            "cut_off_store": self._cut_off_store,
            "cut_off_chain": self._cut_off_chain,
            "store_crash": self._store_crash,
            "store_freeze": self._store_freeze,
            "failover": self._failover,
            "reorg": self._reorg,
            "no_blocks": self._no_blocks,
            "clock": self._clock,
        }

    async def play(self, schedule: Iterable[Fault], tell: Callable[[str], None]) -> None:
        """Each at its time; those that last run beside one another."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for fault in schedule:
                await asyncio.sleep(max(0.0, begun + fault.at_s - time.monotonic()))
                tell(str(fault))
                tasks.create_task(self._do(fault))

    async def _do(self, fault: Fault) -> None:
        begun, done = time.time(), False
        try:
            done = await self._doing[fault.kind](fault)
        except (OSError, RpcError, redis.RedisError) as error:  # down already
            with contextlib.suppress(OSError), (self._ground.directory / "faults.log").open("a") as out:
                out.write(f"{fault}: {type(error).__name__}: {error}\n")
        self.diary.append(Done(fault.kind, fault.target, begun, time.time(), done))

    # -- replicas

    def _replica(self, fault: Fault) -> Replica:
        return self._ground.replicas[fault.target]

    async def _kill(self, fault: Fault) -> bool:
        replica = self._replica(fault)
        if replica.process is None or not replica.process.alive:
            return False
        replica.signal(signal.SIGKILL)
        replica.ended("kill")
        return True

    async def _term(self, fault: Fault) -> bool:
        replica = self._replica(fault)
        if not replica.up:
            return False
        replica.wanted = replica.up = False
        try:
            await asyncio.sleep(DRAIN_NOTICE_S)
            replica.signal(signal.SIGTERM)
            if replica.process is not None:
                await asyncio.to_thread(replica.process.wait, TERM_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.late.append(f"replica {fault.target} had not ended {TERM_LIMIT_S:.0f} s after SIGTERM")
            replica.signal(signal.SIGKILL)
        finally:
            replica.wanted = True
        return True

    async def _pause(self, fault: Fault) -> bool:
        replica = self._replica(fault)
        replica.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            replica.signal(signal.SIGCONT)
        return True

    async def _clock(self, fault: Fault) -> bool:
        self._replica(fault).clock.write_text(str(fault.details["step_s"]))
        return True

    # -- facilitators

    def _facilitator(self, fault: Fault) -> RunningFacilitator:
        return self._world.facilitators[fault.target]

    async def _misbehave(self, fault: Fault) -> bool:
        await asyncio.to_thread(self._facilitator(fault).script, *fault.details["script"])
        return True

    async def _release(self, fault: Fault) -> bool:
        await asyncio.to_thread(self._facilitator(fault).control, "release")
        return True

    async def _crash(self, fault: Fault) -> bool:
        facilitator = self._facilitator(fault)
        await asyncio.to_thread(facilitator.process.kill)
        await asyncio.to_thread(facilitator.start)
        return True

    # -- the chain and its nodes

    async def _lie(self, fault: Fault) -> bool:
        node = self._ground.node
        await asyncio.to_thread(_lying(node, fault.what, int(fault.details["blocks"])))
        await asyncio.sleep(fault.lasts_s)
        node.be_honest()
        return True

    async def _reorg(self, fault: Fault) -> bool:
        """The newest block is replaced: within what two confirmations promise. Its transactions are in
        the block that takes its place, or in the mempool again."""
        async with self._chain:
            return await asyncio.to_thread(reorganise, self._world.chain, fault.what == "mempool")

    async def _no_blocks(self, fault: Fault) -> bool:
        chain = self._world.chain
        async with self._chain:
            await asyncio.to_thread(chain.stop_mining)
            try:
                await asyncio.sleep(fault.lasts_s)
            finally:
                await asyncio.to_thread(chain.set_interval, 1)
        return True

    # -- the network

    async def _cut_off_store(self, fault: Fault) -> bool:
        return await _disturb(self._replica(fault).to_store, fault)

    async def _cut_off_chain(self, fault: Fault) -> bool:
        return await _disturb([self._replica(fault).to_chain], fault)

    # -- the store

    async def _primary(self) -> RedisServer:
        sentinel = self._ground.sentinel
        if sentinel is None:
            assert self._ground.redis is not None
            return self._ground.redis
        port = await asyncio.to_thread(sentinel.primary_port)
        return sentinel.primary if sentinel.primary.port == port else sentinel.replica

    async def _store_crash(self, fault: Fault) -> bool:
        async with self._store:
            primary = await self._primary()
            await asyncio.to_thread(primary.kill)
            try:
                await asyncio.sleep(fault.lasts_s)
            finally:
                await asyncio.to_thread(primary.start)
            return await self._second_server()

    async def _store_freeze(self, fault: Fault) -> bool:
        async with self._store:
            primary = await self._primary()
            primary.freeze()
            try:
                await asyncio.sleep(fault.lasts_s)
            finally:
                primary.thaw()
            return await self._second_server()

    async def _failover(self, fault: Fault) -> bool:
        sentinel = self._ground.sentinel
        assert sentinel is not None
        async with self._store:

            def order() -> None:
                with redis.Redis(host=HOST, port=sentinel.sentinel_port, socket_timeout=5.0) as client:
                    client.execute_command("SENTINEL", "FAILOVER", SERVICE)

            await asyncio.to_thread(order)
            return await self._second_server()

    async def _second_server(self) -> bool:
        """Behind a sentinel: the other server follows again. True where it does."""
        sentinel = self._ground.sentinel
        if sentinel is None:
            return True
        until = time.monotonic() + SECOND_SERVER_LIMIT_S
        while time.monotonic() < until:
            await asyncio.sleep(0.3)
            with contextlib.suppress(OSError, redis.RedisError):
                primary = await self._primary()
                about = await asyncio.to_thread(primary.ask, "INFO", "replication")
                followers = [about[name] for name in about if name.startswith("slave") and name[5:].isdigit()]
                if any(follower.get("state") == "online" for follower in followers):
                    return True
        return False

    # -- the end

    async def heal(self) -> None:
        """Everything right again, clocks included."""
        ground = self._ground
        for replica in ground.replicas:
            replica.signal(signal.SIGCONT)
            replica.clock.write_text("0")
            for cable in (*replica.to_store, replica.to_chain):
                cable.heal()
        ground.node.be_honest()
        await asyncio.to_thread(self._world.chain.set_interval, 1)
        for facilitator in self._world.facilitators:
            if not facilitator.process.alive:
                await asyncio.to_thread(facilitator.start)
            await asyncio.to_thread(facilitator.control, "ok")
            with contextlib.suppress(OSError):  # what stays stuck expires, and is proven unpaid
                await asyncio.to_thread(facilitator.control, "release")


def _lying(node: LyingNode, what: str, blocks: int) -> Callable[[], None]:
    """How this lie is told."""
    lies: dict[str, Callable[[], None]] = {
        "fall_behind": lambda: node.fall_behind(blocks),
        "answer_late": lambda: node.answer_late(blocks / 4),
        "claim_chain": lambda: node.claim_chain(WRONG_CHAIN),
        "limit": lambda: node.limit(retry_after_s=1, allow=blocks),
        "answer_garbage": lambda: node.answer_garbage(b"<html>"),
    }
    return lies[what] if what in lies else getattr(node, what)


async def _disturb(cables: Iterable[Cable], fault: Fault) -> bool:
    cables = list(cables)
    for cable in cables:
        if fault.what == "slow":
            cable.slow(random.Random(fault.at_s).uniform(0.02, 0.3))
        else:
            getattr(cable, fault.what)()
    await asyncio.sleep(fault.lasts_s)
    for cable in cables:
        cable.heal()
    return True


def reorganise(chain: Chain, to_mempool: bool) -> bool:
    """Replace the head; its transactions keep their place, or wait for the next block. False: no blocks."""
    if chain.rpc("anvil_getIntervalMining") in (None, 0):
        return False  # somebody holds them back
    chain.rpc("evm_setIntervalMining", 0)
    try:
        head = chain.rpc("eth_getBlockByNumber", "latest", False)
        raw = [chain.rpc("debug_getRawTransaction", hash) for hash in head["transactions"]]
        chain.rpc("anvil_reorg", 1, [] if to_mempool else [[one, 0] for one in raw])
        for one in raw if to_mempool else ():
            with contextlib.suppress(RpcError):  # anvil has put it back itself
                chain.rpc("eth_sendRawTransaction", one)
    finally:
        chain.set_interval(1)
    return True
