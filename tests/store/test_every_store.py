"""The promises of the Store protocol, held by every implementation."""

import asyncio

import msgspec
import pytest

from guardian.errors import StaleRecord, StoreUnavailable
from guardian.settlement.record import after_answer, after_money, noted, refunded, written_off
from guardian.settlement.states import Answer, AnswerEvent, Money, MoneyEvent
from guardian.store.open import open_store
from guardian.wire.names import TxHash


def keys(records):
    return [record.nonce for record in records]


def test_first_claim_creates_and_a_repeat_gets_the_record_as_it_stands(run, new):
    async def script(store):
        first = await store.claim(new())
        moved = after_money(first.record, MoneyEvent.DOUBT, now=2.0)
        await store.update(first.record, moved)
        repeat = await store.claim(new(created_at=9.0))
        assert (first.created, repeat.created) == (True, False)
        assert repeat.record == moved
        assert repeat.blocking == ()

    run(script)


def test_of_many_claims_at_once_exactly_one_creates(run, new):
    async def script(store):
        claims = await asyncio.gather(*(store.claim(new()) for _ in range(50)))
        assert sum(claim.created for claim in claims) == 1

    run(script)


def test_record_comes_back_as_it_was_written(run, new):
    async def script(store):
        record = noted(
            new(amount=2**256 - 1, valid_before=2**255, hint="0xab", reason="ünïcode", tainted=True),
            "reply",
            now=3.5,
            note="why",
        )
        await store.claim(record)
        assert await store.get(record.key) == record
        assert await store.get_by_id(record.id) == record

    run(script)


def test_unknown_record_is_none(run, new):
    async def script(store):
        assert await store.get("nothing") is None
        assert await store.get_by_id("pay_nothing") is None

    run(script)


def test_update_of_a_moved_record_is_stale_and_changes_nothing(run, new):
    async def script(store):
        record = (await store.claim(new())).record
        winner = noted(record, "winner", now=2.0)
        await store.update(record, winner)
        with pytest.raises(StaleRecord):
            await store.update(record, noted(record, "loser", now=2.0))
        assert await store.get(record.key) == winner

    run(script)


