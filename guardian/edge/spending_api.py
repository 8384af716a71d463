"""The part of the operations port about what agents spend: what is counted, the switch, approvals.

A body must say that it is JSON, as for orphans: no web page can then post it unasked.
"""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from guardian.edge.posted import Refused, answer, read_posted
from guardian.flow.approvals import Approval
from guardian.flow.parts import Parts
from guardian.flow.spending import Spending, Stop


class StopAsked(msgspec.Struct, forbid_unknown_fields=True):
    """What a stop is told with."""

    by: str
    reason: str = ""


class ResumeAsked(msgspec.Struct, forbid_unknown_fields=True):
    """What the end of a stop is told with."""

    by: str


class DecisionAsked(msgspec.Struct, forbid_unknown_fields=True):
    """What an approval is decided with. lasts_s: in place of the policy's `approvals_last`."""

    by: str
    note: str = ""
    lasts_s: float | None = None


class SpendingApi:
    """Answers below /api/spending and /api/approvals."""

    def __init__(self, parts: Parts, spending: Spending) -> None:
        self._parts = parts
        self._spending = spending

    @property
    def routes(self) -> list[Route]:
        """What of the operations port is answered here."""
        return [
            Route("/api/spending", self.show),
            Route("/api/spending/stop", self.stop, methods=["POST"]),
            Route("/api/spending/resume", self.resume, methods=["POST"]),
            Route("/api/approvals", self.approvals),
            Route("/api/approvals/{id}/approve", self.approve, methods=["POST"]),
            Route("/api/approvals/{id}/deny", self.deny, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """Whether it is stopped, and what is counted in each budget of this hour and day."""
        return answer(200, await spending_view(self._spending, self._parts.policy.spending.stop))

    async def stop(self, request: Request) -> Response:
        """Refuse every new payment."""
        asked = await read_posted(request, StopAsked)
        return answer(200, {"stopped": stop_view(await self._spending.stop(asked.by, asked.reason))})

    async def resume(self, request: Request) -> Response:
        """Take payments again, as far as the policy does."""
        asked = await read_posted(request, ResumeAsked)
        await self._spending.resume(asked.by)
        return await self.show(request)

    async def approvals(self, request: Request) -> Response:
        """Those that wait, and those that were decided lately."""
        found = await self._spending.approvals.all()
        return answer(200, {"approvals": [approval_view(one) for one in found]})

    async def approve(self, request: Request) -> Response:
        """Let a payment pass, once."""
        return await self._decide(request, True)

    async def deny(self, request: Request) -> Response:
        """Let it not pass."""
        return await self._decide(request, False)

    async def _decide(self, request: Request, approve: bool) -> Response:
        asked, id = await read_posted(request, DecisionAsked), request.path_params["id"]
        approvals = self._spending.approvals
        found = await approvals.decide(id, approve, asked.by, asked.note, asked.lasts_s)
        if found is None:
            raise Refused(404, f"no approval {id[:80]}")
        return answer(200, approval_view(found))


async def spending_view(spending: Spending, by_policy: bool) -> dict[str, object]:
    """What `GET /api/spending` shows. Amounts are texts: JSON's numbers end at 2^53."""
    budgets = [one | {"counted": str(one["counted"])} for one in await spending.counted()]
    return {
        "stopped": stop_view(await spending.stopped()),
        "stopped_by_policy": by_policy,
        "budgets": budgets,
    }


def stop_view(stop: Stop | None) -> dict[str, object] | None:
    """Who, why and when."""
    return None if stop is None else {"by": stop.by, "reason": stop.reason, "at": stop.at}


def approval_view(approval: Approval) -> dict[str, object]:
    """All of it; the amount as a text."""
    return msgspec.structs.asdict(approval) | {"state": str(approval.state), "amount": str(approval.amount)}
