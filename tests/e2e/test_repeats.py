"""Whoever comes again, with the same payload or a new one: one payment in all, and one delivery for it."""

import pytest
from eth_account.signers.local import LocalAccount
from stage import PRICE, Stage, until

from guardian.sandbox.buyer_py import Purchase, sign_payment
from guardian.sandbox.chain import wallet_signature

pytestmark = pytest.mark.e2e


def told_before_the_block(stage: Stage, payer: LocalAccount, mode: str) -> Purchase:
    """A purchase whose hold is over before its block comes; blocks are held back."""
    stage.facilitator.control(mode, times=1)
    purchase = stage.buying(payer).result()
    assert not purchase.delivered
    assert stage.transfers(payer) == []
    return purchase


def assert_one_payment_one_delivery(stage: Stage, payer: LocalAccount, deliveries_before: int) -> None:
    assert len(stage.transfers(payer)) == 1
    assert stage.seller().deliveries() == deliveries_before + 1
    until(lambda: not any(record["orphan"] for record in stage.records(payer)))


@pytest.mark.parametrize("mode", ["pending_200", "rs_500"])
@pytest.mark.parametrize("block_comes", ["before", "during"])
def test_the_same_payload_again_gets_the_late_delivery(impatient: Stage, mode: str, block_comes: str) -> None:
    payer, before = impatient.payer(), impatient.seller().deliveries()
    with impatient.blocks_held_back():
        payload = told_before_the_block(impatient, payer, mode).payloads[-1]
        if block_comes == "during":
            worked = impatient.seller().counts()["worked"]
            again = impatient.pool.submit(impatient.sending_again, payload)
            until(lambda: impatient.seller().counts()["worked"] > worked)
    if block_comes == "before":
        impatient.record(payer, money="confirmed_late", orphan=True)
        again = impatient.pool.submit(impatient.sending_again, payload)
    (purchase,) = again.result()
    assert purchase.delivered, purchase
    impatient.record(payer, answer="accepted", money="confirmed_late")
    assert_one_payment_one_delivery(impatient, payer, before)


@pytest.mark.parametrize("mode", ["pending_200", "rs_500"])
@pytest.mark.parametrize("block_comes", ["before", "during"])
def test_a_new_signature_is_answered_with_the_first_payment(
    impatient: Stage, mode: str, block_comes: str
) -> None:
    payer, before = impatient.payer(), impatient.seller().deliveries()
    with impatient.blocks_held_back():
        told_before_the_block(impatient, payer, mode)
        if block_comes == "during":
            buying = impatient.buying(payer)
            until(lambda: len(impatient.records(payer)) == 2)
    if block_comes == "before":
        impatient.record(payer, money="confirmed_late", orphan=True)
        buying = impatient.buying(payer)
    purchase = buying.result()
    assert purchase.delivered, purchase
    until(lambda: impatient.records(payer)[0]["replayed_by"])  # recorded after it was answered
    first, second = impatient.records(payer)
    assert (first["replayed_by"], second["paid_by"]) == (second["key"], first["key"])
    assert impatient.facilitator.broadcasts(purchase.nonces[-1]) == []
    assert_one_payment_one_delivery(impatient, payer, before)


def test_a_new_signature_is_good_even_when_the_first_payment_took_the_last_of_the_balance(
    impatient: Stage,
) -> None:
    payer, before = impatient.world.chain.new_payer(10_000), impatient.seller().deliveries()
    with impatient.blocks_held_back():
        told_before_the_block(impatient, payer, "pending_200")
    impatient.record(payer, money="confirmed_late", orphan=True)
    purchase = impatient.buying(payer).result()
    assert purchase.delivered, purchase
    assert_one_payment_one_delivery(impatient, payer, before)


def test_a_client_that_was_told_a_failure_and_signs_anew_pays_once(impatient: Stage) -> None:
    payer, before = impatient.payer(), impatient.seller().deliveries()
    impatient.facilitator.control("http_500", times=1)
    purchase = impatient.buying(payer).result()
    assert not purchase.delivered
    impatient.record(payer, answer="refused")
    tries = 0
    while not purchase.delivered and (tries := tries + 1) < 6:
        purchase = impatient.buying(payer).result()
    assert purchase.delivered, purchase
    assert_one_payment_one_delivery(impatient, payer, before)


