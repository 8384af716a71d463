"""Negative proofs: that an authorization was never used for this payment, and never can be.

Every moving endpoint is asked and all must say the same (`Endpoints.agreed`). A claim is what the
watcher suspects; only what comes back from `prove` may be told.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from guardian.chain.endpoint import Endpoint
from guardian.chain.evidence import Use, judge
from guardian.chain.reads import Finality, final_block, receipt_answer, receipt_call, states
from guardian.chain.rpc import Endpoints
from guardian.chain.target import Cancelled, Expired, Mismatch, Target
from guardian.wire.names import TxHash


@dataclass(frozen=True, slots=True)
class Claim:
    """A suspicion. spent: the transaction that spent the nonce otherwise; None: it expired unused."""

    target: Target
    spent: TxHash | None = None
    use: Use | None = None
    detail: str = ""


async def prove(
    endpoints: Endpoints, claims: Sequence[Claim], finality: Finality
) -> dict[str, Cancelled | Expired | Mismatch]:
    """Those claims that hold at finality by every endpoint's word: {target key: proof}."""
    finals: list[int] = []

    async def of_one(endpoint: Endpoint) -> frozenset[str]:
        final = await final_block(endpoint, finality)
        if final is None:
            return frozenset()
        finals.append(final.number)
        expired = await _expired(endpoint, claims, final.number, final.timestamp)
        return expired | await _spent(endpoint, claims, final.number)

    proven = await endpoints.agreed(of_one)
    return {c.target.key: _proof(c, min(finals)) for c in claims if c.target.key in proven}


async def _expired(endpoint: Endpoint, claims: Sequence[Claim], final: int, time: int) -> frozenset[str]:
    """Keys whose validBefore has passed at the final block with the nonce unused there."""
    targets = [c.target for c in claims if c.spent is None and _over(c.target, time)]
    if not targets:
        return frozenset()
    flags = await states(endpoint, targets, final)
    # A node without old states refuses. A nonce unused at its head is unused at every block before.
    refused = [target for target, used in zip(targets, flags, strict=True) if used is None]
    unused = {target.key for target, used in zip(targets, flags, strict=True) if used is False}
    if refused and endpoint.head is not None:
        later = await states(endpoint, refused, endpoint.head.number)
        unused |= {target.key for target, used in zip(refused, later, strict=True) if used is False}
    return frozenset(unused)


def _over(target: Target, time: int) -> bool:
    return target.valid_before is not None and time >= target.valid_before


async def _spent(endpoint: Endpoint, claims: Sequence[Claim], final: int) -> frozenset[str]:
    """Keys whose nonce was spent otherwise in a block that is final."""
    spent = [(c, c.spent) for c in claims if c.spent is not None]
    if not spent:
        return frozenset()
    found = await endpoint.ask_all([receipt_call(transaction) for _, transaction in spent])
    keys = set()
    for (claim, _), answer in zip(spent, found, strict=True):
        receipt = receipt_answer(answer)
        if receipt and receipt.block <= final and judge(receipt, claim.target)[0] is claim.use:
            keys.add(claim.target.key)
    return frozenset(keys)


def _proof(claim: Claim, final: int) -> Cancelled | Expired | Mismatch:
    if claim.spent is None:
        return Expired(final)
    if claim.use is Use.CANCELLED:
        return Cancelled(claim.spent)
    return Mismatch(claim.spent, claim.detail)
