"""Free text of real facilitators, libraries and nodes: doubt wins, certainty needs a listed pattern."""

import json

import pytest

from guardian.settlement.classify import Health, Operation, Outcome, classify_reply
from guardian.settlement.texts.reading import MAX_TEXT

SENT_OR_UNCLEAR = [
    "transaction did not confirm in time: context deadline exceeded",
    "nonce too low",
    "nonce too low: next nonce 12, tx nonce 11",
    "replacement transaction underpriced",
    "already known",
    "execution reverted: FiatTokenV2: authorization is used or canceled",
    "FiatTokenV2: authorization is used or canceled",
    "timeout exceeded when waiting for receipt",
    "TransactionNotFound",
    "ECONNRESET",
    "socket hang up",
    "context canceled",
    "read ECONNRESET",
    'Timed out while waiting for transaction with hash "0xabc" to be confirmed.',
    "Transaction HexBytes('0xab') is not in the chain after 120 seconds",
    "Transaction with hash: '0xab' not found.",
    "WaitForTransactionReceiptTimeoutError",
    'TransactionReceiptNotFoundError: Transaction receipt with hash "0x12" could not be found. The Transaction may not be processed on a block yet.',  # noqa: E501
    'nonce has already been used (transaction="0x02f8", info={}, code=NONCE_EXPIRED, version=6.7.1)',
    "Transaction was not confirmed in 30.00 seconds. It is unknown if it succeeded or failed. Check signature using the Solana Explorer or CLI tools.",  # noqa: E501
    "Signature has expired: block height exceeded.",
    "HTTPSConnectionPool(host='mainnet.base.org', port=443): Read timed out. (read timeout=10)",
    "('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))",
    "429 Client Error: Too Many Requests for url: https://sepolia.base.org/",
    "The request took too long to respond.",
    "fetch failed",
    "UND_ERR_SOCKET other side closed",
    "request timed out (code=TIMEOUT, version=6.13)",
    "transaction was replaced (code=TRANSACTION_REPLACED)",
    'transaction execution reverted (action="sendTransaction", data=null, reason=null, receipt={}, code=CALL_EXCEPTION)',  # noqa: E501
    "replacement fee too low",
    "Transaction reverted on-chain",
    "tx dropped from mempool",
    "failed to send transaction",
    "could not get receipt",
    "failed to wait for mining",
    "insufficient funds; transaction already submitted",
    "rate limit exceeded while waiting for transaction receipt",
    "unable to estimate gas for replacement transaction",
    "invalid signature; but the transaction was broadcast",
    "settlement status unknown",
    "Something went wrong",
    "oops",
    "PendingTransactionError: TxWatcher(Timeout)",
    "Failed to register transaction to watch",
    "transaction failed",
    "Transaction failed: insufficient balance",
    "Settlement failed",
    "Internal Server Error",
    "error",
    "unexpected token < in JSON at position 0",
    "Missing or invalid parameters. Double check you have provided the correct parameters.",
    "execution reverted",
    "transaction underpriced",
    "bundle not included",
    "UserOperation not found",
    'HTTP request failed. Status: 503 URL: https://x Request body: {"method":"eth_sendRawTransaction"}',
    "rpc error: code = Unavailable desc = transport is closing",
    "The operation was aborted",
    "AbortError: This operation was aborted",
    "operation canceled",
    "i/o timeout",
    "EOF",
    "write: broken pipe",
    "502 Bad Gateway",
    "error code: 524",
    "upstream request timeout",
    "no available server",
    'Post "https://x": net/http: request canceled (Client.Timeout exceeded while awaiting headers)',
    "deadline has elapsed",
    "operation timed out",
    "error sending request for url (https://mainnet.base.org/)",
    "tx not found in 10 blocks",
    "receipt status is 0x0",
    "failed onchain",
    "nonce already used",
    "Authorization already used",
    "duplicate transaction",
    "This transaction has already been processed",
    "AlreadyProcessed",
]

