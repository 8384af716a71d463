"""The thread with a connection: order, errors, bounds, and an end that finishes what is queued."""

import asyncio
import sqlite3
import threading

import pytest

from guardian.errors import StaleRecord, StoreUnavailable
from guardian.store import lane as lane_module
from guardian.store.lane import Reader


def on_reader(script):
    connection = sqlite3.connect(":memory:", check_same_thread=False)

    async def main():
        reader = Reader("test", connection)
        try:
            await script(reader)
        finally:
            await reader.close()

    asyncio.run(main())


def value(number):
    return lambda connection: connection.execute("SELECT ?", (number,)).fetchone()[0]


def stale(connection):
    raise StaleRecord("moved")


def test_failing_job_does_not_fail_its_neighbours():
    async def script(reader):
        jobs = [value(1), stale, lambda connection: 1 / 0, value(2)]
        results = await asyncio.gather(*(reader.do(job) for job in jobs), return_exceptions=True)
        errors = [type(result) if isinstance(result, Exception) else result for result in results]
        assert errors == [1, StaleRecord, StoreUnavailable, 2]

    on_reader(script)


def test_close_finishes_what_is_queued_and_refuses_more():
    async def script(reader):
        tasks = [asyncio.create_task(reader.do(value(number))) for number in range(100)]
        await asyncio.sleep(0)
        await reader.close()
        assert await asyncio.gather(*tasks) == list(range(100))
        with pytest.raises(StoreUnavailable, match="closed"):
            await reader.do(value(1))

    on_reader(script)


def test_queue_over_its_bound_is_refused(monkeypatch):
    monkeypatch.setattr(lane_module, "QUEUE_LIMIT", 10)

    async def script(reader):
        jobs = [reader.do(value(number)) for number in range(30)]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert results[:10] == list(range(10))
        assert all(isinstance(result, StoreUnavailable) for result in results[10:])
        assert await reader.do(value(1)) == 1

    on_reader(script)


def test_wait_for_a_stuck_disk_ends_and_later_waits_have_their_own_time(monkeypatch):
    monkeypatch.setattr(lane_module, "WAIT_S", 0.02)
    free = threading.Event()

    async def script(reader):
        try:
            first = asyncio.create_task(reader.do(lambda connection: free.wait(10)))
            await asyncio.sleep(0.01)
            begun = asyncio.get_running_loop().time()
            with pytest.raises(StoreUnavailable, match="no answer"):
                await reader.do(value(1))
            assert asyncio.get_running_loop().time() - begun >= 0.02
            with pytest.raises(StoreUnavailable, match="no answer"):
                await first
        finally:
            free.set()
        monkeypatch.setattr(lane_module, "WAIT_S", 10)
        assert await reader.do(value(2)) == 2

    on_reader(script)
