"""The agent plane: `/<route>/…` goes to the route's upstream and its answer comes back, both as they are.

Pure ASGI. Bodies stream both ways, no faster than the slower side; nothing is decoded, followed or made up.
Only what the policy names can be reached. Requests that pay, and 402s, go through the `PaidFlow`.
"""

import asyncio
from collections.abc import Mapping

from starlette.types import Receive, Scope, Send

from guardian.edge.caller import BodyTooLarge, Caller, CallerLeft, CallerStalled
from guardian.edge.callers import Door, Refusal
from guardian.edge.forwarding import Request, Route, RunsInACircle, answer_headers, request_of, trailers_of
from guardian.edge.http import line_of
from guardian.edge.problem import write_problem
from guardian.errors import NotSent, ReplyLost
from guardian.flow.paid import PaidFlow, RawHeaders
from guardian.flow.parts import Generation, Parts, log
from guardian.upstream.client import Exchange, Upstream, Upstreams
from guardian.upstream.limits import HELD_BYTES, MIB
from guardian.upstream.place import BadPath, Place, as_sent
from guardian.upstream.reply import Reply

MAX_PAID_BODY_BYTES = 8 * MIB
"""A request that pays is kept whole until it is delivered."""

MAX_DEMAND_BYTES = HELD_BYTES
"""A 402 with a longer body is handed to the flow unread."""

REPEATABLE = ("GET", "HEAD", "OPTIONS")
"""Safe methods (RFC 9110 §9.2.1) may go again over a new connection when a kept one was stale."""

TRAILERS = "http.response.trailers"
"""ASGI's extension; see https://asgi.readthedocs.io/en/latest/extensions.html."""

LET_GO = "guardian.let_go"
"""Scope extension of our own server, a callable: so many bytes of the request's body are held no longer."""

CALLER = "guardian.caller"
"""Scope key of the name that a caller has shown at the door."""

CLOSE = (b"connection", b"close")


