"""Codes and refusals that may follow a broadcast, in the words that the grammar of codes reads: all in doubt.

As in `test_adverse_texts.py`, for `codes.py`, for what a status of "not now" makes certain, for a
library's dialect and for a no in words of its own. Each in all dialects of `test_field_texts.py`.
"""

import json

import pytest

from guardian.settlement.classify import Operation, Outcome, classify_reply
from guardian.settlement.codes import read_code
from tests.settlement.test_field_texts import DOUBTFUL, certain_of

CODES = [
    *("tx_budget_exceeded", "settle_tx_submitted_but_rate_limited", "pending_queue_full_tx_sent"),
    *("retries_exhausted", "confirmation_limit_exceeded", "receipt_not_found", "transaction_not_found"),
    *("nonce_conflict", "payment_already_processing", "insufficient_confirmations", "max_attempts_reached"),
    *("rpc_rate_limited", "provider_quota_exceeded", "node_rate_limit_exceeded", "alchemy_rate_limited"),
    *("infura_daily_limit_exceeded", "bundler_rate_limited", "upstream_budget_exhausted"),
    *("out_of_gas", "gas_limit_exceeded", "gas_budget_exceeded", "tx_out_of_gas", "settle_out_of_gas"),
    *("relayer_gas_limit_exceeded", "relayer_tx_out_of_gas", "facilitator_tx_underpriced"),
    *("fee_limit_exceeded", "compute_budget_exceeded", "account_limit_exceeded", "sender_limit_exceeded"),
    *("settlement_time_limit_exceeded", "settle_retry_limit_exceeded", "settlement_attempts_exhausted"),
    *(
        "polling_budget_exhausted",
        "wait_limit_reached",
        "block_limit_reached",
        "confirmation_budget_exhausted",
    ),
    *("sponsor_tx_pending", "sponsor_owner_busy", "settlement_busy", "signer_busy"),
    *("sponsor_receipt_missing", "facilitator_settle_failed", "operator_tx_reverted", "relayer_failed"),
    *("balance_low_after_transfer", "facilitator_balance_mismatch", "payer_balance_unchanged"),
    *("seller_not_paid", "merchant_not_credited", "seller_payment_not_found", "merchant_tx_unknown"),
    *("settlement_not_found", "settlement_unknown", "settlement_not_confirmed", "settle_not_completed"),
    *("policy:settlement_failed", "policy:tx_reverted", "policy_check_timeout", "policy:receipt_missing"),
    *(
        "transaction_type_not_supported",
        "unsupported_receipt",
        "receipt_not_supported",
        "event_not_supported",
    ),
    *("identifier_conflict_after_settlement", "payment_nonce_conflict", "payment_conflict"),
    *("auth_expired_in_mempool", "permit_expired_after_broadcast", "quote_expired_tx_sent"),
    *("circuit_open_after_submit", "queue_full", "server_busy", "pool_exhausted", "db_pool_exhausted"),
    *("connection_pool_exhausted", "tx_pool_full", "SEND:RATE_LIMIT", "RATE_LIMIT:eth_getTransactionReceipt"),
    *(
        "broadcast_rate_limited",
        "submit-rate-limited",
        "settle.receipt.quota_exceeded",
        "execution_cap_exceeded",
    ),
]
TEXTS = [
    "tx_budget_exceeded after broadcast",
    "settlement_paused",
    "sponsor_budget_exceeded while waiting for the receipt",
    "sponsor_balance_low: transaction already submitted",
    "rate_limited_payto (transaction sent)",
    "Sponsor balance is low, settlement still pending",
    "Daily limit reached after the transfer was sent",
    "Facilitator out of gas: transaction out of gas in block 8",
    "Transaction send failed: Simulation failed. Message: Transaction simulation failed: This transaction "
    "has already been processed. Logs: []. Catch the `SendTransactionError` and call `getLogs()` on it for "
    "full details.",
    "Transaction sent. Confirmation failed: Simulation failed. Message: Transaction simulation failed: Error "
    "processing Instruction 2: custom program error: 0x1. Logs: []",
    "Transaction failed: Simulation failed. Message: Transaction simulation failed: AlreadyProcessed. []",
    "Retry 2: Transaction failed: Simulation failed. Message: Transaction simulation failed: Blockhash not "
    "found. Logs: []",
    "The total cost (gas * gas fee + value) of executing this transaction exceeds the balance of the "
    "account. Replacement of the pending transaction failed",
    "Settlement failed: value must be positive",
    "settle_error: invalid witness",
    "Settlement error: circuit mismatch",
    "settle_failed: missing field",
    "gateway: invalid token",
    "Payment settlement failed: invalid state",
    "settlement failed: amount differs",
]
BESIDE = [
    *("transaction already submitted", "receipt not found", "execution reverted", "the outcome is unknown"),
    *("timed out after 30s", "rpc error: rate limited", "failed after 3 tries", "nonce too low"),
    *("connection reset by peer", "https://rpc.example.org answered 429", "transfer landed in block 9"),
    *("panic: nil pointer", "could not store the result", "交易已提交", "settled, but not recorded"),
]
NOT_NOW = [
    *("upstream is busy, try again later", "RPC node overloaded, please retry later", "Vault is paused"),
    *("RPC: too many requests", "rate limited by the node", "too many requests: eth_sendRawTransaction"),
    *("the payment is being settled", "settlement is busy with this payment", "retry later"),
    *(
        "queue is full",
        "mempool queue is full, retry later",
        "circuit breaker open for https://rpc.example.org",
    ),
    *("service is busy confirming, try again later", "service overloaded: transaction sent, retry later"),
    *("settlement can be retried with the same request: transaction pending", "Contract is paused: reverted"),
]


