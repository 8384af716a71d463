"""What receipts, logs and calldata prove, and that nonsense proves nothing."""

from typing import Any

import pytest

from guardian.chain.evidence import (
    AUTHORIZATION_USED,
    SPENDING_SELECTORS,
    Use,
    judge,
    read_flag,
    read_log,
    read_receipt,
    spenders,
    word,
)
from guardian.errors import ChainUnavailable
from tests.chain.scripted_node import NONCE, PAYER, SHOP, Node, cancelled, target, transfer, tx, used

OTHER_NONCE = "0x" + "99" * 32
STRANGER = "0x" + "77" * 20


def receipt(*events: dict[str, Any], status: int = 1) -> dict[str, Any]:
    node = Node()
    return node.receipts[node.include(1, *events, status=status)]


def said(*events: dict[str, Any], status: int = 1, **changes: Any) -> Use:
    found = read_receipt(receipt(*events, status=status))
    assert found is not None
    return judge(found, target(**changes))[0]


@pytest.mark.parametrize(
    ("events", "use"),
    [
        ([used(), transfer()], Use.PAID),
        ([transfer(), used()], Use.PAID),
        ([transfer(payer=STRANGER), used(), transfer()], Use.PAID),
        ([used()], Use.MISMATCH),
        ([used(), transfer(amount=999)], Use.MISMATCH),
        ([used(), transfer(amount=1001)], Use.PAID),
        ([used(), transfer(pay_to=STRANGER)], Use.MISMATCH),
        ([used(), transfer(asset=STRANGER)], Use.MISMATCH),
        ([cancelled()], Use.CANCELLED),
        ([cancelled(), transfer()], Use.CANCELLED),
        ([transfer()], Use.UNRELATED),
        ([used(OTHER_NONCE), transfer()], Use.UNRELATED),
        ([used(payer=STRANGER), transfer()], Use.UNRELATED),
        ([used(asset=STRANGER), transfer()], Use.UNRELATED),
        ([], Use.UNRELATED),
    ],
)
def test_only_a_use_of_the_nonce_with_the_transfer_is_a_payment(events: list[Any], use: Use) -> None:
    assert said(*events) is use


def test_a_failed_transaction_is_no_payment_whatever_its_logs() -> None:
    assert said(used(), transfer(), status=0) is Use.REVERTED


def test_of_two_uses_each_has_the_transfer_of_its_rank() -> None:
    events = [used(), transfer(), used(OTHER_NONCE), transfer(pay_to=STRANGER)]
    assert said(*events) is Use.PAID
    assert said(*events, nonce=OTHER_NONCE) is Use.MISMATCH


def test_where_ranks_do_not_tell_the_transfer_after_the_use_does() -> None:
    events = [transfer(pay_to=STRANGER), used(OTHER_NONCE), used(), transfer()]
    events = [transfer(amount=5), *events]
    assert said(*events) is Use.PAID
    assert said(*events, nonce=OTHER_NONCE) is Use.MISMATCH


def test_a_mismatch_names_what_was_paid_instead() -> None:
    found = read_receipt(receipt(used(), transfer(pay_to=STRANGER, amount=7)))
    assert found is not None
    assert judge(found, target())[1] == f"the nonce was used to pay 7 to {STRANGER}"


def test_logs_are_taken_in_the_order_of_emission() -> None:
    found = receipt(used(), transfer(), used(OTHER_NONCE), transfer(pay_to=STRANGER))
    found["logs"].reverse()
    read = read_receipt(found)
    assert read is not None
    assert judge(read, target())[0] is Use.PAID


def test_no_receipt_is_none_and_not_nonsense() -> None:
    assert read_receipt(None) is None


@pytest.mark.parametrize(
    "found",
    [
        1,
        "0x",
        [],
        {},
        receipt(used()) | {"logs": None},
        receipt(used()) | {"logs": [{}]},
        receipt(used()) | {"status": 1},
        receipt(used()) | {"blockNumber": None},
        receipt(used()) | {"transactionHash": tx(2)},
        receipt(transfer() | {"data": "0xzz"}),
    ],
    ids=[
        "number",
        "text",
        "list",
        "empty",
        "no logs",
        "no log",
        "status",
        "pending",
        "another's logs",
        "hex",
    ],
)
def test_a_receipt_that_is_none_is_refused(found: object) -> None:
    with pytest.raises(ChainUnavailable):
        read_receipt(found)


def test_a_removed_or_anonymous_log_is_left_out() -> None:
    log = receipt(used())["logs"][0]
    assert read_log(log) is not None
    assert read_log(log | {"removed": True}) is None
    assert read_log(log | {"topics": []}) is None


@pytest.mark.parametrize("found", [None, 7, "log", {"topics": 1}, {"topics": ["0x1"], "data": "0x"}])
def test_a_log_that_is_none_is_refused(found: object) -> None:
    with pytest.raises(ChainUnavailable):
        read_log(found)


def test_indexed_and_unindexed_words_are_read_alike() -> None:
    indexed = receipt(used())["logs"][0]
    unindexed = indexed | {"topics": [AUTHORIZATION_USED], "data": "0x" + word(PAYER) + word(NONCE)}
    one, other = read_log(indexed), read_log(unindexed)
    assert one is not None
    assert other is not None
    assert one.words == other.words


@pytest.mark.parametrize("found", ["0x", "0x1", "0x" + "0" * 63 + "2", None, True, "0x" + "g" * 64])
def test_an_answer_that_is_no_flag_is_neither_used_nor_unused(found: object) -> None:
    with pytest.raises(ChainUnavailable):
        read_flag(found)


def test_a_flag_is_read() -> None:
    assert read_flag("0x" + word("0x1")) is True
    assert read_flag("0x" + word("0x0")) is False


@pytest.mark.parametrize("selector", SPENDING_SELECTORS)
def test_a_known_call_names_the_nonce_in_its_place_only(selector: str) -> None:
    wanted = {word(NONCE): "k"}
    right = {"hash": tx(1), "input": selector + "0" * 320 + NONCE[2:] + "0" * 64}
    wrong = {"hash": tx(2), "input": selector + NONCE[2:] + "0" * 640}
    assert spenders([wrong, right], wanted) == {"k": tx(1)}


def test_pending_nonsense_is_passed_over() -> None:
    junk = [
        None,
        1,
        {},
        {"hash": tx(1)},
        {"hash": 1, "input": "0x" + "0" * 99},
        {"hash": tx(1), "input": "0x"},
    ]
    assert spenders(junk, {word(NONCE): "k"}) == {}


def test_addresses_and_numbers_become_words() -> None:
    assert word(SHOP) == "0" * 24 + SHOP[2:]
    assert word("0xAB") == "0" * 62 + "ab"
