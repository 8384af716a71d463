"""Group commit: neighbours in a batch do not harm each other, and nothing waits without bound."""

import asyncio
import sqlite3
import threading

import pytest

from guardian.errors import StaleRecord, StoreUnavailable
from guardian.store import lane as lane_module
from guardian.store.lane import Lane


def insert(value):
    return lambda connection: connection.execute("INSERT INTO t VALUES (?)", (value,)).rowcount


def stale(connection):
    raise StaleRecord("moved")


def lose_the_transaction(connection):
    connection.execute("ROLLBACK")
    raise sqlite3.OperationalError("disk I/O error")


def on_lane(tmp_path, script):
    """Run script(lane) on a writing lane, then give the rows that are on disk."""
    path = tmp_path / "lane.db"
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("CREATE TABLE t (v INTEGER PRIMARY KEY CHECK (v > 0))")

    async def main():
        lane = Lane("test", connection, commits=True)
        try:
            await script(lane)
        finally:
            await lane.close()

    asyncio.run(main())
    reader = sqlite3.connect(path)
    rows = [value for (value,) in reader.execute("SELECT v FROM t ORDER BY v")]
    reader.close()
    return rows


def test_failing_job_does_not_fail_its_batch_neighbours(tmp_path):
    async def script(lane):
        jobs = [insert(1), insert(1), stale, insert(0), lambda connection: 1 / 0, insert(2)]
        results = await asyncio.gather(*(lane.do(job) for job in jobs), return_exceptions=True)
        errors = [type(result) if isinstance(result, Exception) else result for result in results]
        unavailable = StoreUnavailable
        assert errors == [1, unavailable, StaleRecord, unavailable, unavailable, 1]

    assert on_lane(tmp_path, script) == [1, 2]


def test_lost_transaction_fails_its_whole_batch_and_the_next_one_works(tmp_path):
    async def script(lane):
        jobs = [insert(1), lose_the_transaction, insert(2)]
        results = await asyncio.gather(*(lane.do(job) for job in jobs), return_exceptions=True)
        assert isinstance(results[1], StoreUnavailable)
        assert await lane.do(insert(3)) == 1
        acknowledged.extend(v for v, r in ((1, results[0]), (2, results[2])) if r == 1)

    acknowledged: list[int] = []
    assert on_lane(tmp_path, script) == [*acknowledged, 3]


def test_result_is_given_only_after_the_commit(tmp_path):
    async def script(lane):
        await lane.do(insert(1))
        reader = sqlite3.connect(tmp_path / "lane.db")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (1,)
        reader.close()

    on_lane(tmp_path, script)


def test_close_finishes_what_is_queued_and_refuses_more(tmp_path):
    async def script(lane):
        tasks = [asyncio.create_task(lane.do(insert(value))) for value in range(1, 501)]
        await asyncio.sleep(0)
        await lane.close()
        assert await asyncio.gather(*tasks) == [1] * 500
        with pytest.raises(StoreUnavailable):
            await lane.do(insert(1_000))

    assert len(on_lane(tmp_path, script)) == 500


def test_caller_that_leaves_does_not_undo_its_write(tmp_path):
    async def script(lane):
        task = asyncio.create_task(lane.do(insert(1)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await lane.do(insert(2)) == 1

    assert on_lane(tmp_path, script) == [1, 2]


def test_queue_over_its_bound_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lane_module, "QUEUE_LIMIT", 10)

    async def script(lane):
        jobs = [lane.do(insert(value)) for value in range(1, 31)]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert results[:10] == [1] * 10
        assert all(isinstance(result, StoreUnavailable) for result in results[10:])
        assert await lane.do(insert(100)) == 1

    assert len(on_lane(tmp_path, script)) == 11


def test_wait_for_a_stuck_disk_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(lane_module, "WAIT_S", 0.01)
    free = threading.Event()

    async def script(lane):
        try:
            with pytest.raises(StoreUnavailable, match="no answer"):
                await lane.do(lambda connection: free.wait(10))
        finally:
            free.set()

    on_lane(tmp_path, script)
