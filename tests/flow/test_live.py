"""What becomes of one record when this process takes it up from a replica that has gone."""

import asyncio

import pytest

from guardian.flow.live import Live
from guardian.settlement.states import Answer, Money
from guardian.store.memory import MemoryStore
from tests.store.conftest import settlement


def taken_up(*, callers: int, others: int = 0, money: Money, answer: Answer) -> Live:
    """A record of `gone`, taken up by `here` while so many callers wait for it."""

    async def run() -> Live:
        store = MemoryStore()
        await store.open()
        record = settlement("1", money=money, answer=answer, owner="gone")
        await store.claim(record)
        live = Live(record.key, store, lambda: 5.0)
        live.record, live.claimed = record, True
        live.callers, live.others = callers, others
        assert await live.taken_up("gone", "here")
        assert await store.get(record.key) == live.record
        return live

    return asyncio.run(run())


@pytest.mark.parametrize("answer", [Answer.NONE, Answer.HELD])
@pytest.mark.parametrize(
    ("callers", "others", "then"),
    [(0, 0, Answer.ABANDONED), (1, 1, Answer.ABANDONED), (2, 1, None), (1, 0, None)],
    ids=["nobody_waits", "only_others_wait", "its_own_caller_and_others", "its_own_caller_waits"],
)
def test_a_payment_whose_own_caller_went_with_its_replica_is_abandoned_whoever_else_waits(
    callers: int, others: int, then: Answer | None, answer: Answer
) -> None:
    live = taken_up(callers=callers, others=others, money=Money.CONFIRMED, answer=answer)
    assert live.record.answer is (then or answer)
    assert live.record.orphan is (then is not None)
    assert live.record.owner == "here"


def test_what_was_being_sent_is_in_doubt_by_the_very_write_that_takes_it_up() -> None:
    live = taken_up(callers=1, others=1, money=Money.PENDING, answer=Answer.NONE)
    assert (live.record.money, live.record.answer) == (Money.UNRESOLVED, Answer.ABANDONED)
    assert live.record.tainted
    assert [event.name for event in live.record.events[-3:]] == ["taken_up", "doubt", "left"]


def test_a_record_that_another_replica_took_up_first_is_left_to_it() -> None:
    async def run() -> None:
        store = MemoryStore()
        await store.open()
        record = settlement("1", money=Money.PENDING, owner="quicker")
        await store.claim(record)
        live = Live(record.key, store, lambda: 5.0)
        live.record, live.claimed = record, True
        assert not await live.taken_up("gone", "here")
        assert await store.get(record.key) == record

    asyncio.run(run())