def test_a_refusal_that_cost_nothing_does_not_bar_the_next_purchase(patient: Stage) -> None:
    payer, before = patient.payer(), patient.seller().deliveries()
    too_short = patient.signed(payer, valid_for_s=3)
    refused = patient.post("/settle", too_short)
    assert (refused["success"], "valid_before" in refused["errorReason"]) == (False, True)
    assert patient.records(payer) == []  # found before anything was sent
    assert patient.buying(payer).result().delivered
    assert_one_payment_one_delivery(patient, payer, before)


@pytest.mark.parametrize("mode", ["ok", "pending_200", "rs_500"])
def test_five_settles_of_one_payment_at_once_give_one_success(patient: Stage, mode: str) -> None:
    payer = patient.payer()
    body = patient.signed(payer)
    patient.facilitator.control(mode, times=1)
    replies = [settling.result() for settling in [patient.settling(body) for _ in range(5)]]
    (success,) = [reply for reply in replies if reply["success"]]
    (transfer,) = patient.transfers(payer)
    assert success["transaction"] == transfer.transaction
    assert [reply["errorReason"] for reply in replies if not reply["success"]] == ["duplicate_settlement"] * 4
    nonce = body["paymentPayload"]["payload"]["authorization"]["nonce"]
    assert len(patient.facilitator.broadcasts(nonce)) == 1
    assert patient.post("/settle", body)["errorReason"] == "duplicate_settlement"
    assert patient.post("/verify", body)["invalidReason"] == "duplicate_settlement"


def test_one_payment_presented_five_times_buys_one_delivery(patient: Stage) -> None:
    payer, before = patient.payer(), patient.seller().deliveries()
    patient.facilitator.control("http_503", operation="settle", when="after", times=1)
    with patient.blocks_held_back():
        buying = patient.buying(payer)
        until(lambda: patient.waiting(payer))
    purchase = buying.result()
    assert purchase.delivered, purchase
    again = patient.sending_again(purchase.payloads[-1], times=5)
    assert [one.status for one in again] == [402] * 5
    assert_one_payment_one_delivery(patient, payer, before)


def test_a_wallet_contract_pays_like_a_key(patient: Stage) -> None:
    owner = patient.payer()
    wallet = patient.world.chain.new_wallet(owner.address)
    body = sign_payment(patient.world.chain, owner, patient.seller().pay_to, PRICE, payer=wallet)
    inner = body["paymentPayload"]["payload"]
    inner["signature"] = "0x" + wallet_signature(bytes.fromhex(inner["signature"][2:])).hex()
    patient.facilitator.control("rs_500", times=1)
    assert patient.post("/verify", body)["isValid"] is True
    assert patient.post("/settle", body)["success"] is True
    assert len(patient.world.chain.transfers(payer=wallet)) == 1


def test_a_copy_of_what_stands_on_the_chain_buys_nothing(impatient: Stage) -> None:
    payer, thief = impatient.payer(), impatient.payer()
    body = impatient.signed(payer)
    with impatient.blocks_held_back():
        impatient.facilitator.control("pending_200", times=1)
        assert impatient.post("/settle", body)["success"] is False
    impatient.record(payer, money="confirmed_late", orphan=True)
    forged = impatient.signed(thief)
    forged["paymentPayload"]["payload"]["authorization"] |= {"from": payer.address}
    assert impatient.post("/settle", forged)["success"] is False
    same_nonce = impatient.signed(thief)
    same_nonce["paymentPayload"]["payload"]["authorization"] = body["paymentPayload"]["payload"][
        "authorization"
    ]
    assert impatient.post("/settle", same_nonce)["success"] is False
    assert impatient.post("/settle", body)["success"] is True
    assert len(impatient.transfers(payer)) == 1
