"""A caller of the agent plane: its request body on the way up, and whether it is still there.

No decisions. The body goes on while it arrives, no faster than the upstream takes it.
"""

import asyncio
from collections.abc import Callable

from starlette.types import Receive

from guardian.edge.http import LISTEN_AFTER_S
from guardian.errors import GuardianError
from guardian.upstream.client import Exchange

CONTINUE_AFTER_S = 1.0
"""A caller that waits for 100 may send its body after this, should the upstream say nothing (RFC 9110
§10.1.1: not every server knows the expectation)."""


class CallerLeft(GuardianError):
    """The caller closed the connection; nobody hears an answer."""


class CallerStalled(GuardianError):
    """The caller announced a body and does not send it."""


class BodyTooLarge(GuardianError):
    """The caller's body is over the limit."""


class Caller:
    """One caller, for one request. Close it when its answer is written."""

    def __init__(
        self, receive: Receive, *, idle_s: float, most: int, keep: int, let_go: Callable[[int], None]
    ) -> None:
        """idle_s: between two pieces of the body; most: its limit; keep: of it, this much is kept; let_go:
        told how many bytes of the body are no longer held here."""
        self.gone = False
        self.sent = 0
        self._let_go = let_go
        self._passing = 0
        self._receive = receive
        self._idle_s = idle_s
        self._most = most
        self._keep: list[bytes] | None = []
        self._keep_bytes = keep
        self._sends_up = False
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def kept(self) -> bytes | None:
        """The whole body; None where it is longer than what is kept, or does not come."""
        if self._sends_up:  # the upstream may have replied before the body was whole
            await self._ended.wait()
        return None if self._keep is None else b"".join(self._keep)

    def listen(self, left: Callable[[], None]) -> None:
        """Call `left` when the caller leaves. Most answers are there before anybody has to look."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LISTEN_AFTER_S, lambda: self._spawn(self._notice_leaving(left)))

    def send_up(self, exchange: Exchange, *, chunked: bool, expects: bool) -> None:
        """Pass the body on, then listen; what goes wrong fails the exchange."""
        self._sends_up = True
        self._spawn(self._send_up(exchange, chunked, expects))

    async def read_whole(self) -> bytes:
        """The body, no longer than what is kept. Raises CallerLeft, CallerStalled, BodyTooLarge."""
        more = True
        while more:
            _, more = await self._piece()
            if self._keep is None:
                raise BodyTooLarge
        return b"".join(self._keep or ())

    def close(self) -> None:
        """Stop reading and listening."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        self._task = asyncio.get_running_loop().create_task(work)

    async def _send_up(self, exchange: Exchange, chunked: bool, expects: bool) -> None:
        try:
            if expects and not await exchange.wanted(CONTINUE_AFTER_S):
                self._keep = None  # nor is it asked for: the caller has its answer
                return
            await self._pass_on(exchange, chunked)
        except (CallerLeft, CallerStalled, BodyTooLarge) as fault:
            self._keep = None
            return exchange.fail(fault)  # an end made here would look whole to the upstream
        finally:
            self._ended.set()
        await self._notice_leaving(lambda: exchange.fail(CallerLeft()))

    async def _pass_on(self, exchange: Exchange, chunked: bool) -> None:
        """All of the body; what the upstream takes no more of is read on as long as it is to be kept."""
        more = taken = True
        while more and (taken or self._keep is not None):
            part, more = await self._piece()
            if part and taken:
                taken = await exchange.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            self._let_go(self._passing)  # not before the upstream has taken it: until then it is held here
            self._passing = 0
        if taken:
            exchange.end(b"0\r\n\r\n" if chunked else b"")

    async def _piece(self) -> tuple[bytes, bool]:
        """The next piece of the body, and whether more follows."""
        try:
            async with asyncio.timeout(self._idle_s):
                message = await self._receive()
        except TimeoutError as exc:
            raise CallerStalled from exc
        if message["type"] != "http.request":
            self.gone = True
            raise CallerLeft
        part: bytes = message.get("body", b"")
        self.sent += len(part)
        if self.sent > self._most:
            raise BodyTooLarge
        self._keep_part(part)
        return part, bool(message.get("more_body"))

    def _keep_part(self, part: bytes) -> None:
        if self._keep is None:
            self._passing += len(part)
        elif self.sent > self._keep_bytes:
            self._keep = None
            self._passing += self.sent
        else:
            self._keep.append(part)

    async def _notice_leaving(self, left: Callable[[], None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        left()
