"""What uvicorn's HTTP server lacks for a proxy: trailers after an answer, an answer's own Date, and
answers that leave in one piece.

Nothing here knows what is proxied.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

TRAILERS = "http.response.trailers"
"""ASGI's extension; see https://asgi.readthedocs.io/en/latest/extensions.html."""


class Joining:
    """Where one answer is written: its head waits for the body until this turn of the loop ends, because
    the server writes them apart, and each write is a system call and a segment of its own."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None
        self._begun = False

    def write(self, data: bytes) -> None:
        """Hold the first part, pass on whatever comes later, with what is held in front of it."""
        if not self._begun:
            self._begun, self._held = True, data
            self._loop.call_soon(self._flush)
        elif self._held is not None:
            held, self._held = self._held, None
            self._transport.write(held + data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Close, once what is held has been written."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self._transport.write(held)


class ProxyProtocol(HttpToolsProtocol):
    """Answers every request with a `ProxyCycle`."""

    def on_headers_complete(self) -> None:
        """The request begins, with a cycle of our kind: its task has not run yet."""
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self.cycle.__class__ = ProxyCycle
            self.scope["extensions"] = {TRAILERS: {}}


class ProxyCycle(RequestResponseCycle):
    """One request and its answer."""

    _trailing = False

    async def send(self, message: Any) -> None:
        """As uvicorn does it, with an answer's own Date in place of a second one, and with trailers."""
        kind = message["type"]
        if kind == "http.response.start":
            self._trailing = message.get("trailers", False)
            if any(name == b"date" for name, _ in message.get("headers", ())):
                self.default_headers = [line for line in self.default_headers if line[0] != b"date"]
        elif kind == "http.response.body" and self._trailing:
            message = {**message, "more_body": True}
        elif kind == TRAILERS and self._trailing:
            return await self._end_with(message["headers"])
        await super().send(message)

    async def _end_with(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """The last chunk; uvicorn itself then ends an answer without any more bytes."""
        if self.chunked_encoding and self.scope["method"] != "HEAD" and not self.disconnected:
            lines = b"".join(b"%b: %b\r\n" % line for line in trailers)
            self.transport.write(b"0\r\n" + lines + b"\r\n")
            self.chunked_encoding, self.expected_content_length = False, 0
        await super().send({"type": "http.response.body", "body": b"", "more_body": False})