@pytest.mark.parametrize("text", [*CODES, *TEXTS])
def test_words_of_a_code_beside_a_later_step_are_in_doubt(text: str) -> None:
    assert certain_of(text) == []


@pytest.mark.parametrize("spell", [str.upper, str.title])
@pytest.mark.parametrize("code", CODES)
def test_no_spelling_of_such_a_code_is_certain(code: str, spell: type[str]) -> None:
    assert certain_of(spell(code)) == []


def test_there_are_many_of_them() -> None:
    assert len(CODES) + len(TEXTS) >= 60


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("status", [200, 409, 423, 503])
def test_a_status_of_not_now_makes_no_such_code_certain(code: str, status: int) -> None:
    body = json.dumps({"success": False, "errorReason": code}).encode()
    assert classify_reply(Operation.SETTLE, status, body).outcome in DOUBTFUL


@pytest.mark.parametrize(
    "code", ["sponsor_balance_low", "payer_rate_limited", "daily_budget_exhausted", "policy:unknown_program"]
)
@pytest.mark.parametrize("beside", BESIDE)
def test_a_code_is_read_only_where_nothing_else_was_said(code: str, beside: str) -> None:
    assert read_code(code)
    for status in (200, 400, 409, 500, 502, 503):
        for body in (
            {"success": False, "errorReason": code, "errorMessage": beside},
            {"error": beside, "code": code},
            {"error": {"code": code, "message": beside}},
        ):
            verdict = classify_reply(Operation.SETTLE, status, json.dumps(body).encode())
            assert verdict.outcome in DOUBTFUL, (status, body)


@pytest.mark.parametrize("text", NOT_NOW)
@pytest.mark.parametrize("status", [409, 423, 503])
def test_not_now_is_said_of_the_facilitator_only(text: str, status: int) -> None:
    for body in ({"error": text}, {"error": "CIRCUIT_BREAKER", "message": text}):
        verdict = classify_reply(Operation.SETTLE, status, json.dumps(body).encode())
        assert verdict.outcome in DOUBTFUL, verdict.rule


@pytest.mark.parametrize("status", [200, 400, 500, 502, 504])
def test_not_now_is_certain_only_beside_a_status_that_says_so(status: int) -> None:
    for text in ("the configured signer is settling another payment", "circuit breaker open, retry in 300s"):
        body = json.dumps({"error": text}).encode()
        assert classify_reply(Operation.SETTLE, status, body).outcome in DOUBTFUL
        assert classify_reply(Operation.SETTLE, 503, body).outcome is Outcome.TRANSIENT
    assert classify_reply(Operation.SETTLE, 503, b"circuit breaker open").outcome in DOUBTFUL


@pytest.mark.parametrize(
    "no", [{"status": "error"}, {"status": "failed"}, {"ok": False}, {"settled": False}, {"valid": False}]
)
def test_a_no_in_words_of_its_own_is_judged_by_its_text(no: dict[str, object]) -> None:
    for text, outcome in (
        ("invalid signature", Outcome.PERMANENT),
        ("transaction reverted", Outcome.SETTLEMENT),
        ("went wrong", Outcome.SETTLEMENT),
        ("", Outcome.SETTLEMENT),
    ):
        body = json.dumps({**no, "error": text}).encode()
        assert classify_reply(Operation.SETTLE, 200, body).outcome is outcome
    silent = json.dumps({"status": "ok", "error": "invalid signature"}).encode()
    assert classify_reply(Operation.SETTLE, 200, silent).outcome is Outcome.SETTLEMENT


