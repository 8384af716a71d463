"""What is looked at before anything is sent: the facts are gathered here, the faults found in settlement/.

A payment is refused only where no facilitator fits it: a limit of one facilitator makes that one unfit.
What the token's contract says goes before every table, and a signature that is provably the payer's before
what `extra` says of its domain: a payment that would succeed is not refused.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from guardian.flow.parts import Call, Generation, Parts, log
from guardian.flow.signatures import DOMAIN_LIMIT_S, Signatures
from guardian.policy.layers import InForce
from guardian.settlement.preflight import Check, Facts, Finding, findings
from guardian.wire.networks import Domain, dollar_decimals
from guardian.wire.payment import Method, Payment

MAX_KNOWN = 1024
"""Limits kept, by network, token and facilitator; where callers name more, looking begins anew."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a policy says of one token at one facilitator; as in Facts."""

    table: Domain | None
    minimum: int | None
    shortest_validity_s: float
    longest_validity_s: float | None
    longest_description: int | None
    needs_payment_id: bool


@dataclass(frozen=True, slots=True)
class Looked:
    """What preflight says. refusal: why nobody gets this payment; unfit: facilitators that do not."""

    refusal: Finding | None = None
    unfit: frozenset[str] = frozenset()


NOTHING_FOUND = Looked()


class Preflight:
    """Looks at payments that are about to go out for the first time."""

    def __init__(self, parts: Parts, signatures: Signatures) -> None:
        self._parts = parts
        self._signatures = signatures
        self._limits: dict[tuple[str, str, str], Limits] = {}
        self._limits_of: Generation | None = None

    async def look(self, payment: Payment, call: Call) -> Looked:
        """Every check of the policy, for every facilitator that may be asked. Counts and logs."""
        contract = self._contract(payment)
        found = self._found(payment, call, contract)
        if not found:
            return Looked(unfit=strangers) if (strangers := _strangers(payment, call)) else NOTHING_FOUND
        if contract is None and _named(found, Check.TOKEN_DOMAIN) and payment.network in self._parts.watchers:
            contract = await self._parts.tokens.domain(payment.network, payment.asset, limit_s=DOMAIN_LIMIT_S)
            found = self._found(payment, call, contract)
        if _named(found, Check.TOKEN_DOMAIN) and await self._signed_all_the_same(payment, call, contract):
            found = {name: _without(found[name], Check.TOKEN_DOMAIN) for name in found}
        return self._decided(payment, call, found)

    def _contract(self, payment: Payment) -> Domain | None:
        """What the token is known to say, where the chain can be asked."""
        if payment.method is not Method.EIP3009 or payment.network not in self._parts.watchers:
            return None
        return self._parts.tokens.known_or_asked(payment.network, payment.asset)

    def _found(self, payment: Payment, call: Call, contract: Domain | None) -> dict[str, list[Finding]]:
        """By facilitator; empty where nothing is wrong. "" stands for all while none may be asked."""
        generation = call.generation
        supported = generation.facilitators.claimed(payment.network, payment.scheme, payment.x402_version)
        found = {
            name: findings(payment, self._facts(payment, generation, name, contract, supported))
            for name in _names(payment, call) or [call.only]
        }
        return found if any(found.values()) else {}

    def _facts(
        self,
        payment: Payment,
        generation: Generation,
        facilitator: str,
        contract: Domain | None,
        supported: bool | None,
    ) -> Facts:
        limits = self._known(payment, generation, facilitator)
        return Facts(
            now=self._parts.clock(),
            table=limits.table,
            contract=contract,
            minimum=limits.minimum,
            shortest_validity_s=limits.shortest_validity_s,
            longest_validity_s=limits.longest_validity_s,
            longest_description=limits.longest_description,
            needs_payment_id=limits.needs_payment_id,
            supported=supported,
        )

    def _known(self, payment: Payment, generation: Generation, facilitator: str) -> Limits:
        """Looked up in the policy's layers once for each token: every settle comes by here."""
        if self._limits_of is not generation or len(self._limits) > MAX_KNOWN:
            self._limits, self._limits_of = {}, generation
        key = (payment.network, payment.asset, facilitator)
        known = self._limits.get(key)
        if known is None:
            known = self._limits[key] = _limits(payment, generation, facilitator)
        return known

    async def _signed_all_the_same(self, payment: Payment, call: Call, contract: Domain | None) -> bool:
        """The signature is the payer's under the token's true domain, whatever `extra` says."""
        facts = self._facts(payment, call.generation, call.only, contract, None)
        return facts.domain is not None and await self._signatures.recovered(payment, facts.domain)

    def _decided(self, payment: Payment, call: Call, found: dict[str, list[Finding]]) -> Looked:
        told: set[tuple[str, str]] = set()
        refusals: dict[str, Finding] = {}
        for name, faults in found.items():
            checks = call.generation.policy.in_force(payment.network, name).preflight
            for fault in faults:
                done = getattr(checks, fault.check).done
                if done == "refused":
                    refusals.setdefault(name, fault)
                if done and (fault.check, done) not in told:
                    told.add((fault.check, done))
                    self._tell(payment, fault, done)
        if refusals and len(refusals) == len(found):
            return Looked(next(iter(refusals.values())))
        return Looked(unfit=frozenset(refusals) | _strangers(payment, call))

    def _tell(self, payment: Payment, fault: Finding, done: str) -> None:
        self._parts.telemetry.preflight(payment.network, fault.check, done)
        log.warning(
            "preflight: %s",
            done,
            extra={
                "network": payment.network,
                "check": str(fault.check),
                "field": fault.field,
                "found": fault.found,
                "expected": fault.expected,
                "cure": fault.cure,
            },
        )


