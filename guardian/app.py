"""The only wiring: policy and store to parts, parts to flows, flows to the two ASGI applications."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from guardian import __version__
from guardian.chain.rpc import Endpoints
from guardian.chain.token import Tokens
from guardian.chain.watcher import Watcher
from guardian.edge.agent_plane import AgentPlane
from guardian.edge.callers import read_keys
from guardian.edge.data_port import DataPort
from guardian.edge.facilitator_plane import FacilitatorPlane
from guardian.edge.operations import operations_app
from guardian.facilitator.auth import Credentials, credentials
from guardian.facilitator.choice import Facilitators, Member
from guardian.facilitator.circuit import Circuits
from guardian.facilitator.client import Facilitator
from guardian.flow.buy import BuyFlow
from guardian.flow.housekeeping import Housekeeping
from guardian.flow.outbox import Outbox
from guardian.flow.parts import Generation, Parts, log
from guardian.flow.preflight import Preflight
from guardian.flow.sealing import sealing_from
from guardian.flow.settle import SettleFlow
from guardian.flow.signatures import Signatures
from guardian.flow.verify import VerifyFlow
from guardian.flow.webhooks import Webhooks, read_secrets
from guardian.hooks import Hooks
from guardian.policy.model import FacilitatorPolicy, Policy
from guardian.policy.source import Loaded, PolicyFile
from guardian.reload import Fits, Reloading
from guardian.store.open import open_store
from guardian.store.protocol import Store
from guardian.telemetry import Telemetry
from guardian.upstream.client import Upstreams
from guardian.wire.names import Network

DRAIN_S = 10.0
"""Replies that are under way get this long at shutdown; then their records speak for them."""


class Guardian:
    """A guardian in one process: start, serve, stop.

    data: the ASGI application of the data port; operations: that of the operations port; reloading: of
    its policy file, where it has one.
    """

    def __init__(self, parts: Parts, transport: httpx.AsyncBaseTransport | None) -> None:
        signatures = Signatures(parts)
        preflight = Preflight(parts, signatures)
        self.parts = parts
        self.settle = SettleFlow(parts, signatures, preflight)
        self.verify = VerifyFlow(parts, signatures, self.settle.purchases, preflight)
        self.reloading: Reloading | None = None
        self._upstreams = Upstreams()
        facilitators = FacilitatorPlane(parts, self.settle, self.verify)
        sealing = sealing_from(os.environ)
        self.buy = BuyFlow(parts, self.settle, signatures, sealing)
        agents = AgentPlane(parts, self._upstreams, facilitators.door, self.buy)
        self.data: ASGIApp = DataPort(parts, agents, facilitators)
        self.webhooks = Webhooks(parts, parts.outbox, read_secrets(parts.policy, os.environ))
        self.operations = operations_app(
            parts, self.settle, sealing, self.webhooks, self.buy.spending, self._policy_state
        )
        self._housekeeping = Housekeeping(parts, self.settle.lives)
        self._transport = transport
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
            await self.parts.facilitators.start()
            resumed = await self.settle.replicas.start()
            await self.buy.start()
            self._housekeeping.start()
            self.webhooks.start()
            if self.reloading:
                self.reloading.start()
            self._started = True
            log.info("started", extra={"resumed": resumed, "version": __version__})

    def drain(self) -> None:
        """Answer held callers with what is known; readiness turns false."""
        self.settle.drain()

    async def stop(self) -> None:
        """Finish or park every open settle, then let go of everything."""
        self.drain()
        if self.reloading:
            await self.reloading.stop()
        await self._housekeeping.stop()
        await self.parts.tasks.finish(DRAIN_S)
        await self.webhooks.stop()
        await self.settle.replicas.stop()
        await self.parts.tokens.close()
        for watcher in self.parts.watchers.values():
            await watcher.stop()
        await self.parts.facilitators.close()
        await self._upstreams.aclose()
        await self.parts.store.close()
        await asyncio.to_thread(self.parts.telemetry.shutdown)
        log.info("stopped")

    async def adopt(self, policy: Policy) -> int:
        """Put another policy in force for what begins from now on; its number, counting up.

        Raises PolicyError where a secret that it names is missing; then nothing has changed.
        """
        old = self.parts.generation
        secrets, hook_secrets = _credentials(policy), read_secrets(policy, os.environ)
        read_keys(policy.callers, os.environ)
        facilitators, unused = old.facilitators.replaced(_members(policy, self._transport))
        new = Generation(policy, facilitators, credentials=secrets, number=old.number + 1)
        self.parts.generation = new
        await self._watch_as(old.policy, policy)
        await self.webhooks.use(policy, hook_secrets)
        self.parts.telemetry.policy_applied(new.number, policy.networks)
        self.parts.tasks.spawn(self._retire(old, unused), "retire")
        return new.number

    async def _watch_as(self, old: Policy, new: Policy) -> None:
        """Watchers as the new policy wants them. One that it names no longer goes on: payments that
        were recorded as watched may still be in doubt, and only the chain settles that."""
        for name in new.networks:
            watcher = self.parts.watchers.get(Network(name))
            if not new.network(name).rpc:
                if watcher is not None:
                    log.warning(
                        "the policy names no rpc any more; the watch goes on", extra={"network": name}
                    )
                continue
            if watcher is not None and _chain_facts(old, name) == _chain_facts(new, name):
                continue
            self.parts.watchers[Network(name)] = fresh = _watcher(name, new, self.parts.telemetry)
            await fresh.start()
            self.settle.rewatch(name)
            if watcher is not None:
                await watcher.stop()

    async def _retire(self, old: Generation, unused: tuple[Facilitator, ...]) -> None:
        """Close what the old policy alone had in use, once the requests that began with it have ended."""
        await self.parts.facilitators.start()
        await old.facilitators.stop()
        await old.ended()
        for facilitator in unused:
            await facilitator.close()

    def _policy_state(self) -> dict[str, object]:
        if self.reloading:
            return self.reloading.state()
        return {"version": self.parts.generation.number, "file": None, "refused": None}


def build(
    policy: Policy,
    store: Store,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    telemetry: Telemetry | None = None,
) -> Guardian:
    """A guardian from its policy and store; `transport` replaces the network in tests. Raises PolicyError."""
    telemetry = telemetry or Telemetry.create(service_version=__version__, networks=tuple(policy.networks))
    telemetry.policy_applied(1, policy.networks)
    hooks = Hooks(telemetry)
    circuits = Circuits(time.monotonic, hooks.circuit_settings, hooks.circuit_changed)
    facilitators = Facilitators(
        _members(policy, transport),
        circuits,
        clock=time.monotonic,
        headers_for=hooks.headers_for,
        on_fault=hooks.silent,
    )
    watched = [name for name in policy.networks if policy.network(name).rpc]
    hooks.parts = Parts(
        generation=Generation(policy, facilitators, credentials=_credentials(policy)),
        store=store,
        circuits=circuits,
        watchers={Network(name): _watcher(name, policy, telemetry) for name in watched},
        tokens=Tokens(hooks.endpoints, clock=time.monotonic),
        telemetry=telemetry,
        outbox=Outbox(time.time, hooks.full),
    )
    guardian = Guardian(hooks.parts, transport)
    hooks.replicas, hooks.webhooks = guardian.settle.replicas, guardian.webhooks
    guardian.settle.replicas.circuit = hooks.impose
    return guardian


def build_from(
    file: PolicyFile,
    loaded: Loaded,
    store: Store,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    fits: Fits = lambda policy: None,
) -> Guardian:
    """A guardian that follows its policy file, as far as what stands there `fits`. Raises PolicyError."""
    fits(loaded.policy)
    guardian = build(loaded.policy, store, transport=transport)
    guardian.reloading = Reloading(file, loaded, guardian.adopt, guardian.parts.telemetry, fits)
    return guardian


def create_app(policy: Policy | str | Path, *, store: str = "sqlite:///guardian.db") -> Starlette:
    """The data port as one ASGI application, to be served or mounted inside another.

    policy: a policy or the path of its file, which is followed; store: a store URL. Starts with the
    lifespan, or, where a host application runs none for what it mounts, with the first request. Raises
    PolicyError.
    """
    if isinstance(policy, Policy):
        return mountable(build(policy, open_store(store)))
    file = PolicyFile(policy)
    return mountable(build_from(file, file.read(), open_store(store)))


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


def _credentials(policy: Policy) -> dict[str, Credentials]:
    return {
        one.name: credentials(one.auth, os.environ, f"facilitators[{place}].auth")
        for place, one in enumerate(policy.facilitators)
        if one.auth
    }


def _members(policy: Policy, transport: httpx.AsyncBaseTransport | None) -> list[Member]:
    return [
        _member(policy, one, place if one.order is None else one.order, transport)
        for place, one in enumerate(policy.facilitators)
    ]


def _member(
    policy: Policy, one: FacilitatorPolicy, order: int, transport: httpx.AsyncBaseTransport | None
) -> Member:
    profile = policy.profile_of(one.name)
    failover_to = one.failover_to
    if failover_to is None and profile.failover_to is not None:
        fitting = (other.name for other in policy.facilitators if other.profile in profile.failover_to)
        failover_to = tuple(fitting)
    return Member(
        Facilitator(one.name, one.url, transport=transport),
        order=order,
        weight=one.weight,
        max_settles=one.max_settles,
        pace=one.pace or profile.limits.pace,
        failover_to=failover_to,
    )


def _chain_facts(policy: Policy, name: str) -> tuple[object, ...]:
    """What a watcher is made of."""
    found = policy.network(name)
    return found.rpc, found.rpc_pace, found.block_time_s, found.confirmations, found.finality


def _watcher(name: str, policy: Policy, telemetry: Telemetry) -> Watcher:
    network = policy.network(name)

    def blind(why: str) -> None:
        log.warning("the chain cannot be read", extra={"network": name, "why": why})

    def called(method: str, outcome: str, seconds: float) -> None:
        telemetry.rpc_call(name, method, outcome, seconds)

    def head(number: int) -> None:
        telemetry.watcher_head(name, number)

    def spent(endpoint: str, calls: int) -> None:
        telemetry.rpc_credits(name, endpoint, calls)

    return Watcher(
        Network(name),
        Endpoints(
            Network(name),
            network.rpc,
            clock=time.monotonic,
            on_error=blind,
            on_call=called,
            on_spent=spent,
            calls_per_s=network.rpc_pace.count / network.rpc_pace.per_s,
        ),
        block_time_s=network.block_time_s,
        confirmations=network.confirmations,
        finality_blocks=network.finality,
        clock=time.time,
        on_error=blind,
        on_head=head,
    )
