"""Budgets, holds and papers: one set of promises over every store."""

import asyncio
import itertools
import sqlite3
from pathlib import Path

import pytest

from guardian.errors import StoreUnavailable
from guardian.store import ledger as ledger_room
from guardian.store import redis_ledger, sqlite_ledger
from guardian.store.ledger import FOREVER, MAX_PAPERS, Ask, Hold, Line, Outcome, Swap
from guardian.store.open import open_store
from guardian.store.schema import VERSIONS

NOW = 1_000.0
BIG = 10**60 + 7
_tokens = (f"{number:016x}" for number in itertools.count())


def line(amount: int = 1, limit: int = 3, budget: str = "day", ends_at: float = 2_000.0) -> Line:
    return Line(budget, str(amount), str(limit), ends_at)


def ask(key: str, *lines: Line, at: float = NOW, swaps: tuple[Swap, ...] = (), of: str = "") -> Ask:
    return Ask(key, next(_tokens), at, lines, swaps, of)


async def counted(store):
    return {budget.name: budget.counted for budget in await store.ledger.budgets()}


def test_a_budget_takes_what_fits_and_not_one_unit_more(run):
    async def script(store):
        assert (await store.ledger.hold(ask("a", line(BIG, 2 * BIG)))).held
        assert await store.ledger.hold(ask("b", line(BIG + 1, 2 * BIG))) == Outcome(over=0, counted=BIG)
        assert (await store.ledger.hold(ask("c", line(BIG, 2 * BIG)))).held
        assert await store.ledger.hold(ask("d", line(1, 2 * BIG))) == Outcome(over=0, counted=2 * BIG)
        assert await counted(store) == {"day": 2 * BIG}

    run(script)


@pytest.mark.parametrize(
    ("amount", "limit", "fits"),
    [
        (10**14, 10**14, 1),
        (10**14 - 1, 10**14, 1),
        (5 * 10**13, 10**14, 2),
        (2**256 - 1, 2**256 - 1, 1),
        (0, 0, 9),
    ],
)
def test_amounts_of_any_size_are_counted_exactly(run, amount, limit, fits):
    async def script(store):
        said = [(await store.ledger.hold(ask(str(n), line(amount, limit)))).held for n in range(9)]
        assert said == [True] * fits + [False] * (9 - fits)

    run(script)


def test_of_many_at_once_exactly_as_many_as_fit_are_held(run):
    async def script(store):
        said = await asyncio.gather(*(store.ledger.hold(ask(str(n), line(7, 100))) for n in range(200)))
        assert sum(one.held for one in said) == 14
        assert await counted(store) == {"day": 98}

    run(script)


def test_all_budgets_take_it_or_none_does(run):
    async def script(store):
        roomy = line(1, 100, "roomy")
        for n in range(5):
            await store.ledger.hold(ask(str(n), roomy, line(1, 2, "tight")))
        assert await counted(store) == {"roomy": 2, "tight": 2}

    run(script)


def test_a_payment_that_is_held_is_not_counted_again(run):
    async def script(store):
        first = ask("a", line(2))
        assert (await store.ledger.hold(first)).held
        assert (await store.ledger.hold(ask("a", line(2)))).held
        assert await counted(store) == {"day": 2}
        assert not await store.ledger.release("a", first.token), "the hold has been renewed since"
        assert await counted(store) == {"day": 2}

    run(script)


def test_what_is_released_has_room_for_others_and_is_released_once(run):
    async def script(store):
        first = ask("a", line(3))
        await store.ledger.hold(first)
        assert await store.ledger.release("a", first.token)
        assert not await store.ledger.release("a", first.token)
        assert await store.ledger.standing("a") is None
        assert (await store.ledger.hold(ask("b", line(3)))).held
        assert not (await store.ledger.hold(ask("c", line(1)))).held

    run(script)


def test_unsettled_holds_are_listed_until_somebody_calls_them_settled(run):
    async def script(store):
        for n in range(3):
            await store.ledger.hold(ask(str(n), line(), at=NOW + n))
        await store.ledger.settle("1")
        assert [(hold.key, hold.at) for hold in await store.ledger.unsettled(1)] == [("0", NOW)]
        assert [hold.key for hold in await store.ledger.unsettled(9)] == ["0", "2"]
        assert await counted(store) == {"day": 3}

    run(script)


