"""Classification of replies: statuses, listed reasons, dialects, taint and health."""

import json
import timeit

import pytest

from guardian.settlement.classify import (
    Health,
    Operation,
    Outcome,
    Verdict,
    classify_not_sent,
    classify_reply,
    classify_reply_lost,
)
from guardian.settlement.reasons import REASONS
from guardian.settlement.verdict import Alert

SETTLE, VERIFY = Operation.SETTLE, Operation.VERIFY
HASH = "0x" + "ab" * 32
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><center>nginx</center></body></html>"


def settle(status: int = 200, *, tainted: bool = False, prior: bool = False, **said: object) -> Verdict:
    return classify_reply(SETTLE, status, json.dumps(said).encode(), tainted=tainted, prior=prior)


def refused(reason: str, message: str = "", transaction: str = "") -> dict[str, object]:
    return {
        "success": False,
        "errorReason": reason,
        "errorMessage": message,
        "transaction": transaction,
        "network": "base",
    }


def test_a_plain_success_is_success() -> None:
    verdict = settle(success=True, transaction=HASH.upper().replace("0X", "0x"), network="eip155:8453")
    assert (verdict.outcome, verdict.transaction, verdict.health) == (Outcome.SUCCESS, HASH, Health.HEALTHY)


@pytest.mark.parametrize("transaction", ["", None])
def test_a_success_without_a_hash_is_success(transaction: str | None) -> None:
    assert settle(success=True, transaction=transaction).outcome is Outcome.SUCCESS


@pytest.mark.parametrize("status", [201, 202, 204, 302, 400, 401, 404, 429, 500, 503])
def test_a_success_on_another_status_is_settlement(status: int) -> None:
    assert settle(status, success=True, transaction=HASH).outcome is Outcome.SETTLEMENT


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"OK",
        b"null",
        b"[]",
        b"true",
        b"{}",
        b'{"success":1}',
        b'{"success":"true"}',
        b'{"success":null}',
        HTML,
        b"\xff\xfe",
        b'{"success":true',
        b'{"result":{"success":true}}',
        b'{"success":true,"transaction":7}',
        b'{"success":true,"transaction":["0x"]}',
        b'{"errorReason":"invalid_payload"}',
        b'{"success":true,"errorReason":"invalid_payload"}',
    ],
)
def test_a_200_that_is_no_settle_body_is_settlement(body: bytes) -> None:
    assert classify_reply(SETTLE, 200, body).outcome is Outcome.SETTLEMENT


@pytest.mark.parametrize("body", [b"", HTML, b"nope"])
@pytest.mark.parametrize(
    ("status", "outcome", "health"),
    [
        (401, Outcome.PERMANENT, Health.FAULTY),
        (403, Outcome.PERMANENT, Health.FAULTY),
        (404, Outcome.PERMANENT, Health.FAULTY),
        (405, Outcome.PERMANENT, Health.FAULTY),
        (413, Outcome.PERMANENT, Health.NEUTRAL),
        (415, Outcome.PERMANENT, Health.NEUTRAL),
        (429, Outcome.TRANSIENT, Health.NEUTRAL),
        (500, Outcome.SETTLEMENT, Health.FAULTY),
        (502, Outcome.SETTLEMENT, Health.FAULTY),
        (503, Outcome.SETTLEMENT, Health.FAULTY),
        (504, Outcome.SETTLEMENT, Health.NEUTRAL),
    ],
)
def test_a_status_without_words_on_settle(status: int, body: bytes, outcome: Outcome, health: Health) -> None:
    verdict = classify_reply(SETTLE, status, body)
    assert (verdict.outcome, verdict.health) == (outcome, health)


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("body", [b"", HTML, b"Bad Request"])
def test_a_request_turned_away_by_a_web_server_is_permanent(status: int, body: bytes) -> None:
    assert classify_reply(SETTLE, status, body).outcome is Outcome.PERMANENT


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("body", [b"", HTML, b"nope"])
def test_a_broken_facilitator_on_verify_is_transient_and_faulty(status: int, body: bytes) -> None:
    verdict = classify_reply(VERIFY, status, body)
    assert (verdict.outcome, verdict.health) == (Outcome.TRANSIENT, Health.FAULTY)


