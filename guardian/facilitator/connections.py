"""Kept HTTP/1.1 connections to one facilitator, for whole requests and whole replies.

Every /verify and /settle goes this way. A client in a thread of its own costs three times as much for
bodies of this size, and cannot tell as exactly what a failure proves: here nothing was sent before
`_Connection.ask` writes. Parsing is llhttp's (httptools, as in our own server), failures are httpx's
exceptions, which `failure` in transport.py translates. Streams take the way of transport.py.

No redirects, no proxies, no cookies, nothing is sent twice. No decisions about payments.
"""

import asyncio
import functools
import re
import ssl
import zlib
from typing import Any, cast

import httptools
import httpx

from guardian import errors
from guardian.facilitator import transport

MAX_HEAD_BYTES = 64 * 1024
"""What a reply may hold beside its body: heads are some hundred bytes, the marks of chunks fewer."""

GZIP = zlib.MAX_WBITS | 16
"""zlib's name for the one encoding that is asked for, and undone."""

HEADER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\x00-\x08\x0a-\x1f\x7f]*\r\n")
"""What RFC 9110 §5.5 and §5.6.2 allow: nothing in it can begin a second line."""

Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]
"""Status, headers with names in lower case, and the body with its encoding undone."""


def head_of(method: str, url: httpx.URL) -> bytes:
    """How a request begins; raises UnsupportedProtocol for what is no HTTP."""
    if url.scheme not in ("http", "https") or not url.host:
        raise httpx.UnsupportedProtocol("the URL is not one of HTTP")
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method.encode(), url.raw_path, url.netloc)


def request_of(head: bytes, headers: Headers, body: bytes | None) -> bytes:
    """A whole request as bytes. A header that HTTP forbids is left out: no caller may make a
    facilitator look unreachable."""
    lines = [head]
    names = set()
    for header in headers:
        line = b"%b: %b\r\n" % header
        if HEADER_LINE.fullmatch(line):
            lines.append(line)
            names.add(header[0].lower())
    lines += [line for name, line in OWN_HEADERS if name not in names]
    if body is not None:
        lines.append(b"content-length: %d\r\n" % len(body))
    return b"".join((*lines, b"\r\n", body or b""))


OWN_HEADERS = (
    (b"user-agent", b"user-agent: payment-guardian\r\n"),
    (b"accept", b"accept: */*\r\n"),
    (b"accept-encoding", b"accept-encoding: gzip\r\n"),
)
"""Where the caller sent none: names and whole lines."""


class Connections:
    """The connections to one origin, opened as they are needed. url: any URL there."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._places = asyncio.Semaphore(transport.MAX_CONNECTIONS)
        self._kept: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def ask(self, request: bytes, *, timeout_s: float, max_bytes: int) -> Answer:
        """Send a request, read the whole reply. Raises httpx's exceptions, and TimeoutError when there
        is no whole reply in time. Cancellation passes and drops the connection."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        await (self._place(deadline) if self._places.locked() else self._places.acquire())
        try:
            connection = self._taken(loop.time()) or await self._opened(deadline)
            answer = await connection.ask(request, deadline, max_bytes, loop)
            self._keep(connection)
            return answer
        finally:
            self._places.release()

    async def aclose(self) -> None:
        """Close all; what is under way fails."""
        self._kept.clear()
        for connection in list(self._open):
            connection.drop(httpx.ReadError("the connection was closed by us"))

    async def _place(self, deadline: float) -> None:
        limit = min(deadline, asyncio.get_running_loop().time() + transport.POOL_TIMEOUT_S)
        try:
            async with asyncio.timeout_at(limit):
                await self._places.acquire()
        except TimeoutError as exc:
            raise httpx.PoolTimeout("no free connection") from exc

    def _taken(self, now: float) -> "_Connection | None":
        """The kept connection that was used last, so that the others may become too old."""
        while self._kept:
            connection = self._kept.pop()
            if connection.usable and now - connection.used_at < transport.IDLE_CONNECTION_S:
                return connection
            connection.drop()
        return None

    async def _opened(self, deadline: float) -> "_Connection":
        """A new connection. Whatever fails here, nothing was sent."""
        url, loop = httpx.URL(self._url), asyncio.get_running_loop()
        host = url.raw_host.decode().strip("[]")
        tls: dict[str, Any] = {"ssl": _tls(), "server_hostname": host} if url.scheme == "https" else {}
        port = url.port or (443 if tls else 80)
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + transport.CONNECT_TIMEOUT_S)):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._open), host, port, **tls
                )
        except TimeoutError as exc:
            raise httpx.ConnectTimeout("no connection in time") from exc
        except (OSError, ValueError) as exc:  # ValueError: a name that nobody can look up
            raise httpx.ConnectError(str(exc)) from exc
        return connection

    def _keep(self, connection: "_Connection") -> None:
        if not connection.usable:
            return connection.drop()
        self._kept.append(connection)
        if self._sweeper is None:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(transport.IDLE_CONNECTION_S, self._sweep)

    def _sweep(self) -> None:
        """Close what was not used for too long: the other side might be closing it just then."""
        loop = asyncio.get_running_loop()
        youngest = loop.time() - transport.IDLE_CONNECTION_S
        for connection in self._kept:
            if connection.used_at <= youngest:
                connection.drop()
        self._kept = [connection for connection in self._kept if connection.usable]
        again = loop.call_later(transport.IDLE_CONNECTION_S, self._sweep) if self._kept else None
        self._sweeper = again


