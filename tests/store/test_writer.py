"""Group commit: neighbours in a batch do not harm each other, and nothing waits without bound."""

import asyncio
import sqlite3
import threading
from contextlib import closing

import pytest

from guardian.errors import StaleRecord, StoreUnavailable
from guardian.store import lane as lane_module
from guardian.store import writer as writer_module
from guardian.store.writer import Writer


def insert(value):
    return lambda connection: connection.execute("INSERT INTO t VALUES (?)", (value,)).rowcount


def stale(connection):
    raise StaleRecord("moved")


def lose_the_transaction(connection):
    connection.execute("ROLLBACK")
    raise sqlite3.OperationalError("disk I/O error")


class StuckDisk(sqlite3.Connection):
    """Its commits wait for `free`; the statement that `fault` names fails."""

    free = threading.Event()
    fault = ""
    threads: list[int]

    def execute(self, sql, *values):
        if sql == "COMMIT":
            self.threads.append(threading.get_ident())
            assert self.free.wait(10)
        if sql == self.fault:
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *values)


def on_writer(tmp_path, script):
    """Run script(writer, connection), then give the rows that are on disk."""
    path = tmp_path / "writer.db"
    with closing(sqlite3.connect(path)) as first:
        first.execute("PRAGMA journal_mode = WAL")
        first.execute("CREATE TABLE t (v INTEGER PRIMARY KEY CHECK (v > 0))")
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=StuckDisk)
    connection.free, connection.threads = threading.Event(), []
    connection.free.set()

    async def main():
        writer = Writer("test", connection)
        try:
            await script(writer, connection)
        finally:
            connection.free.set()
            await writer.close()

    asyncio.run(main())
    with closing(sqlite3.connect(path)) as reader:
        return [value for (value,) in reader.execute("SELECT v FROM t ORDER BY v")]


def kinds(results):
    return [type(result) if isinstance(result, Exception) else result for result in results]


@pytest.mark.parametrize("long", [False, True])
def test_failing_job_does_not_fail_its_batch_neighbours(tmp_path, long):
    async def script(writer, connection):
        jobs = [insert(1), insert(1), stale, insert(0), lambda connection: 1 / 0, insert(2)]
        results = await asyncio.gather(*(writer.do(job, long=long) for job in jobs), return_exceptions=True)
        unavailable = StoreUnavailable
        assert kinds(results) == [1, unavailable, StaleRecord, unavailable, unavailable, 1]

    assert on_writer(tmp_path, script) == [1, 2]


@pytest.mark.parametrize("long", [False, True])
def test_lost_transaction_fails_its_whole_batch_and_the_next_one_works(tmp_path, long):
    async def script(writer, connection):
        jobs = [insert(1), lose_the_transaction, insert(2)]
        results = await asyncio.gather(*(writer.do(job, long=long) for job in jobs), return_exceptions=True)
        assert kinds(results) == [StoreUnavailable] * 3
        assert await writer.do(insert(3)) == 1

    assert on_writer(tmp_path, script) == [3]


def test_result_is_given_only_after_the_commit(tmp_path):
    async def script(writer, connection):
        connection.free.clear()
        task = asyncio.create_task(writer.do(insert(1)))
        while not connection.threads:
            await asyncio.sleep(0)
        assert not task.done()
        connection.free.set()
        await task
        with closing(sqlite3.connect(tmp_path / "writer.db")) as reader:
            assert reader.execute("SELECT count(*) FROM t").fetchone() == (1,)

    on_writer(tmp_path, script)


@pytest.mark.parametrize("fault", ["BEGIN IMMEDIATE", "COMMIT"])
def test_disk_that_fails_fails_the_whole_batch_and_nothing_of_it_stays(tmp_path, fault):
    async def script(writer, connection):
        connection.fault = fault
        jobs = [writer.do(insert(1)), writer.do(insert(2)), writer.do(insert(3), long=True)]
        assert kinds(await asyncio.gather(*jobs, return_exceptions=True)) == [StoreUnavailable] * 3
        connection.fault = ""
        assert await writer.do(insert(4)) == 1

    assert on_writer(tmp_path, script) == [4]


def test_loop_never_touches_what_may_wait_for_the_disk(tmp_path):
    async def script(writer, connection):
        connection.free.clear()
        task = asyncio.create_task(writer.do(insert(1)))
        await asyncio.sleep(0)
        connection.free.set()
        await task
        assert threading.get_ident() not in connection.threads
        assert await writer.do(lambda connection: threading.get_ident()) == threading.get_ident()
        assert await writer.do(lambda connection: threading.get_ident(), long=True) != threading.get_ident()

    on_writer(tmp_path, script)