class AgentPlane:
    """ASGI application for the routes of the policy in force."""

    def __init__(self, parts: Parts, upstreams: Upstreams, door: Door, paid: PaidFlow | None = None) -> None:
        """door: the one of the whole data port."""
        self._parts = parts
        self._upstreams = upstreams
        self._door = door
        self._paid = paid
        self._routes: tuple[Generation | None, Mapping[str, Route]] = (None, {})

    def leads(self, scope: Scope) -> bool:
        """Whether the path begins with the name of a route."""
        return first_part(scope) in self._known(self._parts.generation)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._parts.generation as generation:
            callers = generation.policy.callers
            if not callers.active:
                return await self._serve(generation, scope, receive, send)
            with self._door.enter(callers, scope) as entry:
                if entry.refusal is not None:
                    return await _turn_away(send, entry.refusal)
                # Without the key, which is for us alone; who showed it tells one buyer from another.
                scope = {**scope, "headers": entry.headers, CALLER: entry.caller}
                await self._serve(generation, scope, receive, send)

    async def _serve(self, generation: Generation, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._known(generation).get(first_part(scope))
        if route is None:
            detail = "The path begins with the name of no route."
            await write_problem(send, 404, "no-such-route", "No such route", detail)
        elif (refused := _refusal(scope)) is not None:
            await write_problem(send, *refused, headers=(CLOSE,))
        else:
            await self._forward(generation, route, scope, receive, send)

    def _known(self, generation: Generation) -> Mapping[str, Route]:
        of, routes = self._routes
        if of is not generation:
            named = ((one.name, Place.of(one.upstream)) for one in generation.policy.routes)
            routes = {name: Route(name, place) for name, place in named}
            self._routes = (generation, routes)
        return routes

    async def _forward(
        self, generation: Generation, route: Route, scope: Scope, receive: Receive, send: Send
    ) -> None:
        upstream = self._upstreams.at(route.place)
        visit = Visit(generation, route, upstream, self._paid, scope, receive, send)
        try:
            await visit.serve()
        except CallerLeft:
            pass
        except BadPath as fault:
            await visit.refuse(400, "bad-path", "The path cannot be passed on", f"{fault}.")
        except RunsInACircle as fault:
            await visit.refuse(508, "loop", "The route leads back to here", f"{fault}.")
        except BodyTooLarge:
            await visit.refuse(413, "body-too-large", "The body is too large", "It is over the limit.")
        except CallerStalled:
            await visit.refuse(408, "body-stalled", "The body does not come", "No more of it came.")
        except NotSent as fault:
            await visit.unreached(fault)
        except ReplyLost as fault:
            await visit.lost(fault)
        finally:
            visit.close()


class Visit:
    """One request to a route, from its head to the end of its answer."""

    def __init__(
        self,
        generation: Generation,
        route: Route,
        upstream: Upstream,
        paid: PaidFlow | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self.generation = generation
        self.body = b""
        self.demand: Reply | None = None
        self._route = route
        self._upstream = upstream
        self._paid = paid
        self._scope = scope
        self._send = send
        self._line = line_of(scope)
        self._started = False
        self._exchange: Exchange | None = None
        self._total: asyncio.TimerHandle | None = None
        limits = upstream.limits
        self._caller = Caller(
            receive,
            idle_s=limits.idle_s,
            most=limits.request_bytes,
            keep=MAX_PAID_BODY_BYTES if paid else 0,
            let_go=scope.get("extensions", {}).get(LET_GO, _nobody_counts),
        )
        self._request: Request

    async def serve(self) -> None:
        """Pass the request on and its answer back, or leave both to the flow."""
        rest = _path(self._scope)[len(self._route.prefix) :]
        target = self._route.place.target(rest, self._scope.get("query_string", b""))
        self._request = request_of(self._scope, self._route, target)
        paid = self._paid
        if paid is not None and self._request.pays:
            if self._request.has_body:
                self.body = await self._caller.read_whole()
            self._caller.listen(lambda: None)
            return await paid.handle(self)
        reply = await self._pass_on()
        if reply.status == 402 and paid is not None and await self._can_work_with(reply):
            return await paid.handle(self)
        await self.answer(reply)

    async def _pass_on(self) -> Reply:
        """Send the request up as it arrives; the head of the reply."""
        request = self._request
        self._exchange = exchange = await self._upstream.begin(
            request.head(self._route.place),
            has_body=request.has_body,
            bodiless=request.method == "HEAD",
            repeatable=request.method in REPEATABLE and not request.pays,
            fresh=request.pays,
        )
        self._limit_total(exchange)
        if request.has_body:
            self._caller.send_up(exchange, chunked=request.chunked, expects=request.expects)
        else:
            self._caller.listen(lambda: exchange.fail(CallerLeft()))
        return await exchange.reply()

    async def _can_work_with(self, reply: Reply) -> bool:
        """Whether the flow can work with this 402: not where the request is too long to be kept, and so to
        be paid for. Its body is here to the end, or longer than anybody reads."""
        await reply.gathered(MAX_DEMAND_BYTES, self._upstream.limits.idle_s)
        if (body := await self._caller.kept()) is None:
            return False
        self.demand, self.body = reply, body
        return True

    # -- what a PaidFlow works with

    @property
    def route(self) -> str:
        """The route's name."""
        return self._route.name

    @property
    def caller(self) -> str:
        """The caller's name, where it has shown one."""
        return str(self._scope.get(CALLER, ""))

    @property
    def method(self) -> str:
        """The request's method."""
        return self._request.method

    @property
    def url(self) -> str:
        """What is asked of the upstream, absolute."""
        return (self._route.place.origin + self._request.target).decode("ascii")

    @property
    def headers(self) -> RawHeaders:
        """The caller's headers that are passed on."""
        return self._request.headers

    @property
    def gone(self) -> bool:
        """The caller has closed the connection."""
        return self._caller.gone or (self._line is not None and not self._line.stands())

    async def ask(self, headers: RawHeaders | None = None, *, head_s: float | None = None) -> Reply:
        """Present the whole request once. Raises NotSent or ReplyLost."""
        self._leave()
        head = self._request.head(
            self._route.place, None if headers is None else list(headers), length=len(self.body)
        )
        self._exchange = exchange = await self._upstream.begin(
            head + self.body, bodiless=self.method == "HEAD", fresh=True, head_s=head_s
        )
        self._limit_total(exchange)
        return await exchange.reply()

    async def answer(self, reply: Reply) -> bool:
        """Pass a reply on while it arrives; True when all of it was written to an open connection."""
        if self.gone:  # nothing may be read from it any more, so the server would not know
            return False
        trailing = TRAILERS in self._scope.get("extensions", {}) and reply.chunked
        headers = answer_headers(reply, self._route, trailing=trailing)
        if self._request.expects and not self._caller.sent:
            headers.append(CLOSE)  # whether the body still comes is the caller's choice
        self._started = True
        start = {"type": "http.response.start", "status": reply.status, "headers": headers}
        await self._send({**start, "trailers": True} if trailing else start)
        if not await self._pass_down(reply):
            return False
        if trailing:
            await self._send({"type": TRAILERS, "headers": trailers_of(reply), "more_trailers": False})
        return not self.gone

    async def _pass_down(self, reply: Reply) -> bool:
        """The body, no faster than the caller takes it; False when it takes no more."""
        idle_s = self._upstream.limits.idle_s
        while not reply.whole:
            part = await reply.read(idle_s)
            if part is None:
                break
            if self._caller.gone:
                return False
            try:
                async with asyncio.timeout(idle_s):
                    await self._send({"type": "http.response.body", "body": part, "more_body": True})
            except TimeoutError:
                return False
        await self._send({"type": "http.response.body", "body": reply.take(), "more_body": False})
        return True

    # -- what the plane says itself

    async def refuse(self, status: int, kind: str, title: str, detail: str, **more: object) -> None:
        """A problem of the guardian's own, unless an answer has begun: that one is left unfinished, which
        the server shows by closing the connection."""
        if self._started or self._caller.gone:
            return
        self._started = True
        method = self._scope["method"]
        closing = () if method in REPEATABLE else (CLOSE,)  # a body may be left that nobody reads
        await write_problem(
            self._send, status, kind, title, detail, head=method == "HEAD", headers=closing, **more
        )

    async def unreached(self, fault: NotSent) -> None:
        """Nothing of the request reached the upstream."""
        self._note(fault)
        detail = f"Nothing was sent to the upstream of route {self.route}; it is safe to ask again."
        title = "The upstream cannot be reached"
        await self.refuse(502, "upstream-not-reached", title, detail, route=self.route, sent=False)

    async def lost(self, fault: ReplyLost) -> None:
        """The upstream may have worked, and its reply did not come whole."""
        self._note(fault)
        status, what = (504, "in time") if fault.timed_out else (502, "that could be read")
        detail = f"The upstream of route {self.route} may have done what was asked; no reply came {what}."
        title = "The upstream's reply was lost"
        await self.refuse(status, "upstream-reply-lost", title, detail, route=self.route, sent=True)

    def close(self) -> None:
        """Let go of the caller and the upstream."""
        self._caller.close()
        self._leave()

    def _leave(self) -> None:
        if self._total is not None:
            self._total.cancel()
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None

    def _limit_total(self, exchange: Exchange) -> None:
        limit_s = self._upstream.limits.total_s
        fault = ReplyLost(f"it took more than {limit_s:g} s", timed_out=True)
        self._total = asyncio.get_running_loop().call_later(limit_s, exchange.fail, fault)

    def _note(self, fault: Exception) -> None:
        what = "a passed-on reply broke off" if self._started else "an upstream did not answer"
        log.warning(what, extra={"route": self.route, "why": str(fault)})


async def _turn_away(send: Send, refusal: Refusal) -> None:
    """A caller that may not come in, or not now; nothing was sent."""
    kind, title = refusal.reason.replace("_", "-"), "This guardian lets you in no further"
    detail = f"{refusal.field}: found {refusal.found}; {refusal.cure}."
    await write_problem(send, refusal.status, kind, title, detail, headers=tuple(refusal.headers))


def _nobody_counts(size: int) -> None:
    """A server that does not ask how much is held."""


def first_part(scope: Scope) -> str:
    """The first part of the path, as the caller wrote it."""
    return _path(scope)[1:].partition(b"/")[0].decode("latin-1")


def _path(scope: Scope) -> bytes:
    """The path below this application, as the caller wrote it."""
    path = as_sent(scope.get("raw_path"), scope["path"])
    return path.removeprefix(scope.get("root_path", "").encode("latin-1", "replace"))


def _refusal(scope: Scope) -> tuple[int, str, str, str] | None:
    """What cannot be passed on whatever the route."""
    for name, value in scope["headers"]:
        if name == b"upgrade" and b"websocket" in value.lower():
            detail = "Routes carry HTTP requests and event streams; connect to the upstream itself."
            return 501, "no-websocket", "WebSockets are not passed on", detail
        if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            detail = "Send the body with a length or in chunks; Content-Encoding passes untouched."
            return 501, "unknown-transfer-coding", "This transfer coding is not known", detail
    return None
