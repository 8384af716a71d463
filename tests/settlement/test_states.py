"""Every (state, event) pair of both machines: the move that the table names, or none."""

import pytest

from guardian.errors import IllegalMove
from guardian.settlement.states import (
    ANSWER,
    IN_DOUBT,
    MONEY,
    OPEN,
    PAID,
    UNPAID,
    Answer,
    AnswerEvent,
    Money,
    MoneyEvent,
    answer_after,
    is_orphan,
    is_unpaid,
    money_after,
)

CHAIN = {MoneyEvent.CHAIN_PAID, MoneyEvent.CHAIN_UNPAID, MoneyEvent.CHAIN_UNDONE}


def test_every_state_has_a_row() -> None:
    assert set(MONEY) == set(Money)
    assert set(ANSWER) == set(Answer)


@pytest.mark.parametrize("state", Money)
@pytest.mark.parametrize("event", MoneyEvent)
def test_money_moves_by_its_table_and_in_no_other_way(state: Money, event: MoneyEvent) -> None:
    if event in MONEY[state]:
        assert money_after(state, event) is MONEY[state][event]
    else:
        with pytest.raises(IllegalMove):
            money_after(state, event)


@pytest.mark.parametrize("state", Answer)
@pytest.mark.parametrize("event", AnswerEvent)
def test_the_answer_moves_by_its_table_and_in_no_other_way(state: Answer, event: AnswerEvent) -> None:
    if event in ANSWER[state]:
        assert answer_after(state, event) is ANSWER[state][event]
    else:
        with pytest.raises(IllegalMove):
            answer_after(state, event)


@pytest.mark.parametrize("state", sorted(IN_DOUBT))
def test_no_doubt_ends_in_failure_without_the_chain(state: Money) -> None:
    for event, after in MONEY[state].items():
        assert after is not Money.IDLE
        assert after not in UNPAID or event in CHAIN


def test_only_the_chain_takes_back_a_success() -> None:
    for state in PAID:
        assert {event for event, after in MONEY[state].items() if after not in PAID} <= CHAIN


def test_a_delivered_success_is_the_last_word_to_the_caller() -> None:
    assert ANSWER[Answer.ACCEPTED] == {}


def test_every_money_state_is_paid_unpaid_or_open_and_only_one_of_them() -> None:
    assert set(Money) == PAID | UNPAID | OPEN
    assert not (PAID & UNPAID)
    assert not (PAID & OPEN)
    assert not (UNPAID & OPEN)


@pytest.mark.parametrize("state", Money)
def test_every_money_state_can_be_reached(state: Money) -> None:
    reached = {Money.IDLE}
    for _ in Money:
        reached |= {after for before in reached for after in MONEY[before].values()}
    assert state in reached


@pytest.mark.parametrize("money", Money)
@pytest.mark.parametrize("answer", Answer)
def test_orphan_and_unpaid_never_hold_together(money: Money, answer: Answer) -> None:
    assert not (is_orphan(money, answer) and is_unpaid(money, answer))
    assert is_orphan(money, answer) == (
        money in PAID and answer in {Answer.REFUSED, Answer.ABANDONED, Answer.PENDING}
    )
    assert is_unpaid(money, answer) == (money in UNPAID and answer is Answer.ACCEPTED)
