"""What is done about a 402 that a route's upstream answers to a request without payment.

Each offer is held against what is known (settlement/demand.py); what the policy refuses is taken out, the
rest is put in the order of the policy and of health (offered.py). Nothing is signed for what is refused.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from guardian.errors import StoreUnavailable
from guardian.flow import buy_answers as answers
from guardian.flow.health import Health
from guardian.flow.offered import arranged, is_empty
from guardian.flow.paid import PaidExchange
from guardian.flow.parts import Parts, log
from guardian.flow.remembered import Asked, Remembered
from guardian.flow.signatures import DOMAIN_LIMIT_S
from guardian.flow.terms import Read, Terms
from guardian.policy.checks import CheckPolicy
from guardian.policy.layers import InForce
from guardian.policy.network import SHIPPED, SHIPPED_TOKENS
from guardian.series import OTHER
from guardian.settlement.demand import DemandCheck, DemandFacts, Fault, faults, is_signed_by_domain
from guardian.settlement.record import AGENT
from guardian.store.protocol import PAGE_LIMIT
from guardian.upstream.reply import Reply, whole_reply
from guardian.wire.demand import Demand, Offer, with_accepts
from guardian.wire.networks import V1_NAMES, Domain, dollar_decimals

MAX_TOLD: Final = 1024
"""Findings that the log has; where there are more, it begins anew. Each is counted every time."""

_NETWORKS: Final = frozenset((*SHIPPED, *SHIPPED_TOKENS, *V1_NAMES.values()))
_FRAMING = (b"transfer-encoding", b"trailer")


class Demands:
    """Looks at every demand before an agent signs."""

    def __init__(self, parts: Parts, terms: Terms, health: Health) -> None:
        self.remembered = Remembered()
        self._parts = parts
        self._terms = terms
        self._health = health
        self._told: set[tuple[str, str, str]] = set()
        self._sick: set[str] = set()

    async def start(self) -> None:
        """Learn what was paid lately: a restart must not make a new price or payee the first one."""
        with contextlib.suppress(StoreUnavailable):  # then the next demand is the first
            records = await self._parts.store.page(limit=PAGE_LIMIT)
            for record in reversed(records):
                if record.plane == AGENT:
                    self.remembered.paid(record)

    async def fitted(self, exchange: PaidExchange, reply: Reply, read: Read) -> Reply:
        """What the agent is answered in place of a 402: the very same where nothing is to be changed."""
        if read.fault is not None:
            checks = exchange.generation.policy.in_force("", route=exchange.route).demands
            place, cure = read.fault.field or "body", read.fault.cure
            fault = Fault(DemandCheck.UNREADABLE, place, read.fault.found, "a demand that can be read", cure)
            refused = self._decided(exchange, "", fault, checks.unreadable)
            return answers.refused_demand(exchange.route, [fault]) if refused else reply
        demand = read.demand
        if demand is None or not demand.offers:
            return reply
        asked = Asked.of(exchange.method, exchange.url)
        refusals = await self._refusals(exchange, asked, demand)
        left = [offer for offer in demand.offers if _place(offer) not in refusals]
        if refusals and is_empty(left, demand.offers):
            return answers.refused_demand(exchange.route, list(refusals.values()))
        self.remembered.passed(asked, left, self._parts.clock())
        return self._offered(exchange, reply, demand, left)

    def _offered(self, exchange: PaidExchange, reply: Reply, demand: Demand, left: Sequence[Offer]) -> Reply:
        policy = exchange.generation.policy
        offers = policy.in_force("", route=exchange.route).offers
        sick: dict[str, str] = {}

        def fault_of(network: str) -> str:
            return sick.setdefault(network, self._health.fault(network, exchange.generation))

        shown = arranged(left, offers, fault_of)
        if is_empty(shown, demand.offers):
            return answers.no_network_offered(exchange.route, left, offers.only or ())
        if [_place(offer) for offer in shown] == [_place(offer) for offer in demand.offers]:
            return reply
        self._count(exchange, left, shown, sick)
        self._terms.changed(exchange, demand)
        headers, body = with_accepts(demand, shown)
        if body == demand.body:
            reply.headers = headers
            return reply
        return whole_reply(reply.status, [line for line in headers if line[0] not in _FRAMING], body)

    # -- the checks

    async def _refusals(
        self, exchange: PaidExchange, asked: Asked, demand: Demand
    ) -> dict[tuple[str, int], Fault]:
        """By the place of its offer: why it is taken out."""
        found: dict[tuple[str, int], Fault] = {}
        ends_at = asyncio.get_running_loop().time() + DOMAIN_LIMIT_S
        for offer in demand.offers:
            in_force = exchange.generation.policy.in_force(offer.network, route=exchange.route)
            facts = self._facts(exchange, asked, offer, in_force)
            if is_signed_by_domain(offer):
                facts = await self._with_contract(offer, facts, ends_at)
            for fault in faults(offer, facts):
                if self._decided(exchange, offer.network, fault, getattr(in_force.demands, fault.check)):
                    found.setdefault(_place(offer), fault)
        return found

    def _facts(self, exchange: PaidExchange, asked: Asked, offer: Offer, in_force: InForce) -> DemandFacts:
        token = in_force.tokens.get(offer.asset)
        decimals = dollar_decimals(offer.network, offer.asset)
        if token is not None:
            decimals = token.decimals if token.dollar else None
        least = in_force.minimum_amount
        return DemandFacts(
            table=Domain(token.name, token.version) if token and token.name else None,
            minimum=least.in_atomic(decimals) if least else None,
            price_before=self.remembered.price(asked, offer),
            largest_jump=in_force.demands.largest_price_jump.factor,
            payees_before=self.remembered.payees(asked, offer),
            network_known=self._knows(exchange, offer.network),
        )

    async def _with_contract(self, offer: Offer, facts: DemandFacts, ends_at: float) -> DemandFacts:
        """What the token itself says goes before the table. Asked for at once where the offer seems wrong
        or no table knows the token, else on the side."""
        if offer.network not in self._parts.watchers:
            return facts
        tokens, token = self._parts.tokens, (offer.network, offer.asset)
        if facts.table is not None and not _is_wrong(offer, facts):
            return replace(facts, contract=tokens.known_or_asked(*token))
        left_s = max(0.0, ends_at - asyncio.get_running_loop().time())
        return replace(facts, contract=await tokens.domain(*token, limit_s=left_s))

    def _knows(self, exchange: PaidExchange, network: str) -> bool:
        return network in _NETWORKS or network in exchange.generation.policy.networks

    # -- what is said of them

    def _decided(self, exchange: PaidExchange, network: str, fault: Fault, check: CheckPolicy) -> bool:
        """Count and log what the policy says of a fault; whether it refuses."""
        if not (done := check.done):
            return False
        label = network if self._knows(exchange, network) else OTHER
        self._parts.telemetry.demand(label, fault.check, done)
        about = (exchange.route, f"{exchange.url[:200]} {fault.field} {fault.check}", fault.found)
        if about not in self._told:
            if len(self._told) >= MAX_TOLD:
                self._told.clear()
            self._told.add(about)
            facts = {"route": exchange.route, "check": str(fault.check), "network": label}
            said = {"field": fault.field, "found": fault.found, "expected": fault.expected}
            log.warning("demand: %s", done, extra=facts | said | {"cure": fault.cure})
        return done == "refused"

    def _count(
        self, exchange: PaidExchange, left: Sequence[Offer], shown: Sequence[Offer], sick: dict[str, str]
    ) -> None:
        """Offers that are not where their seller put them."""
        for network in sorted({str(offer.network) for offer in left}):
            label = network if self._knows(exchange, network) else OTHER
            if all(offer.network != network for offer in shown):
                self._parts.telemetry.offer(label, "taken_out")
            elif sick.get(network):
                self._parts.telemetry.offer(label, "moved_back")
        for unwell, why in sick.items():
            if why and unwell not in self._sick:
                log.warning("a network is unhealthy", extra={"network": unwell, "why": why})
        self._sick = {unwell for unwell in self._sick if sick.get(unwell, "?")}
        self._sick |= {unwell for unwell, why in sick.items() if why}


def _place(offer: Offer) -> tuple[str, int]:
    return offer.spot, offer.index


def _is_wrong(offer: Offer, facts: DemandFacts) -> bool:
    return any(fault.check is DemandCheck.TOKEN_DOMAIN for fault in faults(offer, facts))