def _names(payment: Payment, call: Call) -> list[str]:
    """Who may be asked, in order."""
    if call.only:
        return [call.only]
    facilitators = call.generation.facilitators
    if len(facilitators.all) == 1:  # asked or not: what it takes is the same while its circuit is open
        return [facilitators.all[0].name]
    candidates = facilitators.candidates(
        payment.network, payment.scheme, "settle", x402_version=payment.x402_version, key=payment.key
    )
    return [one.name for one in candidates]


def _strangers(payment: Payment, call: Call) -> frozenset[str]:
    """Everybody but the one facilitator that can settle a payment which names its settler."""
    facilitators = call.generation.facilitators
    bound = facilitators.signing_as(payment.bound_to) if payment.bound_to else ""
    return frozenset(one.name for one in facilitators.all if one.name != bound) if bound else frozenset()


def _limits(payment: Payment, generation: Generation, facilitator: str) -> Limits:
    policy = generation.policy
    in_force = policy.in_force(payment.network, facilitator)
    limits = policy.profile_of(facilitator).limits
    token = in_force.tokens.get(payment.asset)
    least = policy.minimum_amount(payment.network, facilitator)
    return Limits(
        table=Domain(token.name, token.version) if token and token.name else None,
        minimum=least.in_atomic(decimals_of(payment, in_force)) if least else None,
        shortest_validity_s=in_force.preflight.shortest_validity_s,
        longest_validity_s=in_force.preflight.longest_validity_s,
        longest_description=limits.longest_description,
        needs_payment_id=limits.needs_payment_id,
    )


def decimals_of(payment: Payment, in_force: InForce) -> int | None:
    """Of a dollar token; None for any other."""
    token = in_force.tokens.get(payment.asset)
    if token is not None:
        return token.decimals if token.dollar else None
    return dollar_decimals(payment.network, payment.asset)


def _named(found: dict[str, list[Finding]], check: Check) -> bool:
    return any(finding.check is check for faults in found.values() for finding in faults)


def _without(faults: Iterable[Finding], check: Check) -> list[Finding]:
    return [finding for finding in faults if finding.check is not check]
