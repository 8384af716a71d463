"""Who does what costs others money, counted by whom it is about: hosts of routes, and facilitators.

Counted since this process began; what was charged or lost stands in the records. A host is one of a
configured route, everything else is `other`, so that nobody can fill the memory with names.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from guardian.policy.model import Policy
from guardian.series import OTHER
from guardian.settlement.record import AGENT, Settlement
from guardian.settlement.states import PAID, Answer
from guardian.telemetry import Telemetry

MAX_SUBJECTS: Final = 1024
"""Hosts and facilitators of policies that were in force one after the other."""


class Kind(StrEnum):
    """What somebody does."""

    BUYER_LOOPS = "buyer_loops"
    CHARGED_ON_4XX = "charged_on_4xx"
    RECEIPT_LIES = "receipt_lies"
    FACILITATOR_LIES = "facilitator_lies"


MEANS: Final = {
    Kind.BUYER_LOOPS: "a buyer signs again and again for one purchase that it was not given",
    Kind.CHARGED_ON_4XX: "the chain shows the payment, and the seller answered 4xx",
    Kind.RECEIPT_LIES: "a receipt says paid, and the chain has no transfer",
    Kind.FACILITATOR_LIES: "a facilitator reported success, and the chain has no transfer",
}


@dataclass(slots=True)
class Found:
    """One kind, of one host or facilitator. Times: Unix seconds; settlement: the last one's id."""

    kind: Kind
    host: str = ""
    facilitator: str = ""
    routes: set[str] = field(default_factory=set)
    count: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    settlement: str = ""


class Diagnosis:
    """The counts of one process."""

    def __init__(self, telemetry: Telemetry, clock: Callable[[], float] = time.time) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._found: dict[tuple[Kind, str], Found] = {}
        self.since = clock()

    def of_route(self, kind: Kind, policy: Policy, route: str, settlement: str) -> None:
        """Count it for the host behind a route."""
        host = host_of(policy, route)
        self._telemetry.diagnosed(route if host != OTHER else OTHER, host, kind)
        found = self._of(Found(kind, host=host), host, settlement)
        if host != OTHER:
            found.routes.add(route)

    def of_facilitator(self, kind: Kind, facilitator: str, network: str, settlement: str) -> None:
        """Count it for a facilitator of the policy."""
        self._telemetry.facilitator_lied(facilitator, network)
        self._of(Found(kind, facilitator=facilitator), facilitator, settlement)

    def all(self) -> list[Found]:
        """The newest first."""
        return sorted(self._found.values(), key=lambda found: -found.last_at)

    def _of(self, new: Found, subject: str, settlement: str) -> Found:
        key = (new.kind, subject)
        if key not in self._found and len(self._found) >= MAX_SUBJECTS:
            key = (new.kind, OTHER)
            new = Found(new.kind, host=new.host and OTHER, facilitator=new.facilitator and OTHER)
        found = self._found.setdefault(key, new)
        now = self._clock()
        found.first_at = found.first_at or now
        found.last_at, found.count, found.settlement = now, found.count + 1, settlement
        return found


def host_of(policy: Policy, route: str) -> str:
    """The host (and port) that a route leads to; `other` where the policy has no such route."""
    return next((urlsplit(one.upstream).netloc for one in policy.routes if one.name == route), OTHER)


def is_charged_on_4xx(record: Settlement) -> bool:
    """An agent's payment is on chain and its seller's last word was 4xx. One that says that it is waiting
    for the settlement itself does not refuse."""
    if record.plane != AGENT or record.money not in PAID or record.answer is Answer.ACCEPTED:
        return False
    return record.reason.startswith("http_4") and "settlement_pending" not in record.message
