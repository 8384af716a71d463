import hashlib

import pytest
from wire_bodies import (
    CHANNEL,
    NONCE,
    PAYEE,
    PAYER,
    SIGNATURE,
    SOLANA,
    USDC,
    batch,
    eip3009,
    permit2,
    sent,
    solana_message,
    solana_transaction,
    svm,
    v1,
    v2,
)

from guardian.errors import BadPayment
from guardian.wire.payment import Method, Payment, read_payment


def read(body: object) -> Payment:
    return read_payment(sent(body))


def test_eip3009_identity_is_network_asset_payer_nonce_in_lower_case():
    payment = read(v2())
    assert payment.method is Method.EIP3009
    assert payment.key == f"eip155:84532/{USDC}/{PAYER}/{NONCE}".lower()
    assert payment.id == "pay_" + hashlib.sha256(payment.key.encode()).hexdigest()[:32]
    assert (payment.nonce, payment.payer, payment.asset) == (NONCE.lower(), PAYER.lower(), USDC.lower())


def test_all_other_facts_are_read():
    payment = read(v2(eip3009(to="0x" + "Dd" * 20, value=9)))
    assert (payment.x402_version, payment.scheme, payment.network_as_sent) == (2, "exact", "eip155:84532")
    assert (payment.pay_to, payment.amount, payment.max_timeout_s) == (PAYEE.lower(), 10000, 300)
    assert (payment.valid_after, payment.valid_before) == (0, 1740672154)
    assert (payment.authorization_to, payment.authorization_value) == ("0x" + "dd" * 20, 9)
    assert (payment.domain_name, payment.domain_version) == ("USDC", "2")
    assert payment.resource == "https://api.example.com/x"
    assert payment.signature_hash == hashlib.sha256(b"\xab" * 65).hexdigest()


def test_v1_and_v2_bodies_of_one_authorization_are_one_payment():
    old, new = read(v1()), read(v2())
    assert old.key == new.key
    assert (old.x402_version, old.network, old.network_as_sent) == (1, "eip155:84532", "base-sepolia")
    assert (old.amount, old.resource) == (new.amount, new.resource)


def test_hex_case_makes_no_other_payment_and_no_other_signature():
    shouted = v2(eip3009(nonce=NONCE.upper().replace("X", "x"), **{"from": PAYER.lower()}))
    shouted["paymentPayload"]["payload"]["signature"] = "0x" + "AB" * 65
    assert read(shouted).key == read(v2()).key
    assert read(shouted).signature_hash == read(v2()).signature_hash


def test_another_amount_and_unknown_keys_make_no_other_payment():
    changed = v2()
    changed["paymentRequirements"]["amount"] = "1"
    changed["paymentPayload"]["payload"]["enriched"] = {"by": "hook"}
    changed["paymentPayload"]["extensions"] = {"bazaar": {"info": None}}
    assert read(changed).key == read(v2()).key
    assert read(changed).amount == 1


@pytest.mark.parametrize("field", ["asset", "network"])
def test_asset_and_network_belong_to_the_identity(field: str):
    other = {"asset": "0x" + "11" * 20, "network": "eip155:8453"}[field]
    assert read(v2(**{field: other})).key != read(v2()).key


def test_version_may_stand_inside_the_payload_only_or_nowhere():
    inner = v2()
    del inner["x402Version"]
    assert read(inner).x402_version == 2
    nowhere = v1()
    del nowhere["x402Version"], nowhere["paymentPayload"]["x402Version"]
    assert read(nowhere).x402_version == 1


def test_permit2_identity_is_owner_and_decimal_nonce_for_all_tokens():
    payment = read(v2(permit2(), scheme="upto"))
    assert payment.method is Method.PERMIT2
    assert payment.key == f"eip155:84532/permit2/{PAYER.lower()}/77"
    assert (payment.authorization_to, payment.authorization_value) == (PAYEE.lower(), 20000)
    assert payment.valid_before == 1740672154


def test_permit2_for_another_token_than_required_is_refused():
    body = v2(permit2(permitted={"token": "0x" + "11" * 20, "amount": "1"}))
    with pytest.raises(BadPayment, match=r"permitted\.token"):
        read(body)


def test_two_authorizations_in_one_payload_are_refused():
    with pytest.raises(BadPayment, match="second authorization"):
        read(v2({**eip3009(), **permit2()}))


@pytest.mark.parametrize("version", [None, 0])
def test_svm_identity_is_the_message_whatever_its_signatures(version: int | None):
    message = solana_message(version=version)
    first = read(svm(solana_transaction(message)))
    second = read(svm(solana_transaction(message, b"\x07" * 64)))
    assert first.method is Method.SVM
    assert first.key == f"{SOLANA}/svm/{hashlib.sha256(message).hexdigest()}"
    assert first.key == second.key
    assert first.signature_hash != second.signature_hash


