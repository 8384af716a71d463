"""One upstream over HTTP/1.1: kept connections, and exchanges that stream both ways.

No redirects, no proxies, no cookies, no decoding. `NotSent` proves that the upstream received nothing;
`ReplyLost` is everything else. Only a request that may be repeated, has no body, and went over a kept
connection that broke before the first byte of a reply, is written a second time, over a new one.
"""

import asyncio
import functools
import ssl
from typing import Any

import certifi

from guardian.errors import NotSent, ReplyLost
from guardian.upstream.connection import Connection
from guardian.upstream.limits import Limits
from guardian.upstream.place import Place
from guardian.upstream.reply import Reply


class Upstream:
    """One origin; its connections are opened as they are needed."""

    def __init__(self, place: Place, limits: Limits | None = None) -> None:
        self.place = place
        self.limits = limits or Limits()
        self._places = asyncio.Semaphore(self.limits.connections)
        self._kept: list[Connection] = []
        self._open: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def begin(
        self,
        head: bytes,
        *,
        has_body: bool = False,
        bodiless: bool = False,
        repeatable: bool = False,
        fresh: bool = False,
        head_s: float | None = None,
    ) -> "Exchange":
        """Write the head of a request, up to and with its empty line. Raises NotSent.

        bodiless: the reply has no body (HEAD); repeatable: writing it twice does no harm; fresh: over a
        new connection, so that none is used that the upstream is about to close; head_s: in place of the
        limit's.
        """
        await self._wait_for_place()
        try:
            kept = None if fresh else self._taken()
            connection = kept or await self._opened()
        except BaseException:
            self._places.release()
            raise
        exchange = Exchange(self, head, connection, has_body, bodiless, head_s or self.limits.head_s)
        exchange.start(again=repeatable and not has_body and kept is not None)
        return exchange

    async def aclose(self) -> None:
        """Close all; what is under way fails."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._kept.clear()
        for connection in list(self._open):
            connection.drop(ReplyLost("the connection was closed by us"))

    async def _wait_for_place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout(self.limits.place_s):
                await self._places.acquire()
        except TimeoutError as exc:
            raise NotSent("every connection to the upstream is in use") from exc

    def _taken(self) -> Connection | None:
        """The kept connection that was used last, so that the others may become too old."""
        now = asyncio.get_running_loop().time()
        while self._kept:
            connection = self._kept.pop()
            if connection.usable and now - connection.used_at < self.limits.kept_s:
                return connection
            connection.drop()
        return None

    async def _opened(self) -> Connection:
        """A new connection. Whatever fails here, nothing was sent."""
        loop, place = asyncio.get_running_loop(), self.place
        tls: dict[str, Any] = {"ssl": _tls(), "server_hostname": place.host} if place.secure else {}
        try:
            async with asyncio.timeout(self.limits.connect_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(self.limits, self._open.discard), place.host, place.port, **tls
                )
        except TimeoutError as exc:
            raise NotSent(f"no connection within {self.limits.connect_s:g} s") from exc
        except (OSError, ValueError) as exc:  # ValueError: a name that nobody can look up
            raise NotSent(f"no connection: {type(exc).__name__}") from exc
        self._open.add(connection)
        return connection

    def _give_back(self, connection: Connection, *, sent: bool) -> None:
        self._places.release()
        if not connection.release(sent=sent):
            return
        self._kept.append(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self.limits.kept_s, self._sweep)

    def _sweep(self) -> None:
        """Close what was not used for too long: the upstream might be closing it just then."""
        loop = asyncio.get_running_loop()
        youngest = loop.time() - self.limits.kept_s
        for connection in self._kept:
            if connection.used_at <= youngest:
                connection.drop()
        self._kept = [connection for connection in self._kept if connection.usable]
        again = loop.call_later(self.limits.kept_s, self._sweep) if self._kept else None
        self._sweeper = again


class Exchange:
    """One request and its reply. Write the body if there is one, `end` it, read the reply, `close`."""

    def __init__(
        self,
        upstream: Upstream,
        head: bytes,
        connection: Connection,
        has_body: bool,
        bodiless: bool,
        head_s: float,
    ) -> None:
        self._upstream = upstream
        self._limits = upstream.limits
        self._head = head
        self._connection = connection
        self._sent = not has_body
        self._bodiless = bodiless
        self._head_s = head_s
        self._closed = False
        self._again = False
        self._fault: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        loop = asyncio.get_running_loop()
        self._replied: asyncio.Future[Reply | None] = loop.create_future()
        self._continued: asyncio.Future[None] | None = None

    def start(self, *, again: bool) -> None:
        """Write the head. again: it may be written once more should the connection turn out stale."""
        self._again = again
        if self._sent:
            self._await_head()
        self._connection.begin(self, self._head, bodiless=self._bodiless)

    async def reply(self) -> Reply:
        """The head of the reply, with its body arriving. Raises ReplyLost, NotSent, or what `fail` got."""
        reply = await self._replied
        if reply is None:  # the kept connection was stale
            self._replied = asyncio.get_running_loop().create_future()
            try:
                self._connection = await self._upstream._opened()
            except NotSent as exc:  # the first writing proves no such thing
                raise ReplyLost(str(exc)) from exc
            self._await_head()
            self._connection.begin(self, self._head, bodiless=self._bodiless)
            reply = await self._replied
        assert reply is not None  # `again` is used up
        return reply

    async def write(self, part: bytes) -> bool:
        """Some of the body, as it goes on the wire; False when the upstream takes no more."""
        if self._closed or self._connection.whole or self._fault is not None:
            return False
        self._connection.write(part)
        if self._connection.full:
            try:
                async with asyncio.timeout(self._limits.idle_s):
                    await self._connection.writable()
            except TimeoutError:
                self.fail(ReplyLost("the upstream does not take the body", timed_out=True))
        return self._fault is None

    def end(self, last: bytes = b"") -> None:
        """The body is whole."""
        if last:
            self._connection.write(last)
        self._sent = True
        if not self._replied.done():
            self._await_head()

    async def wanted(self, limit_s: float) -> bool:
        """After `Expect: 100-continue`: wait until the upstream asks for the body; False when it replied
        without it. Without either for `limit_s` the body is wanted."""
        if self._replied.done():
            return False
        self._continued = asyncio.get_running_loop().create_future()
        await asyncio.wait(
            (self._continued, self._replied), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
        )
        return not self._replied.done()

    def fail(self, fault: Exception) -> None:
        """Give up: who waits for the reply, or reads it, gets `fault`."""
        if self._fault is None:
            self._fault = fault
            if self._replied.done():
                if (reply := self._head_of()) is not None:
                    reply.fail(fault)
            else:
                self._replied.set_exception(fault)
            self._connection.drop()

    def close(self) -> None:
        """Give the connection back, or drop it where either body is not whole. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._stop_timer()
        if not self._replied.done():
            self._replied.cancel()
        elif not self._replied.cancelled():
            self._replied.exception()  # seen, whether or not anybody waited
        self._upstream._give_back(self._connection, sent=self._sent)

    def _head_of(self) -> Reply | None:
        if self._replied.cancelled() or self._replied.exception() is not None:
            return None
        return self._replied.result()

    def _await_head(self) -> None:
        self._stop_timer()
        loop = asyncio.get_running_loop()
        fault = ReplyLost(f"no reply within {self._head_s:g} s", timed_out=True)
        self._timer = loop.call_later(self._head_s, self.fail, fault)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- what the connection tells

    def continued(self) -> None:
        """The upstream wants the body."""
        if self._continued is not None and not self._continued.done():
            self._continued.set_result(None)

    def replied(self, reply: Reply) -> None:
        """The head is here."""
        self._stop_timer()
        if not self._replied.done():
            self._replied.set_result(reply)

    def lost(self, fault: ReplyLost, *, untouched: bool) -> None:
        """The connection broke before the reply was whole."""
        if self._replied.done():
            return
        if self._again and untouched and self._fault is None:
            self._again = False
            self._replied.set_result(None)
        else:
            self._replied.set_exception(fault)


class Upstreams:
    """Every upstream that is in use, one for each origin."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits
        self._by_origin: dict[bytes, Upstream] = {}

    def at(self, place: Place) -> Upstream:
        """The one at this place's origin, shared by all that lies there."""
        found = self._by_origin.get(place.origin)
        if found is None:
            found = self._by_origin[place.origin] = Upstream(place, self._limits)
        return found

    async def aclose(self) -> None:
        """Close all connections."""
        for upstream in self._by_origin.values():
            await upstream.aclose()
        self._by_origin.clear()


@functools.cache
def _tls() -> ssl.SSLContext:
    """Certificates are always verified, with what the system trusts and what Mozilla does."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context