def test_of_many_updates_from_one_version_exactly_one_wins(run, new):
    async def script(store):
        record = (await store.claim(new())).record
        tries = [store.update(record, noted(record, f"try {i}", now=2.0)) for i in range(20)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert outcomes.count(None) == 1
        assert sum(isinstance(outcome, StaleRecord) for outcome in outcomes) == 19

    run(script)


def test_update_of_a_record_that_was_never_claimed_is_stale(run, new):
    async def script(store):
        with pytest.raises(StaleRecord):
            await store.update(new(), noted(new(), "x", now=2.0))
        assert await store.get(new().key) is None

    run(script)


DOUBT_AND_ORPHANS = [
    (Money.UNRESOLVED, Answer.HELD),
    (Money.POLLING, Answer.PENDING),
    (Money.CONFIRMED, Answer.REFUSED),
    (Money.CONFIRMED, Answer.ABANDONED),
    (Money.CONFIRMED_LATE, Answer.PENDING),
]


@pytest.mark.parametrize(("money", "answer"), DOUBT_AND_ORPHANS)
def test_purchase_in_doubt_or_orphaned_blocks_and_the_second_is_stored_idle(run, new, money, answer):
    async def script(store):
        first = new("1", money=money, answer=answer)
        await store.claim(first)
        claim = await store.claim(new("2"))
        assert claim.created
        assert claim.blocking == (first,)
        assert claim.record == await store.get(claim.record.key)
        assert claim.record.money is Money.IDLE

    run(script)


@pytest.mark.parametrize(
    "facts",
    [
        {"money": Money.PENDING},
        {"money": Money.IDLE},
        {"money": Money.CONFIRMED, "answer": Answer.ACCEPTED},
        {"money": Money.CONFIRMED, "answer": Answer.HELD},
        {"money": Money.FAILED, "answer": Answer.REFUSED},
        {"money": Money.FAILED_ORPHANED, "answer": Answer.ACCEPTED},
        {"money": Money.CONFIRMED, "answer": Answer.REFUSED, "paid_by": "another"},
    ],
)
def test_purchase_under_way_delivered_unpaid_or_paid_by_another_does_not_block(run, new, facts):
    async def script(store):
        await store.claim(new("1", **facts))
        claim = await store.claim(new("2"))
        assert claim.blocking == ()
        assert claim.record.money is Money.PENDING

    run(script)


@pytest.mark.parametrize(
    "other",
    [
        {"network": "eip155:1"},
        {"payer": "0xother"},
        {"pay_to": "0xother"},
        {"asset": "0xother"},
        {"amount": 10_001},
        {"resource": "https://shop/b"},
    ],
)
def test_another_purchase_does_not_block(run, new, other):
    async def script(store):
        await store.claim(new("1", money=Money.UNRESOLVED))
        claim = await store.claim(new("2", **other))
        assert claim.blocking == ()
        assert claim.record.money is Money.PENDING

    run(script)


@pytest.mark.parametrize(("first", "second"), [("", "https://shop/a"), ("https://shop/a", ""), ("", "")])
def test_purchase_without_a_resource_matches_any(run, new, first, second):
    async def script(store):
        await store.claim(new("1", money=Money.UNRESOLVED, resource=first))
        claim = await store.claim(new("2", resource=second))
        assert keys(claim.blocking) == ["1"]

    run(script)


def test_doubt_does_not_block_its_own_repeat(run, new):
    async def script(store):
        await store.claim(new(money=Money.UNRESOLVED))
        claim = await store.claim(new())
        assert not claim.created
        assert claim.blocking == ()
        assert claim.record.money is Money.UNRESOLVED

    run(script)


def test_blocking_follows_updates_and_comes_oldest_first(run, new):
    async def script(store):
        young = (await store.claim(new("young", created_at=2_000.0))).record
        old = (await store.claim(new("old", created_at=1_000.0))).record
        for record in (young, old):
            await store.update(record, after_money(record, MoneyEvent.DOUBT, now=3_000.0))
        assert keys((await store.claim(new("3"))).blocking) == ["old", "young"]
        doubt = await store.get(old.key)
        await store.update(doubt, after_money(doubt, MoneyEvent.CHAIN_UNPAID, now=4_000.0))
        assert keys((await store.claim(new("4"))).blocking) == ["young"]

    run(script)


OTHER_TERMS = [{"amount": 7}, {"pay_to": "0xother"}, {"asset": "0xother"}]


@pytest.mark.parametrize("terms", OTHER_TERMS)
def test_update_that_changes_the_purchase_moves_it(run, new, terms):
    async def script(store):
        record = (await store.claim(new("1", money=Money.UNRESOLVED))).record
        other = msgspec.structs.replace(record, version=1, **terms)
        await store.update(record, other)
        free = await store.claim(new("2"))
        assert (free.blocking, free.record.money) == ((), Money.PENDING)
        assert (await store.claim(new("3", **terms))).blocking == (other,)
        wanted = (other.network, other.payer, other.pay_to, other.asset, other.amount)
        assert other in await store.of_purchase(*wanted)

    run(script)


CLOSINGS = [
    lambda orphan: refunded(orphan, TxHash("0x" + "ab" * 32), by="ann", now=2.0),
    lambda orphan: written_off(orphan, by="ann", reason="a test of ours", now=2.0),
]


@pytest.mark.parametrize("close", CLOSINGS)
@pytest.mark.parametrize("answer", [Answer.REFUSED, Answer.ABANDONED, Answer.PENDING])
def test_closed_orphan_is_listed_and_blocks_no_more_and_may_be_pruned(run, new, close, answer):
    async def script(store):
        orphan = new("1", money=Money.CONFIRMED_LATE, answer=answer)
        await store.claim(orphan)
        assert await store.page(orphans=True) == [orphan]
        closed = close(orphan)
        await store.update(orphan, closed)
        assert await store.get(orphan.key) == closed
        assert await store.page(orphans=True) == await store.open_records() == []
        purchase = (orphan.network, orphan.payer, orphan.pay_to, orphan.asset, orphan.amount)
        assert await store.of_purchase(*purchase) == []
        assert (await store.claim(new("2"))).blocking == ()
        assert await store.disagreements([closed]) == []
        assert await store.prune(5_000.0, 10) == 1

    run(script)


def test_closed_payment_that_the_chain_has_not_proven_stays_until_it_has(run, new):
    async def script(store):
        orphan = new(money=Money.CONFIRMED, answer=Answer.REFUSED, watched=True)
        await store.claim(orphan)
        closed = written_off(orphan, by="ann", reason="x", now=2.0)
        await store.update(orphan, closed)
        assert await store.open_records() == [closed]
        assert await store.prune(5_000.0, 10) == 0

    run(script)


def test_purchase_lookup_finds_doubt_and_paid_but_not_accepted(run, new):
    async def script(store):
        await store.claim(new("held", money=Money.CONFIRMED, created_at=3.0))
        await store.claim(new("doubt", money=Money.POLLING, created_at=2.0, resource="https://shop/b"))
        await store.claim(new("done", money=Money.CONFIRMED, answer=Answer.ACCEPTED))
        await store.claim(new("under way", resource="https://shop/c"))
        await store.claim(new("other", money=Money.POLLING, amount=1))
        found = await store.of_purchase("eip155:8453", "0xpayer", "0xpayee", "0xusdc", 10_000)
        assert keys(found) == ["doubt", "held"]

    run(script)


def test_open_records_are_those_without_a_final_truth_oldest_first(run, new):
    async def script(store):
        for at, money in enumerate(Money):
            facts = {"money": money, "answer": Answer.PENDING, "watched": True}
            await store.claim(new(money, created_at=100.0 - at, payer=money, **facts))
        proven = {"money": Money.CONFIRMED, "watched": True, "chain_proven": True}
        await store.claim(new("proven", payer="p", answer=Answer.ACCEPTED, **proven))
        await store.claim(new("unwatched", payer="u", answer=Answer.REFUSED, money=Money.CONFIRMED))
        expected = ["polling", "unresolved", "confirmed", "pending", "idle"]
        assert keys(await store.open_records()) == expected

    run(script)


PAID_AND_UNTOLD = [
    {"money": money, "answer": answer} | proof
    for money in (Money.CONFIRMED, Money.CONFIRMED_LATE)
    for answer in (Answer.NONE, Answer.HELD)
    for proof in ({"watched": False}, {"watched": True, "chain_proven": True})
]


@pytest.mark.parametrize("facts", PAID_AND_UNTOLD)
def test_success_that_nobody_was_told_is_open_until_it_is_said_that_the_caller_left(run, new, facts):
    async def script(store):
        record = new(**facts)
        await store.claim(record)
        assert await store.open_records() == [record]
        assert await store.page(orphans=True) == []
        left = after_answer(record, AnswerEvent.LEFT, now=2.0)
        await store.update(record, left)
        assert await store.open_records() == []
        assert await store.page(orphans=True) == [left]

    run(script)


def test_success_that_was_handed_out_is_not_open(run, new):
    async def script(store):
        record = new(money=Money.CONFIRMED)
        await store.claim(record)
        await store.update(record, after_answer(record, AnswerEvent.DELIVERED, now=2.0))
        assert await store.open_records() == []

    run(script)


def test_proven_record_leaves_the_open_ones(run, new):
    async def script(store):
        told = {"money": Money.CONFIRMED, "answer": Answer.ACCEPTED, "watched": True}
        record = (await store.claim(new(**told))).record
        assert await store.open_records() == [record]
        proven = after_money(record, MoneyEvent.CHAIN_PAID, now=2.0, chain_proven=True)
        await store.update(record, proven)
        assert await store.open_records() == []

    run(script)


def test_page_is_newest_first_and_continues_before_a_time(run, new):
    async def script(store):
        for at in (2, 3, 1, 4):
            await store.claim(new(str(at), created_at=float(at)))
        assert keys(await store.page(limit=2)) == ["4", "3"]
        assert keys(await store.page(before=3.0)) == ["2", "1"]
        assert await store.page(limit=0) == []

    run(script)


def test_page_filters_by_money_and_by_orphans(run, new):
    async def script(store):
        for money in Money:
            for answer in Answer:
                name = f"{money}-{answer}"
                await store.claim(new(name, money=money, answer=answer, payer=name))
        failed = await store.page(money=[Money.FAILED, "failed_orphaned"])
        assert {record.money for record in failed} == {Money.FAILED, Money.FAILED_ORPHANED}
        orphans = await store.page(orphans=True)
        assert len(orphans) == 6
        assert all(record.orphan for record in orphans)
        late = await store.page(orphans=True, money=["confirmed_late"], before=2_000.0, limit=2)
        assert [record.money for record in late] == [Money.CONFIRMED_LATE] * 2

    run(script)


def test_prune_deletes_only_what_is_finished_and_old(run, new):
    async def script(store):
        for money in Money:
            for answer in Answer:
                for watched in (True, False):
                    name = f"{money}-{answer}-{watched}"
                    record = new(name, money=money, answer=answer, watched=watched, payer=name)
                    await store.claim(record)
        assert await store.prune(1_000.0, 500) == 0
        before = {record.key: record for record in await store.page(limit=500)}
        removed = await store.prune(1_000.5, 500)
        left = {record.key for record in await store.page(limit=500)}
        gone = [record for key, record in before.items() if key not in left]
        assert removed == len(gone) > 0
        assert not any(record.orphan or record.unpaid for record in gone)
        assert not any(record.watched and record.money is Money.CONFIRMED for record in gone)
        final = {Money.FAILED, Money.FAILED_ORPHANED, Money.CONFIRMED, Money.CONFIRMED_LATE}
        assert {record.money for record in gone} == final

    run(script)


def test_prune_takes_the_oldest_up_to_its_limit(run, new):
    async def script(store):
        for at in (3, 1, 2):
            await store.claim(new(str(at), money=Money.FAILED, created_at=float(at), updated_at=float(at)))
        assert await store.prune(10.0, 2) == 2
        assert keys(await store.page()) == ["3"]
        assert (await store.claim(new("1"))).created

    run(script)


def test_chain_proof_makes_a_watched_success_prunable(run, new):
    async def script(store):
        record = new(money=Money.CONFIRMED, answer=Answer.ACCEPTED, watched=True)
        await store.claim(record)
        assert await store.prune(5_000.0, 10) == 0
        await store.update(record, msgspec.structs.replace(record, version=1, chain_proven=True))
        assert await store.prune(5_000.0, 10) == 1

    run(script)


async def scanned(store, step):
    found, after = [], ""
    while True:
        records, after = await store.scan(after, step)
        found += records
        if not after:
            return found


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_scan_meets_every_record(run, new, step):
    async def script(store):
        assert await scanned(store, step) == []
        wanted = {}
        for number in range(40):
            record = new(str(number), payer=f"0x{number:040x}", network=f"eip155:{number % 3}")
            facts = {"key": f"{record.network}/0x{'a' * 40}/{record.payer}/0x{'0' * 64}"}
            record = msgspec.structs.replace(record, **facts)
            wanted[record.key] = (await store.claim(record)).record
        found = {record.key: record for record in await scanned(store, step)}
        assert found == wanted

    run(script)


def test_indexes_of_an_untouched_store_agree_with_all_its_records(run, new):
    async def script(store):
        for money in Money:
            for answer in Answer:
                for watched in (True, False):
                    name = f"{money}-{answer}-{watched}"
                    record = (await store.claim(new(name, payer=name, watched=watched))).record
                    moved = msgspec.structs.replace(record, version=1, money=money, answer=answer)
                    await store.update(record, moved)
        records = await scanned(store, 50)
        assert len(records) == len(Money) * len(Answer) * 2
        assert await store.disagreements(records) == []
        condition = await store.condition()
        assert condition.faults == ()

    run(script)


def test_store_that_is_not_open_or_closed_answers_nothing(store_url, new):
    async def script():
        store = open_store(store_url)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.claim(new())
            with pytest.raises(StoreUnavailable):
                await store.update(new(), new())
            for ask in (store.ping(), store.get("x"), store.get_by_id("x"), store.open_records()):
                with pytest.raises(StoreUnavailable):
                    await ask
            for ask in (store.scan("", 1), store.disagreements([new()]), store.condition()):
                with pytest.raises(StoreUnavailable):
                    await ask
            for ask in (store.page(), store.prune(1.0, 1), store.of_purchase("n", "p", "t", "a", 1)):
                with pytest.raises(StoreUnavailable):
                    await ask
            await store.open()
            await store.ping()
            await store.close()
            await store.close()

    asyncio.run(script())


def test_lease_is_kept_by_its_holder_and_denied_to_others(run):
    async def script(store):
        fence = await store.lease("watch/a", "one", 30)
        assert await store.lease("watch/a", "one", 30) == fence
        assert await store.lease("watch/a", "two", 30) is None
        assert await store.lease("watch/b", "two", 30) > fence
        assert await store.holders("watch/") == {"watch/a": "one", "watch/b": "two"}
        assert await store.holders("watch/a") == {"watch/a": "one"}
        assert await store.holders("other/") == {}

    run(script)


def test_lease_is_let_go_only_by_its_holder(run):
    async def script(store):
        fence = await store.lease("a", "one", 30)
        await store.resign("a", "two")
        await store.resign("unknown", "two")
        assert await store.holders("") == {"a": "one"}
        await store.resign("a", "one")
        assert await store.holders("") == {}
        assert await store.lease("a", "two", 30) > fence

    run(script)


def test_lease_that_is_not_kept_ends_and_its_next_holder_gets_a_higher_number(run):
    async def script(store):
        fence = await store.lease("a", "one", 0.05)
        while (later := await store.lease("a", "two", 30)) is None:
            await asyncio.sleep(0.005)
        assert later > fence
        assert await store.lease("a", "one", 30) is None
        assert await store.holders("") == {"a": "two"}

    run(script)


def test_what_one_tells_oneself_is_not_heard(run):
    async def script(store):
        heard = []
        store.listen("record", heard.append)
        store.lost_touch(lambda: heard.append("lost"))
        await store.tell("record", b"x")
        await store.ping()
        assert heard == []

    run(script)
