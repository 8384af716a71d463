"""What the flows work with, handed in once by `create_app`; and the tasks they leave running.

Holds no decisions. `Call` is the seam to the edge: the flow decides what is said, and learns
whether anybody was still there to hear it.
"""

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import msgspec

from guardian.chain.token import Tokens
from guardian.chain.watcher import Watcher
from guardian.facilitator.auth import Credentials
from guardian.facilitator.choice import Facilitators
from guardian.facilitator.circuit import Circuits
from guardian.facilitator.client import Facilitator
from guardian.flow.diagnosis import Diagnosis
from guardian.flow.outbox import Outbox
from guardian.policy.layers import InForce
from guardian.policy.model import Policy
from guardian.store.protocol import Store
from guardian.telemetry import Telemetry
from guardian.wire.names import Network
from guardian.wire.payment import Payment

Headers = Sequence[tuple[bytes, bytes]]
log = logging.getLogger("guardian")


class Generation:
    """One policy and what it names, from its loading until another one came and its requests ended.

    A request keeps the generation that it began with. number: counts up with each policy in force.
    """

    def __init__(
        self,
        policy: Policy,
        facilitators: Facilitators,
        *,
        credentials: Mapping[str, Credentials] | None = None,
        number: int = 1,
    ) -> None:
        """credentials: by facilitator, for those that the policy gives some."""
        self.policy = policy
        self.facilitators = facilitators
        self.number = number
        self._credentials = credentials or {}
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def headers_for(
        self, facilitator: Facilitator, method: str, path: str, headers: Headers, *, repeated: bool = False
    ) -> Headers:
        """What a facilitator is sent: the caller's headers, with the policy's credentials where wanted."""
        own = self._credentials.get(facilitator.name)
        if own is None:
            return headers
        return own.headers(method, facilitator.url + path, headers, repeated=repeated)

    def __enter__(self) -> Self:
        """Keep what this generation names open until the block is left."""
        self._users += 1
        self._unused.clear()
        return self

    def __exit__(self, *raised: object) -> None:
        self._users -= 1
        if not self._users:
            self._unused.set()

    async def ended(self) -> None:
        """Nobody is using it now."""
        await self._unused.wait()


class Call(Protocol):
    """One caller of /verify or /settle.

    body and headers as received; only: the one facilitator the path names, or empty; generation: the
    policy in force when it came.
    """

    body: bytes
    headers: Headers
    only: str
    generation: Generation

    @property
    def gone(self) -> bool:
        """The caller has closed the connection."""

    def when_gone(self, tell: Callable[[], None]) -> None:
        """Call `tell` as soon as that is known, until it has been answered; `gone` may know it earlier."""

    async def answer(self, status: int, headers: Headers, body: bytes) -> bool:
        """Write the answer; True when the connection was still open then."""


class Visit(msgspec.Struct, frozen=True):
    """One caller of /settle with its payment. in_force: the policy for it; unfit: facilitators that it must
    not go to; since: when it came, in seconds of the monotonic clock."""

    payment: Payment
    call: Call
    in_force: InForce
    unfit: frozenset[str]
    since: float


class Tasks:
    """Tasks that outlive the request that began them (law 9), none lost, none unheard."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run to the end whatever happens to the caller; a failure is logged with its name."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        if not task.cancelled() and (fault := task.exception()):
            log.error("task failed", exc_info=fault, extra={"task": task.get_name()})

    async def finish(self, limit_s: float) -> None:
        """Wait for what runs, then cancel the rest: their records say how far they came."""
        if self._running:
            await asyncio.wait(self._running, timeout=limit_s)
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


@dataclass(slots=True)
class Parts:
    """Everything below the flows. generation: of the policy in force for new requests; watchers: by
    CAIP-2 network; clock: Unix seconds; replica: this process' name among those on its store."""

    generation: Generation
    store: Store
    circuits: Circuits
    watchers: dict[Network, Watcher]
    tokens: Tokens
    telemetry: Telemetry
    outbox: Outbox
    clock: Callable[[], float] = time.time
    replica: str = field(default_factory=lambda: f"{socket.gethostname()}-{secrets.token_hex(4)}")
    tasks: Tasks = field(default_factory=Tasks)
    diagnosis: Diagnosis = field(init=False)

    def __post_init__(self) -> None:
        self.diagnosis = Diagnosis(self.telemetry, self.clock)

    def head(self, network: Network) -> int:
        """The highest block of a network that is known, at most a minute old; 0 where none is."""
        watcher = self.watchers.get(network)
        return watcher.head if watcher is not None else 0

    @property
    def policy(self) -> Policy:
        """The policy in force for what begins now."""
        return self.generation.policy

    @property
    def facilitators(self) -> Facilitators:
        """The facilitators that what begins now may ask."""
        return self.generation.facilitators
