"""The operations port: health, readiness, metrics, and the settlements for the command line."""

from collections.abc import Callable

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from guardian.edge.views import settlement_view
from guardian.errors import ChainUnavailable, GuardianError, StoreUnavailable
from guardian.flow.parts import Parts
from guardian.settlement.states import Money

MAX_PAGE = 1000


def operations_app(parts: Parts, draining: Callable[[], bool]) -> Starlette:
    """The ASGI application of the operations port."""
    api = Operations(parts, draining)
    routes = [
        Route("/healthz", api.health),
        Route("/readyz", api.ready),
        Route("/metrics", api.metrics),
        Route("/api/settlements", api.settlements),
        Route("/api/settlements/{id}", api.settlement),
    ]
    return Starlette(routes=routes)


class Operations:
    """Answers the operations port."""

    def __init__(self, parts: Parts, draining: Callable[[], bool]) -> None:
        self._parts = parts
        self._draining = draining

    async def health(self, request: Request) -> Response:
        """The process lives and its loop turns."""
        return _json(200, {"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """A settle sent now would be recorded, forwarded and watched."""
        checks = {
            "draining": None if not self._draining() else "shutting down",
            "store": await self._store_fault(),
            "facilitator": await self._facilitator_fault(),
            "rpc": await self._rpc_fault(),
        }
        ready = not any(checks.values())
        return _json(
            200 if ready else 503, {"ready": ready, "faults": {k: v for k, v in checks.items() if v}}
        )

    async def _store_fault(self) -> str | None:
        try:
            await self._parts.store.ping()
        except StoreUnavailable as fault:
            return str(fault)
        return None

    async def _facilitator_fault(self) -> str | None:
        try:
            await self._parts.facilitators.supported()
        except GuardianError as fault:
            return f"no facilitator answers: {fault}"
        return None

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
        query = request.query_params
        try:
            money = [str(Money(state)) for state in query.getlist("money")]
            limit = min(int(query.get("limit", "100")), MAX_PAGE)
            before = float(query["before"]) if "before" in query else None
        except ValueError as fault:
            return _json(400, {"error": f"query: {fault}"})
        orphans = query.get("orphans") in ("true", "1")
        records = await self._parts.store.page(money=money, orphans=orphans, limit=limit, before=before)
        return _json(200, {"settlements": [settlement_view(record) for record in records]})

    async def settlement(self, request: Request) -> Response:
        """One record with its audit trail, by id or key."""
        id = request.path_params["id"]
        record = await self._parts.store.get_by_id(id)
        if record is None:
            return _json(404, {"error": f"no settlement {id[:80]}"})
        return _json(200, settlement_view(record))


def _json(status: int, content: object) -> Response:
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")
