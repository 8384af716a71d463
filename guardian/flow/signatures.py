"""Whose signature was proven, and when it was made: what anybody can read on chain buys nothing.

A facilitator's /verify proves a signature; where the first payment itself makes /verify fail
(balance, nonce) the guardian recovers it. Memory only: what must outlive a restart stands in the
record as `vouched`.
"""

from guardian.chain.signature import Authorization, signed_by_payer
from guardian.errors import ChainUnavailable, NotSent, ReplyLost
from guardian.flow.ask import meant_for
from guardian.flow.newest import Newest
from guardian.flow.parts import Call, Parts
from guardian.policy.layers import InForce
from guardian.settlement.classify import Operation
from guardian.settlement.record import Settlement
from guardian.wire.names import Address
from guardian.wire.networks import Domain
from guardian.wire.payment import Method, Payment
from guardian.wire.reply import read_verify_reply

REMEMBERED = 100_000
"""Authorizations remembered between /verify and /settle; some 20 MB, and minutes of heavy load."""

DOMAIN_LIMIT_S = 1.0
"""How long a caller waits for the token's word on its domain; it is asked once per token."""

VERIFY_TIMEOUT_S = 10.0
"""A /verify is a few reads of a node; SDK facilitators answer within a second."""


class Signatures:
    """What was seen and proven of signatures in this process."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._first_seen = Newest[str, float](REMEMBERED)
        self._vouched = Newest[tuple[str, str], None](REMEMBERED)

    def seen(self, payment: Payment) -> None:
        """The first sight of an authorization proves that it is at least this old."""
        if payment.key not in self._first_seen:
            self._first_seen.put(payment.key, self._parts.clock())

    def vouch(self, payment: Payment) -> None:
        """A facilitator has accepted this very signature."""
        self._vouched.put((payment.key, payment.signature_hash), None)

    def vouched(self, payment: Payment) -> bool:
        """Some facilitator has accepted this very signature in this process' memory."""
        return (payment.key, payment.signature_hash) in self._vouched

    def signed_at(self, payment: Payment, now: float) -> float:
        """Unix seconds by which the signature existed: whichever proof makes it older."""
        seen = self._first_seen.get(payment.key, now)
        if payment.valid_before is None or payment.max_timeout_s is None:
            return seen
        return min(seen, float(payment.valid_before - payment.max_timeout_s))

    def delay_s(self, payment: Payment, network: InForce) -> float:
        """How long to wait before the settle, so that the signature is old enough."""
        if network.post_sign_delay_when == "always":
            return network.post_sign_delay_s
        if network.post_sign_delay_when == "on_failure" or not network.post_sign_delay_s:
            return 0.0
        now = self._parts.clock()
        age_s = now - self.signed_at(payment, now)
        return min(max(network.post_sign_delay_s - age_s, 0.0), network.post_sign_delay_s)

    async def proven(self, record: Settlement, payment: Payment) -> bool:
        """The payer made this signature: vouched for, or recovered here. Raises ChainUnavailable where only
        a node could tell and none answers: then nothing is said against it."""
        if self.vouched(payment) or (record.vouched and record.signature_hash == payment.signature_hash):
            return True
        if not record.watched and record.signature_hash == payment.signature_hash:
            return True  # no chain evidence is used for it: only the facilitator's own success
        return await self._is_payers(payment)

    async def proven_anew(self, payment: Payment, call: Call) -> bool:
        """The payer signed this payload, by recovery or by a facilitator's /verify of it."""
        if self.vouched(payment) or await self.recovered(payment):
            return True
        generation = call.generation
        for facilitator in generation.facilitators.candidates(
            payment.network, payment.scheme, Operation.VERIFY, key=payment.key, only=call.only
        ):
            try:
                shown = call.headers if call.only else meant_for(facilitator, generation, call.headers)
                headers = generation.headers_for(facilitator, "POST", "/verify", shown)
                reply = await facilitator.post("/verify", headers, call.body, timeout_s=VERIFY_TIMEOUT_S)
            except (NotSent, ReplyLost):
                continue
            return read_verify_reply(reply.status, reply.body).is_valid is True
        return False

    async def recovered(self, payment: Payment, domain: Domain | None = None) -> bool:
        """The EIP-3009 signature is the payer's, by EIP-712 or ERC-1271; False where unprovable.

        domain: the only one to try, instead of the one that `extra` names and the token's own.
        """
        try:
            return await self._is_payers(payment, domain)
        except ChainUnavailable:
            return False

    async def _is_payers(self, payment: Payment, domain: Domain | None = None) -> bool:
        watcher = self._parts.watchers.get(payment.network)
        if payment.method is not Method.EIP3009 or watcher is None:
            return False
        told = authorization_of(payment, domain)
        if await signed_by_payer(told, payment.signature, watcher.endpoints):
            return True
        if domain is not None:
            return False
        # Facilitators that know a token settle by its own domain, whatever a seller says of it.
        own = await own_domain(self._parts, payment, self._parts.policy.network(payment.network))
        if own is None or (other := authorization_of(payment, own)) == told:
            return False
        return await signed_by_payer(other, payment.signature, watcher.endpoints)


async def own_domain(parts: Parts, payment: Payment, in_force: InForce) -> Domain | None:
    """The token's own domain, the contract's word before the table's; None where it is not known whole."""
    domain = None
    if payment.network in parts.watchers:
        domain = await parts.tokens.domain(payment.network, payment.asset, limit_s=DOMAIN_LIMIT_S)
    token = in_force.tokens.get(payment.asset)
    domain = domain or (Domain(token.name, token.version) if token and token.name else None)
    return domain if domain and domain.version is not None and domain.whole else None


def authorization_of(payment: Payment, domain: Domain | None) -> Authorization:
    """What the payer of an EIP-3009 payment has signed; domain: in place of the one that `extra` names."""
    return Authorization(
        chain_id=int(payment.network.partition(":")[2]),
        asset=payment.asset,
        domain_name=domain.name if domain else payment.domain_name,
        domain_version=(domain.version or "") if domain else payment.domain_version,
        payer=payment.payer,
        to=Address(payment.authorization_to),
        value=payment.authorization_value or 0,
        valid_after=payment.valid_after or 0,
        valid_before=payment.valid_before or 0,
        nonce=payment.nonce,
    )
