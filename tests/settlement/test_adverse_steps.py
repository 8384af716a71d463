"""Texts of doubt beside the names of a step: "settlement request", "transaction payload", "queue", "sign".

As in `test_adverse_texts.py`, for the rules that read such a name as what it is: no sign of a later step.
"""

import json

import pytest

from guardian.settlement.classify import Operation, Outcome, classify_reply

ADVERSE = {
    "signing": [
        "failed to sign the replacement transaction",
        "failed to sign transaction again",
        "could not sign transaction 2 of 2",
        "failed to sign and send transaction",
        "failed to sign cancel transaction",
        "failed to sign the second transaction",
        "failed to sign refund transaction",
        "error signing transaction: policy violation",
        "tx 1 sent, failed to sign transaction for the fee",
        "failed to sign transaction for retry, first attempt pending",
        "cannot sign transaction: previous one still in mempool",
        "transaction signing failed after broadcast of the permit",
    ],
    "traffic": [
        "quota exceeded",
        "request quota exceeded",
        "rpc quota exceeded",
        "daily request count exceeded",
        "compute units quota exceeded",
        "node rate limit reached while waiting for the receipt",
        "provider is overloaded, try again",
        "rpc overloaded, please retry",
        "transaction queue full",
        "tx pool is full, try again later",
        "payment sent; settlement quota exceeded",
        "settlement quota exceeded while confirming",
        "method eth_sendRawTransaction exceeds daily quota",
        "monthly capacity limit exceeded, visit https://dashboard.example.org",
        "overloaded",
    ],
    "found out afterwards": [
        "Transaction version (0) is not supported by the requesting client",
        "transaction version 0 is not supported",
        "set maxSupportedTransactionVersion to 0 and ask again: unsupported version",
        "failed to decode transaction meta",
        "failed to xdr decode transaction meta",
        "settlement exceeds max time limit",
        "settlement exceeds the time allowed",
        "server busy, try again",
        "queue full",
        "account queue full",
        "overloaded, try again",
        "try again later",
    ],
    "not enough": [
        "allowance is not enough, transaction reverted in block 3",
        "balance not enough after the transfer was sent",
        "funds not enough to replace the pending transaction",
        "invalid settlement amount credited",
        "invalid settlement amount in receipt",
        "invalid settlement amount: transferred 5",
        "EIP-2612 validation failed after submission of the permit",
        "EIP-3009 verification failed: nonce already used",
        "fee payer included in confirmed transaction",
        "failed to read request body from https://rpc.example.org, transaction sent",
        "balance was not enough, payment executed",
        "failed to read response body",
    ],
    "denied": [
        "nothing was submitted to the backup node, original transaction pending",
        "nothing was submitted",
        "nothing was submitted and no funds moved",
        "no funds moved",
        "nothing was sent. transaction was broadcast",
        "nothing was submitted twice: invalid nonce",
        "nothing was broadcast yet, still processing",
        "transaction reverted, no funds moved: invalid signature",
        "nothing was submitted on this attempt",
        "nothing has been sent since the last attempt, insufficient funds",
        "settlement failed. nothing was submitted.",
    ],
    "instructions": [
        "too few instructions executed in block 7",
        "blocked program in confirmed transaction",
        "no transfer instruction found in confirmed transaction",
        "no transfer instruction found on chain",
        "fee payer transferring funds failed after submission",
        "unknown signer in transaction receipt",
        "insufficient signatures to finalize the transaction",
        "insufficient signatures, transaction already submitted",
        "instruction has no accounts: transaction reverted in block 9",
        "expected exactly 1 transfer instruction in the landed transaction",
        "instruction data too short, execution failed",
        "insufficient account keys for instruction",
        "invalid instruction data",
        "unsupported program id",
        "transaction targets 0x1, expected 0x2 in receipt",
        "transaction calldata empty in mined transaction",
    ],
    "not found": [
        "escrow account not found after deposit",
        "escrow account not found in block",
        "quote not found, payment already settled",
        "payment channel not found on chain after submission",
        "mandate not found: transaction sent",
        "settlement not found",
        "transfer not found",
        "hold not found",
        "payment not found",
        "deposit not found",
    ],
    "far": [
        "deadline was not far enough, permit reverted in block 8",
        "deadline not far enough for confirmation",
        "settlement exceeds permitted amount: transaction reverted on chain",
        "exceeds permitted amount, transfer already processed",
        "exceeds approved amount in transfer event",
        "exceeds permitted value: credited 2000",
        "invalid signatures in block",
        "missing signatures, transaction pending",
        "missing transaction signatures in receipt",
        "wrong signatures reported by the explorer",
    ],
    "settlement and transaction as names": [
        "settlement request timed out",
        "settle request rejected: transaction already submitted",
        "settlement request invalid after broadcast",
        "settlement type mismatch on chain",
        "settlement exceeds time limit",
        "settlement invalid",
        "settlement missing",
        "settlement expired",
        "settlement value mismatch",
        "settlement body missing in response",
        "settlement endpoint failed",
        "settlement input rejected by the node",
        "settlement amount differs",
        "transaction payload rejected by mempool",
        "transaction version mismatch in block",
        "transaction format invalid in node response",
        "transaction invalid",
        "transaction missing",
        "transaction expired",
        "transaction amount mismatch",
        "invalid transaction state",
        "missing transaction id",
        "server did not support the request, settlement state unknown",
        "server rejected invalid account",
        "invalid timestamp in block",
        "sender not charged",
        "payee not credited",
        "spender not paid",
        "account not credited: invalid amount",
    ],
    "simulation result": [
        "empty simulation result, sent anyway",
        "simulation result missing; transaction broadcast",
        "no fee in simulation result, transaction submitted",
        "empty simulation result after submission",
        "simulation result undefined but transaction confirmed",
        "missing simulation result for pending transaction",
        "simulation result empty, tx in mempool",
        "empty simulation result on retry 2",
        "simulation result missing, receipt not found",
        "empty simulation result; replacement sent",
    ],
    "decoding": [
        "failed to rlp decode receipt",
        "failed to hex decode transaction result",
        "failed to base64 decode transaction status",
        "failed to xdr decode transaction result",
        "failed to bcs decode transaction event",
        "could not hex decode transaction logs",
        "failed to rlp decode response for transaction",
        "unable to decode transaction receipt",
        "failed to xdr decode confirmed transaction",
        "error hex decoding submitted transaction",
    ],
    "nobody for it": [
        "no handler for chain event",
        "no facilitator for the network left, transaction pending",
        "no provider for network answered: transaction sent",
        "no mechanism for this scheme confirmed the transaction",
        "no adapter for chain, settlement in progress",
        "no authorization provided by the node while polling for the receipt",
        "no credentials supplied for https://rpc.example.org",
        "does not support the network's receipts",
        "node does not support the network call eth_getTransactionReceipt",
        "server does not support x402 receipts",
    ],
}
SHAPES = [
    lambda text: (200, {"success": False, "errorReason": text, "transaction": "", "network": "eip155:8453"}),
    lambda text: (400, {"error": text}),
    lambda text: (500, {"success": False, "error": "Settlement failed", "message": text}),
    lambda text: (422, {"detail": [{"msg": text, "type": "value_error"}]}),
]


@pytest.mark.parametrize("text", [text for texts in ADVERSE.values() for text in texts])
def test_the_name_of_a_step_beside_a_later_step_is_in_doubt(text: str) -> None:
    for shape in SHAPES:
        status, body = shape(text)
        verdict = classify_reply(Operation.SETTLE, status, json.dumps(body).encode())
        assert verdict.outcome in (Outcome.SETTLEMENT, Outcome.UNKNOWN), verdict.rule


def test_every_such_rule_is_tried_with_ten_texts_of_doubt() -> None:
    assert all(len(texts) >= 10 for texts in ADVERSE.values())


@pytest.mark.parametrize(
    "text",
    ["rate limit exceeded", "Too many requests", "service is overloaded, try again", "payer quota exceeded"],
)
def test_traffic_that_a_node_counts_is_in_doubt(text: str) -> None:
    node = {"error": {"code": -32005, "message": text}}
    facilitator = {"error": text}
    said = [classify_reply(Operation.SETTLE, 500, json.dumps(body).encode()) for body in (node, facilitator)]
    assert [verdict.outcome for verdict in said] == [Outcome.SETTLEMENT, Outcome.TRANSIENT]
