"""Texts that may follow a broadcast or a lost answer and use the words of a refusal: all stay in doubt.

For each rule that refuses, sentences that contain its words and speak of something later.
"""

import json

import pytest

from guardian.settlement.classify import Operation, Outcome, classify_reply

ADVERSE = {
    "domain": [
        "domain separator mismatch found in the mined transaction",
        "EIP712 verification failed after the transaction was sent",
        "transaction reverted on-chain: invalid domain separator",
        "wrong token version, transfer reverted in block 4411",
        "invalid typed data hash in receipt logs",
    ],
    "signature": [
        "invalid signature in receipt of the sent transaction",
        "tx dropped from mempool: signature mismatch",
        "transaction reverted: FiatTokenV2: invalid signature",
        "signature verification failed while waiting for confirmation",
        "relayed transaction failed with bad signature",
    ],
    "expired": [
        "authorization expired while the transaction was pending",
        "payment expired before confirmation",
        "permit deadline passed, transaction still in mempool",
        "transaction expired: blockhash not found after sending",
        "authorization is expired (execution failed in block 99)",
    ],
    "balance": [
        "transaction reverted: ERC20: transfer amount exceeds balance",
        "insufficient funds after submission of the transfer",
        "settlement reverted on chain: insufficient allowance",
        "balance too low at execution, receipt status 0",
        "insufficient balance reported by receipt logs",
    ],
    "recipient": [
        "recipient mismatch in on-chain transfer event",
        "wrong recipient credited",
        "settled to an invalid recipient",
        "payTo does not match the Transfer event",
        "payee mismatch after settlement",
    ],
    "amount": [
        "amount mismatch in settled transfer",
        "transferred amount below required amount",
        "settled value less than required",
        "insufficient amount received by payee",
        "on-chain amount too low: expected 1000 got 900",
    ],
    "compliance": [
        "transaction flagged by compliance after broadcast",
        "funds frozen: address blocked during transfer, tx pending review",
        "blacklisted account: transaction reverted in block 12",
        "sanctions check pending, transaction already submitted",
        "KYT review in progress for submitted transaction",
    ],
    "not_configured": [
        "receipt endpoint not configured, transaction sent",
        "no client available to confirm the transaction",
        "account disabled after submission",
        "confirmation service not enabled",
        "webhook wallet not set, settlement pending",
    ],
    "unsupported": [
        "unsupported transaction type in receipt",
        "network does not support waiting for confirmations",
        "chain mismatch between submitted transaction and receipt",
        "unknown token in Transfer event",
        "unsupported block tag while polling the receipt",
    ],
    "payload": [
        "invalid response payload from node",
        "failed to decode transaction receipt",
        "missing required field transactionHash in receipt",
        "malformed payload received from bundler after sending",
        "could not parse receipt of submitted transaction",
    ],
    "shape": [
        "missing confirmation",
        "nonce mismatch",
        "status mismatch: expected status 1 got 0",
        "event log missing for the transfer",
        "expected receipt, got null",
    ],
    "access": [
        "unauthorized: eth_getTransactionReceipt",
        "forbidden by rpc provider while polling for receipt",
        "invalid api key for https://rpc.example.org",
        "RPC access denied after transaction submission",
        "authentication failed for url: https://node.example.org",
    ],
    "general": [
        "invalid receipt after sending transaction",
        "transaction not found after submission",
        "settlement result invalid",
        "invalid confirmation payload",
        "required confirmations not reached",
        "missing block number in response",
        "malformed server response",
        "schema validation failed for bundler response",
        "expected value at line 1 column 1",
        "invalid character '<' looking for beginning of value",
        "invalid jump destination",
        "invalid opcode: INVALID",
        'null value in column "amount" violates not-null constraint',
        "ValidationError: Path `amount` is required",
        "payload is not a function",
        "unsupported operand type(s) for +: 'int' and 'NoneType'",
        "invalid type: null, expected a string at line 1 column 8",
        "wallet lock expired",
        "invalid account data for instruction",
        "settlement_record_invalid",
        "transfer_invalid",
        "receipt_missing",
        "invalid_state",
        "invalid_execution",
        "invalid_settlement",
        "missing_transaction",
        "unsupported_operation",
        "invalid_exact_evm_user_op_failed",
        "invalid_exact_tron_energy_used_up",
        "invalid_exact_svm_confirmation_missing",
        "ledger_close_missing",
        "deposit_not_approved",
        "escrow_release_invalid",
        "amount_paid_mismatch",
        "request expired",
        "value out of range in result",
        "token already spent or invalid",
        "merchant was paid a different amount",
        "invalid sequence for account",
        "json parse error: unexpected end of input",
    ],
    "estimation": [
        "gas estimation passed but transaction failed with invalid signature",
        "transaction submitted; re-estimate gas failed",
        "eth_estimateGas failed for the replacement transaction",
        "bump failed: failed to estimate gas, original transaction pending",
        "gas estimation failed on retry 2",
    ],
    "gas_money": [
        "facilitator has insufficient funds to replace pending transaction",
        "insufficient funds for gas on attempt 2, first transaction sent",
        "relayer out of gas: transaction out of gas in block 8",
        "low signer balance, transaction stuck in mempool",
        "insufficient funds for gas * price + value: replacement transaction",
    ],
    "simulation": [
        "simulation passed, transaction sent, receipt not found",
        "simulation failed but transaction was broadcast",
        "tx submitted; post-settlement simulation failed",
        "transaction reverted after successful simulation error",
        "preflight ok, confirmation failed",
    ],
    "fee_cap": [
        "transaction stuck: max fee per gas less than block base fee",
        "pending transaction: fee cap lower than base fee",
        "retrying: max fee per gas less than block base fee",
        "max fee per gas less than block base fee, replacement transaction underpriced",
        "tx in mempool, maxFeePerGas is less than the block base fee",
    ],
    "too_early": [
        "transaction not yet valid, queued in mempool",
        "receipt not yet available, valid after next block",
        "authorization not yet valid, transaction reverted in block 7",
        "not yet valid at execution: tx reverted, gas used 41000",
        "confirmation not active yet, transaction pending",
    ],
    "rpc_read": [
        "failed to get balance after transfer",
        "failed to read nonce of pending transaction",
        "could not fetch gas price for replacement",
        "balance check failed after settlement",
        "failed to get transaction receipt",
    ],
    "rate_limit": [
        "rate limit exceeded while waiting for receipt",
        "too many requests: eth_getTransactionReceipt",
        "transaction sent, then rate limited",
        "429 Too Many Requests for url: https://rpc.example.org",
        "rate limit reached, transaction status unknown",
    ],
    "user operations": [
        "user operation pending: invalid nonce AA25",
        "UserOperation reverted during execution: invalid signature",
        "userOp accepted by bundler, receipt missing",
        "bundle not included: account not valid",
        "invalid userOp receipt",
    ],
}
SHAPES = [
    lambda text: (200, {"success": False, "errorReason": text, "transaction": "", "network": "eip155:8453"}),
    lambda text: (400, {"error": text}),
    lambda text: (500, {"success": False, "error": "Settlement failed", "message": text}),
    lambda text: (422, {"detail": [{"msg": text, "type": "value_error"}]}),
]


@pytest.mark.parametrize("text", [text for texts in ADVERSE.values() for text in texts])
def test_words_of_a_refusal_beside_a_later_step_are_in_doubt(text: str) -> None:
    for shape in SHAPES:
        status, body = shape(text)
        verdict = classify_reply(Operation.SETTLE, status, json.dumps(body).encode())
        assert verdict.outcome in (Outcome.SETTLEMENT, Outcome.UNKNOWN), verdict.rule


def test_every_rule_that_refuses_is_tried_with_texts_of_doubt() -> None:
    assert all(len(texts) >= 5 for texts in ADVERSE.values())


@pytest.mark.parametrize("said", ["InvalidAccountData", "MissingRequiredSignature", {"Custom": 1}])
def test_an_instruction_error_of_solana_may_come_from_a_block(said: object) -> None:
    body = {"success": False, "errorReason": "failed", "details": {"err": {"InstructionError": [2, said]}}}
    verdict = classify_reply(Operation.SETTLE, 200, json.dumps(body).encode())
    assert verdict.outcome is Outcome.SETTLEMENT
