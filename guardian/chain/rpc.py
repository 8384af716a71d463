"""RPC endpoints of one network, their health, and which of them may be believed.

An endpoint is asked with a deadline on every call. Its chain id is checked whenever it comes (back)
up; a node on another chain is never used. Heads are compared: a node more than STALE_BLOCKS behind
the best proves nothing. Decides nothing about payments.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from guardian.chain.wires import BatchRefused, Call, Wire, WsWire, wire_for
from guardian.errors import ChainUnavailable
from guardian.wire.names import Network

CALL_TIMEOUT_S = 5.0
"""One block of a slow chain is 12 s; an RPC call that needs longer than this is a failed one."""

STALE_BLOCKS = 3
"""Nodes of one service differ by a block or two; more is a node that has stopped following."""

BATCH_LIMIT = 100
"""Calls in one message: what most services take; it is halved where a node refuses."""

BACKOFF_FIRST_S = 0.5
BACKOFF_CAP_S = 5.0
"""A caller may be held meanwhile, and a probe is cheap."""

WRONG_CHAIN_BACKOFF_S = 60.0
SECOND_CHOICE_S = 30.0
"""An endpoint may answer for its head and fail at real questions: others are read first for a while."""

GRACE_S = 0.25
"""How long a refresh waits for the other healthy endpoints once one has answered."""

T = TypeVar("T")

OnCall = Callable[[str, str, float], None]
"""Told of every message to a node: its method, or `batch`; `ok` or `failed`; seconds."""


def _unheard(method: str, outcome: str, seconds: float) -> None: ...


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
    """One node. label: its host, free of the path and query that may hold a key."""

    def __init__(
        self,
        label: str,
        wire: Wire,
        chain_id: int,
        *,
        timeout_s: float = CALL_TIMEOUT_S,
        on_call: OnCall = _unheard,
    ) -> None:
        self.label = label
        self.head: Block | None = None
        self.up = False
        self.wrong_chain = False
        self.retry_at = 0.0
        self.second_choice_until = 0.0
        self._wire = wire
        self._chain_id = chain_id
        self._timeout_s = timeout_s
        self._on_call = on_call
        self._batch_limit = BATCH_LIMIT
        self._failures = 0

    @property
    def announces_heads(self) -> bool:
        """Whether new heads come by subscription at the moment."""
        return isinstance(self._wire, WsWire) and self._wire.subscribed

    async def ask(self, method: str, *params: Any) -> Any:
        """The result of one call; raises RpcRefused or ChainUnavailable."""
        (answer,) = await self.ask_all([Call(method, list(params))])
        if isinstance(answer, RpcRefused):
            raise answer
        return answer

    async def ask_all(self, calls: Sequence[Call]) -> list[Any]:
        """Results in the calls' order, an RpcRefused in place of each refused one.

        Sent as one message per BATCH_LIMIT calls. Raises ChainUnavailable when any went unanswered.
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
        method, begun, outcome = (
            calls[0].method if len(calls) == 1 else "batch",
            time.perf_counter(),
            "failed",
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                replies = await self._wire(calls)
            outcome = "ok"
        except TimeoutError:
            raise ChainUnavailable(f"{self.label}: no answer in {self._timeout_s:g} s") from None
        finally:
            self._on_call(method, outcome, time.perf_counter() - begun)
        if len(replies) != len(calls):
            raise ChainUnavailable(f"{self.label}: answered {len(replies)} of {len(calls)} calls")
        return [self._result(reply) for reply in replies]

    def _result(self, reply: dict[str, Any]) -> Any:
        error = reply.get("error")
        if error is not None:
            text = str(error.get("message", "")) if isinstance(error, dict) else str(error)
            return RpcRefused(f"{self.label}: {text[:200]}")
        if "result" not in reply:
            return RpcRefused(f"{self.label}: an answer without result")
        return reply["result"]

    async def probe(self, now: float) -> None:
        """Learn the head, and the chain id first where the endpoint was not up. Raises nothing."""
        try:
            if not self.up:
                found = quantity(await self.ask("eth_chainId"))
                self.wrong_chain = found != self._chain_id
            if self.wrong_chain:
                self._down(now, WRONG_CHAIN_BACKOFF_S)
                return
            self.head = read_block(await self.ask("eth_getBlockByNumber", "latest", False))
        except ChainUnavailable:
            self.mark_down(now)
            return
        self.up = True
        self._failures = 0

    def mark_down(self, now: float) -> None:
        """A call failed: leave it alone for a while, longer each time."""
        self._failures += 1
        self._down(now, min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2 ** min(self._failures - 1, 10)))

    def _down(self, now: float, pause_s: float) -> None:
        self.up = False
        self.retry_at = now + pause_s

    async def close(self) -> None:
        await self._wire.close()