def test_lock_of_another_program_is_waited_for_in_the_thread(tmp_path):
    async def script(writer, connection):
        with closing(sqlite3.connect(tmp_path / "writer.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            tasks = [asyncio.create_task(writer.do(insert(value))) for value in (1, 2)]
            for _ in range(100):
                await asyncio.sleep(0)
            assert not any(task.done() for task in tasks)
            other.execute("COMMIT")
            assert await asyncio.gather(*tasks) == [1, 1]

    assert on_writer(tmp_path, script) == [1, 2]


def test_writes_that_come_together_share_a_commit(tmp_path):
    async def script(writer, connection):
        await asyncio.gather(*(writer.do(insert(value)) for value in range(1, 51)))
        assert len(connection.threads) == 1

    assert len(on_writer(tmp_path, script)) == 50


def test_many_writes_are_several_turns_and_all_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "TURN_LIMIT", 10)

    async def script(writer, connection):
        assert await asyncio.gather(*(writer.do(insert(value)) for value in range(1, 46))) == [1] * 45
        assert len(connection.threads) == 5

    assert len(on_writer(tmp_path, script)) == 45


def test_close_finishes_what_is_queued_and_refuses_more(tmp_path):
    async def script(writer, connection):
        tasks = [asyncio.create_task(writer.do(insert(value))) for value in range(1, 501)]
        await asyncio.sleep(0)
        await writer.close()
        assert await asyncio.gather(*tasks) == [1] * 500
        with pytest.raises(StoreUnavailable):
            await writer.do(insert(1_000))

    assert len(on_writer(tmp_path, script)) == 500


def test_caller_that_leaves_does_not_undo_its_write(tmp_path):
    async def script(writer, connection):
        task = asyncio.create_task(writer.do(insert(1)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await writer.do(insert(2)) == 1

    assert on_writer(tmp_path, script) == [1, 2]


def test_queue_over_its_bound_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lane_module, "QUEUE_LIMIT", 10)

    async def script(writer, connection):
        jobs = [writer.do(insert(value)) for value in range(1, 31)]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert results[:10] == [1] * 10
        assert all(isinstance(result, StoreUnavailable) for result in results[10:])
        assert await writer.do(insert(100)) == 1

    assert len(on_writer(tmp_path, script)) == 11


def test_wait_for_a_stuck_disk_ends_and_the_loop_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(lane_module, "WAIT_S", 0.01)

    async def script(writer, connection):
        connection.free.clear()
        with pytest.raises(StoreUnavailable, match="no answer"):
            await writer.do(insert(1))
        monkeypatch.setattr(lane_module, "WAIT_S", 10)
        connection.free.set()
        assert await writer.do(insert(2)) == 1

    assert on_writer(tmp_path, script) == [1, 2]


async def commits_of(writer, connection, jobs):
    """How many commits it took to do these at once; (value, patient) each."""
    before = len(connection.threads)
    await asyncio.gather(*(writer.do(insert(value), patient=patient) for value, patient in jobs))
    return len(connection.threads) - before


def test_patient_writes_ride_along_with_the_next_one_that_somebody_waits_for(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "PATIENCE_S", 60.0)

    async def script(writer, connection):
        patient = [asyncio.create_task(writer.do(insert(value), patient=True)) for value in (1, 2)]
        for _ in range(100):
            await asyncio.sleep(0)
        assert not connection.threads
        assert await commits_of(writer, connection, [(3, False)]) == 1
        assert await asyncio.gather(*patient) == [1, 1]

    assert on_writer(tmp_path, script) == [1, 2, 3]


def test_patient_writes_without_company_are_written_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "PATIENCE_S", 0.001)

    async def script(writer, connection):
        assert await commits_of(writer, connection, [(1, True), (2, True)]) == 1

    assert on_writer(tmp_path, script) == [1, 2]


def test_who_comes_during_a_commit_is_not_kept_waiting_by_patient_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "PATIENCE_S", 60.0)

    async def script(writer, connection):
        connection.free.clear()
        tasks = [asyncio.create_task(writer.do(insert(1)))]
        while not connection.threads:
            await asyncio.sleep(0)
        tasks += [asyncio.create_task(writer.do(insert(2), patient=True))]
        tasks += [asyncio.create_task(writer.do(insert(3)))]
        await asyncio.sleep(0)
        connection.free.set()
        await asyncio.gather(*tasks)
        assert len(connection.threads) == 2

    assert on_writer(tmp_path, script) == [1, 2, 3]


def test_closing_waits_for_no_company(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "PATIENCE_S", 60.0)

    async def script(writer, connection):
        task = asyncio.create_task(writer.do(insert(1), patient=True))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await writer.close()
        assert await task == 1

    assert on_writer(tmp_path, script) == [1]
