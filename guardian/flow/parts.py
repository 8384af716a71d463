"""What the flows work with, handed in once by `create_app`; and the tasks they leave running.

Holds no decisions. `Call` is the seam to the edge: the flow decides what is said, and learns
whether anybody was still there to hear it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from guardian.chain.watcher import Watcher
from guardian.facilitator.choice import Facilitators
from guardian.facilitator.circuit import Circuits
from guardian.policy.model import Policy
from guardian.store.protocol import Store
from guardian.telemetry import Telemetry
from guardian.wire.names import Network

Headers = Sequence[tuple[bytes, bytes]]
log = logging.getLogger("guardian")


class Call(Protocol):
    """One caller of /verify or /settle.

    body and headers as received; only: the one facilitator the path names, or empty.
    """

    body: bytes
    headers: Headers
    only: str

    @property
    def gone(self) -> bool:
        """The caller has closed the connection."""

    async def answer(self, status: int, headers: Headers, body: bytes) -> bool:
        """Write the answer; True when the connection was still open then."""


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
    """Everything below the flows. watchers: by CAIP-2 network; clock: Unix seconds."""

    policy: Policy
    store: Store
    facilitators: Facilitators
    circuits: Circuits
    watchers: dict[Network, Watcher]
    telemetry: Telemetry
    clock: Callable[[], float] = time.time
    tasks: Tasks = field(default_factory=Tasks)