def test_garbage_on_verify_counts_against_the_facilitator() -> None:
    assert classify_reply(VERIFY, 200, HTML).health is Health.FAULTY


def test_pending_is_settlement_in_every_dialect() -> None:
    for status in (200, 202, 400, 500):
        for transaction in ("", HASH):
            verdict = settle(status, **refused("settlement_pending", "", transaction))
            assert (verdict.outcome, verdict.health) == (Outcome.SETTLEMENT, Health.NEUTRAL)
            assert verdict.transaction == transaction


def test_a_listed_reason_in_go_text_is_read() -> None:
    body = b'{"error":"invalid_exact_evm_insufficient_balance: balance 0"}'
    verdict = classify_reply(SETTLE, 500, body)
    assert (verdict.outcome, verdict.reason) == (
        Outcome.PERMANENT,
        "invalid_exact_evm_insufficient_balance",
    )


def test_a_reply_quoted_by_an_sdk_is_read_from_its_inside() -> None:
    inner = json.dumps(refused("settlement_pending", "", HASH))
    verdict = settle(**refused(f"Facilitator settle failed (500): {inner}"))
    assert (verdict.outcome, verdict.reason, verdict.transaction) == (
        Outcome.SETTLEMENT,
        "settlement_pending",
        HASH,
    )
    inner = json.dumps(refused("invalid_exact_evm_payload_signature"))
    assert settle(**refused(f"Facilitator settle failed (400): {inner}")).outcome is Outcome.PERMANENT


def test_the_x402_rs_dialect_is_read() -> None:
    said = {"success": False, "network": "", "transaction": "", "errorMessage": "x", "payer": ""}
    assert settle(400, **said, errorReason="invalid_signature").outcome is Outcome.PERMANENT
    assert settle(500, **said, errorReason="unexpected_error").outcome is Outcome.SETTLEMENT


@pytest.mark.parametrize(
    ("status", "error_type", "on_settle", "on_verify"),
    [
        (400, "invalid_request", Outcome.PERMANENT, Outcome.PERMANENT),
        (401, "unauthorized", Outcome.PERMANENT, Outcome.PERMANENT),
        (402, "payment_method_required", Outcome.PERMANENT, Outcome.PERMANENT),
        (429, "rate_limit_exceeded", Outcome.TRANSIENT, Outcome.TRANSIENT),
        (500, "internal_server_error", Outcome.SETTLEMENT, Outcome.TRANSIENT),
        (502, "bad_gateway", Outcome.SETTLEMENT, Outcome.TRANSIENT),
        (503, "service_unavailable", Outcome.SETTLEMENT, Outcome.TRANSIENT),
        (504, "timed_out", Outcome.SETTLEMENT, Outcome.TRANSIENT),
        (500, "settlement_failed", Outcome.SETTLEMENT, Outcome.TRANSIENT),
    ],
)
def test_the_generic_error_types_of_cdp(
    status: int, error_type: str, on_settle: Outcome, on_verify: Outcome
) -> None:
    body = json.dumps({"correlationId": "1", "errorType": error_type, "errorMessage": "Sorry."}).encode()
    assert classify_reply(SETTLE, status, body).outcome is on_settle
    assert classify_reply(VERIFY, status, body).outcome is on_verify


def test_estimation_failed_is_transient_whatever_the_generic_type_says() -> None:
    for status, kind in ((400, "invalid_request"), (500, "internal_server_error")):
        said = {"errorType": kind, "errorMessage": "unable to estimate gas"}
        assert settle(status, **said).outcome is Outcome.TRANSIENT


def test_a_fastapi_validation_error_is_permanent() -> None:
    detail = [{"type": "missing", "loc": ["body", "paymentPayload"], "msg": "Field required"}]
    assert settle(422, detail=detail).outcome is Outcome.PERMANENT


