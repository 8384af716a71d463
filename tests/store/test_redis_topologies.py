"""The shared store behind Sentinels, with replicas, and in a Cluster."""

import asyncio
import logging

import pytest

from guardian.errors import PolicyError, StoreUnavailable
from guardian.sandbox.redis_server import RedisWithSentinel
from guardian.settlement.record import noted
from guardian.store.open import open_store
from guardian.store.redis_keys import bucket_of_key


@pytest.fixture(scope="module")
def sentinel(redis_here, tmp_path_factory):
    with RedisWithSentinel(tmp_path_factory.mktemp("sentinel")) as servers:
        yield servers


def run(url, script):
    async def main():
        store = open_store(url)
        await store.open()
        try:
            await script(store)
        finally:
            await store.close()

    asyncio.run(main())


def test_write_that_too_few_replicas_have_is_unavailable(sentinel, new):
    async def script(store):
        record = (await store.claim(new("replicated"))).record
        sentinel.replica.freeze()
        try:
            for ask in (store.claim(new("alone")), store.update(record, noted(record, "x", now=2.0))):
                with pytest.raises(StoreUnavailable, match=r"0 of 1 replicas|no answer within"):
                    await ask
            assert await store.get(record.key) is not None  # reading needs no replica
        finally:
            sentinel.replica.thaw()
        assert (await store.claim(new("again"))).created

    run(sentinel.url + "?prefix=waiting&wait=1&timeout=1s", script)


def test_failover_may_lose_records_is_warned_of(sentinel, caplog):
    async def script(store):
        await store.ping()

    run(sentinel.url + "?prefix=warned", script)
    assert "a failover may lose the newest records" in caplog.text
    caplog.clear()
    run(sentinel.url + "?prefix=warned&wait=1", script)
    assert "failover" not in caplog.text


def test_failover_costs_some_refusals_and_no_record(sentinel, new, caplog):
    async def script(store):
        lost = []
        store.lost_touch(lambda: lost.append(True))
        records = [(await store.claim(new(str(number)))).record for number in range(10)]
        assert sentinel.primary.ask("WAIT", 1, 2000) == 1
        before = sentinel.primary_port()
        sentinel.primary.kill()
        claim = await first_that_succeeds(lambda: store.claim(new("after")))
        assert claim.created
        assert sentinel.primary_port() != before
        for record in records:
            await store.update(record, noted(record, "x", now=2.0))
        assert len(await store.open_records()) == 11
        while not lost:
            await asyncio.sleep(0.02)

    caplog.set_level(logging.ERROR)
    run(sentinel.url + "?prefix=failover&timeout=2s", script)


async def first_that_succeeds(ask):
    """The way a caller comes again after a refusal."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await ask()
            except StoreUnavailable:
                await asyncio.sleep(0.05)


def test_service_that_no_sentinel_knows_is_unavailable(sentinel):
    url = sentinel.url.replace("/guardian/", "/unknown/")
    with pytest.raises(StoreUnavailable, match="unknown"):
        run(url + "?timeout=0.5s", None)


def test_cluster_node_that_is_down_refuses_its_part_only(redis_cluster, cluster_url, new):
    async def script(store):
        records = [(await store.claim(new(str(n), **payer(n)))).record for n in range(40)]
        assert len({bucket_of_key(record.key) for record in records}) > 8
        stopped = redis_cluster.nodes[1]
        stopped.freeze()
        try:
            answers = await asyncio.gather(
                *(store.get(record.key) for record in records), return_exceptions=True
            )
        finally:
            stopped.thaw()
        failed = [answer for answer in answers if isinstance(answer, StoreUnavailable)]
        assert 0 < len(failed) < len(records)
        assert [answer for answer in answers if answer not in failed] == [
            record for record, answer in zip(records, answers, strict=True) if answer not in failed
        ]
        assert len(await first_that_succeeds(store.open_records)) == 40

    def payer(number):
        address = f"0x{number:040x}"
        return {"payer": address, "key": f"eip155:1/0x{'a' * 40}/{address}/0x{'0' * 64}"}

    run(cluster_url + "&timeout=1s", script)


def test_news_reach_guardians_at_other_nodes_of_a_cluster(cluster_url, new):
    async def main():
        stores = [open_store(cluster_url) for _ in range(4)]
        heard = asyncio.Queue()
        for store in stores:
            await store.open()
            store.listen("record", heard.put_nowait)
        record = (await stores[0].claim(new())).record
        async with asyncio.timeout(5):
            assert [await heard.get() for _ in range(3)] == [record.key.encode()] * 3
        for store in stores:
            await store.close()

    asyncio.run(main())


def test_waiting_for_replicas_is_refused_for_a_cluster():
    with pytest.raises(PolicyError, match="min-replicas-to-write"):
        open_store("redis+cluster://h:1/?wait=1")
