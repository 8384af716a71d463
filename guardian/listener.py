"""What uvicorn's HTTP server lacks for a proxy: trailers after an answer, an answer's own Date, answers that
leave in one piece, and bounds to what one connection, or all of them together, may take.

Nothing here knows what is proxied.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from guardian.edge.agent_plane import LET_GO, TRAILERS
from guardian.edge.http import LINE, Headers
from guardian.facilitator.connections import HEADER_LINE

MAX_CONNECTIONS = 10_000
KEEP_ALIVE_S = 75
"""Longer than the clients' own pools keep a connection, so that it is not us who closes one in use."""

MAX_HEAD_BYTES = 512 * 1024
"""Payments of some 20 kB may travel in a header; the parser has no limit of its own, so one caller
could fill the memory."""

MAX_TARGET_BYTES = 32 * 1024
"""Path and query; decoding half a megabyte of percent signs would hold everybody for a tenth of a second."""

MAX_HEADERS = 256
"""Browsers send some 30, a chain of proxies adds a dozen."""

MAX_PIPELINED = 16
"""Requests that may wait behind the one that is being answered; a kilobyte holds fifty small ones."""

MAX_HELD_BYTES = 256 * 1024 * 1024
"""Heads and bodies of everything that is being answered: 10,000 callers with 25 kB each."""

HEAD_TIMEOUT_S = 15.0
"""From the first byte of a head to its last one: three lost packets in a row still fit in."""

WRITE_TIMEOUT_S = 60.0
"""A caller that takes no more bytes for so long has gone, whatever its system says."""

HUNG_UP = getattr(select, "POLLRDHUP", 0)
"""The caller sends no more, though it may have sent what nobody has read. Not every system tells it apart;
an error or a reset is told unasked."""