@pytest.mark.parametrize("place", ["body", "query", "header"])
def test_what_a_framework_finds_wrong_with_a_request_was_not_executed(place: str) -> None:
    fault = {"type": "missing", "loc": [place, "signed_transaction"], "msg": "Field required"}
    assert settle(422, detail=[fault]).outcome is Outcome.PERMANENT
    assert settle(500, detail=[fault]).outcome is Outcome.SETTLEMENT
    for other in ({"loc": ["response", "transaction"]}, {"loc": []}, {"loc": "body"}, {"msg": "Oops"}):
        assert settle(422, detail=[fault, fault | {"loc": None} | other]).outcome is Outcome.SETTLEMENT
    sent = fault | {"msg": "this transaction was submitted already"}
    assert settle(422, detail=[sent]).outcome is Outcome.SETTLEMENT


def test_a_rate_limit_is_one_though_it_comes_with_a_reason_for_anything() -> None:
    reason = "unexpected_settle_error"
    assert settle(429, **refused(reason)).outcome is Outcome.TRANSIENT
    assert settle(429, **refused(reason, "", HASH)).outcome is Outcome.SETTLEMENT
    assert settle(429, **refused(reason, "no receipt yet")).outcome is Outcome.SETTLEMENT
    assert settle(429, **refused("settlement_pending")).outcome is Outcome.SETTLEMENT


def test_a_page_of_a_shut_door_is_in_doubt_only_until_a_rule_says_what_it_means() -> None:
    for page in (b"", HTML, b"upstream connect error", b"503 Service Unavailable"):
        verdict = classify_reply(SETTLE, 503, page)
        assert (verdict.outcome, verdict.soft) == (Outcome.SETTLEMENT, True)


@pytest.mark.parametrize("status", [500, 502, 504, 520, 524])
@pytest.mark.parametrize("page", [b"", HTML])
def test_a_page_in_the_place_of_an_answer_may_stand_for_a_lost_one(status: int, page: bytes) -> None:
    assert not classify_reply(SETTLE, status, page).soft


@pytest.mark.parametrize("status", [408, 499, 504, 524])
def test_a_status_of_waiting_is_a_hard_doubt_whatever_it_says(status: int) -> None:
    assert not settle(status, success=False, errorReason="vault_closed").soft


@pytest.mark.parametrize(
    "text",
    [
        "tx was sent",
        "context deadline exceeded",
        "transaction failed",
        "settlement_pending",
        "https://node.example/ said no",
        "see 0x" + "ab" * 32,
    ],
)
def test_a_text_that_speaks_of_chain_or_time_is_a_hard_doubt(text: str) -> None:
    verdict = settle(**refused(text))
    assert (verdict.outcome, verdict.soft) == (Outcome.SETTLEMENT, False)


def test_a_text_that_nobody_has_listed_is_a_soft_doubt() -> None:
    for status in (200, 400, 409, 500):
        verdict = settle(status, **refused("vault_closed", "The vault is closed today."))
        assert (verdict.outcome, verdict.soft) == (Outcome.SETTLEMENT, True)


def test_what_is_cut_off_or_says_nothing_is_a_hard_doubt() -> None:
    for body in (
        b'{"error":"vault_cl',
        b"[]",
        b"null",
        b"{}",
        b'{"success":false,"errorReason":"","errorMessage":""}',
    ):
        assert not any(classify_reply(SETTLE, status, body).soft for status in (400, 409, 500, 503))


@pytest.mark.parametrize("body", [HTML, b"", b"{}", b'{"ok":1}'])
def test_a_2xx_without_an_answer_is_a_hard_doubt(body: bytes) -> None:
    assert not any(classify_reply(SETTLE, status, body).soft for status in (200, 202, 302))


@pytest.mark.parametrize("name", sorted(REASONS))
def test_the_class_decides_what_follows(name: str) -> None:
    for operation in Operation:
        verdict = classify_reply(
            operation, 200, json.dumps({**refused(name), "isValid": False, "invalidReason": name}).encode()
        )
        in_doubt = operation is SETTLE and verdict.outcome in (Outcome.SETTLEMENT, Outcome.UNKNOWN)
        assert verdict.watch is in_doubt
        assert verdict.answer == ("pending" if in_doubt else "reason")
        assert verdict.retry is (verdict.outcome is Outcome.TRANSIENT)
        assert not (in_doubt and (verdict.failover or verdict.retry_after_ok))
        assert not verdict.soft


