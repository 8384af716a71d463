"""One node: what it answers, what it may be asked, and what its heads say about it.

An endpoint is asked with a deadline on every call, and within its budget. Its chain id is checked
when it comes (back) up, when its connection is a new one, when its head jumps, and once a minute: a
node may be swapped behind its URL. A head that stops moving for several block times is frozen.
Whether it may be believed is decided in rpc.py, by comparison.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from guardian.chain.limits import CALLS_PER_S, Budget, is_rate_limit, wait_in_error_s
from guardian.chain.wires import BatchRefused, Call, RateLimited, Wire, WsWire
from guardian.errors import ChainUnavailable
from guardian.logs import redact

CALL_TIMEOUT_S = 5.0
"""One block of a slow chain is 12 s; an RPC call that needs longer than this is a failed one."""

STALE_BLOCKS = 3
"""Nodes of one service differ by a block or two; more is a node that has stopped following."""

JUMP_BLOCKS = 1000
"""A head that gains so many between two looks may be another chain's."""

FROZEN_BLOCKS = 10
FROZEN_S = 30.0
"""Without a new head for the longer of the two: chains miss a slot, sequencers pause for seconds."""

CHAIN_CHECK_S = 60.0

SILENT_BLOCKS = 3
SUBSCRIBE_AGAIN_S = 60.0
"""So many new blocks without a word from the subscription, and it counts as dead."""

BATCH_LIMIT = 100
"""Calls in one message: what most services take; it is halved where a node refuses."""

BACKOFF_FIRST_S = 0.5
BACKOFF_CAP_S = 5.0
"""A caller may be held meanwhile, and a probe is cheap."""

WRONG_CHAIN_BACKOFF_S = 60.0

OnCall = Callable[[str, str, float], None]
"""Told of every message to a node: its method, or `batch`; `ok`, `failed` or `limited`; seconds."""

OnSpent = Callable[[str, int], None]
"""Told of every message to a node: the endpoint's label, and the calls (credits) in the message."""


def unheard(method: str, outcome: str, seconds: float) -> None:
    """Where nobody listens."""


def uncounted(label: str, calls: int) -> None:
    """Where nobody counts."""


class RpcRefused(ChainUnavailable):
    """The node answered this call with an error."""


class Block(NamedTuple):
    """A block header as far as it matters here. timestamp: Unix seconds."""

    number: int
    hash: str
    timestamp: int


def quantity(found: object) -> int:
    """A JSON-RPC quantity as a number; anything else is an unusable answer."""
    if not isinstance(found, str) or not found.startswith("0x"):
        raise ChainUnavailable("an answer is no quantity")
    try:
        return int(found, 16)
    except ValueError:
        raise ChainUnavailable("an answer is no quantity") from None


def read_block(found: object) -> Block:
    """A block object as a Block; null or nonsense is an unusable answer."""
    if not isinstance(found, dict) or not isinstance(found.get("hash"), str):
        raise ChainUnavailable("an answer is no block")
    return Block(quantity(found.get("number")), found["hash"].lower(), quantity(found.get("timestamp")))


