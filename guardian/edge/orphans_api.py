"""The part of the operations port that changes something: orphans leave the queue, and a look is begun."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from guardian.edge.posted import Meant, Refused, answer, check_query, read_posted
from guardian.edge.views import settlement_view
from guardian.errors import IllegalMove
from guardian.flow.evidence import evidence
from guardian.flow.orphans import Orphans
from guardian.flow.parts import Parts
from guardian.flow.reconcile import look
from guardian.flow.sealing import Sealing
from guardian.flow.settle import SettleFlow
from guardian.settlement.record import Settlement
from guardian.wire.networks import network_of

T = TypeVar("T")


def _is_network(value: str) -> bool:
    return ":" in (network_of(value) or "")


_MEANT: Meant = {"network": (_is_network, "write a CAIP-2 id such as eip155:8453, or a v1 name")}


class RefundAsked(msgspec.Struct, forbid_unknown_fields=True):
    """What a refund is told with."""

    transaction: str
    by: str
    note: str = ""
    unverified: bool = False


class WriteOffAsked(msgspec.Struct, forbid_unknown_fields=True):
    """What a write-off is told with."""

    reason: str
    by: str


class OrphansApi:
    """Answers below /api/orphans, and /api/reconcile."""

    def __init__(self, parts: Parts, settle: SettleFlow, sealing: Sealing) -> None:
        self._parts = parts
        self._sealing = sealing
        self._replicas = settle.replicas
        self._orphans = Orphans(parts, settle)

    @property
    def routes(self) -> list[Route]:
        """What of the operations port is answered here."""
        return [
            Route("/api/orphans/{id}/evidence", self.evidence, methods=["GET"]),
            Route("/api/orphans/{id}/refund", self.refund, methods=["POST"]),
            Route("/api/orphans/{id}/write-off", self.write_off, methods=["POST"]),
            Route("/api/reconcile", self.reconcile, methods=["GET", "POST"]),
        ]

    async def refund(self, request: Request) -> Response:
        """The payer has the money back."""

        async def close(record: Settlement, asked: RefundAsked) -> Settlement:
            return await self._orphans.refund(
                record, asked.transaction, asked.by, asked.note, unverified=asked.unverified
            )

        return await self._close(request, RefundAsked, close)

    async def write_off(self, request: Request) -> Response:
        """Nothing more is done about it."""

        async def close(record: Settlement, asked: WriteOffAsked) -> Settlement:
            return await self._orphans.write_off(record, asked.reason, asked.by)

        return await self._close(request, WriteOffAsked, close)

    async def evidence(self, request: Request) -> Response:
        """The evidence bundle of a payment, orphan or not."""
        return answer(200, await evidence(self._parts, await self._record(request), self._sealing))

    async def _record(self, request: Request) -> Settlement:
        id = request.path_params["id"]
        record = await self._parts.store.get_by_id(id)
        if record is None:
            raise Refused(404, f"no settlement {id[:80]}")
        return record

    async def _close(
        self, request: Request, kind: type[T], close: Callable[[Settlement, T], Awaitable[Settlement]]
    ) -> Response:
        asked = await read_posted(request, kind)
        try:
            return answer(200, settlement_view(await close(await self._record(request), asked)))
        except IllegalMove as fault:  # it stands in the queue no more
            raise Refused(409, str(fault)) from fault

    async def reconcile(self, request: Request) -> Response:
        """How everything stands that is not over; POST takes up first what has been left lying.
        ?network=…, a CAIP-2 id or a v1 name, which may be repeated."""
        check_query(request, _MEANT)
        if request.method == "POST":
            await read_posted(request, dict)
            await self._replicas.look()
        networks = [network_of(name) for name in request.query_params.getlist("network")]
        found = await look(self._parts, [id for id in networks if id])
        views = [settlement_view(one.record) | {"chain": one.chain, "then": one.then} for one in found]
        return answer(200, {"standing": views})