def test_a_shut_door_and_a_bill_are_written_to_the_log() -> None:
    bill = json.dumps({"errorType": "payment_method_required", "errorMessage": "Pay."}).encode()
    for status, body in ((401, b""), (403, HTML), (402, bill)):
        assert classify_reply(SETTLE, status, body).alert is Alert.LOG
    assert settle(**refused("invalid_signature")).alert is Alert.OFF


def test_a_catch_all_reason_is_transient_only_where_gas_could_not_be_estimated() -> None:
    for reason in ("transaction_failed", "invalid_exact_evm_transaction_failed", "unexpected_error"):
        assert settle(**refused(reason)).outcome is Outcome.SETTLEMENT
        assert settle(**refused(reason, "insufficient balance")).outcome is Outcome.SETTLEMENT
        assert settle(**refused(reason, "unable to estimate gas")).outcome is Outcome.TRANSIENT
        assert settle(**refused(reason, "unable to estimate gas", HASH)).outcome is Outcome.SETTLEMENT


def test_a_hash_makes_every_failure_a_settlement() -> None:
    for name in REASONS:
        assert settle(**refused(name, "", HASH)).outcome is Outcome.SETTLEMENT


@pytest.mark.parametrize("placeholder", ["", "0x", "0x" + "0" * 64, "null"])
def test_a_place_holder_is_no_hash(placeholder: str) -> None:
    assert (
        settle(**refused("invalid_exact_evm_payload_signature", "", placeholder)).outcome is Outcome.PERMANENT
    )


def test_a_text_of_doubt_beats_a_listed_refusal() -> None:
    for text in ("context deadline exceeded", "no receipt", "nonce too low"):
        assert settle(**refused("invalid_payload", text)).outcome is Outcome.SETTLEMENT


def test_a_transaction_that_failed_beats_a_refusal_of_the_payment() -> None:
    for text in ("Transaction reverted", "transaction failed"):
        assert settle(**refused("insufficient_funds", text)).outcome is Outcome.SETTLEMENT


def test_what_is_said_of_verifying_counts_under_a_reason_for_anything() -> None:
    expired = "verification failed: Payment expired: validBefore 1768900000, current time 1768900412"
    assert settle(400, **refused("settlement_failed", expired.capitalize())).outcome is Outcome.PERMANENT
    assert settle(400, **refused("settlement_failed", f"Settlement {expired}")).outcome is Outcome.SETTLEMENT


def test_a_node_that_turns_a_question_for_prices_away_was_sent_nothing() -> None:
    def said(status: int, method: str) -> str:
        call = f"HTTP request failed.\n\nStatus: {status}\nURL: https://node/v2/key\nRequest body: "
        return call + json.dumps({"method": method}, separators=(",", ":")) + "\n\nVersion: viem@2.21.0"

    for reason in ("invalid_exact_evm_transaction_failed", "unexpected_settle_error"):
        for method in ("eth_maxPriorityFeePerGas", "eth_gasPrice", "eth_feeHistory"):
            assert settle(**refused(reason, said(429, method))).outcome is Outcome.TRANSIENT
            assert settle(**refused(reason, said(503, method))).outcome is Outcome.SETTLEMENT
        for method in ("eth_getTransactionReceipt", "eth_sendRawTransaction", "eth_call", "eth_blockNumber"):
            assert settle(**refused(reason, said(429, method))).outcome is Outcome.SETTLEMENT


def test_a_code_that_is_said_once_more_in_words_keeps_its_meaning() -> None:
    conflict = {"error": "payment_identifier_conflict", "message": "payment identifier conflict"}
    assert settle(409, **conflict).outcome is Outcome.PERMANENT
    sent = conflict | {"message": "payment identifier conflict: transaction submitted"}
    assert settle(409, **sent).outcome is Outcome.SETTLEMENT


