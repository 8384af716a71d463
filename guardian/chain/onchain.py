"""One payment as the chain shows it, for evidence: its block, its logs as they are, and what they prove.

Read only, and no proof that moves a record: those are the watcher's. What was read is kept as JSON has it,
so that it can be judged again by somebody who was not there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from guardian.chain.endpoint import Endpoint
from guardian.chain.evidence import TRANSFER, Receipt, Use, judge, read_receipt, word
from guardian.chain.reads import block_at
from guardian.chain.rpc import Endpoints
from guardian.chain.target import Target
from guardian.errors import ChainUnavailable
from guardian.wire.names import Network, TxHash

MAX_LOGS = 64
"""Of one token in one transaction; a payment has two."""

_KEPT = ("address", "topics", "data", "logIndex", "transactionHash", "blockNumber", "blockHash")


@dataclass(frozen=True, slots=True)
class OnChain:
    """A transaction in its block. time: Unix seconds; use: what it did with the authorization, a word of
    chain/evidence.py, and detail; logs: those of the token that tell it, as the node gave them."""

    transaction: TxHash
    block: int
    block_hash: str
    time: int
    use: str
    detail: str
    logs: tuple[dict[str, Any], ...]


async def on_chain(endpoints: Endpoints, transaction: TxHash, target: Target) -> OnChain:
    """What became of the authorization in this transaction. Raises ChainUnavailable."""

    async def read(endpoint: Endpoint) -> OnChain:
        found = await endpoint.ask("eth_getTransactionReceipt", transaction)
        receipt = read_receipt(found)
        if receipt is None:  # it may be behind: the next one is asked
            raise ChainUnavailable(f"{endpoint.label} knows no such transaction in a block")
        block = await block_at(endpoint, receipt.block)
        use, detail = judge(receipt, target)
        logs = _telling(found["logs"], target)
        return OnChain(
            receipt.transaction, block.number, block.hash, block.timestamp, use.value, detail, logs
        )

    return await endpoints.first(read)


async def on_chain_at(url: str, network: Network, transaction: TxHash, target: Target) -> OnChain:
    """The same, of one node that somebody names. Raises ChainUnavailable and ValueError."""
    endpoints = Endpoints(network, (url,))
    try:
        return await on_chain(endpoints, transaction, target)
    finally:
        await endpoints.close()


def use_in(logs: Sequence[dict[str, Any]], transaction: TxHash, target: Target) -> tuple[Use, str]:
    """What kept logs prove by themselves. Raises ChainUnavailable for logs that are none."""
    receipt = {"logs": logs, "transactionHash": transaction, "blockNumber": "0x0", "status": "0x1"}
    read = read_receipt(receipt)
    assert read is not None
    return judge(Receipt(read.transaction, read.block, True, read.logs), target)


def _telling(logs: Sequence[dict[str, Any]], target: Target) -> tuple[dict[str, Any], ...]:
    """The token's logs but for transfers of others: what `judge` goes by."""
    payer = word(target.payer)
    kept = [
        {name: log[name] for name in _KEPT if name in log}
        for log in logs
        if str(log["address"]).lower() == target.asset
        and (topics := [str(topic).lower() for topic in log["topics"]])
        and (topics[0] != TRANSFER or word(topics[1] if topics[1:] else "") == payer)
    ]
    return tuple(kept[:MAX_LOGS])
