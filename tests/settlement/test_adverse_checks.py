"""Texts of doubt in the words of a check: what a chain shows, a parser, a database or a crash says.

As in `test_adverse_steps.py`, for the rules that read a check without knowing of what it is.
"""

import json
from collections.abc import Callable

import pytest

from guardian.settlement.classify import Operation, Outcome, classify_reply

ADVERSE = {
    "what a chain shows": [
        "amount on chain does not match",
        "amount on chain not equal to expected",
        "the chain is not in agreement: amount mismatch",
        "recipient in chain record is not the payee",
        "value from chain not valid",
        "transfer received but amount incorrect",
        "expected 1000, received 900 in transfer",
        "expected 1000 but received 900 on chain",
        "payee received less than expected",
        "expected receipt but received null",
    ],
    "databases and node codes": [
        "invalid input value for enum settlement_status: paid",
        "invalid input syntax for type bytea",
        "integer out of range",
        "value too long for type character varying(66)",
        "missing inputs",
        "missing-inputs",
        "bad-txns-inputs-missingorspent",
        "invalid utxo",
        "UTXO not valid",
        "BadInputsUTxO",
        "inputs missing or spent",
        "tecDST_TAG_NEEDED",
        "temBAD_FEE",
        "tefPAST_SEQ",
        "terPRE_SEQ",
    ],
    "crashes": [
        "only absolute URLs are supported",
        "Only HTTP(S) protocols are supported",
        "a bytes-like object is required, not 'str'",
        "not enough values to unpack (expected 2, got 1)",
        "too many values to unpack (expected 2)",
        "list index out of range",
        "index out of bounds: the len is 3 but the index is 5",
        "time data 'x' does not match format '%Y'",
        "Reduce of empty array with no initial value",
        "x is not a constructor",
        "called `Option::unwrap()` on a `None` value",
        "invalid literal for int() with base 10: ''",
        "ERR value is not an integer or out of range",
        "NOAUTH Authentication required.",
        "certificate has expired",
        "x509: certificate is not valid for any names",
        "Invalid string length",
        'The value of "offset" is out of range. It must be >= 0 and <= 5.',
    ],
    "a step that failed its check": [
        "insufficient depth",
        "zero_conf_not_accepted",
        "bad confs",
        "Settlement failed: missing key",
        "settlement error: not enabled",
        "verification failed: receipt missing",
        "settlement verification failed: amount mismatch",
        "post-settlement validation failed: amount",
        "verification failed: transaction not found",
        "validation failed while confirming",
        "transaction must be confirmed first",
        "transaction must have 6 confirmations",
        "transaction type not supported",
        "no signatures found in mined transaction",
        "no instructions in confirmed transaction",
        "invalid transaction hash reported by node",
    ],
    "nonces and causes": [
        "nonce mismatch: expected 5, got 4",
        "expected nonce 5, got 4",
        "Nonce must be 5 but was 4",
        "nonce encoding changed after retry",
        "bad nonce",
        "invalid nonce: 5",
        "invalid nonce: expected 5 got 4",
        "malformed nonce, transaction already sent",
        "transaction failed: gas money missing",
        "transaction failed: insufficient balance",
        "tx failed: invalid signature",
        "transaction failed: simulation passed, invalid opcode",
    ],
    "reasons of a family": [
        "invalid_exact_evm_payload_settle_failed",
        "invalid_exact_evm_payload_receipt_missing",
        "invalid_exact_evm_payload_used",
        "invalid_exact_evm_payload_not_on_chain",
        "invalid_exact_evm_payload_transfer_event_mismatch",
        "invalid_exact_evm_payload_status_unknown",
        "invalid_exact_evm_facilitator_settle_failed",
        "invalid_exact_casper_facilitator_authorization_used",
        "invalid_exact_newchain_payload_counter_not_ready",
        "invalid_exact_newchain_payload_execution",
        "invalid_upto_newchain_payload_lookup_error",
        "invalid_exact_xrpl_payload_sequence_used",
        "invalid_exact_newchain_payload_timeout_waiting",
        "invalid_exact_newchain_request_timeout",
        "invalid_exact_newchain_request_pending",
        "invalid_exact_newchain_request_not_found",
        "invalid_exact_newchain_request_settled",
    ],
    "parsers": [
        "invalid payload: EOF while reading receipt",
        "invalid response body: unexpected EOF",
        "failed to read response body: unexpected EOF",
        "failed to decode transaction: unexpected EOF",
        "failed to parse receipt header: EOF",
        "EOF",
        "unexpected EOF",
        "invalid value: EOF from node",
        "Invalid request: Error: Bridge failed: execution reverted",
        "insufficient fees; got: 1 required: 2: insufficient fee",
        "response body could not be parsed",
    ],
    "one word of refusal": [
        "disabled by circuit breaker after timeout",
        "account suspended after settlement",
        "wallet restricted, funds already sent",
        "listener disabled, confirmation unknown",
        "zero confirmations",
        "empty receipt",
        "bad block",
        "expired blockhash",
        "wrong fork",
        "insufficient confirmations",
        "insufficient gas refund",
        "negative finality",
        "incomplete transfer",
        "partial settlement, incomplete",
        "webhook not configured, paid",
    ],
    "counted and compared": [
        "Contract validate error : account does not exist",
        "CONTRACT_VALIDATE_ERROR",
        "expected status 1 but got 0",
        "wanted 1 transfer event, got 0",
        "needs 3 confirmations, has 1",
        "got 0 logs, expected 1",
        "requires 12 blocks, has 2",
        "at least 2 confirmations required",
        "less than expected was credited",
        "exceeds time",
        "outside of validity interval in ledger",
        "only 1 of 2 transfers accepted in block",
        "no key in state",
        "no scheme event emitted",
        "expected balance 5, got 4",
        "balance is not the expected one",
        "does not match the ledger",
        "did not start: queue",
        "doesn't agree with the chain",
    ],
    "somebody else's answer": [
        "reply not valid",
        "payment not bound to a block yet",
        "user agent not found",
        "agent not found in receipt",
        "rpc rate limited",
        "answer must be an object",
        "response must be an object",
        "result is not an object",
        "output not valid",
        "upstream returned invalid body",
        "bundler: invalid fields",
        "internal: invalid state",
        "database: value not allowed",
        "could not save: missing column",
        "failed to record: invalid id",
    ],
}
REPLIES: list[Callable[[str], tuple[int, object]]] = [
    lambda text: (200, {"success": False, "errorReason": text, "transaction": "", "network": "eip155:8453"}),
    lambda text: (400, {"error": text}),
    lambda text: (500, {"success": False, "error": "Settlement failed", "message": text}),
    lambda text: (500, {"error": {"code": -32000, "message": text}}),
]


