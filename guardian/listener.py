"""What uvicorn's HTTP server lacks for a proxy: trailers after an answer, and an answer's own Date.

Nothing here knows what is proxied.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

TRAILERS = "http.response.trailers"
"""ASGI's extension; see https://asgi.readthedocs.io/en/latest/extensions.html."""


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
