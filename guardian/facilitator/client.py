"""One facilitator over HTTP: bytes in, bytes out, and two ways to fail.

`NotSent` proves that the facilitator received nothing; `ReplyLost` is everything else. Nothing is
repeated, redirected or interpreted here: a reply of any status is a `Reply`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
import msgspec

from guardian import errors
from guardian.facilitator.connections import Answer, Connections, head_of, request_of, too_large
from guardian.facilitator.headers import below, content_length, end_to_end
from guardian.facilitator.transport import TOTAL_TIMEOUT, UNBUFFERED, default_transport, failure

MAX_REPLY_BYTES = 1024 * 1024
"""Replies are some hundred bytes, a large /supported some ten thousand."""

MAX_KNOWN_URLS = 64
"""Parsed URLs kept; a handful of paths is in use, and a caller may not fill the memory."""

DROP_MARGIN_S = 0.5
"""How long after our own deadline the transport drops a request that was left: ours speaks first."""

MAX_STREAM_S = 3600.0
"""The longest a passed-on stream may last, so that one that was left does not hold a connection for ever."""

DECODED_BY_HTTPX = frozenset({b"gzip", b"deflate"})
"""Only for transports other than the default, which has undone the encoding already."""

RawHeaders = Sequence[tuple[bytes, bytes]]


class Reply(msgspec.Struct, frozen=True):
    """A whole reply; content-encoding undone, hop-by-hop headers and content-length removed."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class StreamedReply:
    """A reply whose body is still arriving: iterate `body` once, then call `aclose`."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: AsyncIterator[bytes]
    response: httpx.Response = field(repr=False)

    async def aclose(self) -> None:
        """Give the connection back, or drop it when the body was not read to its end."""
        await self.response.aclose()


class Facilitator:
    """One facilitator below one URL; its connections are opened on first use."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        self.name = name
        self.url = url
        self._transport = transport or default_transport()
        self._connections = Connections(url) if transport is None else None
        self._max_reply_bytes = max_reply_bytes
        self._urls: dict[str, httpx.URL] = {}
        self._heads: dict[tuple[str, str], bytes] = {}

    async def post(self, path: str, headers: RawHeaders, body: bytes, *, timeout_s: float) -> Reply:
        """Send once and read the whole reply. Raises NotSent or ReplyLost.

        Cancellation passes, but the request may still be sent after it: it is in doubt.
        """
        return await self._exchange("POST", path, b"", headers, body, timeout_s)

    async def get(self, path: str, headers: RawHeaders, *, timeout_s: float, query: bytes = b"") -> Reply:
        """Read once. Raises NotSent or ReplyLost; cancellation passes."""
        return await self._exchange("GET", path, query, headers, None, timeout_s)

    async def stream(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: RawHeaders,
        body: AsyncIterator[bytes] | None,
        *,
        timeout_s: float,
    ) -> StreamedReply:
        """Pass a request on while it arrives; the head, then each chunk, may take `timeout_s`.

        Raises NotSent or ReplyLost, also from iterating the body.
        """
        kept = end_to_end(headers) + (content_length(headers) if body is not None else [])
        request = self._request(method, self._url(path, query), kept, body, MAX_STREAM_S)
        request.extensions[UNBUFFERED] = True
        response = await self._send(request, timeout_s)
        return StreamedReply(
            response.status_code, _reply_headers(response), _chunks(response, timeout_s), response
        )

    async def close(self) -> None:
        """Close the connections; requests under way end as ReplyLost."""
        if self._connections is not None:
            await self._connections.aclose()
        await self._transport.aclose()

    def _url(self, path: str, query: bytes = b"") -> httpx.URL:
        url = self._urls.get(path)
        if url is None:
            url = _parsed(below(self.url, path))
            if len(self._urls) < MAX_KNOWN_URLS:
                self._urls[path] = url
        return url.copy_with(query=query) if query else url

    def _head(self, method: str, path: str, query: bytes) -> bytes:
        """The beginning of a request; kept, because taking a URL apart costs more than a header."""
        head = self._heads.get((method, path)) if not query else None
        if head is None:
            head = head_of(method, self._url(path, query))
            if not query and len(self._heads) < MAX_KNOWN_URLS:
                self._heads[method, path] = head
        return head

    def _request(
        self,
        method: str,
        url: httpx.URL,
        headers: list[tuple[bytes, bytes]],
        body: bytes | AsyncIterator[bytes] | None,
        limit_s: float,
    ) -> httpx.Request:
        limits = {TOTAL_TIMEOUT: timedelta(seconds=limit_s + DROP_MARGIN_S)}
        try:
            return httpx.Request(method, url, headers=headers, content=body, extensions=limits)
        except (ValueError, TypeError) as exc:
            raise errors.NotSent("the request cannot be written as HTTP") from exc

    async def _send(self, request: httpx.Request, timeout_s: float) -> httpx.Response:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._transport.handle_async_request(request)
        except Exception as exc:  # the border to foreign code: whatever it raises, the default is the doubt
            raise failure(exc, timeout_s) from exc

    async def _exchange(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: RawHeaders,
        body: bytes | None,
        timeout_s: float,
    ) -> Reply:
        started, sent = time.perf_counter(), end_to_end(headers)
        try:
            if self._connections is None:
                request = self._request(method, self._url(path, query), sent, body, timeout_s)
                answer = await self._over_transport(request, timeout_s)
            else:
                whole = request_of(self._head(method, path, query), sent, body)
                answer = await self._connections.ask(
                    whole, timeout_s=timeout_s, max_bytes=self._max_reply_bytes
                )
        except (errors.NotSent, errors.ReplyLost):
            raise
        except Exception as exc:  # the border to foreign code: whatever it raises, the default is the doubt
            raise failure(exc, timeout_s) from exc
        status, received, content = answer
        return Reply(status, end_to_end(received), content, time.perf_counter() - started)

    async def _over_transport(self, request: httpx.Request, timeout_s: float) -> Answer:
        """An exchange over a transport that was handed in: a test's, or the one for streams."""
        async with asyncio.timeout(timeout_s):
            response = await self._transport.handle_async_request(request)
            try:
                return response.status_code, _reply_headers(response), await self._whole(response)
            finally:
                await response.aclose()

    async def _whole(self, response: httpx.Response) -> bytes:
        """Read the body, but never more than the limit."""
        parts: list[bytes] = []
        size = 0
        async for chunk in _decoded(response):
            size += len(chunk)
            if size > self._max_reply_bytes:
                raise too_large(self._max_reply_bytes)
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _is_encoded(response: httpx.Response) -> bool:
    found = (value for name, value in response.headers.raw if name.lower() == b"content-encoding")
    return next(found, b"") in DECODED_BY_HTTPX


def _parsed(url: str) -> httpx.URL:
    try:
        return httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as exc:
        raise errors.NotSent("the path cannot be joined to the facilitator's URL") from exc


def _decoded(response: httpx.Response) -> AsyncIterator[bytes]:
    if _is_encoded(response):
        return response.aiter_bytes()
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    return stream.__aiter__()


def _reply_headers(response: httpx.Response) -> list[tuple[bytes, bytes]]:
    kept = end_to_end(response.headers.raw)
    if _is_encoded(response):
        return [(name, value) for name, value in kept if name.lower() != b"content-encoding"]
    return kept


async def _chunks(response: httpx.Response, timeout_s: float) -> AsyncIterator[bytes]:
    """The body as it arrives; silence for `timeout_s` is a lost reply."""
    source = _decoded(response)
    while True:
        try:
            async with asyncio.timeout(timeout_s):
                chunk = await anext(source, None)
        except Exception as exc:  # the border to foreign code: whatever it raises, the default is the doubt
            raise failure(exc, timeout_s) from exc
        if chunk is None:
            return
        yield chunk