def test_what_is_over_is_forgotten(run):
    async def script(store):
        await store.ledger.swap(Swap("note", "", "x"), NOW + 5)
        await store.ledger.hold(ask("a", line(ends_at=NOW + 5)))
        await store.ledger.hold(ask("b", line(budget="next", ends_at=NOW + 99), at=NOW + 10))
        assert await counted(store) == {"next": 1}
        assert await store.ledger.standing("a") is None
        assert await store.ledger.paper("note") == ""
        assert [hold.key for hold in await store.ledger.unsettled(9)] == ["b"]

    run(script)


def test_a_paper_changes_only_from_what_it_was(run):
    async def script(store):
        ledger = store.ledger
        assert await ledger.swap(Swap("a/1", "", "one"), FOREVER)
        assert not await ledger.swap(Swap("a/1", "", "other"), FOREVER)
        assert await ledger.swap(Swap("a/1", "one", "zwei ✓"), FOREVER)
        await ledger.swap(Swap("b/1", "", "else"), FOREVER)
        assert await ledger.paper("a/1") == "zwei ✓"
        assert await ledger.papers("a/") == {"a/1": "zwei ✓"}
        assert await ledger.swap(Swap("a/1", "zwei ✓", ""), FOREVER)
        assert await ledger.papers("") == {"b/1": "else"}

    run(script)


def test_papers_are_listed_page_by_page(run, monkeypatch):
    for module in (ledger_room, sqlite_ledger, redis_ledger):
        monkeypatch.setattr(module, "LISTED", 2)

    async def script(store):
        for name in ("a/1", "a/2", "a/3", "b/1"):
            await store.ledger.swap(Swap(name, "", name), FOREVER)
        assert [*await store.ledger.papers("a/")] == ["a/1", "a/2"]
        assert [*await store.ledger.papers("a/", "a/2")] == ["a/3"]
        assert await store.ledger.papers("a/", "a/3") == {}

    run(script)


def test_of_many_swaps_at_once_one_wins(run):
    async def script(store):
        swaps = (store.ledger.swap(Swap("a", "", str(n)), FOREVER) for n in range(20))
        assert sum(await asyncio.gather(*swaps)) == 1

    run(script)


def test_a_hold_may_depend_on_papers_and_uses_one_up(run):
    async def script(store):
        ledger, use = store.ledger, Swap("leave", "given", "used")
        assert (await ledger.hold(ask("a", line(), swaps=(use,)))).changed == "leave"
        await ledger.swap(Swap("leave", "", "given"), FOREVER)
        assert (await ledger.hold(ask("a", line(), swaps=(Swap("stop", "", ""), use)))).held
        assert await ledger.paper("leave") == "used"
        assert (await ledger.hold(ask("b", line(), swaps=(use,)))).changed == "leave"
        assert (await ledger.hold(ask("a", line(), swaps=(use,)))).held, "it is its own"
        await ledger.swap(Swap("stop", "", "by anna"), FOREVER)
        assert (await ledger.hold(ask("c", line(), swaps=(Swap("stop", "", ""),)))).changed == "stop"
        assert await counted(store) == {"day": 1}

    run(script)


def test_a_release_gives_back_the_paper_that_was_used_up(run):
    async def script(store):
        await store.ledger.swap(Swap("leave", "", "given"), FOREVER)
        held = ask("a", line(), swaps=(Swap("leave", "given", "used"),))
        await store.ledger.hold(held)
        await store.ledger.release("a", held.token)
        assert await store.ledger.paper("leave") == "given"

    run(script)


def test_papers_are_not_without_number(run, monkeypatch):
    assert MAX_PAPERS >= 1000
    for module in ("ledger", "redis_ledger"):
        monkeypatch.setattr(f"guardian.store.{module}.MAX_PAPERS", 2)

    async def script(store):
        swaps = [store.ledger.swap(Swap(name, "", "x"), NOW + 5) for name in "abc"]
        assert [await one for one in swaps] == [True, True, False]
        assert await store.ledger.swap(Swap("a", "x", "y"), NOW + 9)
        assert await store.ledger.swap(Swap("stop", "", "by anna"), FOREVER), "an operator's always fits"
        assert await store.ledger.swap(Swap("stop", "by anna", ""), FOREVER)
        assert not await store.ledger.swap(Swap("c", "", "x"), NOW + 9, NOW + 4)
        assert await store.ledger.swap(Swap("c", "", "x"), NOW + 9, NOW + 6), "b is over"

    run(script)


