"""The questions that are put to one endpoint, and their answers as values.

Every question names its block. Nothing here is a finding; nothing is remembered.
"""

from collections.abc import Collection, Sequence
from typing import Any, Literal

from guardian.chain.endpoint import Block, Endpoint, RpcRefused, read_block
from guardian.chain.evidence import (
    AUTHORIZATION_CANCELED,
    AUTHORIZATION_USED,
    Log,
    Receipt,
    read_flag,
    read_log,
    read_receipt,
    state_calldata,
)
from guardian.chain.target import Target
from guardian.chain.wires import Call
from guardian.errors import ChainUnavailable
from guardian.wire.names import TxHash

Finality = int | Literal["safe", "finalized"]

NONCE_FILTER_LIMIT = 100
"""Nonces in one log filter; with more open targets the filter names the tokens only."""

FALLBACK_FINALITY_BLOCKS = 64
"""Where a node knows no `safe` or `finalized`: two epochs of Ethereum."""


async def used_logs(endpoint: Endpoint, targets: Collection[Target], first: int, last: int) -> list[Log]:
    """Uses and cancellations in blocks first..last, in one call. Raises RpcRefused, ChainUnavailable.

    A node whose filter does not work answers with what was not asked for: that is left out.
    """
    topics: list[Any] = [[AUTHORIZATION_USED, AUTHORIZATION_CANCELED]]
    if len(targets) <= NONCE_FILTER_LIMIT:
        topics += [None, sorted({str(target.nonce) for target in targets})]
    query = {
        "address": sorted({str(target.asset) for target in targets}),
        "topics": topics,
        "fromBlock": hex(first),
        "toBlock": hex(last),
    }
    found = await endpoint.ask("eth_getLogs", query)
    if not isinstance(found, list):
        raise ChainUnavailable("an answer is no list of logs")
    asked = set(query["address"])
    logs = [log for log in map(read_log, found) if log is not None]
    return [log for log in logs if log.address in asked and log.topic in topics[0]]


def state_call(target: Target, block: int) -> Call:
    """authorizationState of this target as of this block."""
    return Call("eth_call", [{"to": target.asset, "data": state_calldata(target)}, hex(block)])


def state_answer(found: object) -> bool | None:
    """Used or not; None where the node refused or answered nonsense, which proves nothing."""
    try:
        return None if isinstance(found, RpcRefused) else read_flag(found)
    except ChainUnavailable:
        return None


def receipt_call(transaction: TxHash) -> Call:
    """The receipt of a transaction."""
    return Call("eth_getTransactionReceipt", [transaction])


def receipt_answer(found: object) -> Receipt | None:
    """The receipt; None where there is none or the answer is unusable."""
    try:
        return None if isinstance(found, RpcRefused) else read_receipt(found)
    except ChainUnavailable:
        return None


def transaction_call(transaction: TxHash) -> Call:
    """A transaction, in a block or waiting."""
    return Call("eth_getTransactionByHash", [transaction])


def is_waiting(found: object) -> bool:
    """Whether this transaction object stands in the mempool."""
    return isinstance(found, dict) and found.get("blockNumber") is None


async def states(endpoint: Endpoint, targets: Sequence[Target], block: int) -> list[bool | None]:
    """authorizationState of every target as of one block, in the targets' order."""
    found = await endpoint.ask_all([state_call(target, block) for target in targets])
    return [state_answer(answer) for answer in found]


async def block_at(endpoint: Endpoint, number: int) -> Block:
    """The canonical block of this number; raises ChainUnavailable where the node has none."""
    return read_block(await endpoint.ask("eth_getBlockByNumber", hex(number), False))


async def final_block(endpoint: Endpoint, finality: Finality) -> Block | None:
    """The newest block that this network counts as final; None on a chain too young for one."""
    blocks = finality
    if isinstance(finality, str):
        (found,) = await endpoint.ask_all([Call("eth_getBlockByNumber", [finality, False])])
        if isinstance(found, dict):
            return read_block(found)
        blocks = FALLBACK_FINALITY_BLOCKS
    if endpoint.head is None or not isinstance(blocks, int) or endpoint.head.number < blocks:
        return None
    return await block_at(endpoint, endpoint.head.number - blocks)


async def pending_transactions(endpoint: Endpoint) -> list[Any]:
    """Whole transactions of the pending block; none where the node has no such thing."""
    (found,) = await endpoint.ask_all([Call("eth_getBlockByNumber", ["pending", True])])
    if not isinstance(found, dict) or not isinstance(found.get("transactions"), list):
        return []
    return list(found["transactions"])
