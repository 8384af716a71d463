"""RPC endpoints of one network, their health, and which of them may be believed.

Believed by comparison: a node on another chain is never used; one more than STALE_BLOCKS behind the
best is not read; one whose head stands still proves nothing negative; one that has a rate limit is
left alone until its time, and is neither down nor lying meanwhile. Decides nothing about payments.

- A negative proof needs every usable endpoint to say the same, and two at least where two are
  configured. With one of two dead none is told: `fault` and a log line say so.
- A chain that stands still everywhere may really have stopped: nothing negative is proven, health is
  false, and what the nodes show of payments is still read.
- A head whose time lies in the future, where another's does not, is not believed: no node puts the
  honest ones behind by inventing blocks.
"""

import asyncio
import functools
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from guardian.chain.endpoint import (
    CALL_TIMEOUT_S,
    STALE_BLOCKS,
    Endpoint,
    OnCall,
    OnSpent,
    RpcRefused,
    uncounted,
    unheard,
)
from guardian.chain.limits import CALLS_PER_S
from guardian.chain.wires import RateLimited, Wire, wire_for
from guardian.errors import ChainUnavailable
from guardian.wire.names import Network

SECOND_CHOICE_S = 30.0
"""An endpoint may answer for its head and fail at real questions: others are read first for a while."""

GRACE_S = 0.25
"""How long a refresh waits for the other healthy endpoints once one has answered."""

FUTURE_S = 15.0
"""What the clocks of honest block producers and this machine may differ."""

SHORT_REST_S = 30.0
"""A service that wants to be left alone no longer than this does not make the network unhealthy."""

T = TypeVar("T")


class Standing(NamedTuple):
    """One endpoint for an operator. state: `ok`, or why it is not believed; spent: calls so far."""

    label: str
    state: str
    head: int
    spent: int


