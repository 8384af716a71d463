"""The record: every move is a new version with a line in the audit trail."""

import msgspec
import pytest

from guardian.errors import IllegalMove
from guardian.settlement.record import EVENTS_KEPT, Settlement, after_answer, after_money, noted
from guardian.settlement.states import Answer, AnswerEvent, Money, MoneyEvent
from guardian.wire.names import Address, Network, Nonce, TxHash


def record() -> Settlement:
    return Settlement(
        key="eip155:8453/0xasset/0xpayer/0x01",
        id="pay_1",
        x402_version=2,
        scheme="exact",
        method="eip3009",
        network=Network("eip155:8453"),
        network_as_sent="base",
        asset=Address("0xasset"),
        payer=Address("0xpayer"),
        pay_to=Address("0xpayee"),
        amount=10_000,
        nonce=Nonce("0x01"),
        created_at=1.0,
        updated_at=1.0,
    )


def test_a_move_gives_the_next_version_and_leaves_the_old_one_alone() -> None:
    first = record()
    second = after_money(first, MoneyEvent.SENT, now=2.0, note="to main", facilitator="main")
    assert (first.version, first.money, first.events) == (0, Money.IDLE, ())
    assert (second.version, second.money, second.facilitator, second.updated_at) == (
        1,
        Money.PENDING,
        "main",
        2.0,
    )
    line = second.events[-1]
    assert (line.at, line.name, line.money, line.note) == (2.0, "sent", Money.PENDING, "to main")


def test_a_move_that_the_table_lacks_changes_nothing() -> None:
    with pytest.raises(IllegalMove):
        after_money(record(), MoneyEvent.RESENT, now=2.0)
    with pytest.raises(IllegalMove):
        after_answer(
            after_answer(record(), AnswerEvent.DELIVERED, now=2.0), AnswerEvent.TOLD_FAILURE, now=3.0
        )


def test_money_and_answer_move_apart() -> None:
    held = after_answer(after_money(record(), MoneyEvent.SENT, now=2.0), AnswerEvent.HOLD, now=3.0)
    assert (held.money, held.answer) == (Money.PENDING, Answer.HELD)


def test_a_note_keeps_both_states() -> None:
    hinted = noted(record(), "hint", now=2.0, note="0xabc", hint=TxHash("0xabc"))
    assert (hinted.money, hinted.answer, hinted.hint, hinted.version) == (
        Money.IDLE,
        Answer.NONE,
        "0xabc",
        1,
    )


def test_a_charged_payment_whose_caller_was_told_a_failure_is_an_orphan() -> None:
    doubt = after_money(after_money(record(), MoneyEvent.SENT, now=2.0), MoneyEvent.DOUBT, now=3.0)
    late = after_money(after_answer(doubt, AnswerEvent.TOLD_FAILURE, now=4.0), MoneyEvent.CHAIN_PAID, now=5.0)
    assert late.money is Money.CONFIRMED_LATE
    assert late.orphan
    assert not late.unpaid
    assert not after_answer(late, AnswerEvent.DELIVERED, now=6.0).orphan


def test_a_delivered_success_that_the_chain_denies_is_unpaid() -> None:
    paid = after_money(after_money(record(), MoneyEvent.SENT, now=2.0), MoneyEvent.REPORTED_PAID, now=3.0)
    denied = after_money(after_answer(paid, AnswerEvent.DELIVERED, now=4.0), MoneyEvent.CHAIN_UNPAID, now=5.0)
    assert denied.unpaid
    assert not denied.orphan


def test_the_audit_trail_is_bounded_and_keeps_the_newest_lines() -> None:
    grown = record()
    for turn in range(EVENTS_KEPT + 5):
        grown = noted(grown, "turn", now=float(turn))
    assert len(grown.events) == EVENTS_KEPT
    assert grown.events[-1].at == EVENTS_KEPT + 4


def test_a_record_survives_the_store() -> None:
    sent = after_money(record(), MoneyEvent.SENT, now=2.0, body=b"\x00raw")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=Settlement) == sent