def test_a_hold_that_is_asked_for_again_is_as_young_as_that(run):
    async def script(store):
        await store.ledger.hold(ask("a", line()))
        await store.ledger.hold(ask("b", line(), at=NOW + 5))
        again = ask("a", line(), at=NOW + 700)
        assert (await store.ledger.hold(again)).held
        assert await store.ledger.standing("a") == Hold("a", again.token, NOW + 700)
        assert [(hold.key, hold.at) for hold in await store.ledger.unsettled(9)] == [
            ("b", NOW + 5),
            ("a", NOW + 700),
        ]
        await store.ledger.settle("a")
        assert (await store.ledger.hold(ask("a", line(), at=NOW + 800))).held
        assert [hold.key for hold in await store.ledger.unsettled(9)] == ["b"]

    run(script)


def test_a_hold_of_one_thing_is_none_of_another_with_its_key(run):
    async def script(store):
        small = ask("a", line(1), of="small")
        assert (await store.ledger.hold(small)).held
        assert (await store.ledger.hold(ask("a", line(2), of="large"))).changed == "a"
        assert (await store.ledger.standing("a")).token == small.token
        assert (await store.ledger.hold(ask("a", line(1), of="small"))).held
        assert await counted(store) == {"day": 1}

    run(script)


def test_holds_outlive_the_process(store_url):
    if store_url == "memory://":
        pytest.skip("nothing there does")

    async def held():
        store = open_store(store_url)
        await store.open()
        await store.ledger.hold(ask("a", line(3)))
        await store.close()

    async def later():
        store = open_store(store_url)
        await store.open()
        assert not (await store.ledger.hold(ask("b", line(1)))).held
        await store.close()

    asyncio.run(held())
    asyncio.run(later())


@pytest.mark.parametrize("kind", ["redis_url", "cluster_url"])
def test_two_replicas_share_every_budget(request, kind):
    url = request.getfixturevalue(kind)

    async def script():
        pair = [open_store(url), open_store(url)]
        for store in pair:
            await store.open()
        asks = (pair[n % 2].ledger.hold(ask(str(n), line(3, 100), line(1, 50, "n"))) for n in range(200))
        assert sum(one.held for one in await asyncio.gather(*asks)) == 33
        assert await counted(pair[0]) == {"day": 99, "n": 33}
        for store in pair:
            await store.close()

    asyncio.run(script())


def test_an_emptied_server_counts_nothing(redis_url):
    async def script():
        store = open_store(redis_url)
        await store.open()
        await store._link.ask([("DEL", store._keys.buckets[0].stamp)])
        with pytest.raises(StoreUnavailable):
            await store.ledger.hold(ask("a", line()))
        await store.close()

    asyncio.run(script())


def test_a_file_from_before_gets_its_tables(tmp_path: Path):
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    for statements in VERSIONS[:3]:
        for statement in statements:
            connection.execute(statement)
    connection.execute("PRAGMA application_id = 1346851396")
    connection.execute("PRAGMA user_version = 3")
    connection.commit()
    connection.close()

    async def script():
        store = open_store(f"sqlite:///{path}")
        await store.open()
        assert (await store.ledger.hold(ask("a", line()))).held
        await store.close()

    asyncio.run(script())


def test_a_step_that_fails_leaves_nothing_behind(sqlite_url, monkeypatch):
    def fails(*_):
        raise sqlite3.OperationalError("disk I/O error")

    async def script():
        store = open_store(sqlite_url)
        await store.open()
        with monkeypatch.context() as broken:
            broken.setattr("guardian.store.sqlite_ledger._Tables.trim", fails)
            with pytest.raises(StoreUnavailable):
                await store.ledger.hold(ask("a", line()))
        assert await counted(store) == {}
        assert await store.ledger.standing("a") is None
        await store.close()

    asyncio.run(script())