BEFORE_THE_BROADCAST = [
    "unable to estimate gas",
    "failed to estimate gas: execution reverted",
    "gas required exceeds allowance (550000)",
    "gas required exceeds allowance",
    "insufficient funds for gas * price + value",
    "insufficient funds for gas * price + value: balance 0, tx cost 5, overshot 5",
    "insufficient funds for gas * price + value: address 0x12 have 1 want 2",
    "cannot estimate gas; transaction may fail or may require manual gas limit",
    "UNPREDICTABLE_GAS_LIMIT",
    "simulation failed",
    "Transaction simulation failed: Error processing Instruction 2: custom program error: 0x1",
    "Rate limit exceeded",
    "Too many requests, please slow down",
    'execution reverted (action="estimateGas", data="0x", reason=null, code=CALL_EXCEPTION)',
    "failed to get nonce",
    "gas estimation failed",
    "eth_estimateGas failed",
    "estimateGas error: execution reverted",
    "error estimating gas",
    "Gas estimation error",
    "Transaction failed: unable to estimate gas",
    "FiatTokenV2: authorization is not yet valid",
    "insufficient funds for intrinsic transaction cost",
    "The total cost (gas * gas fee + value) of executing this transaction exceeds the balance of the account.",  # noqa: E501
    "estimateGas error: execution reverted",
]

PRICE_ASKED = "failed to fetch gas price"

REFUSED = [
    "invalid signature",
    "FiatTokenV2: invalid signature",
    "execution reverted: FiatTokenV2: invalid signature",
    "ERC20: transfer amount exceeds balance",
    "execution reverted: ERC20: transfer amount exceeds balance",
    "authorization expired",
    "FiatTokenV2: authorization is expired",
    "insufficient balance",
    "insufficient_token_balance",
    "Insufficient USDC balance",
    "unsupported network: eip155:1",
    "No facilitator registered for scheme: exact and network: eip155:1",
    "recipient mismatch",
    "Invalid payload",
    "Missing paymentPayload or paymentRequirements",
    "Missing paymentRequirements",
    "amount below minimum",
    "Invalid payment requirements",
    "Settlement failed: insufficient funds",
    "signature does not match payer",
    "Blacklistable: account is blacklisted",
    "API key is invalid",
    "EIP-712 domain name mismatch",
    "missing required field: paymentRequirements.maxTimeoutSeconds",
]


def replies(text: str) -> list[tuple[int, bytes]]:
    """The dialects in which a facilitator says a free text."""
    said = [
        (200, {"success": False, "errorReason": text, "transaction": "", "network": "eip155:8453"}),
        (200, {"success": False, "errorReason": "", "errorMessage": text}),
        (400, {"success": False, "errorReason": "some_error", "errorMessage": text}),
        (500, {"error": text}),
        (500, {"detail": text}),
        (500, {"error": {"code": -32000, "message": text}}),
    ]
    return [(status, json.dumps(body).encode()) for status, body in said]


@pytest.mark.parametrize("text", SENT_OR_UNCLEAR)
def test_a_text_that_may_follow_a_broadcast_is_settlement(text: str) -> None:
    for status, body in [*replies(text), (500, text.encode()), (502, text.encode())]:
        assert classify_reply(Operation.SETTLE, status, body).outcome is Outcome.SETTLEMENT


@pytest.mark.parametrize("text", BEFORE_THE_BROADCAST)
def test_a_text_that_precedes_any_broadcast_is_transient(text: str) -> None:
    for status, body in replies(text):
        assert classify_reply(Operation.SETTLE, status, body).outcome is Outcome.TRANSIENT


@pytest.mark.parametrize("text", REFUSED)
def test_a_text_that_refuses_the_payment_is_permanent(text: str) -> None:
    for status, body in replies(text):
        assert classify_reply(Operation.SETTLE, status, body).outcome is Outcome.PERMANENT


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        *((text, "while waiting for the receipt") for text in (*REFUSED, *BEFORE_THE_BROADCAST, PRICE_ASKED)),
        *((text, "context deadline exceeded") for text in REFUSED + BEFORE_THE_BROADCAST),
        *((text, "ECONNRESET") for text in REFUSED + BEFORE_THE_BROADCAST),
    ],
)
def test_a_sign_of_doubt_beats_everything_else_in_the_text(text: str, sign: str) -> None:
    for status, body in replies(f"{text}: {sign}"):
        assert classify_reply(Operation.SETTLE, status, body).outcome is Outcome.SETTLEMENT


