"""One HTTP/1.1 connection to an upstream: one exchange at a time, both bodies while they arrive.

Parsing is llhttp's (httptools, as in our own server); it refuses what can be read in two ways. Nothing is
decoded, repeated or decided here. Before `begin` nothing was sent; from then on every failure is a doubt.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from guardian.errors import ReplyLost
from guardian.upstream.limits import HELD_BYTES, Limits
from guardian.upstream.reply import Headers, Reply


class Asker(Protocol):
    """Who asked: told once about each."""

    def continued(self) -> None:
        """The upstream wants the body (100)."""

    def replied(self, reply: Reply) -> None:
        """The head is here."""

    def lost(self, fault: ReplyLost, *, untouched: bool) -> None:
        """The reply will not come whole. untouched: not one byte of it came."""


class Connection(asyncio.Protocol):
    """A connection, from its making to its loss."""

    _transport: asyncio.Transport

    def __init__(self, limits: Limits, lost: "Callable[[Connection], None]") -> None:
        """lost: called once, when it is of no more use."""
        self._limits = limits
        self._on_lost = lost
        self._parser = httptools.HttpResponseParser(self)
        self._asker: Asker | None = None
        self._reply: Reply | None = None
        self._writable: asyncio.Future[None] | None = None
        self._full = self._paused = self._lost = False
        self.exchanges = 0
        self.used_at = 0.0

    @property
    def usable(self) -> bool:
        """Another request may be written."""
        return not self._lost and self._asker is None

    @property
    def whole(self) -> bool:
        """The reply has arrived to its end."""
        return self._over

    @property
    def full(self) -> bool:
        """What was written waits for the upstream to take it."""
        return self._full and not self._lost

    # -- what the exchange asks for

    def begin(self, asker: Asker, head: bytes, *, bodiless: bool) -> None:
        """Write the head of a request. bodiless: its reply has no body whatever its head says (HEAD)."""
        self._asker, self._reply, self._bodiless = asker, None, bodiless
        self._keep = self._over = False
        self._received = self._size = 0
        self.exchanges += 1
        self._begin_message()
        if self._lost:
            asker.lost(ReplyLost("the connection broke"), untouched=True)
        else:
            self._transport.write(head)

    def write(self, part: bytes) -> None:
        """Some of the request's body; wait for `writable` before the next."""
        if not self._lost:
            self._transport.write(part)

    async def writable(self) -> None:
        """The upstream has taken nearly all that was written, or is gone."""
        if self.full:
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable

    def release(self, *, sent: bool) -> bool:
        """End the exchange; True when the connection can serve another. sent: the request is whole."""
        self._asker = None
        if sent and self._over and self._keep and not self._lost:
            self._reply = None
            self.used_at = asyncio.get_running_loop().time()
            return True
        self.drop()
        return False

    def drop(self, fault: ReplyLost | None = None) -> None:
        """Close at once; who waits for a reply gets `fault`."""
        if self._lost:
            return
        self._lost = True
        self._transport.abort()
        self._wake_writer()
        self._lose(fault or ReplyLost("the connection was dropped"))
        self._on_lost(self)

    # -- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit

    def data_received(self, data: bytes) -> None:
        """Parse; bytes that nobody asked for might be taken for the next reply, so they end it."""
        if self._asker is None or self._over:
            return self.drop()
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            return self.drop(ReplyLost(f"the reply is no HTTP: {exc}"))
        if self._reply is None:
            if self._received > self._limits.head_bytes:
                self.drop(ReplyLost(f"the reply's head is over {self._limits.head_bytes} bytes"))
        elif self._reply.held > HELD_BYTES and not self._paused and not self._lost:
            self._paused = True
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake_writer()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of the connection, which may be the end of a reply that named no length."""
        if exc is None and self._reply is not None and self._ends_with_connection and not self._over:
            self._finish()
        why = f"the connection broke: {type(exc).__name__}" if exc else "the connection was closed"
        self.drop(ReplyLost(why))

    # -- what the parser tells

    def on_message_begin(self) -> None:
        """A second reply to one request: none of what comes now can be trusted."""
        if self._over:
            self.drop()

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers if self._reply is None else self._reply.trailers
        headers.append((name.lower(), value))
        self._head_size += len(name) + len(value)
        if self._head_size > self._limits.head_bytes:
            self.drop(ReplyLost(f"the reply's head is over {self._limits.head_bytes} bytes"))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._asker is None or self._lost:
            return
        try:
            self._ends_with_connection = not _framed(self._headers, self._limits.reply_bytes)
        except ReplyLost as fault:
            return self.drop(fault)
        self._reply = Reply(status, self._headers, self._read_on)
        self._head_size = 0
        if self._bodiless:
            self._keep = self._parser.should_keep_alive()
            self._parser = httptools.HttpResponseParser(self)  # this one would wait for the body
            self._finish()
        self._asker.replied(self._reply)

    def on_body(self, part: bytes) -> None:
        if self._reply is None or self._over or self._lost:
            return self.drop()
        self._size += len(part)
        if self._size > self._limits.reply_bytes:
            return self.drop(_too_large(self._limits.reply_bytes))
        self._reply.feed(part)

    def on_message_complete(self) -> None:
        """The reply is whole; interim ones (1xx) end here too."""
        if self._over or self._lost:
            return
        if self._reply is None:
            if self._parser.get_status_code() == 100 and self._asker is not None:
                self._asker.continued()
            return self._begin_message()
        self._keep = self._parser.should_keep_alive()
        self._finish()

    def _begin_message(self) -> None:
        self._headers: Headers = []
        self._head_size = 0
        self._ends_with_connection = False

    def _finish(self) -> None:
        self._over = True
        if self._reply is not None:
            self._reply.end()

    def _lose(self, fault: ReplyLost) -> None:
        asker, self._asker = self._asker, None
        if self._reply is not None:
            self._reply.fail(fault)
        if asker is not None and not self._over:
            asker.lost(fault, untouched=self._received == 0)

    def _read_on(self) -> None:
        if self._paused and not self._lost:
            self._paused = False
            self._transport.resume_reading()

    def _wake_writer(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)


def _framed(headers: Headers, most: int) -> bool:
    """Whether the end of the body can be told without the end of the connection. Raises ReplyLost."""
    framed = False
    for name, value in headers:
        if name == b"transfer-encoding":
            if framed or value.strip().lower() != b"chunked":
                raise ReplyLost("the reply has a transfer coding other than chunked")
            framed = True
        elif name == b"content-length":
            if int(value) > most:
                raise _too_large(most)
            framed = True
    return framed


def _too_large(most: int) -> ReplyLost:
    return ReplyLost(f"the reply is larger than {most} bytes")