def test_svm_message_with_other_instructions_is_another_payment():
    one, two = (read(svm(solana_transaction(solana_message(data=data)))) for data in (b"a", b"b"))
    assert one.key != two.key


def test_v1_solana_name_is_mapped():
    payment = read(v2({"transaction": solana_transaction(solana_message())}, network="solana-devnet"))
    assert payment.key.startswith(SOLANA + "/svm/")


def test_unreadable_svm_transaction_is_opaque():
    assert read(svm("AAAA")).method is Method.OPAQUE


def test_batch_voucher_is_known_by_channel_and_cumulative_amount():
    payment = read(v2(batch("voucher"), scheme="batch-settlement"))
    assert payment.method is Method.BATCH
    assert payment.key == f"eip155:84532/batch/voucher/{CHANNEL.lower()}/upto:500"
    assert payment.payer == PAYER.lower()


def test_batch_deposit_is_known_by_its_own_authorization():
    salt = "0x" + "5A" * 32
    auth = {
        "erc3009Authorization": {"validAfter": "0", "validBefore": "99", "salt": salt, "signature": "0x01"}
    }
    payment = read(
        v2(batch("deposit", deposit={"amount": "7", "authorization": auth}), scheme="batch-settlement")
    )
    assert payment.key == f"eip155:84532/batch/deposit/{CHANNEL.lower()}/salt:{salt.lower()}"
    assert (payment.valid_before, payment.authorization_value, payment.signature) == (99, 7, "0x01")
    assert payment.signature != SIGNATURE


def test_batch_permit2_deposit_is_known_by_its_nonce():
    auth = {"permit2Authorization": {"nonce": "12", "deadline": "99", "signature": "0x01"}}
    payment = read(
        v2(batch("deposit", deposit={"amount": "7", "authorization": auth}), scheme="batch-settlement")
    )
    assert payment.nonce == "permit2:12"


def test_batch_refunds_differ_by_their_nonce():
    one, two = (
        read(v2(batch("refund", refundNonce=n, amount="1"), scheme="batch-settlement")) for n in ("1", "2")
    )
    assert one.key != two.key


def test_batch_sweep_has_no_nonce_because_it_may_rightly_repeat():
    body = v2({"type": "settle", "receiver": PAYEE, "token": USDC}, scheme="batch-settlement")
    assert (read(body).method, read(body).nonce) == (Method.BATCH, "")


def test_batch_claims_are_known_by_their_content():
    one, two = (
        read(v2({"type": "claim", "claims": [{"totalClaimed": n}]}, scheme="batch-settlement")) for n in "12"
    )
    assert one.method is Method.BATCH
    assert one.nonce
    assert one.key != two.key


@pytest.mark.parametrize(
    ("payload", "terms"),
    [
        ({"whatever": [1, 2]}, {"scheme": "stream", "amount": "$1", "asset": None, "payTo": 7}),
        (eip3009(), {"scheme": "stream"}),
        ({"signature": "base58", "memo": "é"}, {"network": "stellar:pubnet", "amount": 3}),
        (eip3009(**{"from": "TRX9"}), {"network": "tron:mainnet"}),
        ({"type": "new"}, {"scheme": "batch-settlement"}),
        ({}, {"network": "some-new-chain"}),
    ],
)
def test_unknown_schemes_and_networks_are_opaque_never_refused(payload: dict, terms: dict):
    payment = read(v2(payload, **terms))
    assert payment.method is Method.OPAQUE
    assert f"{payment.network}/{payment.scheme}/sha256:" in payment.key


def test_order_of_keys_makes_no_other_opaque_payment():
    one, two = ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1})
    assert read(v2(one, scheme="stream")).key == read(v2(two, scheme="stream")).key


def test_delegation_without_nonce_is_opaque_and_names_the_delegator():
    payload = {"delegationManager": "0x" + "12" * 20, "permissionContext": "0xaa", "delegator": PAYER}
    payment = read(v2(payload))
    assert (payment.method, payment.payer, payment.nonce) == (Method.OPAQUE, PAYER.lower(), "")


def test_unknown_v1_name_with_an_evm_authorization_keeps_its_nonce():
    payment = read(v2(network="xrpl-evm"))
    assert payment.method is Method.EIP3009
    assert payment.key.startswith("xrpl-evm/0x036c")


def test_signature_stays_out_of_every_representation():
    payment = read(v2())
    assert payment.signature == SIGNATURE
    assert SIGNATURE not in f"{payment} {payment!r} {[payment]}"


def test_long_resource_is_kept_as_its_hash():
    body = v2()
    body["paymentPayload"]["resource"]["url"] = "https://x/" + "a" * 5000
    assert read(body).resource.startswith("sha256:")


@pytest.mark.parametrize(("version", "amount"), [(1, 9_999), (2, 10_000)])
def test_of_two_amounts_that_of_the_protocols_version_counts(version: int, amount: int):
    body = v2(maxAmountRequired="9999") | {"x402Version": version}
    assert read_payment(sent(body)).amount == amount
