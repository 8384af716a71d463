"""What an operator asks of the chain outside a watch: how open payments stand, and whether a refund is one.

Read only, and no proof: what is told here moves no record. Findings that do are the watcher's.
"""

from collections.abc import Sequence
from functools import partial

from guardian.chain.endpoint import Endpoint
from guardian.chain.evidence import TRANSFER, Receipt, Use, judge, read_receipt, word
from guardian.chain.reads import receipt_answer, receipt_call, states
from guardian.chain.rpc import Endpoints
from guardian.chain.target import Target
from guardian.errors import ChainUnavailable
from guardian.wire.names import Address, TxHash

STEP = 50
"""Payments asked about in one batch."""

_SAID = {
    Use.PAID: "paid in {hash}, block {block}",
    Use.MISMATCH: "nonce used for another transfer in {hash}, block {block}",
    Use.CANCELLED: "cancelled by the payer in {hash}, block {block}",
}


async def how_they_stand(endpoints: Endpoints, targets: Sequence[Target]) -> dict[str, str]:
    """{target key: a few words}, by one endpoint's word at its head. Raises ChainUnavailable."""
    said: dict[str, str] = {}
    for start in range(0, len(targets), STEP):
        part = targets[start : start + STEP]
        said |= await endpoints.first(partial(_stand, targets=part))
    return said


async def _stand(endpoint: Endpoint, targets: Sequence[Target]) -> dict[str, str]:
    if endpoint.head is None:
        raise ChainUnavailable(f"{endpoint.label} has shown no block")
    hinted = [(target, target.hint) for target in targets if target.hint]
    used = await states(endpoint, targets, endpoint.head.number)
    found = await endpoint.ask_all([receipt_call(hash) for _, hash in hinted])
    receipts = {t.key: receipt_answer(answer) for (t, _), answer in zip(hinted, found, strict=True)}
    time = endpoint.head.timestamp
    return {
        target.key: _words(target, flag, receipts.get(target.key), time)
        for target, flag in zip(targets, used, strict=True)
    }


def _words(target: Target, used: bool | None, receipt: Receipt | None, time: int) -> str:
    use = judge(receipt, target)[0] if receipt else Use.UNRELATED
    if receipt and use in _SAID:
        return _SAID[use].format(hash=receipt.transaction, block=receipt.block)
    if used is None:
        return "no answer"
    if used:
        return "nonce used, the transaction is not known yet"
    over = target.valid_before is not None and time >= target.valid_before
    return "nonce unused, the authorization has expired" if over else "nonce unused"


async def refund_fault(
    endpoints: Endpoints, transaction: TxHash, *, asset: Address, sender: Address, to: Address, amount: int
) -> str:
    """Why this transaction does not give the amount of the token back, or "". Raises ChainUnavailable."""

    ignorant: list[str] = []

    async def read(endpoint: Endpoint) -> Receipt:
        receipt = read_receipt(await endpoint.ask("eth_getTransactionReceipt", transaction))
        if receipt is None:  # it may be behind: the next one is asked
            ignorant.append(endpoint.label)
            raise ChainUnavailable(f"{endpoint.label} knows no such transaction in a block")
        return receipt

    try:
        receipt = await endpoints.first(read)
    except ChainUnavailable:
        if ignorant:
            return "no node knows that transaction in a block yet"
        raise
    if not receipt.succeeded:
        return "that transaction has failed on chain"
    parties = (word(sender), word(to))
    moved = sum(
        int(log.words[2], 16)
        for log in receipt.logs
        if log.address == asset and log.topic == TRANSFER and len(log.words) == 3 and log.words[:2] == parties
    )
    if moved < amount:
        return f"that transaction moves {moved} of the token from {sender} to {to}, and {amount} were paid"
    return ""
