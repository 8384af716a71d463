"""A thread with one SQLite connection, and those in the event loop who wait for a disk.

Whatever may wait for the disk or for a lock runs in such a thread, one job after the other. No
transactions here (writer.py), no SQL.
"""

import asyncio
import functools
import sqlite3
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from guardian.errors import GuardianError, StoreUnavailable

QUEUE_LIMIT = 20_000
"""Jobs waiting for one disk: seconds of work. Beyond it the disk cannot keep up, so fail closed."""

WAIT_S = 15.0
"""The longest a caller waits for the disk; above SQLite's own lock timeout (BUSY_TIMEOUT_S)."""

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
Outcome = tuple[Any, GuardianError | None]
"""What a job gave, or what it raised: of the two one is None."""


class Do(Protocol):
    """Whatever does work with a connection of its own; raises StoreUnavailable, or what the work raised."""

    async def __call__(self, work: Work[T], /) -> T: ...


class Waiting:
    """A bounded number of futures, none of which waits longer than WAIT_S."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadlines: dict[asyncio.Future[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.closed = False

    def add(self) -> asyncio.Future[Any]:
        """One more; raises StoreUnavailable when there are too many, and when there may be no more."""
        if self.closed:
            raise StoreUnavailable("the store is closed")
        if len(self._deadlines) >= QUEUE_LIMIT:
            raise StoreUnavailable("the store cannot keep up: too many operations are waiting")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._deadlines[future] = deadline = self._loop.time() + WAIT_S
        if self._timer is None:  # one timer for the oldest: one for each costs more than its insert
            self._timer = self._loop.call_at(deadline, self._give_up)
        return future

    def resolve(self, future: asyncio.Future[Any], outcome: Outcome) -> None:
        """Tell the one who waits, unless it has left: what it asked for stands."""
        del self._deadlines[future]
        result, error = outcome
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def close(self) -> None:
        """Let nobody in any more; those who wait are still told."""
        self.closed = True

    def _give_up(self) -> None:
        """Fail those whose time is over. They count until their job is done: the queue stays bounded."""
        self._timer, now = None, self._loop.time()
        for future, deadline in self._deadlines.items():
            if deadline > now:
                self._timer = self._loop.call_at(deadline, self._give_up)
                return
            if not future.done():
                future.set_exception(StoreUnavailable(f"the store gave no answer within {WAIT_S:g} s"))


class Lane:
    """A thread that does what it is handed, in that order, with a connection that is closed with it."""

    def __init__(self, name: str, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[tuple[Work[Any], Callable[[Outcome], None]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._closing = False
        self._thread.start()

    def start(self, work: Work[Any], tell: Callable[[Outcome], None]) -> None:
        """Do `work` in the thread, then `tell` the loop what came of it."""
        self._queue.put((work, tell))

    async def close(self) -> None:
        """Finish what is queued, then close the connection; idempotent."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            work, tell = job
            outcome = outcome_of(work, self._connection)
            try:
                self._loop.call_soon_threadsafe(tell, outcome)
            except RuntimeError:
                break  # the loop is closed: nobody waits any more
        self._connection.close()


class Reader:
    """Looks things up, one after the other."""

    def __init__(self, name: str, connection: sqlite3.Connection) -> None:
        self._lane = Lane(name, connection)
        self._waiting = Waiting()

    async def do(self, work: Work[T]) -> T:
        """The result of `work`; raises StoreUnavailable, or what `work` raised."""
        future = self._waiting.add()
        self._lane.start(work, functools.partial(self._waiting.resolve, future))
        result: T = await future
        return result

    async def close(self) -> None:
        """Refuse whoever comes now, finish what is queued, close the connection; idempotent."""
        self._waiting.close()
        await self._lane.close()


def outcome_of(work: Work[Any], connection: sqlite3.Connection) -> Outcome:
    """Run a job; nothing is raised, for its neighbours must go on."""
    try:
        return work(connection), None
    except GuardianError as exc:
        return None, exc
    except Exception as exc:  # the border to foreign code
        return None, unavailable(exc)


def unavailable(exc: Exception) -> StoreUnavailable:
    """A foreign error as ours, with its cause; the text names no stored value."""
    error = StoreUnavailable(f"the store failed: {type(exc).__name__}: {exc}")
    error.__cause__ = exc
    return error
