"""What an upstream answered: a head, and a body that is read while it arrives. No sockets.

Encodings are left as they are: bytes pass through.
"""

import asyncio
from collections.abc import Callable, Iterable

from guardian.errors import ReplyLost

Headers = list[tuple[bytes, bytes]]


class Reply:
    """One reply. headers: names in lower case, order and repetitions kept; trailers: complete once
    `read` has given None.

    One reader; what it does not read is held back at the upstream.
    """

    __slots__ = (
        "_ended", "_fault", "_held", "_more", "_parts", "_waiting", "headers", "status", "trailers"
    )  # fmt: skip

    def __init__(self, status: int, headers: Headers, more: Callable[[], None] | None = None) -> None:
        """more: called when a reader has made room."""
        self.status = status
        self.headers = headers
        self.trailers: Headers = []
        self._parts: list[bytes] = []
        self._held = 0
        self._ended = False
        self._fault: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._more = more

    @property
    def whole(self) -> bool:
        """Everything is here: the next `read` gives the rest."""
        return self._ended and self._fault is None

    @property
    def chunked(self) -> bool:
        """Its length is not known beforehand, and trailers may follow."""
        return (b"transfer-encoding", b"chunked") in self.headers

    @property
    def held(self) -> int:
        """Bytes that wait for their reader."""
        return self._held

    async def read(self, idle_s: float | None = None) -> bytes | None:
        """What has arrived, at least one byte; None at the end. Raises what `fail` was given, and
        ReplyLost when nothing came for `idle_s`."""
        while not self._parts:
            if self._fault is not None:
                raise self._fault
            if self._ended:
                return None
            await self._arrival(idle_s)
        return self.take()

    async def gathered(self, most: int, idle_s: float | None = None) -> bool:
        """Wait until all of it is here; False once it is longer than `most`. Nothing is taken; `most`
        is no more than a connection holds. Raises as `read` does."""
        while not self._ended and self._held <= most:
            if self._fault is not None:
                raise self._fault
            await self._arrival(idle_s)
        return self._ended and self._held <= most

    def take(self) -> bytes:
        """What has arrived so far, possibly nothing."""
        parts, self._parts, self._held = self._parts, [], 0
        if self._more is not None:
            self._more()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _arrival(self, idle_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer = loop.call_later(idle_s, self._tire, idle_s) if idle_s is not None else None
        try:
            await self._waiting
        finally:
            self._waiting = None
            if timer is not None:
                timer.cancel()

    def _tire(self, idle_s: float) -> None:
        self.fail(ReplyLost(f"nothing came for {idle_s:g} s", timed_out=True))

    # -- what the connection tells

    def feed(self, part: bytes) -> None:
        """More of the body."""
        self._parts.append(part)
        self._held += len(part)
        self._wake()

    def end(self) -> None:
        """The body is whole."""
        self._ended = True
        self._wake()

    def fail(self, fault: Exception) -> None:
        """The body will never be whole; what has arrived can still be read."""
        if not self._ended and self._fault is None:
            self._fault = fault
            self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def whole_reply(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Reply:
    """A reply that no upstream gave; its length is written from its body."""
    kept = [(name, value) for name, value in headers if name != b"content-length"]
    reply = Reply(status, [*kept, (b"content-length", b"%d" % len(body))])
    if body:
        reply.feed(body)
    reply.end()
    return reply
