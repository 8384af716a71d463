"""A cable between two processes that can be cut, blocked or slowed: network faults for the sandbox.

    with Cable("127.0.0.1", redis_port) as cable:      # reach the target through cable.port
        cable.block()                                  # a partition: nothing arrives, nothing is refused
        cable.cut()                                    # every connection reset, new ones refused at once
        cable.slow(0.2)                                # each piece 0.2 s late
        cable.heal()

Runs in a thread of its own. No knowledge of what passes.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Self

PIECE_BYTES = 65536
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with zero seconds: closing sends a reset instead of an orderly end."""


class Cable:
    """One listening port that leads to another."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cable", daemon=True)
        self._open = asyncio.Event()
        self._delay_s = 0.0
        self._refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def heal(self) -> None:
        """Let everything through again, what was blocked included."""
        self._call(self._set(open=True, refusing=False, delay_s=0.0))

    def block(self) -> None:
        """Let nothing through; connections stay open, as behind a partition."""
        self._call(self._set(open=False, refusing=False, delay_s=0.0))

    def slow(self, delay_s: float) -> None:
        """Let each piece through after a pause in seconds."""
        self._call(self._set(open=True, refusing=False, delay_s=delay_s))

    def cut(self) -> None:
        """Reset every connection, and each new one."""
        self._call(self._set(open=True, refusing=True, delay_s=0.0))

    def _call(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._open.set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _set(self, *, open: bool, refusing: bool, delay_s: float) -> None:
        self._delay_s, self._refusing = delay_s, refusing
        self._open.set() if open else self._open.clear()
        if refusing:
            for writer in list(self._writers):
                _reset(writer)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            _reset(writer)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._refusing:
                return
            await self._open.wait()
            there, back = await asyncio.open_connection(*self._target)
            self._writers.add(back)
            try:
                await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
            finally:
                self._writers.discard(back)
                _reset(back)
        except (OSError, asyncio.CancelledError):  # the other end has gone, or the cable is put away
            return
        finally:
            self._writers.discard(writer)
            _reset(writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE_BYTES):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._open.wait()
            writer.write(piece)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    if (sock := writer.get_extra_info("socket")) is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.close()