def test_a_facilitator_that_has_not_paid_its_own_bill_has_sent_nothing() -> None:
    said = "A valid payment method is required to continue using this product beyond the free tier."
    assert settle(402, errorMessage=said).alert is Alert.LOG
    assert settle(402, errorMessage=said).outcome is Outcome.PERMANENT
    assert settle(402, errorMessage="A valid payment is required").alert is Alert.OFF


def test_a_read_before_the_broadcast_may_time_out() -> None:
    verdict = settle(**refused("invalid_exact_evm_failed_to_get_balance", "context deadline exceeded"))
    assert verdict.outcome is Outcome.TRANSIENT


@pytest.mark.parametrize("name", sorted(REASONS))
def test_nothing_but_success_is_certain_once_tainted(name: str) -> None:
    assert settle(tainted=True, **refused(name)).outcome is Outcome.SETTLEMENT


@pytest.mark.parametrize("name", sorted(name for name in REASONS if REASONS[name].prior))
def test_what_an_earlier_landing_explains_is_no_proof_after_an_earlier_settle(name: str) -> None:
    assert settle(prior=True, **refused(name)).outcome is Outcome.SETTLEMENT


def test_taint_names_its_rule_and_spares_success() -> None:
    assert settle(tainted=True, **refused("insufficient_funds")).rule == "taint"
    assert settle(prior=True, **refused("invalid_signature")).outcome is Outcome.PERMANENT
    assert settle(tainted=True, success=True, transaction="").outcome is Outcome.SUCCESS
    assert classify_reply(SETTLE, 429, b"", tainted=True).outcome is Outcome.SETTLEMENT


def test_no_bytes_sent_is_transient() -> None:
    for operation in Operation:
        verdict = classify_not_sent(operation, "connection refused")
        assert (verdict.outcome, verdict.health) == (Outcome.TRANSIENT, Health.FAULTY)


def test_a_lost_reply_is_settlement_and_a_read_time_out_is_neutral() -> None:
    assert classify_reply_lost(SETTLE, "ReadTimeout").outcome is Outcome.SETTLEMENT
    assert classify_reply_lost(SETTLE, "ReadTimeout").health is Health.NEUTRAL
    assert classify_reply_lost(SETTLE, "connection reset").health is Health.FAULTY
    assert classify_reply_lost(SETTLE, "gone", waited=True).health is Health.NEUTRAL
    assert classify_reply_lost(VERIFY, "ReadTimeout").outcome is Outcome.TRANSIENT


def test_no_signature_and_no_token_stands_in_a_verdict() -> None:
    signature, token = "0x" + "12" * 65, "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJjZHAifQ.c2ln"
    verdict = settle(**refused(f"args ({signature})", f"sent Bearer {token}"))
    assert signature not in verdict.reason
    assert token not in verdict.message


def test_a_success_is_classified_in_microseconds() -> None:
    body = json.dumps({"success": True, "transaction": HASH, "network": "eip155:8453"}).encode()
    runs = timeit.repeat(lambda: classify_reply(SETTLE, 200, body), number=1000, repeat=20)
    assert min(runs) / 1000 < 10e-6


def test_a_reply_with_gos_own_names_is_read_like_any_other() -> None:
    def said(**facts: object) -> bytes:
        return json.dumps({"TransactionHash": "", "Network": "", "Payer": ""} | facts).encode()

    refused = classify_reply(Operation.SETTLE, 200, said(Success=False, Error="invalid signature"))
    assert (refused.outcome, refused.rule) == (Outcome.PERMANENT, "text_signature")
    paid = classify_reply(Operation.SETTLE, 200, said(Success=True))
    assert paid.outcome is Outcome.SETTLEMENT  # no SDK would read this yes
    both = said(Success=False, Error="invalid signature", error="broadcast timed out")
    assert classify_reply(Operation.SETTLE, 200, both).outcome is Outcome.SETTLEMENT
    sent = said(Success=False, Error="x", TransactionHash="0x" + "ab" * 32)
    assert classify_reply(Operation.SETTLE, 200, sent).transaction == "0x" + "ab" * 32
    refused = classify_reply(Operation.VERIFY, 200, json.dumps({"Valid": False, "Error": "expired"}).encode())
    assert refused.outcome is Outcome.PERMANENT
