"""A facilitator that answers at once: one constant successful settle, whatever was asked.

A bare protocol on uvloop, so that the proxies and not the upstream are measured.
"""

import asyncio
import sys
from typing import cast

import uvloop

SETTLED = (
    b'{"success":true,"payer":"0x857b06519e91e3a54538791bdbb0e22373e36b66",'
    b'"transaction":"0x89c91c789e57059b17285e7ba1716a1f5ff4c5dace0ea5a5135f26158d0421b9",'
    b'"network":"eip155:8453"}'
)
SUPPORTED = (
    b'{"kinds":[{"x402Version":2,"scheme":"exact","network":"eip155:8453"}],"extensions":[],"signers":{}}'
)


def _reply(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


class Facilitator(asyncio.Protocol):
    """HTTP/1.1 keep-alive with content-length bodies, and no more than that."""

    def __init__(self) -> None:
        self._buffer = b""
        self._settled, self._supported = _reply(SETTLED), _reply(SUPPORTED)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (head_end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:head_end].lower()
            if b"\r\ntransfer-encoding:" in head:
                self._transport.write(b"HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\n\r\n")
                self._transport.close()
                return
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            end = head_end + 4 + length
            if len(self._buffer) < end:
                return
            self._transport.write(self._settled if head.startswith(b"post") else self._supported)
            self._buffer = self._buffer[end:]


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Facilitator, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
