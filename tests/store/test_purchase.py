"""What makes two records one purchase, and when the first one blocks."""

import pytest

from guardian.settlement.purchase import blocks, is_disposable, same_purchase
from guardian.settlement.states import PAID, UNPAID, Answer, Money


@pytest.mark.parametrize("field", ["network", "payer", "pay_to", "asset", "resource"])
def test_one_different_fact_is_another_purchase(new, field):
    assert same_purchase(new("1"), new("2"))
    assert not same_purchase(new("1"), new("2", **{field: "other"}))


def test_amount_is_part_of_the_purchase(new):
    assert not same_purchase(new("1"), new("2", amount=1))


def test_unnamed_resource_matches_any(new):
    assert same_purchase(new("1", resource=""), new("2"))
    assert same_purchase(new("1"), new("2", resource=""))


@pytest.mark.parametrize("money", list(Money))
@pytest.mark.parametrize("answer", list(Answer))
def test_only_doubt_about_what_is_not_delivered_and_orphans_block(new, money, answer):
    record = new("1", money=money, answer=answer)
    in_doubt = money in (Money.UNRESOLVED, Money.POLLING) and answer is not Answer.ACCEPTED
    assert blocks(record, new("2")) == (in_doubt or record.orphan)
    assert not blocks(record, record)
    assert not blocks(new("1", money=money, answer=answer, paid_by="x"), new("2"))


@pytest.mark.parametrize("money", list(Money))
@pytest.mark.parametrize("answer", list(Answer))
def test_nothing_open_or_owed_is_disposable(new, money, answer):
    record = new(money=money, answer=answer)
    if is_disposable(record):
        assert money in PAID | UNPAID
        assert not record.orphan
        assert not record.unpaid
