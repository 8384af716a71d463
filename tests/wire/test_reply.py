import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardian.wire.reply import (
    complete_settle_body,
    read_settle_reply,
    read_verify_reply,
    write_settle_failure,
    write_settle_success,
    write_verify_invalid,
    write_verify_valid,
)

TX = "0x" + "ab" * 32
NET, PAYER = "eip155:84532", "0x857b"


def settle(body: object, status: int = 200):
    return read_settle_reply(status, body if isinstance(body, bytes) else orjson.dumps(body))


def test_success_is_read():
    reply = settle(
        {"success": True, "transaction": TX.upper().replace("X", "x"), "network": NET, "payer": PAYER}
    )
    assert (reply.well_formed, reply.success, reply.reason, reply.message) == (True, True, "", "")
    assert (reply.transaction, reply.network, reply.payer) == (TX, NET, PAYER)


def test_pending_is_read_whatever_the_status():
    body = {"success": False, "errorReason": "settlement_pending", "errorMessage": "wait", "transaction": TX}
    reply = settle(body, 500)
    assert (reply.success, reply.reason, reply.message, reply.transaction) == (
        False,
        "settlement_pending",
        "wait",
        TX,
    )


@pytest.mark.parametrize(
    ("body", "reason", "message"),
    [
        ({"error": "insufficient_funds: balance 0"}, "insufficient_funds", "balance 0"),
        ({"error": "insufficient_funds"}, "insufficient_funds", ""),
        ({"detail": "Internal Server Error"}, "", "Internal Server Error"),
        ({"detail": {"errorReason": "transaction_failed", "errorMessage": "x"}}, "transaction_failed", "x"),
        ({"errorType": "rate_limit_exceeded", "errorMessage": "slow"}, "rate_limit_exceeded", "slow"),
        ({"errorType": "unauthorized", "errorMessage": "no key"}, "unauthorized", "no key"),
        ({"success": False, "error_reason": "nonce_used"}, "nonce_used", ""),
        ({"success": False, "errorReason": "x y z", "errorReasonDetails": "why"}, "x y z", "why"),
        (b"<html><style>a{}</style><h1>502</h1> Bad Gateway</html>", "", "502 Bad Gateway"),
        (b"", "", "HTTP 502"),
        (b"\xff\xfe", "", "��"),
        (b"[1]", "", "[1]"),
    ],
)
def test_every_dialect_gives_reason_and_message(body: object, reason: str, message: str):
    reply = settle(body, 502)
    assert (reply.reason, reply.message) == (reason, message)
    assert reply.success is not True


def test_reason_and_hash_are_found_in_a_body_quoted_inside_a_text():
    inner = orjson.dumps({"success": True, "errorReason": "settlement_pending", "transaction": TX}).decode()
    reply = settle(
        {"success": False, "errorReason": f"Facilitator settle failed (500): {inner}", "transaction": ""}
    )
    assert (reply.success, reply.reason, reply.transaction) == (False, "settlement_pending", TX)


@pytest.mark.parametrize("body", [{"detail": f"receipt of {TX} timed out"}, f"tx {TX} not mined".encode()])
def test_hash_is_found_in_free_text(body: object):
    assert settle(body, 500).transaction == TX


@pytest.mark.parametrize(
    "body",
    [
        {"success": False, "errorReason": f"nonce {TX} already used"},
        {"success": False, "errorReason": "reverted", "errorMessage": "data 0x" + "ab" * 40},
        {"success": True, "transaction": "", "extra": {"channelId": TX}},
        {"success": True, "transaction": "", "errorMessage": TX},
    ],
)
def test_other_hex_is_no_transaction(body: object):
    assert settle(body).transaction == ""


@pytest.mark.parametrize("body", [{"success": "true"}, {"success": 1}, {}, {"error": {"success": True}}])
def test_only_a_boolean_says_success(body: object):
    reply = settle(body)
    assert (reply.well_formed, reply.success) == (False, None)


def test_uuid_transactions_stay_as_they_are():
    assert settle({"success": True, "transaction": "7c9e6679-7425"}).transaction == "7c9e6679-7425"


def test_verify_replies_are_read():
    good = read_verify_reply(200, b'{"isValid":true,"payer":"0x857b"}')
    assert (good.well_formed, good.is_valid, good.payer, good.reason) == (True, True, "0x857b", "")
    bad = read_verify_reply(
        400, b'{"isValid":false,"invalidReason":"expired","invalidMessage":"m","payer":""}'
    )
    assert (bad.is_valid, bad.reason, bad.message) == (False, "expired", "m")
    lost = read_verify_reply(503, b"upstream down")
    assert (lost.well_formed, lost.is_valid, lost.message) == (False, None, "upstream down")