class Endpoint:
    """One node. label: its host, free of the path and query that may hold a key; served: the chain id that it
    gave last; why: what the last call that failed came to, without its URL."""

    def __init__(
        self,
        label: str,
        wire: Wire,
        chain_id: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        timeout_s: float = CALL_TIMEOUT_S,
        calls_per_s: float = CALLS_PER_S,
        on_call: OnCall = unheard,
        on_spent: OnSpent = uncounted,
    ) -> None:
        self.label = label
        self.budget = Budget(calls_per_s)
        self.head: Block | None = None
        self.up = False
        self.wrong_chain = False
        self.served = 0
        self.why = ""
        self.retry_at = 0.0
        self.second_choice_until = 0.0
        self.still_s = 0.0
        self.spent = 0
        self._wire = wire
        self._chain_id = chain_id
        self._clock = clock
        self._timeout_s = timeout_s
        self._on_call = on_call
        self._on_spent = on_spent
        self._batch_limit = BATCH_LIMIT
        self._failures = 0
        self._newest = -1  # the latest time that a head has shown
        self._moved_at = math.inf
        self._chain_checked_at = -math.inf
        self._connections = 0
        self._announced = 0
        self._unannounced = 0
        self._subscribed_at = -math.inf

    @property
    def announces_heads(self) -> bool:
        """Whether new heads come by subscription at the moment."""
        subscribed = isinstance(self._wire, WsWire) and self._wire.subscribed
        return subscribed and self._unannounced <= SILENT_BLOCKS

    def frozen(self, block_time_s: float) -> bool:
        """Whether its head has stood still for too long, by this clock. block_time_s: the network's."""
        return self.still_s > max(FROZEN_S, FROZEN_BLOCKS * block_time_s)

    def resting_s(self) -> float:
        """How long the service wants no call, because it had too many."""
        return self.budget.resting_s(self._clock())

    async def ask(self, method: str, *params: Any) -> Any:
        """The result of one call; raises RpcRefused or ChainUnavailable."""
        (answer,) = await self.ask_all([Call(method, list(params))])
        if isinstance(answer, RpcRefused):
            raise answer
        return answer

    async def ask_all(self, calls: Sequence[Call]) -> list[Any]:
        """Results in the calls' order, an RpcRefused in place of each refused one.

        Sent as one message per BATCH_LIMIT calls. Raises ChainUnavailable when any went unanswered,
        RateLimited (without asking) while the service wants to be left alone.
        """
        answers: list[Any] = []
        while len(answers) < len(calls):
            part = calls[len(answers) : len(answers) + self._batch_limit]
            try:
                answers += await self._exchange(part)
            except BatchRefused:
                if self._batch_limit == 1 or len(part) == 1:
                    raise
                self._batch_limit = max(1, min(self._batch_limit, len(part)) // 2)
        return answers

    async def _exchange(self, calls: Sequence[Call]) -> list[Any]:
        if self.resting_s() > 0:
            raise RateLimited(f"{self.label} has a rate limit, and rests for {self.resting_s():.3g} s")
        method = calls[0].method if len(calls) == 1 else "batch"
        begun, outcome = time.perf_counter(), "failed"
        self._spend(len(calls))
        try:
            async with asyncio.timeout(self._timeout_s):
                replies = await self._wire(calls)
            self._obey_limits(replies)
            outcome = "ok"
        except RateLimited as exc:
            outcome = "limited"
            self._limited(len(calls), exc.wait_s)
            raise RateLimited(f"{self.label} has a rate limit: {exc}", exc.wait_s) from None
        except TimeoutError:
            raise ChainUnavailable(f"{self.label}: no answer in {self._timeout_s:g} s") from None
        finally:
            self._on_call(method, outcome, time.perf_counter() - begun)
        if len(replies) != len(calls):
            raise ChainUnavailable(f"{self.label}: answered {len(replies)} of {len(calls)} calls")
        return [self._result(reply) for reply in replies]

    def _spend(self, calls: int) -> None:
        self.spent += calls
        self.budget.spend(calls, self._clock())
        self._on_spent(self.label, calls)

    @staticmethod
    def _obey_limits(replies: Sequence[dict[str, Any]]) -> None:
        """Services refuse the rest of a batch that is too large for what is left of a second."""
        for reply in replies:
            if is_rate_limit(reply.get("error")):
                raise RateLimited("too many calls", wait_in_error_s(reply["error"]))

    def _limited(self, calls: int, wait_s: float | None) -> None:
        self.budget.limited(self._clock(), wait_s)
        if calls > 1:
            self._batch_limit = max(1, min(self._batch_limit, calls) // 2)

    def _result(self, reply: dict[str, Any]) -> Any:
        error = reply.get("error")
        if error is not None:
            text = str(error.get("message", "")) if isinstance(error, dict) else str(error)
            return RpcRefused(f"{self.label}: {text[:200]}")
        if "result" not in reply:
            return RpcRefused(f"{self.label}: an answer without result")
        return reply["result"]

    async def probe(self) -> None:
        """Learn the head, and the chain id first where it is not known for sure. Raises nothing."""
        try:
            if self._doubts_chain() and not await self.on_its_chain():
                return
            head = read_block(await self.ask("eth_getBlockByNumber", "latest", False))
            if self._jumped(head) and not await self.on_its_chain():
                return
            self._saw(head)
            await self._mind_subscription()
        except RateLimited:
            return  # neither up nor down: it wants to be asked later
        except ChainUnavailable as exc:
            self.mark_down(exc)
            return
        self.up = True
        self.why = ""
        self._failures = 0

    async def on_its_chain(self) -> bool:
        """Ask for the chain id; a node on another chain is down for a while. Raises ChainUnavailable."""
        connections = self._connected()
        self.served = quantity(await self.ask("eth_chainId"))
        self.wrong_chain = self.served != self._chain_id
        self._chain_checked_at = self._clock()
        self._connections = max(connections, self._connected())
        if self.wrong_chain:
            self.head = None
            self._down(WRONG_CHAIN_BACKOFF_S)
        return not self.wrong_chain

    def _doubts_chain(self) -> bool:
        old = self._clock() - self._chain_checked_at >= CHAIN_CHECK_S
        return not self.up or old or self._connected() != self._connections

    def _connected(self) -> int:
        return self._wire.connections if isinstance(self._wire, WsWire) else 0

    def _jumped(self, head: Block) -> bool:
        gained = head.number - self.head.number if self.head else 0
        return gained > JUMP_BLOCKS or gained < -STALE_BLOCKS

    def _saw(self, head: Block) -> None:
        """Note a head, how long it has stood still, and whether it came unannounced."""
        now = self._clock()
        if head.timestamp > self._newest or self._jumped(head):
            self._newest, self._moved_at = head.timestamp, now
        self.still_s = max(0.0, now - self._moved_at)
        gained = head.number - self.head.number if self.head else 0
        if isinstance(self._wire, WsWire):
            heard, self._announced = self._wire.announced != self._announced, self._wire.announced
            self._unannounced = 0 if heard else self._unannounced + max(0, gained)
        self.head = head

    async def _mind_subscription(self) -> None:
        """A subscription can die in silence: then heads are polled for, and it is asked for again."""
        if not isinstance(self._wire, WsWire) or self._unannounced <= SILENT_BLOCKS:
            return
        if self._clock() - self._subscribed_at >= SUBSCRIBE_AGAIN_S:
            self._subscribed_at = self._clock()
            await self.ask_all([Call("eth_subscribe", ["newHeads"])])

    def mark_down(self, why: ChainUnavailable) -> None:
        """A call failed: leave it alone for a while, longer each time."""
        self.why = redact(str(why).removeprefix(f"{self.label}: "))
        self._failures += 1
        self._down(min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2 ** min(self._failures - 1, 10)))

    def _down(self, pause_s: float) -> None:
        self.up = False
        self.retry_at = self._clock() + pause_s

    async def close(self) -> None:
        await self._wire.close()