@pytest.mark.parametrize(
    "text",
    [
        PRICE_ASKED,
        f"{PRICE_ASKED}: context deadline exceeded",
        'failed to suggest gas tip cap: Post "https://mainnet.base.org": context deadline exceeded',
        'transaction failed: failed to get gas price: Post "https://mainnet.base.org": dial tcp: lookup '
        "mainnet.base.org: no such host",
        'failed to get network ID: Post "https://sepolia.base.org": dial tcp: connection refused',
    ],
)
def test_whatever_became_of_the_question_for_a_price_nothing_was_signed(text: str) -> None:
    for status, body in replies(text):
        assert classify_reply(Operation.SETTLE, status, body).outcome is Outcome.TRANSIENT
    for later in (
        f"broadcast, then {text}",
        f"{text}: retry 2",
        f"{text} while waiting for the receipt",
        f"settlement timed out: {text}",
        f"{text} | the settlement timed out",
        f"payment not visible yet, resubmission: {text}",
        f"bump fee: {text}",
        f"speed up: {text}",
    ):
        for status, body in replies(later):
            assert classify_reply(Operation.SETTLE, status, body).outcome is Outcome.SETTLEMENT


@pytest.mark.parametrize("text", REFUSED + BEFORE_THE_BROADCAST)
def test_a_hash_beside_the_text_is_settlement(text: str) -> None:
    for status, body in replies(f"{text} 0x{'ab' * 32}"):
        verdict = classify_reply(Operation.SETTLE, status, body)
        assert (verdict.outcome, verdict.transaction) == (Outcome.SETTLEMENT, f"0x{'ab' * 32}")


@pytest.mark.parametrize("text", REFUSED + BEFORE_THE_BROADCAST)
def test_a_gateway_is_not_believed(text: str) -> None:
    for status in (502, 503, 504):
        body = json.dumps({"error": text}).encode()
        assert classify_reply(Operation.SETTLE, status, body).outcome is Outcome.SETTLEMENT


@pytest.mark.parametrize("text", REFUSED)
def test_a_wrong_payment_leaves_the_facilitator_healthy(text: str) -> None:
    if "API key" not in text:
        assert classify_reply(Operation.SETTLE, *replies(text)[0]).health is Health.HEALTHY


def test_the_facilitators_gas_money_is_not_the_payers_balance() -> None:
    verdict = classify_reply(Operation.SETTLE, *replies("insufficient funds for gas * price + value")[0])
    assert (verdict.rule, verdict.health, verdict.failover) == ("text_gas_money", Health.FAULTY, True)


def test_a_rate_limit_of_a_node_is_no_proof_because_the_receipt_is_read_there_too() -> None:
    text = "429 Client Error: Too Many Requests for url: https://node.example/"
    assert classify_reply(Operation.SETTLE, *replies(text)[0]).outcome is Outcome.SETTLEMENT


def test_a_text_too_long_to_be_read_is_settlement() -> None:
    for status, body in replies("invalid signature " + "x" * MAX_TEXT):
        assert classify_reply(Operation.SETTLE, status, body).outcome is Outcome.SETTLEMENT


@pytest.mark.parametrize(
    ("text", "cure"), [("invalid signature", "USD Coin"), ("insufficient balance", "token")]
)
def test_a_well_known_refusal_names_its_cure(text: str, cure: str) -> None:
    assert cure in classify_reply(Operation.SETTLE, *replies(text)[0]).cure


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("invalid signature", Outcome.PERMANENT),
        ("unable to estimate gas", Outcome.TRANSIENT),
        ("context deadline exceeded", Outcome.TRANSIENT),
        ("authorization is used or canceled", Outcome.PERMANENT),
        ("what is this", Outcome.UNKNOWN),
    ],
)
def test_on_verify_a_doubt_is_transient_and_the_unlisted_is_unknown(text: str, outcome: Outcome) -> None:
    body = json.dumps({"isValid": False, "invalidReason": text}).encode()
    assert classify_reply(Operation.VERIFY, 200, body).outcome is outcome


