"""The operations port: health, readiness, metrics, and the settlements for the command line."""

import math
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from guardian.chain.watcher import Watcher
from guardian.edge.diagnosis_api import DiagnosisApi
from guardian.edge.orphans_api import OrphansApi
from guardian.edge.posted import Meant, Refused, answer, check_query
from guardian.edge.spending_api import SpendingApi
from guardian.edge.views import settlement_view
from guardian.edge.webhooks_api import WebhooksApi
from guardian.errors import CannotClose, CannotDecide, ChainUnavailable, StoreUnavailable
from guardian.flow.parts import Parts
from guardian.flow.sealing import Sealing
from guardian.flow.settle import SettleFlow
from guardian.flow.spending import Spending
from guardian.flow.webhooks import Webhooks
from guardian.settlement.states import Money

MAX_PAGE = 1000


def operations_app(
    parts: Parts,
    settle: SettleFlow,
    sealing: Sealing,
    webhooks: Webhooks,
    spending: Spending,
    policy: Callable[[], dict[str, object]],
) -> Starlette:
    """The ASGI application of the operations port. policy: which one is in force, which was refused."""
    api = Operations(parts, lambda: settle.holding.draining, policy)
    diagnosis = DiagnosisApi(parts, settle.health)
    routes = [
        Route("/healthz", api.health),
        Route("/readyz", api.ready),
        Route("/metrics", api.metrics),
        Route("/api/policy", api.policy),
        Route("/api/diagnosis", diagnosis.show),
        Route("/api/settlements", api.settlements),
        Route("/api/settlements/{id}", api.settlement),
        *OrphansApi(parts, settle, sealing).routes,
        *WebhooksApi(webhooks).routes,
        *SpendingApi(parts, spending).routes,
    ]
    return Starlette(routes=routes, exception_handlers=_FAULTS)


class Operations:
    """Answers the operations port."""

    def __init__(
        self, parts: Parts, draining: Callable[[], bool], policy: Callable[[], dict[str, object]]
    ) -> None:
        self._parts = parts
        self._policy = policy
        self._draining = draining

    async def health(self, request: Request) -> Response:
        """The process lives and its loop turns."""
        return answer(200, {"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """A settle sent now would be recorded, forwarded and watched."""
        checks = {
            "draining": None if not self._draining() else "shutting down",
            "store": await self._store_fault(),
            "facilitator": await self._facilitator_fault(),
            "rpc": await self._rpc_fault(),
        }
        ready = not any(checks.values())
        networks = {network: _chain_view(watcher) for network, watcher in self._parts.watchers.items()}
        faults = {name: fault for name, fault in checks.items() if fault}
        return answer(200 if ready else 503, {"ready": ready, "faults": faults, "networks": networks})

    async def _store_fault(self) -> str | None:
        try:
            await self._parts.store.ping()
        except StoreUnavailable as fault:
            return str(fault)
        return None

    async def _facilitator_fault(self) -> str | None:
        """One of them at least could be reached when it was last asked; the background asks."""
        facilitators = self._parts.facilitators
        silent = facilitators.silent
        if len(silent) < len(facilitators.all) or not facilitators.all:
            return None
        return "no facilitator answers: " + "; ".join(f"{name}: {why}" for name, why in silent.items())

    async def _rpc_fault(self) -> str | None:
        """One network with a dead RPC must not take the others down: all dead is not ready."""
        faults = []
        for network, watcher in self._parts.watchers.items():
            try:
                await watcher.check()
                return None
            except ChainUnavailable as fault:
                faults.append(f"{network}: {fault}")
        return "; ".join(faults) or None

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        page, content_type = self._parts.telemetry.metrics_page()
        return Response(page, media_type=content_type)

    async def settlements(self, request: Request) -> Response:
        """Newest first; ?money=…&orphans=true&limit=…&before=<created_at>."""
        check_query(request, _MEANT)
        query = request.query_params
        records = await self._parts.store.page(
            money=query.getlist("money"),
            orphans=query.get("orphans") in _TRUE,
            limit=min(int(query.get("limit", "100")), MAX_PAGE),
            before=float(query["before"]) if "before" in query else None,
        )
        return answer(200, {"settlements": [settlement_view(record) for record in records]})

    async def policy(self, request: Request) -> Response:
        """The policy in force: version, hash, time; and the file that was refused, with its fault."""
        return answer(200, self._policy())

    async def settlement(self, request: Request) -> Response:
        """One record with its audit trail, by id or key."""
        id = request.path_params["id"]
        record = await self._parts.store.get_by_id(id)
        if record is None:
            raise Refused(404, f"no settlement {id[:80]}")
        return answer(200, settlement_view(record))


def _chain_view(watcher: Watcher) -> dict[str, object]:
    """A network by what its nodes last said. endpoint: its place in the policy and its host, no more."""
    endpoints = [
        {"endpoint": one.label, "state": one.state, "head": one.head, "calls": one.spent}
        for one in watcher.standings()
    ]
    return {"fault": watcher.fault, "head": watcher.head, "endpoints": endpoints}


_TRUE, _FALSE = ("true", "1"), ("false", "0")


def _is_time(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _is_count(value: str) -> bool:
    return value.isascii() and value.isdigit() and 0 < len(value) < 10 and int(value) > 0


_MEANT: Meant = {
    "money": (lambda value: value in tuple(Money), f"use one of {', '.join(Money)}"),
    "orphans": (lambda value: value in _TRUE + _FALSE, "write true or false"),
    "limit": (_is_count, "write a whole number from 1"),
    "before": (_is_time, "write the created_at of a settlement"),
}


async def _store_is_down(request: Request, fault: Exception) -> Response:
    return answer(503, {"error": f"store: {fault}"})


async def _refused(request: Request, fault: Exception) -> Response:
    """409 where it is what was asked for that cannot be."""
    return answer(fault.status if isinstance(fault, Refused) else 409, {"error": str(fault)})


_FAULTS = {StoreUnavailable: _store_is_down, Refused: _refused, CannotClose: _refused, CannotDecide: _refused}
