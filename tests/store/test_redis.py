"""What only the shared store promises: several guardians on one Redis."""

import asyncio
import time

import msgspec
import pytest

from guardian.errors import StaleRecord, StoreUnavailable
from guardian.settlement.record import after_money, noted
from guardian.settlement.states import Answer, Money, MoneyEvent
from guardian.store import redis_fit
from guardian.store.ledger import Ask, Line, Swap
from guardian.store.open import open_store
from guardian.store.redis_keys import (
    BUCKETS,
    SCHEMA,
    Bucket,
    bucket_of_key,
    buckets_of_purchase,
    purchase_of,
)
from guardian.wire.payment import read_payment
from tests.wire import wire_bodies as bodies

PAYER = "0x" + "a1" * 20
ASSET = "0x" + "a2" * 20


def on_two(url, script):
    async def main():
        one, two = open_store(url), open_store(url)
        await one.open()
        await two.open()
        try:
            await script(one, two)
        finally:
            await one.close()
            await two.close()

    asyncio.run(main())


def signed(new, number, **changes):
    """A record whose key shows its payer, as EIP-3009 has it."""
    nonce = "0x" + f"{number:064x}"
    facts = {"key": f"eip155:8453/{ASSET}/{PAYER}/{nonce}", "payer": PAYER, "asset": ASSET}
    return new(f"n{number}", **(facts | changes))


def deposit(new, number, **changes):
    """A record of the same payer whose key does not show it."""
    facts = {"key": f"eip155:8453/batch/deposit/c/{number}", "payer": PAYER, "asset": ASSET}
    return new(f"d{number}", **(facts | changes))


def test_of_many_claims_over_two_guardians_exactly_one_creates(redis_url, new):
    async def script(one, two):
        claims = await asyncio.gather(*((one, two)[i % 2].claim(new()) for i in range(64)))
        assert sum(claim.created for claim in claims) == 1
        assert {claim.record for claim in claims} == {new()}

    on_two(redis_url, script)


def test_of_many_updates_over_two_guardians_exactly_one_wins_each_version(redis_url, new):
    async def script(one, two):
        record = (await one.claim(new())).record
        for _ in range(5):
            tries = [noted(record, f"try {i}", now=2.0) for i in range(16)]
            outcomes = await asyncio.gather(
                *((one, two)[i % 2].update(record, tried) for i, tried in enumerate(tries)),
                return_exceptions=True,
            )
            won = [tried for tried, outcome in zip(tries, outcomes, strict=True) if outcome is None]
            assert len(won) == 1
            assert sum(isinstance(outcome, StaleRecord) for outcome in outcomes) == 15
            record = won[0]
            assert await two.get(record.key) == record

    on_two(redis_url, script)


def test_claim_and_update_are_heard_by_the_others_and_not_by_oneself(redis_url, new):
    async def script(one, two):
        heard = {"one": [], "two": []}
        arrived = asyncio.Event()
        one.listen("record", heard["one"].append)
        two.listen("record", lambda key: (heard["two"].append(key), arrived.set()))
        record = (await one.claim(new())).record
        await asyncio.wait_for(arrived.wait(), 5)
        arrived.clear()
        await one.claim(new())  # exists: nothing moved
        await one.update(record, noted(record, "x", now=2.0))
        await asyncio.wait_for(arrived.wait(), 5)
        assert heard == {"one": [], "two": [record.key.encode()] * 2}

    on_two(redis_url, script)


def test_word_of_another_guardian_arrives_and_a_failing_listener_deafens_nobody(redis_url):
    async def script(one, two):
        heard = asyncio.Queue()
        two.listen("circuit", lambda message: 1 / 0)
        two.listen("circuit", heard.put_nowait)
        await one.tell("other topic", b"x")
        await one.tell("circuit", b"\x00 open")
        assert await asyncio.wait_for(heard.get(), 5) == b"\x00 open"
        assert heard.empty()

    on_two(redis_url, script)