@given(st.binary(max_size=200), st.integers(100, 599))
def test_no_reply_raises(body: bytes, status: int):
    read_settle_reply(status, body)
    read_verify_reply(status, body)


KEYS = ["success", "errorReason", "error", "detail", "message", "transaction", "payer", "network"]
ODD = (
    st.none()
    | st.booleans()
    | st.text()
    | st.lists(st.text())
    | st.just("a } b { c")
    | st.just({"error": "}{"})
)


@given(st.dictionaries(st.sampled_from(KEYS), ODD))
def test_no_odd_value_raises(body: dict):
    reply = settle(body)
    assert all(
        isinstance(text, str) for text in (reply.reason, reply.message, reply.transaction, reply.payer)
    )
    complete_settle_body(orjson.dumps(body), transaction=TX, network=NET, payer=PAYER)


def test_hostile_replies_are_read_quickly():
    for body in (b"<script" * 100_000, b'{"detail":' * 100_000, b"0x" * 300_000):
        began = time.process_time()
        reply = settle(body)
        assert len(reply.message) <= 1000
        assert time.process_time() - began < 0.5


def test_written_bodies_have_every_key_the_sdks_demand():
    assert orjson.loads(write_settle_success(transaction=TX, network=NET, payer=PAYER, amount=2**200)) == {
        "success": True,
        "payer": PAYER,
        "transaction": TX,
        "network": NET,
        "amount": str(2**200),
    }
    failure = write_settle_failure(reason="r", message="m", transaction="", network=NET, payer="")
    assert orjson.loads(failure) == {
        "success": False,
        "errorReason": "r",
        "errorMessage": "m",
        "payer": "",
        "transaction": "",
        "network": NET,
    }
    assert orjson.loads(write_verify_valid(PAYER)) == {"isValid": True, "payer": PAYER}
    assert orjson.loads(write_verify_invalid(reason="r", message="m", payer="")) == {
        "isValid": False,
        "invalidReason": "r",
        "invalidMessage": "m",
        "payer": "",
    }


def test_sdk_models_accept_what_is_written():
    schemas = pytest.importorskip("x402.schemas")
    written = write_settle_success(transaction=TX, network=NET, payer=PAYER, amount=1)
    assert schemas.SettleResponse.model_validate_json(written).transaction == TX
    failure = write_settle_failure(reason="r", message="m", transaction="", network=NET, payer="")
    assert schemas.SettleResponse.model_validate_json(failure).error_reason == "r"
    assert schemas.VerifyResponse.model_validate_json(write_verify_valid("")).is_valid


def complete(body: bytes, transaction: str = TX) -> bytes:
    return complete_settle_body(body, transaction=transaction, network=NET, payer=PAYER)


def test_complete_body_stays_the_same_bytes():
    body = b' {"success": true,"payer":"0xA","transaction":"0xB", "network":"base", "x": 1.10}\n'
    assert complete(body) == body


def test_missing_keys_are_filled_in_and_the_rest_keeps_its_bytes():
    extensions = b'{"a": 1.10, "big": 123456789012345678901234567890, "u": "\\u00e9"}'
    body = b'{"success":true,"transaction":"","payer":null,"extensions":' + extensions + b"}"
    done = complete(body)
    assert extensions in done
    said = orjson.loads(done)
    assert (said["transaction"], said["network"], said["payer"], said["success"]) == (TX, NET, PAYER, True)


def test_a_success_without_a_transaction_stays_so_where_none_exists():
    body = b'{"success":true,"transaction":"","network":"base","payer":"0xA"}'
    assert complete(body, transaction="") == body


def test_what_is_no_success_is_replaced():
    for body in (
        b"",
        b"<html>",
        b'{"success":false}',
        b'{"success":true,"a":' + b"[" * 900 + b"]" * 900 + b"}",
    ):
        said = orjson.loads(complete(body))
        assert (said["success"], said["transaction"], said["network"], said["payer"]) == (
            True,
            TX,
            NET,
            PAYER,
        )


NONCE, SENT = "0x" + "ab" * 32, "0x" + "ef" * 32


@pytest.mark.parametrize(
    ("text", "transaction"),
    [
        (f"reverted: invalid signature\n args:{' ' * 31}(0x11, 0x22, 1000, 0, 99, {NONCE}, 27)", ""),
        (f"reverted\n args: (0x11, {NONCE})\n transaction hash: {SENT}", SENT),
        (f"authorization {NONCE} failed, broadcast as tx {SENT}", SENT),
        (f"failed for nonce {NONCE}", ""),
        (f"gave up on {SENT}", SENT),
    ],
)
def test_of_the_hashes_in_a_text_the_one_called_a_transaction_is_taken(text: str, transaction: str):
    body = orjson.dumps({"success": False, "errorReason": text})
    assert read_settle_reply(200, body).transaction == transaction
