"""Whether a payment that is to be counted was signed by its payer, for the token that it names.

Looked at once for each payment, and only where spending rules are in force: a forged one would fill a
budget, and one that names another token than it was signed for would be counted as that. What cannot be
told here is taken on trust: contract wallets, and tokens whose EIP-712 domain nobody knows.
"""

import asyncio
from dataclasses import replace
from typing import Final

from guardian.chain.signature import is_contract, is_counterfactual, is_of_a_key, signed_by_payer
from guardian.errors import BadPayment, ChainUnavailable
from guardian.flow.newest import Newest
from guardian.flow.parts import Parts
from guardian.flow.signatures import authorization_of, own_domain
from guardian.policy.layers import InForce
from guardian.settlement.preflight import short
from guardian.settlement.record import Settlement
from guardian.wire.payment import Method, Payment

ASK_LIMIT_S: Final = 1.0
"""How long a caller waits for the payer's code."""

REMEMBERED: Final = 10_000
"""Payments that passed: one that waits, or could not be sent, comes here again."""

_Mark = tuple[str, str, str]


class Signer:
    """Recovers who has signed."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._passed = Newest[_Mark, None](REMEMBERED)

    async def fault(self, record: Settlement, payment: Payment, in_force: InForce) -> BadPayment | None:
        """What is wrong with a payment that its payer has provably not signed; None for every other."""
        mark = (record.key, record.spend, payment.signature_hash)
        if mark in self._passed:
            return None
        fault = await self._fault(payment, in_force)
        if fault is None:
            self._passed.put(mark, None)
        return fault

    async def _fault(self, payment: Payment, in_force: InForce) -> BadPayment | None:
        on_chain = payment.method is Method.EIP3009 and payment.network.startswith("eip155:")
        if not on_chain or not payment.asset or is_counterfactual(payment.signature):
            return None
        plain = is_of_a_key(payment.signature)
        if plain and not await self._is_another(payment, in_force):
            return None
        code = await self._has_code(payment)
        if code or (code is None and not plain):
            return None
        return _refused(payment, asked=code is not None, watched=payment.network in self._parts.watchers)

    async def _is_another(self, payment: Payment, in_force: InForce) -> bool:
        """Somebody else than the payer has signed, under the domain that `extra` names (a payer may have been
        told a wrong one, or that of another contract than the token), and under the token's own; False where
        that is not known."""
        told = replace(authorization_of(payment, None), asset=payment.domain_contract or payment.asset)
        if await signed_by_payer(told, payment.signature):
            return False
        domain = await own_domain(self._parts, payment, in_force)
        if domain is None:
            return False
        own = authorization_of(payment, domain)
        return own == told or not await signed_by_payer(own, payment.signature)

    async def _has_code(self, payment: Payment) -> bool | None:
        """Whether the payer is a contract; None where nobody can tell."""
        watcher = self._parts.watchers.get(payment.network)
        if watcher is None or watcher.endpoints is None:
            return None
        try:
            async with asyncio.timeout(ASK_LIMIT_S):
                return await is_contract(payment.payer, watcher.endpoints)
        except (ChainUnavailable, TimeoutError):
            return None


def _refused(payment: Payment, *, asked: bool, watched: bool) -> BadPayment:
    token = f"{short(payment.asset)} on {payment.network_as_sent}"
    cure = "sign with the payer's key, for the token and the amount that the payment names"
    if not asked:
        how = "ask again once the chain can be read" if watched else "give the network an rpc in the policy"
        cure += f"; where the payer is a contract wallet, {how}"
    found = f"a signature over {token} that is not that of the payer {short(payment.payer)}"
    return BadPayment("payload.signature", found, cure)