def test_lease_is_one_guardians_at_a_time_and_seen_by_all(redis_url):
    async def script(one, two):
        fences = await asyncio.gather(*((one, two)[i % 2].lease("watch/a", f"g{i}", 30) for i in range(16)))
        assert sum(fence is not None for fence in fences) == 1
        assert await one.holders("watch/") == await two.holders("watch/")

    on_two(redis_url, script)


@pytest.mark.parametrize("kinds", [(signed, deposit), (deposit, signed), (signed, signed)])
@pytest.mark.parametrize("orphan", [True, False])
def test_purchase_blocks_whatever_the_methods_of_its_payments(redis_url, new, kinds, orphan):
    first, second = kinds
    facts = {"money": Money.CONFIRMED, "answer": Answer.ABANDONED} if orphan else {"money": Money.POLLING}

    async def script(one, two):
        before = first(new, 1, **facts)
        await one.claim(before)
        claim = await two.claim(second(new, 2))
        assert claim.blocking == (before,)
        assert claim.record.money is Money.IDLE
        assert (await two.claim(second(new, 3, resource="https://shop/b"))).blocking == ()
        assert (await two.claim(second(new, 4, amount=1))).record.money is Money.PENDING
        purchase = (before.network, before.payer, before.pay_to, before.asset, before.amount)
        assert await one.of_purchase(*purchase) == [before]

    on_two(redis_url, script)


@pytest.mark.parametrize(
    "body",
    [
        bodies.v2(),
        bodies.v1(),
        bodies.v2(bodies.permit2()),
        bodies.v2(bodies.batch("voucher"), scheme="batch-settlement"),
        bodies.v2({"strange": 1}, scheme="strange/0x" + "1" * 40),
        bodies.v2({"delegationManager": "0x1", "delegator": PAYER}),
    ],
)
def test_record_lies_where_its_purchase_is_looked_for(body):
    payment = read_payment(msgspec.json.encode(body))
    assert bucket_of_key(payment.key) in buckets_of_purchase(payment.network, payment.payer)


def test_payers_spread_over_all_buckets():
    payers = [f"0x{number:040x}" for number in range(400)]
    keys = [f"eip155:8453/{ASSET}/{payer}/0x{'00' * 32}" for payer in payers]
    assert {bucket_of_key(key) for key in keys} == set(range(BUCKETS))


def test_pruned_records_leave_no_trace(redis_url, redis_server, new):
    prefix = redis_url.rpartition("=")[2]

    async def script(one, two):
        empty = set(redis_server.ask("KEYS", f"{prefix}:*"))
        await one.claim(signed(new, 1, money=Money.UNRESOLVED))
        for number in range(2, 12):
            record = (await one.claim(signed(new, number))).record  # idle: the first one blocks
            await one.update(record, after_money(record, MoneyEvent.REFUSED, now=2.0))
        await one.lease("a", "me", 30)
        await one.resign("a", "me")
        first = await two.get(signed(new, 1).key)
        await one.update(first, after_money(first, MoneyEvent.CHAIN_UNPAID, now=2.0))
        assert await two.prune(3.0, 100) == 11
        left = set(redis_server.ask("KEYS", f"{prefix}:*")) - empty
        assert {key.rpartition(b":")[2] for key in left} == {b"fence"}

    on_two(redis_url, script)


def test_scripts_that_the_server_forgot_are_brought_along(redis_url, redis_server, new):
    async def script(one, two):
        record = (await one.claim(new())).record
        redis_server.ask("SCRIPT FLUSH")
        await two.update(record, noted(record, "x", now=2.0))
        redis_server.ask("SCRIPT FLUSH")
        claims = await asyncio.gather(*(one.claim(new(str(number))) for number in range(5)))
        assert sum(claim.created for claim in claims) == 4

    on_two(redis_url, script)