class Endpoints:
    """All endpoints of one network, in the order of the policy."""

    def __init__(
        self,
        network: Network,
        urls: Sequence[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        timeout_s: float = CALL_TIMEOUT_S,
        on_error: Callable[[str], None] = lambda text: None,
        on_call: OnCall = _unheard,
        wires: Sequence[tuple[str, Wire]] | None = None,
    ) -> None:
        """network: `eip155:<chain id>`; clock: for pauses; wires: (label, wire) instead of urls."""
        family, _, reference = str(network).partition(":")
        if family != "eip155" or not reference.isdigit():
            raise ValueError(f"{network} is no EVM network")
        self.network = network
        self.on_head: Callable[[], None] = lambda: None
        self._clock = clock
        self._on_error = on_error
        self._probes: dict[str, asyncio.Task[None]] = {}
        made = wires or [
            (
                f"{number}:{urlsplit(url).hostname}",
                wire_for(url, timeout_s=timeout_s, on_head=lambda: self.on_head()),
            )
            for number, url in enumerate(urls, 1)
        ]
        self.all = [
            Endpoint(label, wire, int(reference), timeout_s=timeout_s, on_call=on_call)
            for label, wire in made
        ]

    @property
    def usable(self) -> list[Endpoint]:
        """Endpoints that are up, on the right chain and not behind, best choice first."""
        up = [(endpoint, endpoint.head) for endpoint in self.all if endpoint.up]
        best = max((head.number for _, head in up if head), default=0)
        now = self._clock()
        current = [endpoint for endpoint, head in up if head and head.number >= best - STALE_BLOCKS]
        return sorted(current, key=lambda endpoint: endpoint.second_choice_until > now)

    @property
    def head(self) -> int:
        """The highest block that a usable endpoint has shown; 0 while none is up."""
        return max((endpoint.head.number for endpoint in self.usable if endpoint.head), default=0)

    async def refresh(self) -> None:
        """Ask every endpoint that is due for its head; back once one is up and the others had a moment."""
        now = self._clock()
        expected = {endpoint.label for endpoint in self.all if endpoint.up}
        for endpoint in self.all:
            if endpoint.label not in self._probes and (endpoint.up or endpoint.retry_at <= now):
                self._probes[endpoint.label] = asyncio.create_task(self._probe(endpoint))
        waiting = set(self._probes.values())
        answered = False
        while waiting and not answered:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            answered = any(e.up and self._probes.get(e.label) is None for e in self.all)
        slow = [task for label, task in self._probes.items() if label in expected]
        if slow:
            await asyncio.wait(slow, timeout=GRACE_S)

    async def _probe(self, endpoint: Endpoint) -> None:
        was_up, was_wrong = endpoint.up, endpoint.wrong_chain
        try:
            await endpoint.probe(self._clock())
        finally:
            self._probes.pop(endpoint.label, None)
        if endpoint.wrong_chain and not was_wrong:
            self._on_error(f"{endpoint.label} serves another chain than {self.network}: not used")
        elif was_up and not endpoint.up:
            self._on_error(f"{endpoint.label} does not answer for {self.network}")

    def best(self) -> Endpoint:
        """The endpoint to read from; raises ChainUnavailable where none is usable."""
        usable = self.usable
        if not usable:
            raise ChainUnavailable(f"no RPC endpoint of {self.network} is usable")
        return usable[0]

    def failed(self, endpoint: Endpoint) -> None:
        """A read from this endpoint went wrong: read from another one for a while."""
        now = self._clock()
        endpoint.mark_down(now)
        endpoint.second_choice_until = now + SECOND_CHOICE_S

    async def first(self, read: Callable[[Endpoint], Awaitable[T]]) -> T:
        """The first answer that an endpoint gives, in order; raises ChainUnavailable."""
        if not self.usable:
            await self.refresh()
        why: ChainUnavailable | None = None
        for endpoint in self.usable:
            try:
                return await read(endpoint)
            except ChainUnavailable as exc:
                why = exc
        raise ChainUnavailable(f"no RPC endpoint of {self.network} answered") from why

    async def agreed(self, read: Callable[[Endpoint], Awaitable[frozenset[str]]]) -> frozenset[str]:
        """What every usable endpoint says alike: the ground for every negative proof.

        Where more than one endpoint is configured two at least must answer; fewer say nothing.
        """
        asked = self.usable
        answers = await asyncio.gather(*(read(endpoint) for endpoint in asked), return_exceptions=True)
        said: list[frozenset[str]] = []
        for endpoint, answer in zip(asked, answers, strict=True):
            if isinstance(answer, frozenset):
                said.append(answer)
            elif isinstance(answer, RpcRefused):
                self._on_error(f"no vote on a proof: {answer}")
            elif isinstance(answer, ChainUnavailable):
                self.failed(endpoint)
            else:
                raise answer
        if len(said) < min(2, len(self.all)) or not said:
            return frozenset()
        return frozenset.intersection(*said)

    async def close(self) -> None:
        """Let go of every connection; idempotent."""
        probes = list(self._probes.values())
        for task in probes:
            task.cancel()
        if probes:
            await asyncio.wait(probes)
        for endpoint in self.all:
            await endpoint.close()
