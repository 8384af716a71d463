"""A connection to a server that breaks on demand: before a request arrives, or before its reply does."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Self


class Fate(Enum):
    """What becomes of one request."""

    PASS = 0
    LOSE_REQUEST = 1
    LOSE_REPLY = 2


class LossyProxy:
    """Stands between a client and the server at `port`; `fate` is asked once for each request."""

    def __init__(self, port: int, fate: Callable[[bytes], Fate], tls: ssl.SSLContext | None = None) -> None:
        self.fate = fate
        self._tls = tls
        self.lost = 0
        self._target = port
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        losing = asyncio.Event()
        back = asyncio.create_task(self._back(far_reader, writer, losing))
        with suppress(asyncio.CancelledError, OSError):
            while request := await reader.read(1 << 20):
                fate = self.fate(request)
                self.lost += fate is not Fate.PASS
                if fate is Fate.LOSE_REQUEST:
                    break
                if fate is Fate.LOSE_REPLY:
                    losing.set()
                far_writer.write(request)
                if fate is Fate.LOSE_REPLY:
                    await back  # ends with the first bytes of the reply: the server has done it
                    break
        back.cancel()
        for open_writer in (writer, far_writer):
            open_writer.close()
        with suppress(asyncio.CancelledError):
            await back

    async def _back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while reply := await reader.read(1 << 20):
                if losing.is_set():
                    return
                writer.write(reply)
        writer.close()