def test_emptied_server_is_noticed_before_a_payment_is_taken_for_new(redis_url, redis_server, new):
    prefix = redis_url.rpartition("=")[2]

    async def script(one, two):
        record = (await one.claim(new())).record
        redis_server.ask("DEL", *redis_server.ask("KEYS", f"{prefix}:*"))
        for ask in (one.claim(new()), two.update(record, noted(record, "x", now=2.0)), one.ping()):
            with pytest.raises(StoreUnavailable, match="emptied"):
                await ask
        assert redis_server.ask("KEYS", f"{prefix}:*") == []

    on_two(redis_url, script)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (("HSET", "{p}:store", "schema", SCHEMA + 1), "newer guardian"),
        (("HSET", "{p}:store", "buckets", 99), "99 buckets"),
        (("DEL", "{p}:{{{p}/03}}:stamp"), "1 of 16 parts of the store are gone"),
        (("SET", "{p}:{{{p}/03}}:stamp", "1:another"), "1 of 16 parts of the store are gone"),
    ],
)
def test_store_of_another_version_or_in_part_is_refused(redis_url, redis_server, spoil, said):
    prefix = redis_url.rpartition("=")[2]

    async def main():
        store = open_store(redis_url)
        await store.open()
        await store.close()
        redis_server.ask(*(str(word).format(p=prefix) for word in spoil))
        with pytest.raises(StoreUnavailable, match=said):
            await store.open()

    asyncio.run(main())


def as_of_schema_1(redis_server, prefix):
    """Take back what schema 2 has brought."""
    store_id = redis_server.ask("HGET", f"{prefix}:store", "id").decode()
    for number in range(BUCKETS):
        bucket = f"{prefix}:{{{prefix}/{number:02d}}}"
        redis_server.ask("SET", f"{bucket}:stamp", f"1:{store_id}")
        old = redis_server.ask("KEYS", f"{bucket}:purchase:*")
        redis_server.ask("DEL", f"{bucket}:open", *old)
    redis_server.ask("HSET", f"{prefix}:store", "schema", 1)


def test_older_store_lists_what_nobody_was_told_once_it_is_upgraded(redis_url, redis_server, new):
    untold = [signed(new, n, money=Money.CONFIRMED, amount=n) for n in range(1, 4)]
    told = signed(new, 9, money=Money.CONFIRMED, answer=Answer.ACCEPTED)
    sending = signed(new, 8, amount=8)

    async def main():
        older, newer = open_store(redis_url), open_store(redis_url)
        await older.open()
        for record in (*untold, told, sending):
            await older.claim(record)
        as_of_schema_1(redis_server, redis_url.rpartition("=")[2])
        with pytest.raises(StoreUnavailable, match="has schema 1"):
            await open_store(redis_url, reading=True).open()
        await newer.open()
        assert {one.key for one in await newer.open_records()} == {one.key for one in (*untold, sending)}
        assert await newer.disagreements([*untold, told, sending]) == []
        assert (await newer.condition()).faults == ()
        await older.close()
        await newer.close()

    asyncio.run(main())


def test_reading_makes_no_store(redis_url, redis_server):
    async def main():
        with pytest.raises(StoreUnavailable, match="no store of this prefix"):
            await open_store(redis_url, reading=True).open()

    asyncio.run(main())
    assert redis_server.ask("KEYS", f"{redis_url.rpartition('=')[2]}:*") == []