class _Connection(asyncio.Protocol):
    """One connection: one request at a time, and the reply to it."""

    _transport: asyncio.Transport

    def __init__(self, everywhere: "set[_Connection]") -> None:
        """everywhere: all that are open, where it is entered and taken out."""
        self._everywhere = everywhere
        self._parser = httptools.HttpResponseParser(self)
        self._asked: asyncio.Future[Answer] | None = None
        self._lost = False
        self.used_at = 0.0

    @property
    def usable(self) -> bool:
        """Another request may be written."""
        return not self._lost and self._asked is None

    async def ask(
        self, request: bytes, deadline: float, max_bytes: int, loop: asyncio.AbstractEventLoop
    ) -> Answer:
        """Write the request and wait for its reply; from here on every failure is a doubt."""
        asked: asyncio.Future[Answer] = loop.create_future()
        self._asked = asked
        self._max_bytes, self._received = max_bytes, 0
        self._begin_reply()
        timer = loop.call_at(deadline, self.drop, TimeoutError())
        try:
            if self._lost:
                raise httpx.ReadError("the connection broke")
            self._transport.write(request)
            return await asked
        except BaseException:
            self.drop()
            raise
        finally:
            timer.cancel()
            self._asked, self.used_at = None, loop.time()

    def drop(self, exc: Exception | None = None) -> None:
        """Close at once; who waits for a reply gets `exc`."""
        self._lost = True
        self._everywhere.discard(self)
        self._transport.abort()
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(exc or httpx.ReadError("the connection was dropped"))

    # -- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit
        self._everywhere.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse; bytes that nobody asked for might be taken for the next reply, so they end it."""
        if self._asked is None or self._asked.done():
            return self.drop()
        self._received += len(data)
        if self._received > self._max_bytes + MAX_HEAD_BYTES:
            return self.drop(self._too_large())
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self.drop(httpx.RemoteProtocolError(f"the reply is no HTTP: {exc}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of the connection, which may be the end of a reply that named no length."""
        if exc is None and self._ends_with_connection and self._asked and not self._asked.done():
            self._finish()
        self.drop(httpx.ReadError(f"the connection broke: {exc}" if exc else "the connection was closed"))

    # -- what the parser tells

    def on_message_begin(self) -> None:
        """A second reply to one request: none of what comes now can be trusted."""
        if self._asked is None or self._asked.done():
            self.drop()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        framed = any(name in (b"content-length", b"transfer-encoding") for name, _ in self._headers)
        self._ends_with_connection = not framed

    def on_body(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._max_bytes:
            self.drop(self._too_large())
        else:
            self._parts.append(part)

    def on_message_complete(self) -> None:
        """The reply is whole; interim ones (1xx) are passed over."""
        if self._parser.get_status_code() < 200:
            return self._begin_reply()
        keep = self._parser.should_keep_alive()
        self._finish()
        if not keep:
            self.drop()

    def _begin_reply(self) -> None:
        self._headers: Headers = []
        self._parts: list[bytes] = []
        self._size = 0
        self._ends_with_connection = False

    def _finish(self) -> None:
        if self._asked is None or self._asked.done():
            return
        try:
            answer = _decoded(self._headers, b"".join(self._parts), self._max_bytes)
        except (httpx.DecodingError, errors.ReplyLost) as exc:
            return self.drop(exc)
        self._asked.set_result((self._parser.get_status_code(), *answer))

    def _too_large(self) -> errors.ReplyLost:
        return too_large(self._max_bytes)


def too_large(max_bytes: int) -> errors.ReplyLost:
    """What a reply over the limit is."""
    return errors.ReplyLost(f"the reply is larger than {max_bytes} bytes")


def _decoded(headers: Headers, body: bytes, max_bytes: int) -> tuple[Headers, bytes]:
    """Headers and body without gzip; raises DecodingError, and ReplyLost for one that unfolds too far."""
    if not body or (b"content-encoding", b"gzip") not in headers:
        return headers, body
    unfolding = zlib.decompressobj(GZIP)
    try:
        plain = unfolding.decompress(body, max_bytes + 1)
    except zlib.error as exc:
        raise httpx.DecodingError("the reply is no gzip") from exc
    if len(plain) > max_bytes:
        raise too_large(max_bytes)
    if not unfolding.eof:
        raise httpx.DecodingError("the reply's gzip is cut off")
    return [(name, value) for name, value in headers if name != b"content-encoding"], plain


@functools.cache
def _tls() -> ssl.SSLContext:
    """Certificates are always verified, with what the system trusts and what Mozilla does."""
    context = httpx.create_ssl_context()
    context.load_default_certs()
    context.set_alpn_protocols(["http/1.1"])
    return context
