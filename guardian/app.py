"""The only wiring: policy and store to parts, parts to flows, flows to the two ASGI applications."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from guardian import __version__
from guardian.chain.rpc import Endpoints
from guardian.chain.watcher import Watcher
from guardian.edge.facilitator_plane import FacilitatorPlane
from guardian.edge.operations import operations_app
from guardian.facilitator.choice import Facilitators
from guardian.facilitator.circuit import CircuitKey, Circuits
from guardian.facilitator.client import Facilitator
from guardian.flow.parts import Parts, log
from guardian.flow.settle import SettleFlow
from guardian.flow.signatures import Signatures
from guardian.flow.verify import VerifyFlow
from guardian.policy.load import load_policy
from guardian.policy.model import Policy
from guardian.store.open import open_store
from guardian.store.protocol import Store
from guardian.telemetry import Telemetry
from guardian.wire.names import Network

DRAIN_S = 10.0
"""Replies that are under way get this long at shutdown; then their records speak for them."""


class Guardian:
    """A guardian in one process: start, serve, stop.

    data: the ASGI application of the data port; operations: that of the operations port.
    """

    def __init__(self, parts: Parts) -> None:
        signatures = Signatures(parts)
        self.parts = parts
        self.settle = SettleFlow(parts, signatures)
        self.verify = VerifyFlow(parts, signatures, self.settle.purchases)
        self.data: ASGIApp = FacilitatorPlane(parts, self.settle, self.verify)
        self.operations = operations_app(parts, lambda: self.settle.draining)
        self._starting = asyncio.Lock()
        self._started = False

    async def start(self) -> None:
        """Open the store, start the watchers, take up what an earlier process left. Idempotent."""
        async with self._starting:
            if self._started:
                return
            await self.parts.store.open()
            for watcher in self.parts.watchers.values():
                await watcher.start()
            resumed = await self.settle.resume()
            self._started = True
            log.info("started", extra={"resumed": resumed, "version": __version__})

    def drain(self) -> None:
        """Answer held callers with what is known; readiness turns false."""
        self.settle.drain()

    async def stop(self) -> None:
        """Finish or park every open settle, then let go of everything."""
        self.drain()
        await self.parts.tasks.finish(DRAIN_S)
        for watcher in self.parts.watchers.values():
            await watcher.stop()
        await self.parts.facilitators.close()
        await self.parts.store.close()
        await asyncio.to_thread(self.parts.telemetry.shutdown)
        log.info("stopped")


def build(
    policy: Policy,
    store: Store,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    telemetry: Telemetry | None = None,
) -> Guardian:
    """A guardian from its policy and store; `transport` replaces the network in tests."""
    telemetry = telemetry or Telemetry.create(service_version=__version__, networks=tuple(policy.networks))
    circuits = _circuits(policy, telemetry)
    members = [Facilitator(f.name, f.url, transport=transport) for f in policy.facilitators]
    return Guardian(
        Parts(
            policy=policy,
            store=store,
            facilitators=Facilitators(members, circuits, clock=time.monotonic),
            circuits=circuits,
            watchers={Network(name): _watcher(name, policy) for name, n in policy.networks.items() if n.rpc},
            telemetry=telemetry,
        )
    )


def create_app(policy: Policy | str | Path, *, store: str = "sqlite:///guardian.db") -> Starlette:
    """The data port as one ASGI application, to be served or mounted inside another.

    policy: a policy or the path of its file; store: a store URL. Starts with the lifespan, or, where
    a host application runs none for what it mounts, with the first request. Raises PolicyError.
    """
    loaded = policy if isinstance(policy, Policy) else load_policy(policy)
    return mountable(build(loaded, open_store(store)))


def mountable(guardian: Guardian) -> Starlette:
    """A guardian's data port as one ASGI application."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await guardian.start()
        yield
        await guardian.stop()

    app = Starlette(lifespan=lifespan)
    app.mount("/", StartsOnDemand(guardian))
    app.state.guardian = guardian
    return app


class StartsOnDemand:
    """Starts the guardian before the first request of a host that runs no lifespan."""

    def __init__(self, guardian: Guardian) -> None:
        self._guardian = guardian

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._guardian.start()
        await self._guardian.data(scope, receive, send)


def _circuits(policy: Policy, telemetry: Telemetry) -> Circuits:
    def changed(key: CircuitKey, state: str) -> None:
        telemetry.circuit_changed(key.facilitator, key.network, key.operation, state)
        log.warning("circuit %s", state, extra=key._asdict())

    return Circuits(
        time.monotonic,
        failure_threshold=policy.circuit.failure_threshold,
        recovery_time_s=policy.circuit.recovery_time_s,
        half_open_trials=policy.circuit.half_open_trials,
        on_change=changed,
    )


def _watcher(name: str, policy: Policy) -> Watcher:
    network = policy.network(name)

    def blind(why: str) -> None:
        log.warning("the chain cannot be read", extra={"network": name, "why": why})

    return Watcher(
        Network(name),
        Endpoints(Network(name), network.rpc, clock=time.monotonic, on_error=blind),
        block_time_s=network.block_time_s,
        confirmations=network.confirmations,
        finality_blocks=network.finality,
        clock=time.time,
        on_error=blind,
    )
