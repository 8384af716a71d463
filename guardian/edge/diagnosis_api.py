"""The part of the operations port that says who costs others money, and which networks are unhealthy."""

from starlette.requests import Request
from starlette.responses import Response

from guardian.edge.posted import answer
from guardian.flow.diagnosis import MEANS, Found
from guardian.flow.health import Health
from guardian.flow.parts import Parts


class DiagnosisApi:
    """Answers /api/diagnosis."""

    def __init__(self, parts: Parts, health: Health) -> None:
        self._parts = parts
        self._health = health

    async def show(self, request: Request) -> Response:
        """What this process has counted since it began, and what it holds of each network now."""
        found = [_view(one) for one in self._parts.diagnosis.all()]
        with self._parts.generation as generation:
            networks = []
            for network in self._health.networks(generation):
                judged, wrong = self._health.judged(network, generation)
                why = self._health.fault(network, generation)
                networks.append(
                    {"network": network, "healthy": not why, "why": why, "judged": judged, "wrong": wrong}
                )
        content = {
            "replica": self._parts.replica,
            "since": self._parts.diagnosis.since,
            "found": found,
            "networks": networks,
        }
        return answer(200, content)


def _view(found: Found) -> dict[str, object]:
    return {
        "kind": str(found.kind),
        "means": MEANS[found.kind],
        "host": found.host,
        "facilitator": found.facilitator,
        "routes": sorted(found.routes),
        "count": found.count,
        "first_at": found.first_at,
        "last_at": found.last_at,
        "last_settlement": found.settlement,
    }