@pytest.mark.parametrize(
    ("spoil", "index"),
    [
        (("ZREM", "{b}:open", "{k}"), "open"),
        (("ZADD", "{b}:orphans", 1, "{k}"), "orphans"),
        (("ZADD", "{b}:money:failed", 1, "{k}"), "money:failed"),
        (("ZREM", "{b}:created", "{k}"), "created"),
        (("HDEL", "{b}:ids", "n1"), None),
        (("ZADD", "{b}:done", 1, "no such record"), None),
    ],
)
def test_index_that_does_not_say_what_the_record_says_is_told(redis_url, redis_server, new, spoil, index):
    record = signed(new, 1, id="n1", money=Money.UNRESOLVED)
    prefix = redis_url.rpartition("=")[2]
    bucket = f"{prefix}:{{{prefix}/{bucket_of_key(record.key):02d}}}"

    async def script(one, two):
        await one.claim(record)
        assert await two.disagreements([record]) == []
        redis_server.ask(*(str(word).format(b=bucket, k=record.key) for word in spoil))
        said = " ".join(await two.disagreements([record]))
        assert index is None or index in said
        assert index not in (None, "created", "money:failed") or (await two.condition()).faults
        moved = noted(record, "x", now=2.0)
        assert await two.disagreements([moved]) == []

    on_two(redis_url, script)


@pytest.mark.parametrize("server", ["redis", "cluster"])
def test_stray_entries_of_purchases_are_told(server, request, new):
    url = request.getfixturevalue(f"{server}_url")
    prefix = url.rpartition("=")[2]
    records = [signed(new, number, money=Money.UNRESOLVED, amount=number) for number in range(1, 4)]
    bucket = Bucket(f"{prefix}:{{{prefix}/{bucket_of_key(records[0].key):02d}}}")

    async def script(one, two):
        for record in records:
            await one.claim(record)
        assert (await two.condition()).faults == ()
        of_first = bucket.purchase(purchase_of(records[0]))
        of_nobody = bucket.purchase(("eip155:1", "", "", "", 1))
        for purchase, key in (
            (of_first, records[1].key),
            (of_nobody, "pruned"),
            (f"{prefix}:{{{prefix}/xx}}:purchase:1", "of no bucket"),
        ):
            await one._link.ask([("HSET", purchase, key, "1")])
        assert set((await two.condition()).faults) == {
            f"{of_first}: {records[1].key} is a record of another purchase",
            f"{of_nobody}: pruned is no record",
        }

    on_two(url, script)


def test_guardians_that_start_at_once_agree_on_one_store(redis_url, new):
    async def main():
        stores = [open_store(redis_url) for _ in range(8)]
        await asyncio.gather(*(store.open() for store in stores))
        claims = await asyncio.gather(*(store.claim(new()) for store in stores))
        assert sum(claim.created for claim in claims) == 1
        for store in stores:
            await store.close()

    asyncio.run(main())


def test_records_of_another_prefix_are_another_store(redis_url, new):
    async def main():
        one, two = open_store(redis_url), open_store(redis_url + "-other")
        for store in (one, two):
            await store.open()
            assert (await store.claim(new())).created
            assert len(await store.page()) == 1
            await store.close()

    asyncio.run(main())


def test_a_replica_whose_clock_is_days_ahead_forgets_nothing_and_counts_nothing(redis_url, caplog):
    now = time.time()

    def ask(key, at, budget="day", ends_at=now + 3600):
        return Ask(key, key, at, (Line(budget, "1", "9", ends_at),))

    async def script(one, two):
        await one.ledger.hold(ask("a", now))
        for key in "bc":
            with pytest.raises(StoreUnavailable, match="more than a day ahead"):
                await two.ledger.hold(ask(key, now + 3 * 86400, "later", now + 5 * 86400))
        assert (await two.ledger.hold(ask("d", now + 80_000, "later", now + 5 * 86400))).held
        await two.ledger.swap(Swap("note", "", "x"), now + 9e6, now + 9e5)
        counted = {budget.name: budget.counted for budget in await one.ledger.budgets()}
        assert counted == {"day": 1, "later": 1}
        assert caplog.text.count("nothing can be counted") == 1

    on_two(redis_url, script)


def test_a_start_tells_of_a_clock_that_is_wrong(redis_url, caplog, monkeypatch):
    clock = time.time
    monkeypatch.setattr(redis_fit.time, "time", lambda: clock() + 3 * 86400)

    async def script(one, two):
        assert "ahead of that of Redis" in caplog.text

    on_two(redis_url, script)