@pytest.mark.parametrize(
    "text",
    [
        "failed to estimate gas: execution reverted: FiatTokenV2: invalid signature",
        "failed to send transaction: failed to estimate gas: invalid signature",
        "gas estimation failed: authorization is expired",
    ],
)
def test_a_refusal_that_an_estimation_met_is_permanent(text: str) -> None:
    for status, body in replies(text):
        assert classify_reply(Operation.SETTLE, status, body).outcome is Outcome.PERMANENT


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("max fee per gas less than block base fee", Outcome.TRANSIENT),
        ("failed to send transaction: max fee per gas less than block base fee", Outcome.TRANSIENT),
        (
            "The fee cap (`maxFeePerGas` = 0.01 gwei) cannot be lower than the block base fee.",
            Outcome.TRANSIENT,
        ),
        ("transaction stuck: max fee per gas less than block base fee", Outcome.SETTLEMENT),
        ("max fee per gas less than block base fee, retrying", Outcome.SETTLEMENT),
        ("transaction submitted; max fee per gas less than block base fee", Outcome.SETTLEMENT),
        ("transaction fee below base fee", Outcome.SETTLEMENT),
    ],
)
def test_a_fee_cap_is_transient_unless_something_was_sent(text: str, outcome: Outcome) -> None:
    for status, body in replies(text):
        assert classify_reply(Operation.SETTLE, status, body).outcome is outcome


def test_what_a_failed_verification_found_says_more_than_that_it_failed() -> None:
    for operation, message, outcome in [
        (Operation.SETTLE, "Invalid EIP-3009 signature", Outcome.PERMANENT),
        (Operation.VERIFY, "Invalid EIP-3009 signature", Outcome.PERMANENT),
        (Operation.SETTLE, "rpc request failed", Outcome.TRANSIENT),
        (Operation.SETTLE, "invalid signature; transaction already submitted", Outcome.SETTLEMENT),
    ]:
        body = json.dumps({"error": {"code": "verification_failed", "message": message}}).encode()
        assert classify_reply(operation, 400, body).outcome is outcome


def test_the_arguments_of_a_call_are_no_transaction() -> None:
    nonce, r = "0x" + "ab" * 32, "0x" + "cd" * 32
    text = (
        "Unable to estimate gas. invalid signature\n  function: transferWithAuthorization(address from)\n"
        f"  args:      (0x11, 0x22, 1000, 0, 1767225600, {nonce}, 27, {r}, {r})"
    )
    verdict = classify_reply(Operation.SETTLE, *replies(text)[0])
    assert (verdict.outcome, verdict.transaction) == (Outcome.PERMANENT, "")
    verdict = classify_reply(Operation.SETTLE, *replies(f"{text}, transaction 0x{'ef' * 32}")[0])
    assert (verdict.outcome, verdict.transaction) == (Outcome.SETTLEMENT, "0x" + "ef" * 32)


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("invalid_exact_newchain_payload_amount_mismatch", Outcome.PERMANENT),
        ("invalid_exact_newchain_payload_signature", Outcome.PERMANENT),
        ("invalid_exact_newchain_expired", Outcome.PERMANENT),
        ("invalid_exact_newchain_payload_nonce_not_on_chain", Outcome.SETTLEMENT),
        ("invalid_exact_newchain_payload_input_not_available", Outcome.SETTLEMENT),
        ("invalid_exact_newchain_payload_settle_failed", Outcome.SETTLEMENT),
        ("invalid_exact_newchain_payload_verification_error", Outcome.SETTLEMENT),
    ],
)
def test_the_name_that_all_reasons_of_a_scheme_begin_with_refuses_nothing(
    reason: str, outcome: Outcome
) -> None:
    assert classify_reply(Operation.SETTLE, *replies(reason)[0]).outcome is outcome


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("from_is_zero_address", Outcome.PERMANENT),
        ("transfer destination missing", Outcome.PERMANENT),
        ("nwc_lookup_failed", Outcome.TRANSIENT),
        ("Internal error checking nonce uniqueness", Outcome.TRANSIENT),
        ("Cannot read properties of undefined (reading 'payload')", Outcome.UNKNOWN),
    ],
)
def test_on_verify_validation_language_is_believed_beside_any_word(text: str, outcome: Outcome) -> None:
    body = json.dumps({"isValid": False, "invalidReason": text}).encode()
    assert classify_reply(Operation.VERIFY, 200, body).outcome is outcome


def outcome(status: int, body: object, operation: Operation = Operation.SETTLE) -> Outcome:
    said = body if isinstance(body, str) else json.dumps(body)
    return classify_reply(operation, status, said.encode()).outcome


def failed(reason: str, message: str = "") -> dict[str, object]:
    return {"success": False, "errorReason": reason, "errorMessage": message, "transaction": ""}


