"""One thread that owns one SQLite connection and answers jobs from the event loop.

The writing lane takes everything queued, runs it in one transaction, commits once and then resolves
all futures in one call into the loop: writes that wait for the disk share the wait. A job makes at
most one writing statement, as its last step that can fail, so a job that raises leaves nothing
behind and its neighbours need no savepoint. No SQL of the record lives here.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from guardian.errors import GuardianError, StoreUnavailable

QUEUE_LIMIT = 20_000
"""Jobs waiting for one lane: seconds of work. Beyond it the disk cannot keep up, so fail closed."""

BATCH_LIMIT = 1_000
"""Jobs in one transaction, and those of one turn of the loop: bounds the wait for the commit."""

WAIT_S = 15.0
"""The longest a caller waits for the disk; above SQLite's own lock timeout (BUSY_TIMEOUT_S)."""

T = TypeVar("T")
_Work = Callable[[sqlite3.Connection], object]
_Job = tuple[_Work, asyncio.Future[object]]
_Outcome = tuple[asyncio.Future[object], object, GuardianError | None]


class Lane:
    """A queue, a thread and a connection; `commits` makes each batch one durable transaction."""

    def __init__(self, name: str, connection: sqlite3.Connection, *, commits: bool) -> None:
        self._connection = connection
        self._commits = commits
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._gathered: list[_Job] = []
        self._waiting = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work` once it is durable; raises StoreUnavailable, or what `work` raised."""
        if self._closing:
            raise StoreUnavailable("the store is closed")
        if self._waiting >= QUEUE_LIMIT:
            raise StoreUnavailable("the store cannot keep up: too many operations are waiting")
        future: asyncio.Future[object] = self._loop.create_future()
        timer = self._loop.call_later(WAIT_S, _give_up, future)
        self._waiting += 1
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append((work, future))
        try:
            return await future  # type: ignore[return-value]
        finally:
            timer.cancel()

    def _hand_over(self) -> None:
        """Wake the thread once for all that this turn of the loop asked: each wake costs two switches."""
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    async def close(self) -> None:
        """Finish what is queued, then close the connection; idempotent."""
        if not self._closing:
            self._closing = True
            self._hand_over()
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            jobs, stopping = self._take()
            outcomes = self._transact(jobs) if self._commits else self._work_off(jobs)
            try:
                self._loop.call_soon_threadsafe(self._resolve, outcomes)
            except RuntimeError:
                break  # the loop is closed: nobody waits any more
        self._connection.close()

    def _take(self) -> tuple[list[_Job], bool]:
        """Wait for a job, then take what else is there; says whether to stop afterwards."""
        jobs: list[_Job] = []
        gathered = self._queue.get()
        while gathered is not None:
            jobs += gathered
            if len(jobs) >= BATCH_LIMIT or self._queue.empty():
                return jobs, False
            gathered = self._queue.get()
        return jobs, True

    def _transact(self, jobs: list[_Job]) -> list[_Outcome]:
        """Run jobs in one transaction: nobody hears of success before the commit returned."""
        if not jobs:
            return []
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            outcomes = self._work_off(jobs)
            connection.execute("COMMIT")
        except sqlite3.Error as exc:
            self._roll_back()
            return [(future, None, unavailable(exc)) for _, future in jobs]
        return outcomes

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            # The next BEGIN fails then, and with it every write: closed, never half written.
            return

    def _work_off(self, jobs: list[_Job]) -> list[_Outcome]:
        """Each job's result or error. Raises sqlite3.Error when SQLite gave up the transaction."""
        outcomes: list[_Outcome] = []
        for work, future in jobs:
            try:
                outcomes.append((future, work(self._connection), None))
            except GuardianError as exc:
                outcomes.append((future, None, exc))
            except Exception as exc:  # the edge of this thread: it must outlive any single job
                if self._commits and not self._connection.in_transaction:
                    raise sqlite3.OperationalError(f"transaction lost: {exc}") from exc
                outcomes.append((future, None, unavailable(exc)))
        return outcomes

    def _resolve(self, outcomes: list[_Outcome]) -> None:
        self._waiting -= len(outcomes)
        for future, result, error in outcomes:
            if future.done():
                continue  # the caller left; what it asked for stands
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


def unavailable(exc: Exception) -> StoreUnavailable:
    """A foreign error as ours, with its cause; the text names no stored value."""
    error = StoreUnavailable(f"the store failed: {type(exc).__name__}: {exc}")
    error.__cause__ = exc
    return error


def _give_up(future: asyncio.Future[object]) -> None:
    if not future.done():
        future.set_exception(StoreUnavailable(f"the store gave no answer within {WAIT_S:g} s"))
