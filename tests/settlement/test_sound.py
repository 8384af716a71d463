"""What cannot be: nothing that the tables lead to, and each thing that they do not."""

from typing import Any

import msgspec
import pytest

from guardian.settlement.record import (
    AGENT,
    Settlement,
    after_answer,
    after_money,
    begun,
    refunded,
    written_off,
)
from guardian.settlement.sound import contradictions
from guardian.settlement.states import (
    ANSWER,
    IN_DOUBT,
    MONEY,
    PAID,
    UNPAID,
    Answer,
    AnswerEvent,
    Money,
    MoneyEvent,
)
from guardian.wire.names import TxHash
from tests.store.conftest import settlement

TX = TxHash("0x" + "ab" * 32)
LEARNT: dict[MoneyEvent, dict[str, Any]] = {
    MoneyEvent.DOUBT: {"tainted": True},
    MoneyEvent.CHAIN_PAID: {"chain_proven": True, "transaction": TX},
    MoneyEvent.CHAIN_UNPAID: {"chain_proven": True},
    MoneyEvent.CHAIN_UNDONE: {"chain_proven": False, "transaction": None, "tainted": True},
}


def lives() -> list[Settlement]:
    """Every pair of states that a payment comes to, by moves as the flows make them."""
    fresh = settlement(money=Money.IDLE, answer=Answer.NONE, watched=True)
    found = {(fresh.money, fresh.answer): begun(fresh, Money.IDLE)}
    todo = list(found.values())
    while todo:
        record = todo.pop()
        next_ones = [
            after_money(record, event, now=2.0, **LEARNT.get(event, {})) for event in MONEY[record.money]
        ]
        may_be_handed = record.money in PAID | IN_DOUBT
        next_ones += [
            after_answer(record, event, now=2.0)
            for event in ANSWER[record.answer]
            if event is not AnswerEvent.DELIVERED or may_be_handed
        ]
        for one in next_ones:
            if (one.money, one.answer) not in found:
                found[one.money, one.answer] = one
                todo.append(one)
    return list(found.values())


def test_whatever_the_moves_lead_to_is_sound() -> None:
    found = lives()
    assert len(found) > len(Money) * 4
    assert [contradictions(record) for record in found] == [()] * len(found)


def test_a_closed_orphan_is_sound_also_when_the_chain_denies_it() -> None:
    orphans = [record for record in lives() if record.orphan]
    assert orphans
    for orphan in orphans:
        closed = [written_off(orphan, by="ann", reason="x", now=3.0)]
        if orphan.chain_proven:
            closed.append(refunded(orphan, TX, by="ann", now=3.0))
        if MoneyEvent.CHAIN_UNPAID in MONEY[orphan.money]:
            closed.append(after_money(closed[0], MoneyEvent.CHAIN_UNPAID, now=4.0, chain_proven=True))
        assert [contradictions(one) for one in closed] == [()] * len(closed)


def test_a_claim_behind_another_payment_is_sound() -> None:
    record = begun(settlement(answer=Answer.NONE), Money.PENDING)
    assert contradictions(msgspec.structs.replace(record, money=Money.IDLE)) == ()


@pytest.mark.parametrize(
    "facts",
    [
        {"money": Money.IDLE, "answer": Answer.ACCEPTED},
        {"money": Money.PENDING, "answer": Answer.ACCEPTED},
        {"money": Money.PENDING, "tainted": True},
        {"money": Money.POLLING, "paid_by": "x"},
        {"money": Money.CONFIRMED, "paid_by": "x"},
        {"money": Money.UNRESOLVED, "chain_proven": True},
        {"money": Money.CONFIRMED_LATE, "chain_proven": True},
        {"money": Money.POLLING, "closed_by": "ann"},
        {"refund_transaction": TX},
        {"amount": -1},
        {"version": -1},
    ],
)
def test_what_no_move_leads_to_is_told(facts: dict[str, Any]) -> None:
    assert len(contradictions(settlement(**facts))) == 1


def test_a_trail_that_ends_elsewhere_is_told() -> None:
    moved = after_money(begun(settlement(), Money.PENDING), MoneyEvent.DOUBT, now=2.0)
    for changed in ({"money": Money.FAILED}, {"answer": Answer.REFUSED}):
        (said,) = contradictions(msgspec.structs.replace(moved, **changed))
        assert said.startswith("the audit trail ends with unresolved/held")


def test_an_agent_may_have_its_goods_before_its_seller_settles() -> None:
    assert contradictions(settlement(money=Money.PENDING, answer=Answer.ACCEPTED, plane=AGENT)) == ()


def test_every_final_state_may_be_proven() -> None:
    for money in PAID | UNPAID:
        assert contradictions(settlement(money=money, chain_proven=True, transaction=TX)) == ()