@pytest.mark.parametrize("reason", ["settlement_failed", "unexpected_error", "transaction_failed"])
@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("insufficient funds for gas * price + value", Outcome.TRANSIENT),
        ("No facilitator registered for scheme: exact and network: eip155:137", Outcome.PERMANENT),
        ("unsupported network", Outcome.SETTLEMENT),
        ("wallet not configured", Outcome.SETTLEMENT),
        ("invalid signature", Outcome.SETTLEMENT),
        ("ERC20: transfer amount exceeds balance", Outcome.SETTLEMENT),
        ("authorization expired", Outcome.SETTLEMENT),
        ("recipient mismatch", Outcome.SETTLEMENT),
        ("rate limit exceeded", Outcome.SETTLEMENT),
        ("insufficient funds for gas, transaction already sent", Outcome.SETTLEMENT),
        ("unsupported transaction type in receipt", Outcome.SETTLEMENT),
    ],
)
def test_a_reason_for_anything_gives_way_to_a_step_before_the_broadcast_only(
    reason: str, text: str, outcome: Outcome
) -> None:
    body = json.dumps({"success": False, "errorReason": reason, "errorMessage": text}).encode()
    assert classify_reply(Operation.SETTLE, 200, body).outcome is outcome


PREFLIGHT = (
    "Simulation failed. Message: Transaction simulation failed: Error processing Instruction 2: custom "
)
CAUGHT = "Catch the `SendTransactionError` and call `getLogs()` on it for full details."


@pytest.mark.parametrize(
    "wrapper",
    ["", "Transaction failed: ", "Transaction send failed: ", "Failed to submit sponsored transaction: "],
)
def test_a_preflight_of_web3_js_broadcast_nothing(wrapper: str) -> None:
    logs = 'Logs: ["Program X invoke [1]", "Program log: Error: insufficient funds", "Program X failed"]. '
    for said, outcome in (
        (f"{PREFLIGHT}program error: 0x1. {logs}{CAUGHT}", Outcome.PERMANENT),
        (f"{PREFLIGHT}program error: 0x1771. Logs: []. {CAUGHT}", Outcome.TRANSIENT),
    ):
        body = json.dumps({"success": False, "errorReason": wrapper + said}).encode()
        assert classify_reply(Operation.SETTLE, 200, body).outcome is outcome


@pytest.mark.parametrize(
    "text",
    [
        f"{PREFLIGHT}program error: 0x1771. Sent without preflight, transaction not confirmed",
        f"{PREFLIGHT}program error: 0x1771; resubmitted, receipt not found. {CAUGHT}",
        f"{PREFLIGHT}program error: 0x1771. Logs: []. {CAUGHT} Then the transaction was sent anyway",
        f"{PREFLIGHT}program error: 0x1771. Logs: []. Transaction sent by the backup. {CAUGHT}",
        f"Transaction confirmation failed: {PREFLIGHT}program error: 0x1771. Logs: []. {CAUGHT}",
        f"Failed to send second transaction: {PREFLIGHT}program error: 0x1771. Logs: []. {CAUGHT}",
        "payload must contain a signature, transaction was sent",
        "payload must include a hash: transaction broadcast",
    ],
)
def test_what_stands_round_a_preflight_still_counts(text: str) -> None:
    assert certain_of(text) == []


READ = [
    *("sponsor_balance_low", "payer_rate_limited", "daily_budget_exhausted", "facilitator_out_of_gas"),
    *("merchant_not_found", "auth_expired", "verify_only_mode", "settlement_disabled", "service_paused"),
    *("wallet_blocked", "settle_gas_cap_exceeded", "seller_settle_cap_exceeded", "signer_pool_exhausted"),
    *("payment_identifier_conflict", "policy:unknown_program", "policy:address_lookup_table_not_supported"),
]
LATER = [
    *(
        "tx",
        "txn",
        "transaction",
        "receipt",
        "pending",
        "broadcast",
        "submitted",
        "sent",
        "confirmed",
        "reverted",
    ),
    *(
        "retries",
        "attempts",
        "timeout",
        "rpc",
        "node",
        "mempool",
        "block",
        "nonce",
        "hash",
        "executed",
    ),
    *("settled", "failed", "provider", "replaced", "dropped", "onchain", "unconfirmed", "indexer"),
]


@pytest.mark.parametrize("code", READ)
def test_one_word_of_a_later_step_anywhere_in_a_code_leaves_it_in_doubt(code: str) -> None:
    assert read_code(code)
    words = code.split("_")
    for word in LATER:
        for at in range(len(words) + 1):
            later = "_".join([*words[:at], word, *words[at:]])
            for status in (200, 400, 409, 500, 503):
                body = json.dumps({"success": False, "errorReason": later}).encode()
                assert classify_reply(Operation.SETTLE, status, body).outcome in DOUBTFUL, later
