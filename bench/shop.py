"""An unpaid API that answers at once: 1 kB for every GET, a long body for `/large/<bytes>`, uploads counted.

A bare protocol on uvloop, so that the proxies and not the upstream are measured.
"""

import asyncio
import re
import sys
from typing import cast

import uvloop

GOODS = b"x" * 1000
SMALL = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\n\r\n" + GOODS
PIECE = b"x" * 65536


class Shop(asyncio.Protocol):
    """HTTP/1.1 keep-alive, and no more than that."""

    def __init__(self) -> None:
        self._buffer = b""
        self._left_down = self._left_up = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit
        self._writable = True

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._pour()

    def data_received(self, data: bytes) -> None:
        if self._left_up:
            self._left_up -= len(data)
            if not self._left_up:
                self._transport.write(SMALL)
            return
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        if large := re.match(rb"GET \S*/large/(\d+) ", head):
            self._left_down = int(large[1])
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %b\r\n\r\n" % large[1])
            self._pour()
        elif length := re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE):
            self._left_up = int(length[1]) - len(self._buffer)
            self._buffer = b""
            if not self._left_up:
                self._transport.write(SMALL)
        else:
            self._transport.write(SMALL)

    def _pour(self) -> None:
        while self._left_down and self._writable:
            part = PIECE[: self._left_down]
            self._left_down -= len(part)
            self._transport.write(part)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Shop, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
