"""Events for webhooks, held by every store: written with the move, in order, until dropped."""

import asyncio

import msgspec
import pytest

from guardian.errors import StaleRecord
from guardian.settlement.notice import Kind, Notice
from guardian.settlement.record import after_money, noted
from guardian.settlement.states import MoneyEvent
from guardian.store.open import open_store


def notice(number, subject="eip155:8453/0xusdc/0xpayer/1", hook="ops", **changes):
    facts = {"id": f"msg_{number}", "hook": hook, "subject": subject, "kind": Kind.UNRESOLVED}
    return Notice(**(facts | {"at": float(number), "body": "{}"} | changes))


def ids(notices):
    return [one.id for one in notices]


def test_an_event_is_kept_with_its_move_and_not_without(run, new):
    async def script(store):
        first = (await store.claim(new())).record
        moved = after_money(first, MoneyEvent.DOUBT, now=2.0)
        await store.update(first, moved, notices=[notice(1), notice(1, hook="other")])
        with pytest.raises(StaleRecord):
            await store.update(first, noted(first, "x", now=3.0), notices=[notice(2)])
        assert ids(await store.notices.waiting("ops", 10)) == ["msg_1"]
        assert await store.notices.waiting("other", 10) == [notice(1, hook="other")]
        assert (await store.get(first.key)) == moved

    run(script)


def test_events_of_one_subject_keep_their_order_whatever_their_time_says(run, new):
    async def script(store):
        record = (await store.claim(new())).record
        for number in (5, 3, 4):
            moved = noted(record, "x", now=2.0)
            await store.update(record, moved, notices=[notice(number)])
            record = moved
        assert ids(await store.notices.waiting("ops", 10)) == ["msg_5", "msg_3", "msg_4"]
        assert ids(await store.notices.waiting("ops", 2)) == ["msg_5", "msg_3"]

    run(script)


def test_an_event_is_kept_once(run):
    async def script(store):
        await store.notices.keep([notice(1)])
        await store.notices.put(notice(1, attempts=3, why="no"))
        await store.notices.keep([notice(1), notice(2)])
        assert [one.attempts for one in await store.notices.waiting("ops", 10)] == [3, 0]
        assert await store.notices.count("ops") == (2, 0)

    run(script)


def test_what_is_laid_aside_comes_back_before_what_came_after_it(run):
    async def script(store):
        await store.notices.keep([notice(number) for number in (1, 2, 3)])
        await store.notices.put(notice(1, dead=True))
        assert ids(await store.notices.waiting("ops", 10)) == ["msg_2", "msg_3"]
        assert await store.notices.dead("ops", 10) == [notice(1, dead=True)]
        assert await store.notices.count("ops") == (2, 1)
        await store.notices.put(notice(1))
        assert ids(await store.notices.waiting("ops", 10)) == ["msg_1", "msg_2", "msg_3"]
        assert await store.notices.dead("ops", 10) == []

    run(script)


def test_what_was_dropped_stays_away(run):
    async def script(store):
        await store.notices.keep([notice(1), notice(2, dead=False)])
        await store.notices.put(notice(2, dead=True))
        await store.notices.drop([notice(1), notice(2), notice(3)])
        await store.notices.put(notice(1))
        assert await store.notices.count("ops") == (0, 0)

    run(script)


def test_events_of_many_subjects_are_all_found(run):
    async def script(store):
        made = [notice(number, subject=f"circuit/{number}/eip155:1/settle") for number in range(40)]
        await asyncio.gather(*(store.notices.keep([one]) for one in made))
        assert sorted(ids(await store.notices.waiting("ops", 100))) == sorted(ids(made))
        assert len(await store.notices.waiting("ops", 7)) == 7
        assert await store.notices.waiting("nobody", 7) == []

    run(script)


def test_the_webhooks_that_have_events_are_known_by_name(run):
    async def script(store):
        assert await store.notices.hooks() == []
        await store.notices.keep([notice(1), notice(2, hook="b"), notice(3, subject="else", hook="a.b")])
        await store.notices.put(notice(1, dead=True))
        assert await store.notices.hooks() == ["a.b", "b", "ops"]
        await store.notices.drop([notice(2, hook="b")])
        assert await store.notices.hooks() == ["a.b", "ops"]

    run(script)


def test_events_outlive_the_process(sqlite_url, new):
    async def script(write):
        store = open_store(sqlite_url)
        await store.open()
        try:
            if write:
                record = (await store.claim(new())).record
                await store.update(record, noted(record, "x", now=2.0), notices=[notice(1)])
            return await store.notices.waiting("ops", 10)
        finally:
            await store.close()

    assert asyncio.run(script(True)) == asyncio.run(script(False)) == [notice(1)]


def test_a_notice_is_what_it_was(run):
    async def script(store):
        sent = notice(1, why="ä", due=1.5, body='{"a":"\u2028"}')
        await store.notices.keep([sent])
        assert (await store.notices.waiting("ops", 1)) == [sent]
        assert msgspec.json.decode(msgspec.json.encode(sent), type=Notice) == sent

    run(script)
