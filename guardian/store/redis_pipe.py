"""Commands that are asked for in one turn of the event loop, sent together in one round trip.

Each keeps its own reply or error; a connection that breaks fails all that went by it, and each of them
is asked again by whoever asked. Bounded: so many lines, so many commands on each, so many waiting.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from guardian.errors import StoreUnavailable

WAITING_LIMIT = 20_000
"""Commands waiting for a line: seconds of work. Beyond it the server cannot keep up."""

Command = tuple[Any, ...]
Execute = Callable[[list[Command]], Awaitable[list[Any]]]


class Pipes:
    """`lines` round trips at once, with up to `batch` commands each."""

    def __init__(self, execute: Execute, *, lines: int, batch: int) -> None:
        """execute: replies in order, an exception in the place of one that failed; raises when all did."""
        self._execute = execute
        self._batch = batch
        self._free = lines
        self._waiting: deque[tuple[Command, asyncio.Future[Any]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gathering = False

    async def send(self, command: Command) -> Any:
        """The reply; raises what the server or the connection raised."""
        if len(self._waiting) >= WAITING_LIMIT:
            raise StoreUnavailable("the store cannot keep up: too many operations are waiting")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((command, future))
        if not self._gathering:
            self._gathering = True
            loop.call_soon(self._start)
        return await future

    async def close(self) -> None:
        """Let what is under way end, by its reply or by its timeout."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self) -> None:
        self._gathering = False
        while self._free and (batch := self._next()):
            self._free -= 1
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _next(self) -> list[tuple[Command, asyncio.Future[Any]]]:
        """The oldest that somebody still waits for."""
        batch: list[tuple[Command, asyncio.Future[Any]]] = []
        while self._waiting and len(batch) < self._batch:
            command, future = self._waiting.popleft()
            if not future.done():
                batch.append((command, future))
        return batch

    async def _run(self, batch: list[tuple[Command, asyncio.Future[Any]]]) -> None:
        try:
            replies = await self._execute([command for command, _ in batch])
        except Exception as exc:  # whatever it was, nobody may wait for ever
            replies = [exc] * len(batch)
        for (_, future), reply in zip(batch, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free += 1
        self._start()
