"""Group commit: writes that wait for the disk share the wait.

What may wait for the disk (COMMIT), or for another program's lock, runs in a thread. The short writes
before it change pages in memory, in some 10 µs each, and run in the event loop: in a thread they would
fight with the loop for the interpreter's lock several times each. Loop and thread take strict turns on
the connection. No SQL of the record lives here.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from typing import Any

from guardian.errors import StoreUnavailable
from guardian.store.lane import Lane, Outcome, T, Waiting, Work, outcome_of
from guardian.store.schema import BUSY_TIMEOUT_S, SQLITE_FAULTS

TURN_LIMIT = 100
"""Short writes in one turn of the loop: a millisecond, then everybody else has a turn."""

PATIENCE_S = 0.01
"""How long writes for which nobody waits may wait for one that somebody waits for: they then cost no
commit of their own. What a crash may lose grows from the some 2 ms of a commit by so much: a success that
was delivered then stands in the record as one that nobody was told of."""

_Job = tuple[Work[Any], asyncio.Future[Any]]


class Writer:
    """The one who writes to one connection, which is closed with it."""

    def __init__(
        self, name: str, connection: sqlite3.Connection, check: Callable[[], None] = lambda: None
    ) -> None:
        """check: raises StoreUnavailable where nothing may be committed; before each commit, in a thread."""
        connection.execute("PRAGMA busy_timeout = 0")  # the loop may not wait for a lock
        self._connection = connection
        self._check = check
        self._loop = asyncio.get_running_loop()
        self._lane = Lane(name, connection)
        self._waiting = Waiting()
        self._short: deque[_Job] = deque()
        self._long: deque[_Job] = deque()
        self._done: list[tuple[asyncio.Future[Any], Outcome]] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._urgent = False  # somebody waits for one of the writes that are queued
        self._resting: asyncio.TimerHandle | None = None  # until company comes: nobody waits for any

    async def do(self, work: Work[T], *, long: bool = False, patient: bool = False) -> T:
        """The result of `work` once it is durable; raises StoreUnavailable, or what `work` raised.

        work: makes one writing statement at most, as its last step that can fail, so that one that
        raises leaves nothing behind and its neighbours need no savepoint. long: it reads or computes
        more than a row or two, so it keeps to the thread. patient: up to PATIENCE_S later is as good.
        """
        future = self._waiting.add()
        (self._long if long else self._short).append((work, future))
        self._urgent = self._urgent or not patient
        if self._idle.is_set():
            self._idle.clear()
            self._go_on()
        elif self._resting and self._urgent:
            self._hurry()
        result: T = await future
        return result

    async def close(self) -> None:
        """Refuse whoever comes now, finish what is queued, close the connection; idempotent."""
        self._waiting.close()
        if self._resting:
            self._hurry()
        await self._idle.wait()
        await self._lane.close()

    def _begin(self) -> None:
        """Begin at once where nobody else has the file's lock; else the thread waits for it."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except SQLITE_FAULTS:
            self._lane.start(_begin_patiently, self._write)
        else:
            self._write((None, None))

    def _write(self, begun: Outcome) -> None:
        """The loop's turn: short writes, inside the transaction that was begun."""
        if (fault := begun[1]) is not None:
            self._done = [(future, (None, fault)) for _, future in (*self._short, *self._long)]
            self._short.clear()
            self._long.clear()
            self._urgent = False
            return self._tell((None, None))
        for _ in range(min(len(self._short), TURN_LIMIT)):
            self._work_off(self._short)
        self._urgent = bool(self._short)
        self._lane.start(self._commit, self._tell)

    def _work_off(self, jobs: deque[_Job]) -> None:
        """Do the first of them, if there is still a transaction: SQLite ends it itself on some errors."""
        work, future = jobs.popleft()
        outcome = outcome_of(work, self._connection) if self._connection.in_transaction else _LOST
        self._done.append((future, outcome))

    def _commit(self, connection: sqlite3.Connection) -> None:
        """The thread's turn: long writes, and the disk. Raises StoreUnavailable and SQLITE_FAULTS when
        nothing was written."""
        for _ in range(len(self._long)):
            self._work_off(self._long)
        try:
            self._check()
            connection.execute("COMMIT")
        except (StoreUnavailable, *SQLITE_FAULTS):
            _roll_back(connection)
            raise

    def _tell(self, committed: Outcome) -> None:
        """Now that it is on disk, or is not: say so, and go on with what has come in the meantime."""
        done, self._done = self._done, []
        for future, outcome in done:
            self._waiting.resolve(future, (None, committed[1]) if committed[1] else outcome)
        self._go_on()

    def _go_on(self) -> None:
        if not (self._short or self._long):
            self._idle.set()
        elif self._urgent or self._waiting.closed:
            self._loop.call_soon(self._begin)
        else:
            self._resting = self._loop.call_later(PATIENCE_S, self._hurry)

    def _hurry(self) -> None:
        """Company has come, or will not come in time."""
        if self._resting:
            self._resting.cancel()
            self._resting = None
        self._loop.call_soon(self._begin)


_LOST: Outcome = (None, StoreUnavailable("the store failed: the transaction was lost"))


def _begin_patiently(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")
    try:
        connection.execute("BEGIN IMMEDIATE")
    finally:
        connection.execute("PRAGMA busy_timeout = 0")


def _roll_back(connection: sqlite3.Connection) -> None:
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except SQLITE_FAULTS:
        # The next BEGIN fails then, and with it every write: closed, never half written.
        return