class Endpoints:
    """All endpoints of one network, in the order of the policy."""

    def __init__(
        self,
        network: Network,
        urls: Sequence[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        timeout_s: float = CALL_TIMEOUT_S,
        calls_per_s: float = CALLS_PER_S,
        on_error: Callable[[str], None] = lambda text: None,
        on_call: OnCall = unheard,
        on_spent: OnSpent = uncounted,
        wires: Sequence[tuple[str, Wire]] | None = None,
    ) -> None:
        """network: `eip155:<chain id>`; clock: for pauses; wall_clock: Unix seconds; calls_per_s: what
        each endpoint may be sent, over time; wires: (label, wire) instead of urls."""
        family, _, reference = str(network).partition(":")
        if family != "eip155" or not reference.isdigit():
            raise ValueError(f"{network} is no EVM network")
        self.network = network
        self.clock = clock
        self.block_time_s = 0.0
        self.on_head: Callable[[], None] = lambda: None
        self._wall_clock = wall_clock
        self._begun, self._begun_wall = clock(), wall_clock()
        self._on_error = on_error
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._states: dict[str, str] = {}
        self._quorum = True
        endpoint = functools.partial(
            Endpoint,
            chain_id=int(reference),
            clock=clock,
            timeout_s=timeout_s,
            calls_per_s=calls_per_s,
            on_call=on_call,
            on_spent=on_spent,
        )
        self.all = [endpoint(label, wire) for label, wire in wires or self._wires(urls, timeout_s)]

    def _wires(self, urls: Sequence[str], timeout_s: float) -> list[tuple[str, Wire]]:
        def announced() -> None:
            self.on_head()

        return [
            (f"{number}:{urlsplit(url).hostname}", wire_for(url, timeout_s=timeout_s, on_head=announced))
            for number, url in enumerate(urls, 1)
        ]

    # --- who may be believed

    @property
    def usable(self) -> list[Endpoint]:
        """Endpoints that are up, on the right chain, not behind and not resting, best choice first."""
        now = self.clock()
        ready = [endpoint for endpoint in self._current() if not endpoint.resting_s()]
        return sorted(
            ready,
            key=lambda e: (
                e.frozen(self.block_time_s),
                e.second_choice_until > now,
                e.budget.debt_s(now) > 0,
            ),
        )

    @property
    def moving(self) -> list[Endpoint]:
        """Usable endpoints whose heads come: they alone have a vote on a negative proof."""
        return [endpoint for endpoint in self.usable if not endpoint.frozen(self.block_time_s)]

    def _current(self) -> list[Endpoint]:
        likely = self._likely()
        best = self._best_head()
        return [e for e in likely if e.head and e.head.number >= best - STALE_BLOCKS]

    def _likely(self) -> list[Endpoint]:
        """Endpoints that are up, without those whose head lies in the future and far from all that do not."""
        up = [(endpoint, endpoint.head.timestamp) for endpoint in self.all if endpoint.up and endpoint.head]
        now = self._now()
        past = [at for e, at in up if at <= now + FUTURE_S and not e.frozen(self.block_time_s)]
        latest = max(now, *past) + FUTURE_S if past else math.inf
        return [endpoint for endpoint, at in up if at <= latest]

    def _now(self) -> float:
        """Unix seconds, and no less for a clock that was set back meanwhile."""
        return max(self._wall_clock(), self._begun_wall + self.clock() - self._begun)

    def _best_head(self) -> int:
        return max((endpoint.head.number for endpoint in self._likely() if endpoint.head), default=0)

    @property
    def head(self) -> int:
        """The highest block that a usable endpoint has shown; 0 while none is up."""
        return max((endpoint.head.number for endpoint in self._current() if endpoint.head), default=0)

    @property
    def healthy(self) -> bool:
        """Whether the chain can be followed: an endpoint is current, moving and at our service soon."""
        return any(
            not endpoint.frozen(self.block_time_s) and endpoint.resting_s() <= SHORT_REST_S
            for endpoint in self._current()
        )

    @property
    def quorum(self) -> int:
        """How many must agree on a negative proof."""
        return min(2, len(self.all))

    @property
    def fault(self) -> str:
        """What keeps the network from being read, or a negative from being proven; empty: nothing."""
        reasons = [f"{s.label} {s.state}" for s in self.standings() if s.state != "ok"]
        if not self.healthy:
            return f"no RPC endpoint of {self.network} is usable: {'; '.join(reasons) or 'none answered yet'}"
        if len(self.moving) < self.quorum:
            return (
                f"non-payment on {self.network} cannot be proven by one endpoint of two: {'; '.join(reasons)}"
            )
        return ""

    def standings(self) -> list[Standing]:
        """Every endpoint as an operator should see it."""
        return [Standing(e.label, self._state(e), e.head.number if e.head else 0, e.spent) for e in self.all]

    def _state(self, endpoint: Endpoint) -> str:
        if endpoint.wrong_chain:
            return f"serves another chain (eip155:{endpoint.served})"
        if endpoint.resting_s():
            return f"has a rate limit and rests for {endpoint.resting_s():.0f} s"
        if not endpoint.up or endpoint.head is None:
            return f"does not answer ({endpoint.why})" if endpoint.why else "does not answer"
        if endpoint not in self._likely():
            return f"shows a block {endpoint.head.timestamp - self._now():.0f} s in the future"
        behind = self._best_head() - endpoint.head.number
        if behind > STALE_BLOCKS:
            return f"is {behind} blocks behind"
        if endpoint.frozen(self.block_time_s):
            return f"shows no new block for {endpoint.still_s:.0f} s"
        return "ok"

    # --- keeping up with them

    async def refresh(self) -> None:
        """Ask every endpoint that is due for its head; back once one is up and the others had a moment."""
        now = self.clock()
        expected = {endpoint.label for endpoint in self.all if endpoint.up}
        for endpoint in self.all:
            due = (endpoint.up or endpoint.retry_at <= now) and not endpoint.resting_s()
            if endpoint.label not in self._probes and due:
                self._probes[endpoint.label] = asyncio.create_task(self._probe(endpoint))
        waiting = set(self._probes.values())
        answered = False
        while waiting and not answered:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            answered = any(e.up and self._probes.get(e.label) is None for e in self.all)
        slow = [task for label, task in self._probes.items() if label in expected]
        if slow:
            await asyncio.wait(slow, timeout=GRACE_S)
        self._say_changes()

    async def _probe(self, endpoint: Endpoint) -> None:
        try:
            await endpoint.probe()
        finally:
            self._probes.pop(endpoint.label, None)

    def _say_changes(self) -> None:
        """One line when an endpoint stops being believed, one when it is again."""
        for endpoint in self.all:
            if endpoint.label in self._probes:
                continue
            state = self._state(endpoint)
            kind = state.partition(" (")[0]  # why it does not answer may differ from call to call
            kind = " ".join(word for word in kind.split() if not word.isdigit())  # the figures move on
            before = self._states.get(endpoint.label, "ok")
            self._states[endpoint.label] = kind
            if kind != before:
                said = state if state != "ok" else "is usable again"
                self._on_error(f"{endpoint.label} {said}, of {self.network}")

    def best(self) -> Endpoint:
        """The endpoint to read from; raises ChainUnavailable where none is usable."""
        usable = self.usable
        if not usable:
            raise ChainUnavailable(self.fault or f"no RPC endpoint of {self.network} is usable")
        return usable[0]

    def others(self, endpoint: Endpoint) -> list[Endpoint]:
        """Whoever else could bear witness: up and on the right chain, behind or not."""
        return [e for e in self.all if e is not endpoint and e.up and e.head and not e.resting_s()]

    def failed(self, endpoint: Endpoint, why: ChainUnavailable) -> None:
        """A read from this endpoint went wrong: read from another one for a while."""
        if isinstance(why, RateLimited):
            return
        endpoint.mark_down(why)
        endpoint.second_choice_until = self.clock() + SECOND_CHOICE_S

    def debt_s(self) -> float:
        """How long a look of our own accord has to wait until some endpoint's budget allows it."""
        now = self.clock()
        return min((endpoint.budget.debt_s(now) for endpoint in self.usable), default=0.0)

    def rest_s(self) -> float:
        """How long until any endpoint may be asked at all; 0 unless every service has a rate limit."""
        return min((endpoint.resting_s() for endpoint in self.all), default=0.0)

    # --- asking them

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
        """What every moving endpoint says alike: the ground for every negative proof.

        Where more than one endpoint is configured two at least must answer; fewer say nothing. Each
        is asked for its chain id too: a node swapped for another one has nothing to say here.
        """

        async def vote(endpoint: Endpoint) -> frozenset[str]:
            if not await endpoint.on_its_chain():
                raise ChainUnavailable(f"{endpoint.label} serves another chain")
            return await read(endpoint)

        asked = self.moving
        answers = await asyncio.gather(*(vote(endpoint) for endpoint in asked), return_exceptions=True)
        said: list[frozenset[str]] = []
        for endpoint, answer in zip(asked, answers, strict=True):
            if isinstance(answer, frozenset):
                said.append(answer)
            elif isinstance(answer, RpcRefused):
                self._on_error(f"no vote on a proof: {answer}")
            elif not isinstance(answer, ChainUnavailable):
                raise answer
            elif not endpoint.wrong_chain:
                self.failed(endpoint, answer)
        self._say_quorum(len(said))
        if len(said) < self.quorum:
            return frozenset()
        return frozenset.intersection(*said)

    def _say_quorum(self, voices: int) -> None:
        enough = voices >= self.quorum
        if enough != self._quorum:
            said = "can be proven again" if enough else f"waits for its proof: {voices} of {self.quorum} vote"
            self._on_error(f"non-payment on {self.network} {said}")
        self._quorum = enough

    async def close(self) -> None:
        """Let go of every connection; idempotent."""
        probes = list(self._probes.values())
        for task in probes:
            task.cancel()
        if probes:
            await asyncio.wait(probes)
        for endpoint in self.all:
            await endpoint.close()