class Joining:
    """Where one answer is written: its head waits for the body until this turn of the loop ends, because
    the server writes them apart, and each write is a system call and a segment of its own."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None
        self._begun = False
        self._broken = False

    @property
    def stands(self) -> bool:
        """The connection has been open at each write, and is while something has yet to be written."""
        unwritten = self._held is not None or not self._begun
        return not (self._broken or (unwritten and self._transport.is_closing()))

    def write(self, data: bytes) -> None:
        """Hold the first part, pass on whatever comes later, with what is held in front of it."""
        if not self._begun:
            self._begun, self._held = True, data
            self._loop.call_soon(self._flush)
        elif self._held is not None:
            held, self._held = self._held, None
            self._pass_on(held + data)
        else:
            self._pass_on(data)

    def write_whole(self, data: bytes) -> None:
        """Write all of an answer, of which nothing has been written yet: only «100 Continue» may be held."""
        held, self._held = self._held or b"", None
        self._begun = True
        self._pass_on(held + data)

    def hung_up(self) -> bool:
        """The caller has closed the connection, where the loop cannot know it: nothing is read from it while
        another request waits behind this one, or after a body that came in large pieces."""
        if self._transport.is_closing():
            return True
        line = select.poll()
        line.register(self._transport.get_extra_info("socket").fileno(), HUNG_UP)
        return bool(line.poll(0))

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
            self._pass_on(held)

    def _pass_on(self, data: bytes) -> None:
        if not self._transport.is_closing():  # uvloop's raises when it is closed
            self._transport.write(data)
        self._broken = self._broken or self._transport.is_closing()


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
    _lost: Callable[[], None] | None = None

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
        if self.response_complete:
            self._leave()

    def stands(self) -> bool:
        """The connection was open at each write of the answer, and is until all of it is written."""
        line = cast(Joining, self.transport)
        unread = self.flow.read_paused and not (self.response_started or self.disconnected)
        if unread and line.hung_up():
            self.disconnected = True
            line.close()  # nobody else would
        return not self.disconnected and line.stands

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Call `tell` once the connection is lost, unless it has been answered by then."""
        self._lost = tell

    def lose(self) -> None:
        """The connection is lost."""
        if self._lost is not None:
            self._lost()

    def write(self, status: int, headers: Headers, body: bytes) -> bool:
        """A whole answer in one piece; False where only `send` can. A header that HTTP forbids is left
        out: an answer about money is not lost for its sake."""
        if self.response_started or self.disconnected or self.flow.write_paused:
            return False
        lines = [b"%b: %b\r\n" % line for line in (*self.default_headers, *headers)]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        whole = (
            STATUS_LINE[status],
            *filter(HEADER_LINE.fullmatch, lines),
            b"content-length: %d\r\n\r\n" % len(body),
            body,
        )
        self.response_started = self.response_complete = True
        cast(Joining, self.transport).write_whole(b"".join(whole))
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self._leave()
        self.on_response()
        return True

    def _leave(self) -> None:
        """Out of what leads back to here: only the collector would take it away."""
        self.scope["extensions"], self._lost = {}, None

    async def _end_with(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """The last chunk; uvicorn itself then ends an answer without any more bytes."""
        if self.chunked_encoding and self.scope["method"] != "HEAD" and not self.disconnected:
            lines = b"".join(b"%b: %b\r\n" % line for line in trailers)
            self.transport.write(b"0\r\n" + lines + b"\r\n")
            self.chunked_encoding, self.expected_content_length = False, 0
        await super().send({"type": "http.response.body", "body": b"", "more_body": False})


class ListenerConfig(uvicorn.Config):
    """What the connections of one listener share. held_bytes: of requests that are being answered."""

    max_connections = MAX_CONNECTIONS
    held_bytes = 0


class Bounded(ProxyProtocol):
    """One connection that cannot hold more memory, or hold it for longer, than a sound one needs.

    What is refused here reached nobody. While a request is being answered nothing else is written: a
    caller would read it as the answer to its payment. Each request's scope has the extension LET_GO: who
    passes a body on as it comes tells with it what is held no longer.
    """

    config: ListenerConfig
    _in_head = True
    _unmoved = 0
    """Bytes since the parser last got on: of a head, of a trailer, of what no request begins with."""
    _held = 0
    _in_body = False
    """Of the bytes that are being parsed, all belong to a request that had begun before."""
    _body = 0
    """How many of them are its body, and held for whoever answers it."""
    _late: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _silent = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller; it may be one too many."""
        super().connection_made(transport)
        if len(self.connections) > self.config.max_connections:
            return self._turn_away(b"503 Service Unavailable", b"Too many connections.")
        self._expect_head(KEEP_ALIVE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        super().connection_lost(exc)
        if isinstance(self.cycle, ProxyCycle):
            self.cycle.lose()
        self._release()
        self._cancel_late()
        if self._stalled is not None:
            self._stalled.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse, then look at what that leaves unfinished."""
        if self._silent:
            self._silent = False
            self._cancel_late()
        self._held += len(data)
        self.config.held_bytes += len(data)
        self._in_body, self._body = not self._in_head, 0
        super().data_received(data)
        if self._in_body:
            self._let_go(len(data) - self._body)  # the sizes of chunks, and what nobody waits for
        if self.transport.is_closing():
            return
        self._unmoved += len(data)
        if self._unmoved > MAX_HEAD_BYTES:
            self._turn_away(b"431 Request Header Fields Too Large", b"The request's head is too large.")
        elif self.config.held_bytes > MAX_HELD_BYTES:
            self._turn_away(b"503 Service Unavailable", b"Too much at once; send this again later.")
        elif self._late is None and (self._in_head or not self._answering):
            self._expect_head(HEAD_TIMEOUT_S)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # -- what the parser tells

    def on_url(self, url: bytes) -> None:
        """The request's target, or a part of it."""
        if len(self.url) + len(url) > MAX_TARGET_BYTES:
            raise ValueError("too long a target")
        super().on_url(url)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head, self._in_body, self._unmoved = True, False, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. One that comes after the body is dropped: a proxy in front did not look at it."""
        if not self._in_head:
            return
        if len(self.headers) >= MAX_HEADERS:
            raise ValueError("too many headers")  # the parser gives up, and the caller hears 400
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The body begins."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests at once")
        self._in_head = False
        self._cancel_late()
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            joining = Joining(self.transport, self.loop)
            self.cycle.transport = cast(asyncio.Transport, joining)
            self.scope["extensions"][LINE] = self.cycle  # type: ignore[assignment]
            self.scope["extensions"][LET_GO] = self._let_go  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._unmoved = 0
        if self._answering:
            self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._unmoved = 0
        super().on_message_complete()

    # -- what the server tells

    def on_response_complete(self) -> None:
        """An answer is written."""
        self._release()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The caller takes no more bytes."""
        super().pause_writing()
        self._stalled = self.loop.call_later(WRITE_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It takes them again."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._turn_away(b"400 Bad Request", msg.encode("ascii"))

    def _turn_away(self, status: bytes, text: bytes) -> None:
        """Say why, if what is written now is read as the answer to what is wrong; then close."""
        cycle = self.cycle
        if self._answering and (self.pipeline or not cycle.more_body or cycle.response_started):
            return self.transport.close()
        length = b"content-length: %d" % len(text)
        head = (b"HTTP/1.1 " + status, b"content-type: text/plain", length, b"connection: close", b"", text)
        self.transport.write(b"\r\n".join(head))
        self.transport.close()

    def _expect_head(self, limit_s: float) -> None:
        self._late = self.loop.call_later(limit_s, self._head_is_late)

    def _head_is_late(self) -> None:
        self._late = None
        if self._answering:  # it is the guardian that takes its time
            return self._expect_head(HEAD_TIMEOUT_S)
        if self._in_head and not self._silent:
            return self._turn_away(b"408 Request Timeout", b"The request's head took too long.")
        self.transport.close()

    def _cancel_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _let_go(self, size: int) -> None:
        """So many bytes are held no longer; what was released with its connection is not counted twice."""
        size = min(size, self._held)
        self._held -= size
        self.config.held_bytes -= size

    def _release(self) -> None:
        self._let_go(self._held)