@pytest.mark.parametrize("text", [text for texts in ADVERSE.values() for text in texts])
@pytest.mark.parametrize("spell", [str, str.upper, str.title])
def test_a_check_of_what_came_later_is_in_doubt(text: str, spell: Callable[[str], str]) -> None:
    for reply in REPLIES:
        status, body = reply(spell(text))
        verdict = classify_reply(Operation.SETTLE, status, json.dumps(body).encode())
        assert verdict.outcome in (Outcome.SETTLEMENT, Outcome.UNKNOWN), verdict.rule


def test_every_kind_of_check_is_tried_with_ten_texts_of_doubt() -> None:
    assert all(len(texts) >= 10 for texts in ADVERSE.values())


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (200, "mandate_cap_mismatch"),
        (400, "voucher id must be 0x-prefixed"),
        (400, "x402: X-PAYMENT header could not be decoded"),
        (400, "invalid payload: unexpected end of JSON input"),
        (200, "invalid_exact_newchain_payload_fee_payer_count"),
        (422, "transaction must be signed by the payer"),
    ],
)
def test_a_check_of_what_was_asked_is_a_refusal(status: int, text: str) -> None:
    body = {"success": False, "errorReason": text, "transaction": ""}
    verdict = classify_reply(Operation.SETTLE, status, json.dumps(body).encode())
    assert verdict.outcome is Outcome.PERMANENT, verdict.rule
