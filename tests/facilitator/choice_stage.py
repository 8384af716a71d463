"""Facilitators `a`, `b`, … for scripts: what each says of /supported, and which circuits are open."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx

from guardian.facilitator.choice import Facilitators, Member
from guardian.facilitator.circuit import CircuitKey, Circuits, CircuitSettings
from guardian.facilitator.client import Facilitator, RawHeaders, Reply
from guardian.settlement.verdict import Health

BASE = "eip155:8453"
MAINNET = "eip155:1"


def kind(network: str, scheme: str = "exact", version: int = 2, **extra: object) -> dict[str, Any]:
    return {"x402Version": version, "scheme": scheme, "network": network, **extra}


def says(*kinds: dict[str, Any], **more: object) -> bytes:
    return json.dumps({"kinds": list(kinds), **more}).encode()


class Script:
    """Facilitators `a`, `b`, … whose /supported is what the test last put into `says`."""

    def __init__(self, *answers: bytes | int | Exception, **how: Any) -> None:
        self.now = 0.0
        self.asked: list[str] = []
        self.sent: list[tuple[str, str]] = []
        self.faults: list[tuple[str, str]] = []
        self.held: asyncio.Event | None = None
        self.says = dict(zip("abcdef", answers, strict=False))
        self.circuits = Circuits(lambda: self.now, lambda key: CircuitSettings(1, 30.0, 1))
        self.transport = httpx.MockTransport(self._answer)
        self.all = self.facilitators([self.client(name) for name in self.says], **how)

    def client(self, name: str, url: str = "") -> Facilitator:
        return Facilitator(name, url or f"http://{name}.test", transport=self.transport)

    def facilitators(self, members: Sequence[Member | Facilitator], **how: Any) -> Facilitators:
        def fault(name: str, why: str) -> None:
            self.faults.append((name, why))

        return Facilitators(members, self.circuits, clock=lambda: self.now, on_fault=fault, **how)

    def share(self, *weights: float, **more: Any) -> None:
        """From now on all of them are of equal order."""
        members = zip(self.says, weights, strict=True)
        self.all = self.facilitators(
            [Member(self.client(name), weight=weight, **more) for name, weight in members]
        )

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        name = request.url.host[0]
        self.asked.append(name)
        self.sent.append((name, request.headers.get("authorization", "")))
        if self.held is not None:
            await self.held.wait()
        answer = self.says[name]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return httpx.Response(answer, content=b"no")
        return httpx.Response(
            200, content=answer, headers={"content-type": "application/json", "x-own": name}
        )

    def supported(self, headers: RawHeaders = ()) -> Reply:
        return asyncio.run(self.all.supported(headers))

    def kinds(self) -> list[dict[str, Any]]:
        """The kinds of the merged answer."""
        found: list[dict[str, Any]] = json.loads(self.supported().body)["kinds"]
        return found

    def candidates(
        self, network: str = BASE, scheme: str = "exact", version: int | None = None, **how: Any
    ) -> str:
        found = self.all.candidates(network, scheme, "settle", x402_version=version, **how)
        return "".join(facilitator.name for facilitator in found)

    def trip(self, name: str, network: str = BASE) -> None:
        ticket = self.circuits.admit(CircuitKey(name, network, "settle"))
        assert ticket is not None
        self.circuits.record(ticket, Health.FAULTY)