def test_a_call_that_viem_says_was_refused_with_a_reason_was_tried_out_and_not_sent() -> None:
    tried = 'The contract function "transferWithAuthorization" reverted with the following reason:\n'
    for catch_all in ("settlement_failed", "transaction_failed", "unexpected_error"):
        balance = failed(catch_all, f"{tried}ERC20: transfer amount exceeds balance\n\nVersion: viem@2.38.0")
        assert outcome(200, balance) is Outcome.PERMANENT
        used = failed(catch_all, f"{tried}FiatTokenV2: authorization is used or canceled")
        assert outcome(200, used) is Outcome.SETTLEMENT
        receipt = failed(catch_all, f"{tried}ERC20: transfer amount exceeds balance\nreceipt: status 0x0")
        assert outcome(200, receipt) is Outcome.SETTLEMENT
        assert outcome(200, failed(catch_all, "transfer amount exceeds balance")) is Outcome.SETTLEMENT
        afterwards = tried.replace("transferWithAuthorization", "distribute")
        split = f"{afterwards}ERC20: transfer amount exceeds balance"
        assert outcome(200, failed(catch_all, split)) is Outcome.SETTLEMENT
        assert outcome(200, failed(split)) is Outcome.SETTLEMENT
    assert outcome(400, {"error": "the payout address is not in the allowed list"}) is Outcome.SETTLEMENT


def test_a_transaction_that_a_signer_does_not_allow_is_refused_whoever_passes_that_on() -> None:
    kora = (
        "Invalid transaction: Program L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95 is not in the allowed list"
    )
    assert outcome(400, {"error": f"Invalid request: Error: RPC Error -32000: {kora}"}) is Outcome.PERMANENT
    assert outcome(500, {"error": f"transaction sent, then {kora}"}) is Outcome.SETTLEMENT
    simulated = {"isValid": False, "invalidReason": "transaction_simulation", "invalidReasonDetails": kora}
    assert outcome(400, simulated, Operation.VERIFY) is Outcome.PERMANENT


def test_without_a_key_nothing_is_signed() -> None:
    keyless = failed("settle_exact_node_failure", "X402_SETTLER_PRIVATE_KEY is required")
    assert outcome(200, keyless) is Outcome.PERMANENT
    assert outcome(200, failed("settle_exact_node_failure", "fetch failed")) is Outcome.SETTLEMENT
    assert outcome(200, failed("settle_exact_node_failure")) is Outcome.SETTLEMENT


def test_a_code_is_read_with_a_number_behind_it_and_without_an_object_round_it() -> None:
    ref = "(ref: 2f0c7f8b-34a0-4a40-bd0b-8f65a3d6f1a2)"
    assert outcome(503, {"error": f"facilitator_signer_unfunded {ref}"}) is Outcome.TRANSIENT
    assert outcome(503, {"error": f"settlement_stuck {ref}"}) is Outcome.SETTLEMENT
    assert outcome(400, "subcent_quota_exceeded") is Outcome.TRANSIENT
    assert outcome(400, '"subcent_quota_exceeded"') is Outcome.TRANSIENT
    assert outcome(502, "subcent_quota_exceeded") is Outcome.SETTLEMENT  # a gateway's, or behind one
    assert outcome(400, "nonce_already_used") is Outcome.SETTLEMENT
    assert outcome(200, failed("settle_exact_stellar_network_mismatch")) is Outcome.PERMANENT
    assert outcome(200, failed("settle_exact_stellar_amount_mismatch")) is Outcome.SETTLEMENT


def test_who_is_not_registered_is_refused_with_the_address_of_the_registry_beside_it() -> None:
    said = {
        "isValid": False,
        "invalidReason": "address_not_registered",
        "invalidMessage": "Address 0x813e5b1c is not registered. Register at https://openx402.ai/register",
    }
    assert outcome(200, said, Operation.VERIFY) is Outcome.PERMANENT


@pytest.mark.parametrize(
    "step", ["failed to broadcast transaction", "failed to send tx", "failed to connect to RPC"]
)
def test_where_no_connection_stood_nothing_went_over_it(step: str) -> None:
    refused = f'{step}: Post "https://api.hiro.so/v2/transactions": dial tcp 104.18.36.4:443: connect: '
    for known in (f"{refused}connection refused", f"{step}: dial tcp: lookup rpc.example: no such host"):
        assert outcome(500, {"error": "settlement_failed", "message": known}) is Outcome.TRANSIENT
        for more in (f"{known}: retry 2", f"{known}, waiting for the receipt", f"transaction sent, {known}"):
            assert outcome(500, {"error": "settlement_failed", "message": more}) is Outcome.SETTLEMENT
    assert outcome(500, {"error": f"{refused}i/o timeout"}) is Outcome.SETTLEMENT
    assert outcome(500, {"error": "dial tcp 10.0.0.1:443: connect: connection refused"}) is Outcome.SETTLEMENT


