"""What the shared store does when the server, or the way to it, fails: never a wrong word (law 10)."""

import asyncio
import dataclasses
import random
from contextlib import suppress

import pytest

from guardian.errors import StaleRecord, StoreUnavailable
from guardian.sandbox.redis_server import RedisServer
from guardian.settlement.record import after_money, noted
from guardian.settlement.states import Money, MoneyEvent
from guardian.store.open import open_store
from guardian.store.protocol import is_open
from guardian.store.redis_keys import Keys, places
from tests.store.lossy_proxy import Fate, LossyProxy


@pytest.fixture
def own_server(redis_here, tmp_path):
    """A server to do as one likes with."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


def run(url, script, *more):
    async def main():
        store = open_store(url)
        await store.open()
        try:
            await script(store, *more)
        finally:
            await store.close()

    asyncio.run(main())


def by_proxy(server, script, *, timeout="10s"):
    """Run with a store whose way leads over a proxy that loses nothing until it is told to."""

    async def main():
        async with LossyProxy(server.port, lambda request: Fate.PASS) as proxy:
            prefix = f"p{random.randrange(10**9)}"
            store = open_store(f"redis://127.0.0.1:{proxy.port}/0?prefix={prefix}&timeout={timeout}")
            await store.open()
            try:
                await script(store, proxy)
            finally:
                proxy.fate = lambda request: Fate.PASS
                await store.close()

    asyncio.run(main())


def once(fate, word):
    """Lose one request that holds this word, then none."""
    left = [fate]
    return lambda request: left.pop() if left and word in request else Fate.PASS


@pytest.mark.parametrize("fate", [Fate.LOSE_REQUEST, Fate.LOSE_REPLY])
def test_claim_whose_connection_broke_is_still_one_claim_and_ours(redis_server, new, fate):
    async def script(store, proxy):
        proxy.fate = once(fate, b"EVALSHA")
        claim = await store.claim(new())
        assert proxy.lost == 1
        assert claim.created
        assert not (await store.claim(new())).created

    by_proxy(redis_server, script)


def test_blocked_claim_whose_reply_was_lost_still_says_what_blocks(redis_server, new):
    async def script(store, proxy):
        first = new("1", money=Money.POLLING)
        await store.claim(first)
        proxy.fate = once(Fate.LOSE_REPLY, b"EVALSHA")
        claim = await store.claim(new("2"))
        assert (claim.created, claim.blocking, claim.record.money) == (True, (first,), Money.IDLE)

    by_proxy(redis_server, script)


@pytest.mark.parametrize("fate", [Fate.LOSE_REQUEST, Fate.LOSE_REPLY])
def test_update_whose_connection_broke_is_done_once_and_not_called_stale(redis_server, new, fate):
    async def script(store, proxy):
        record = (await store.claim(new())).record
        moved = after_money(record, MoneyEvent.DOUBT, now=2.0)
        proxy.fate = once(fate, b"EVALSHA")
        await store.update(record, moved)
        assert proxy.lost == 1
        assert await store.get(record.key) == moved
        with pytest.raises(StaleRecord):
            await store.update(record, noted(record, "other", now=2.0))

    by_proxy(redis_server, script)


def test_update_done_and_overtaken_before_its_repeat_is_not_called_stale(redis_server, new):
    async def script(store, proxy):
        other = open_store(store_url(proxy, store))
        await other.open()
        record = (await store.claim(new())).record
        moved = noted(record, "ours", now=2.0)
        overtaken = asyncio.Event()
        asyncio.get_running_loop().create_task(overtake(other, moved, overtaken))
        proxy.fate = once(Fate.LOSE_REPLY, b"ours")
        await store.update(record, moved)
        await overtaken.wait()
        assert [event.name for event in (await store.get(record.key)).events] == ["ours", "theirs"]
        await other.close()

    async def overtake(other, moved, overtaken):
        while await other.get(moved.key) != moved:
            await asyncio.sleep(0)
        await other.update(moved, noted(moved, "theirs", now=3.0))
        overtaken.set()

    def store_url(proxy, store):
        return f"redis://127.0.0.1:{redis_server.port}/0?prefix={store._link.address.prefix}"

    by_proxy(redis_server, script)


def test_what_cannot_be_known_is_unavailable_and_nothing_else(redis_server, new):
    async def script(store, proxy):
        record = (await store.claim(new("1"))).record
        proxy.fate = lambda request: Fate.LOSE_REPLY if b"EVALSHA" in request else Fate.PASS
        for ask in (store.claim(new("2")), store.update(record, noted(record, "x", now=2.0))):
            with pytest.raises(StoreUnavailable):
                await ask
        proxy.fate = lambda request: Fate.PASS
        assert not (await store.claim(new("2"))).created  # it was done, and is found
        assert {record.nonce for record in await store.open_records()} == {"1", "2"}

    by_proxy(redis_server, script, timeout="1s")


@pytest.mark.parametrize("seed", range(4))
def test_whatever_breaks_when_no_open_record_is_missing_from_the_indexes(redis_server, new, seed):
    """Random claims and moves by several tasks over a way that breaks all the time."""
    chance = random.Random(seed)

    async def script(store, proxy):
        fates = [Fate.PASS] * 6 + [Fate.LOSE_REQUEST, Fate.LOSE_REPLY]
        store._link.address = dataclasses.replace(store._link.address, timeout_s=0.3)
        proxy.fate = lambda request: chance.choice(fates)
        await asyncio.gather(*(wander(store, chance, new) for _ in range(6)))
        assert proxy.lost > 10
        proxy.fate = lambda request: Fate.PASS
        store._link.address = dataclasses.replace(store._link.address, timeout_s=10.0)
        await whole(store, redis_server)

    by_proxy(redis_server, script)


async def wander(store, chance, new):
    """Claim and move some records; a call may fail, and then anything may be the case."""
    events = list(MoneyEvent)
    for _ in range(20):
        number = chance.randrange(12)
        try:
            record = (await store.claim(new(str(number), watched=True, payer=f"p{number % 3}"))).record
            event = chance.choice(events)
            if event in legal_moves(record):
                await store.update(record, after_money(record, event, now=record.updated_at + 1))
            if chance.random() < 0.1:
                await store.prune(10_000.0, 3)
        except (StoreUnavailable, StaleRecord):
            continue


def legal_moves(record):
    from guardian.settlement.states import MONEY

    return MONEY[record.money]


async def whole(store, server):
    """Once what its callers gave up has ended, too: that may still have been under way."""
    for _ in range(100):
        with suppress(AssertionError):
            return await assert_whole(store, server)
        await asyncio.sleep(0.05)
    await assert_whole(store, server)


async def assert_whole(store, server):
    """Every index holds exactly what the records say, so nothing open is out of sight."""
    keys = Keys(store._link.address.prefix)
    found = {}
    for bucket in keys.buckets:
        records = await store._records([key.decode() for key in server.ask("ZRANGE", bucket.created, 0, -1)])
        names = server.ask("KEYS", bucket.record("*").replace("[", "\\["))
        assert len(names) == len(records)
        for number, index in enumerate((bucket.open, bucket.orphans, bucket.done)):
            wanted = {record.key.encode() for record in records if places(record)[number] == "1"}
            assert set(server.ask("ZRANGE", index, 0, -1)) == wanted
        for money in Money:
            wanted = {record.key.encode() for record in records if record.money is money}
            assert set(server.ask("ZRANGE", bucket.money(money), 0, -1)) == wanted
        found |= {record.key: record for record in records}
    assert {record.key for record in await store.open_records()} == {
        key for key, record in found.items() if is_open(record)
    }


def test_record_that_was_pruned_and_claimed_anew_is_another_one(redis_server, new):
    async def script(store, proxy):
        first = (await store.claim(new())).record
        failed = after_money(first, MoneyEvent.REFUSED, now=2.0)
        await store.update(first, failed)
        await store.prune(9.0, 1)
        again = (await store.claim(new(money=Money.IDLE))).record
        assert again.version == first.version
        with pytest.raises(StaleRecord):
            await store.update(first, failed)
        await assert_whole(store, redis_server)

    by_proxy(redis_server, script)


def test_restarted_server_has_every_record_and_work_goes_on(own_server, new):
    async def script(store):
        lost = asyncio.Event()
        store.lost_touch(lost.set)
        records = [(await store.claim(new(str(number)))).record for number in range(20)]
        own_server.kill()
        with pytest.raises(StoreUnavailable):
            await store.claim(new("while it is down"))
        own_server.start()
        for record in records:
            await store.update(record, noted(record, "after", now=2.0))
        assert len(await store.open_records()) == 20
        await asyncio.wait_for(lost.wait(), 10)

    run(own_server.url + "?timeout=1s", script)


def test_server_that_restarts_within_the_deadline_costs_only_time(own_server, new):
    async def script(store):
        await store.claim(new("1"))
        own_server.stop()
        claims = [asyncio.create_task(store.claim(new(str(number)))) for number in range(2, 12)]
        await asyncio.to_thread(own_server.start)
        assert all(claim.created for claim in await asyncio.gather(*claims))
        assert len(await store.open_records()) == 11

    run(own_server.url + "?timeout=15s", script)


def test_silent_server_is_unavailable_in_time_and_the_loop_goes_on(own_server, new):
    async def script(store):
        loop = asyncio.get_running_loop()
        record = (await store.claim(new("1"))).record
        own_server.freeze()
        begun, ticks = loop.time(), 0
        asks = [store.claim(new("2")), store.update(record, noted(record, "x", now=2.0)), store.ping()]
        asks += [store.get("x") for _ in range(200)]
        answers = asyncio.gather(*asks, return_exceptions=True)
        while not answers.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert loop.time() - begun < 2.5
        assert ticks > 15
        assert all(isinstance(answer, StoreUnavailable) for answer in await answers)
        own_server.thaw()
        await store.ping()
        assert await store.get("x") is None  # no answer of an earlier question is taken for this one's
        assert (await store.get(record.key)).key == record.key

    run(own_server.url + "?timeout=1s", script)


def test_full_memory_refuses_writes_changes_nothing_and_still_reads(own_server, new):
    async def script(store):
        record = (await store.claim(new("1"))).record
        own_server.ask("CONFIG SET", "maxmemory", "1")
        moved = after_money(record, MoneyEvent.REFUSED, now=2.0)
        for ask in (store.claim(new("2")), store.update(record, moved), store.ping()):
            with pytest.raises(StoreUnavailable, match="out of memory"):
                await ask
        assert await store.get(record.key) == record
        assert await store.open_records() == [record]
        own_server.ask("CONFIG SET", "maxmemory", "0")
        await store.update(record, moved)
        assert await store.open_records() == []
        await assert_whole(store, own_server)

    run(own_server.url + "?timeout=1s", script)


@pytest.mark.parametrize(
    ("setting", "value", "options", "said"),
    [
        ("appendonly", "no", "", "set appendonly yes"),
        ("appendfsync", "no", "", "appendfsync"),
        ("appendfsync", "everysec", "durability=always", "demands always"),
        ("maxmemory-policy", "allkeys-lru", "", "noeviction"),
        ("maxmemory-policy", "volatile-ttl", "durability=none", "noeviction"),
    ],
)
def test_server_that_may_forget_is_refused_with_the_setting(own_server, setting, value, options, said):
    own_server.ask("CONFIG SET", setting, value)

    async def main():
        store = open_store(f"{own_server.url}?{options}")
        with pytest.raises(StoreUnavailable, match=said):
            await store.open()
        with pytest.raises(StoreUnavailable):
            await store.ping()

    asyncio.run(main())


def test_fsync_every_second_is_warned_of_once_unless_accepted(own_server, caplog):
    own_server.ask("CONFIG SET", "appendfsync", "everysec")

    async def script(store):
        await store.ping()

    run(own_server.url + "?durability=everysec", script)
    assert caplog.text == ""
    run(own_server.url, script)
    assert caplog.text.count("last second of records") == 1


def test_replica_is_refused(own_server):
    own_server.ask("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(StoreUnavailable, match="read-only replica"):
        run(own_server.url, None)


def test_primary_that_becomes_a_replica_takes_no_claim(own_server, new):
    async def script(store):
        await store.claim(new("1"))
        own_server.ask("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreUnavailable):
            await store.claim(new("2"))

    run(own_server.url + "?timeout=1s", script)


def test_user_without_a_needed_permission_is_refused_at_the_start(own_server):
    own_server.ask("ACL SETUSER", "guardian", "on", ">pass", "~*", "&*", "+@all", "-zrem")
    with pytest.raises(StoreUnavailable, match="permission"):
        run(own_server.url.replace("//", "//guardian:pass@"), None)


DOCUMENTED_PERMISSIONS = (
    "~guardian:* resetchannels &guardian/* +@read +@write +@scripting +@pubsub +@connection"
    " +info +time +wait +cluster"
)
"""As docs/redis.md has them, but for `config|get`, which managed services forbid."""


def test_password_is_asked_for_and_never_shown(own_server, tmp_path, new):
    own_server.ask(
        "ACL SETUSER",
        "guardian",
        "on",
        ">s3cret",
        "~guardian:*",
        "resetchannels",
        "&guardian/*",
        "+@all",
        "-config",
    )
    secret = tmp_path / "secret"
    secret.write_text("wr0ng\n")
    url = own_server.url.replace("//", "//guardian@") + f"?password_file={secret}"
    with pytest.raises(StoreUnavailable, match="refuses the user or the password") as caught:
        run(url, None)
    assert "wr0ng" not in str(caught.value)
    secret.write_text("s3cret\n")

    async def script(store):
        record = (await store.claim(new())).record  # CONFIG is forbidden: what INFO says is enough
        await store.update(record, after_money(record, MoneyEvent.REFUSED, now=2.0))
        assert await store.get_by_id(record.id) == (await store.page())[0]
        assert await store.of_purchase("n", "p", "t", "a", 1) == await store.open_records() == []
        assert await store.lease("a", "me", 9) is not None
        await store.tell("topic", b"x")
        assert await store.prune(9.0, 9) == 1

    run(url, script)


def test_nothing_listens_there():
    with pytest.raises(StoreUnavailable):
        run("redis://127.0.0.1:1/0?timeout=0.3s", None)


def test_primary_that_became_unfit_is_refused_until_it_is_fit_again(own_server, new):
    """As after a failover to a server that was set up otherwise."""

    async def script(store):
        await store.claim(new("1"))
        own_server.ask("CONFIG SET", "appendonly", "no")
        own_server.ask("CLIENT KILL", "TYPE", "pubsub")
        await until(lambda: store.claim(new("2")), refused="appendonly is no")
        own_server.ask("CONFIG SET", "appendonly", "yes")
        await until(lambda: store.claim(new("3")))

    run(own_server.url, script)


async def until(ask, refused=""):
    """Ask again until it is refused with that text, or with none until it is done."""
    async with asyncio.timeout(10):
        while True:
            try:
                await ask()
                if not refused:
                    return
            except StoreUnavailable as unavailable:
                if refused and refused in str(unavailable):
                    return
            await asyncio.sleep(0.02)


def test_line_that_fell_silent_is_noticed_and_told_when_it_is_lost_and_when_it_stands(
    own_server, monkeypatch
):
    monkeypatch.setattr("guardian.store.redis_news.SILENCE_S", 0.2)

    async def script(store):
        told = asyncio.Queue()
        heard = asyncio.Queue()
        store.lost_touch(lambda: told.put_nowait("lost"))
        store.listen("topic", heard.put_nowait)
        own_server.freeze()
        await asyncio.wait_for(told.get(), 10)
        own_server.thaw()
        await asyncio.wait_for(told.get(), 10)
        other = open_store(own_server.url)
        await other.open()
        await other.tell("topic", b"again")
        assert await asyncio.wait_for(heard.get(), 10) == b"again"
        await other.close()

    run(own_server.url, script)