@pytest.mark.parametrize("step", ["verify settlement", "monitor", "check the outcome"])
def test_who_connects_for_a_later_step_may_have_sent_it(step: str) -> None:
    text = "failed to connect to RPC: dial tcp 127.0.0.1:8545: connect: connection refused"
    assert outcome(500, {"error": f"failed to connect to network: {text}"}) is Outcome.TRANSIENT
    assert outcome(500, {"error": f"{step}: {text}"}) is Outcome.SETTLEMENT
    assert outcome(200, failed("settlement_failed", f"{step}: {text}")) is Outcome.SETTLEMENT


def test_gas_money_is_found_behind_two_words_for_the_same_failure() -> None:
    short = "insufficient funds for gas * price + value: balance 0, tx cost 6300000000, overshot 6300000000"
    assert outcome(200, failed(f"transaction failed: failed to send tx: {short}")) is Outcome.TRANSIENT
    assert outcome(200, failed(f"transaction failed: tx 7 sent: {short}")) is Outcome.SETTLEMENT


def test_a_key_that_another_request_has_used_refuses_this_one_and_a_used_nonce_does_not() -> None:
    message = "payment identifier was already used for another request"
    conflict = {"error": {"code": "payment_identifier_conflict", "message": message}}
    assert outcome(409, conflict) is Outcome.PERMANENT
    assert outcome(409, {"error": "idempotency_key_conflict"}) is Outcome.PERMANENT
    body = json.dumps(conflict).encode()
    assert classify_reply(Operation.SETTLE, 409, body, prior=True).outcome is Outcome.SETTLEMENT
    assert outcome(409, {"error": "nonce already used for another payment"}) is Outcome.SETTLEMENT
    assert outcome(409, {"error": "nonce was already used for another request"}) is Outcome.SETTLEMENT
    assert outcome(409, {"error": "idempotency_conflict_in_progress"}) is Outcome.SETTLEMENT


@pytest.mark.parametrize(
    "text",
    [
        "Invalid payment: authorization already used for another request",
        "Invalid signature: already used by another request",
        "invalid payload: nonce already used by another request",
        "EIP-3009 authorization invalid | was already used with a different payload",
    ],
)
def test_an_authorization_that_another_request_has_used_has_moved_money(text: str) -> None:
    for status, body in replies(text):
        assert classify_reply(Operation.SETTLE, status, body).outcome is Outcome.SETTLEMENT


def test_on_verify_a_look_that_failed_may_succeed_later() -> None:
    said = {
        "isValid": False,
        "invalidReason": "exact_cardano_facilitator_chain_lookup_failed",
        "invalidMessage": "input state unknown (indexer sync horizon)",
    }
    assert outcome(200, said, Operation.VERIFY) is Outcome.TRANSIENT
    assert outcome(200, failed(said["invalidReason"], said["invalidMessage"])) is Outcome.SETTLEMENT


@pytest.mark.parametrize(
    "reason", ["Transaction not yet mined", "Waiting for confirmations. Current: 1, Required: 3"]
)
def test_on_verify_a_payment_with_too_few_blocks_is_good_later(reason: str) -> None:
    assert outcome(200, {"valid": False, "reason": reason}, Operation.VERIFY) is Outcome.TRANSIENT
    refused = {"valid": False, "reason": "Transaction does not pay the recipient"}
    assert outcome(200, refused, Operation.VERIFY) is Outcome.PERMANENT
    assert outcome(200, failed(reason)) is Outcome.SETTLEMENT


def test_a_parser_s_word_beside_the_request_that_it_refused_says_nothing_more() -> None:
    assert outcome(400, {"error": "invalid request body", "details": "EOF"}) is Outcome.PERMANENT
    assert outcome(400, {"error": "settlement failed", "details": "EOF"}) is Outcome.SETTLEMENT
    assert outcome(400, {"error": "invalid request body", "details": "EOF from node"}) is Outcome.SETTLEMENT
