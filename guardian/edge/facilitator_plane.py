"""The facilitator plane: /verify, /settle, /supported, /payments/<id>, and every other path as it is.

Pure ASGI. Says HTTP, decides nothing: what to answer to a payment is the flows' business.
"""

from collections.abc import AsyncIterator, Mapping
from urllib.parse import unquote, urlsplit

from starlette.types import Message, Receive, Scope, Send

from guardian.edge.callers import Door, Refusal, RefusalLog
from guardian.edge.http import (
    Headers,
    HttpCall,
    TooLarge,
    Unfinished,
    forwarded,
    line_of,
    raw_path,
    read_body,
    write,
    write_json,
)
from guardian.edge.views import payment_view
from guardian.errors import BadPayment, NotSent, ReplyLost, StoreUnavailable
from guardian.facilitator.client import Facilitator
from guardian.facilitator.headers import content_length
from guardian.flow.parts import Generation, Parts, log
from guardian.flow.settle import SettleFlow
from guardian.flow.verify import VerifyFlow
from guardian.wire.payment import read_payment

PASS_TIMEOUT_S = 60.0
MAX_PASSED_BYTES = 16 * 1024 * 1024
"""Request bodies of the other paths (discovery, validate) are small; nobody uploads through here."""

MAX_OPEN_SETTLEMENTS = 20_000
"""Each keeps its body in memory until the chain has spoken, some 10 kB; a busy guardian has some hundred."""

RETRY_LATER_S = 5
RETRY_LATER = ((b"retry-after", b"%d" % RETRY_LATER_S),)


_AS_MEANT = frozenset({"/settle", "/verify", "/supported"})
_PAYS = frozenset({"/settle", "/verify"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that no facilitator takes a payment with; some answer them at /settle with a manual."""
_URL_CURE = "; a facilitator that settles below another path needs that path in its url in the policy"


class FacilitatorPlane:
    """ASGI application of the data port."""

    def __init__(self, parts: Parts, settle: SettleFlow, verify: VerifyFlow) -> None:
        self._parts = parts
        self._settle = settle
        self._verify = verify
        self._prefixes: tuple[Generation | None, dict[str, str]] = (None, {})
        self._refused = RefusalLog(log, parts.telemetry.caller_refused)
        self.door = Door(on_refusal=self._refused)
        self.door.use(parts.policy.callers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._parts.generation as generation:
            callers = generation.policy.callers
            if not callers.active:
                return await self._serve(generation, scope, receive, send)
            with self.door.enter(callers, scope) as entry:
                scope = {**scope, "headers": entry.headers}
                await self._serve(generation, scope, receive, send, entry.refusal)

    async def _serve(
        self,
        generation: Generation,
        scope: Scope,
        receive: Receive,
        send: Send,
        refusal: Refusal | None = None,
    ) -> None:
        only, path = self._resolve(generation, raw_path(scope))
        method, meant = scope["method"], _meant(path)
        settles = method == "POST" and meant == "/settle"
        if refusal and not (settles and refusal.passing):
            await _turn_away(send, meant, refusal)
        elif method == "POST" and meant in _PAYS:
            await self._payment(meant, only, generation, scope, receive, send, refusal)
        elif meant in _PAYS and method not in _READS:  # passed on, it could be a settle past the guard
            cure = "send POST; nothing was sent"
            await _refuse(send, 405, meant, "method", method[:20], cure, ((b"allow", b"POST"),))
        elif method == "GET" and meant == "/supported" and not only:
            await self._supported(generation, scope, send)
        elif method == "GET" and path.startswith("/payments/") and not only:
            await self._status(path.removeprefix("/payments/"), send)
        elif not only and (guarded := _named_wrongly(meant)):
            await _not_there(generation, guarded, path, send)
        elif method == "POST" and meant.endswith("/settle"):
            await self._settle_elsewhere(generation, only, path, scope, receive, send)
        else:
            await self._pass(generation, only, path, scope, receive, send)

    def _resolve(self, generation: Generation, path: str) -> tuple[str, str]:
        """The facilitator that the path names, or none, and the path below it."""
        of, prefixes = self._prefixes
        if of is not generation:
            prefixes = _prefixes({f.name: f.url for f in generation.policy.facilitators})
            self._prefixes = (generation, prefixes)
        for prefix, name in prefixes.items():
            if path == prefix or path.startswith(prefix + "/"):
                return name, path.removeprefix(prefix) or "/"
        return "", path

    async def _payment(
        self,
        path: str,
        only: str,
        generation: Generation,
        scope: Scope,
        receive: Receive,
        send: Send,
        refusal: Refusal | None,
    ) -> None:
        try:
            body = await read_body(receive)
        except TooLarge:
            return await _refuse(send, 413, path, "body", "over 1 MiB", "send the payment alone")
        except (Unfinished, TimeoutError):
            return await _refuse(send, 400, path, "body", "an unfinished body", "send it whole")
        refusal = refusal or (self._full() if path == "/settle" else None)
        if refusal and not self._under_way(body):
            return await _turn_away(send, path, refusal)
        headers = forwarded(scope["headers"])
        call = HttpCall(body, headers, only, generation, receive, send, line_of(scope))
        try:
            await (self._settle.settle(call) if path == "/settle" else self._verify.verify(call))
        except BadPayment as fault:
            await _refuse(send, 400, path, fault.field, fault.found, fault.cure)
        except StoreUnavailable:
            log.error("store unavailable", exc_info=True)
            if call.answered:
                return
            cure = "nothing was sent; try again later"
            about = ("store", "unavailable", cure, RETRY_LATER, "guardian_unavailable")
            await _refuse(send, 503, path, *about)
        finally:
            call.close()

    async def _settle_elsewhere(
        self, generation: Generation, only: str, path: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """A settle below a path that no facilitator's URL has: nobody would guard a payment in it, and what
        else is called so passes."""
        try:
            body = await read_body(receive)
        except TooLarge:
            return await _refuse(send, 413, "/settle", "body", "over 1 MiB", "send the payment alone")
        except (Unfinished, TimeoutError):
            return await _refuse(send, 400, "/settle", "body", "an unfinished body", "send it whole")
        if b"paymentPayload" in body:
            return await _not_there(generation, "/settle", path, send, _URL_CURE)
        await self._pass(generation, only, path, scope, _again(body, receive), send)

    def _full(self) -> Refusal | None:
        """Nobody may fill the memory with payments that are in doubt."""
        if (count := len(self._settle.lives)) < MAX_OPEN_SETTLEMENTS:
            return None
        self._refused("settlements", "")
        cure = f"send this again in {RETRY_LATER_S} s; nothing was sent"
        return Refusal(503, "guardian_busy", "settlements", f"{count} open ones", cure, RETRY_LATER_S)

    def _under_way(self, body: bytes) -> bool:
        """Whether a refused /settle asks for one that is open here: it only waits for that one's answer,
        and sent away it would be taken for failed."""
        try:
            return read_payment(body).key in self._settle.lives
        except BadPayment:
            return False

    async def _supported(self, generation: Generation, scope: Scope, send: Send) -> None:
        try:
            reply = await generation.facilitators.supported(forwarded(scope["headers"]))
        except (NotSent, ReplyLost) as fault:
            return await write_json(send, 502, {"error": f"no facilitator answered /supported: {fault}"})
        await write(send, reply.status, reply.headers, reply.body)

    async def _status(self, id: str, send: Send) -> None:
        try:
            record = await self._parts.store.get_by_id(id)
        except StoreUnavailable:
            about = {"error": "store: unavailable; try again later", "field": "store"}
            return await write_json(send, 503, about, RETRY_LATER)
        if record is None:
            return await write_json(send, 404, {"error": "no such payment", "field": "id", "found": id[:64]})
        await write_json(send, 200, payment_view(record))

    async def _pass(
        self, generation: Generation, only: str, path: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        every = generation.facilitators.all
        facilitator = generation.facilitators.named(only) if only else every[0] if every else None
        if facilitator is None:
            about = {"error": "no such path: the policy names no facilitator", "field": "path", "found": path}
            return await write_json(send, 404, about)
        try:
            await _stream(generation, facilitator, path, scope, receive, send)
        except NotSent as fault:
            await write_json(
                send, 502, {"error": f"facilitator {facilitator.name} cannot be reached: {fault}"}
            )
        except ReplyLost as fault:
            await write_json(send, 504, {"error": f"facilitator {facilitator.name} gave no reply: {fault}"})


async def _stream(
    generation: Generation, facilitator: Facilitator, path: str, scope: Scope, receive: Receive, send: Send
) -> None:
    own = generation.headers_for(facilitator, scope["method"], path, forwarded(scope["headers"]))
    headers = [*own, *content_length(scope["headers"])]
    body = _body(receive) if _has_body(scope) else None
    reply = await facilitator.stream(
        scope["method"], path, scope.get("query_string", b""), headers, body, timeout_s=PASS_TIMEOUT_S
    )
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        async for part in reply.body:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except ReplyLost as fault:
        # The head is out: an unfinished answer, which the server cuts off, is the only way to say so.
        log.warning("a passed-on reply broke off", extra={"facilitator": facilitator.name, "why": str(fault)})
    finally:
        await reply.aclose()


def _has_body(scope: Scope) -> bool:
    return any(key in (b"content-length", b"transfer-encoding") for key, _ in scope["headers"])


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    passed = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":  # ended here, it would look whole to the facilitator
            raise ReplyLost("the caller left before its request was whole")
        passed += len(message.get("body", b""))
        if passed > MAX_PASSED_BYTES:
            raise ReplyLost("the request body is over 16 MiB")
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def _refuse(
    send: Send,
    status: int,
    path: str,
    field: str,
    found: str,
    cure: str,
    headers: Headers = (),
    reason: str = "invalid_payload",
) -> None:
    """A body that both SDK models and people can read; nothing was sent."""
    text = f"{field}: found {found}; {cure}"
    about = {"error": text, "field": field, "found": found, "cure": cure}
    settle = {
        "success": False,
        "errorReason": reason,
        "errorMessage": text,
        "transaction": "",
        "network": "",
    }
    verify = {"isValid": False, "invalidReason": reason, "invalidMessage": text, "payer": ""}
    shapes: dict[str, dict[str, object]] = {"/settle": settle, "/verify": verify}
    await write_json(send, status, shapes.get(path, {}) | about, headers)


async def _turn_away(send: Send, path: str, refusal: Refusal) -> None:
    """A caller that may not come in, or not now."""
    about = (refusal.field, refusal.found, refusal.cure)
    await _refuse(send, refusal.status, path, *about, refusal.headers, refusal.reason)


def _meant(path: str) -> str:
    """The path as lenient routers read it: none of its spellings may lead a payment past the guard."""
    if path in _AS_MEANT:
        return path
    parts = unquote(path).lower().split("/")
    return "/" + "/".join(part for part in parts if part not in ("", "."))


def _named_wrongly(meant: str) -> str:
    """The guarded path below a facilitator that the policy does not name, else nothing. Passed on, it would
    be a settle past the guard at any server that reads paths from their end."""
    guarded = "/" + meant.rsplit("/", 1)[-1]
    return guarded if meant.startswith("/facilitators/") and guarded in _AS_MEANT else ""


async def _not_there(
    generation: Generation, guarded: str, path: str, send: Send, more_cure: str = ""
) -> None:
    names = ", ".join(f"/facilitators/{f.name}{guarded}" for f in generation.policy.facilitators)
    cure = f"nothing was sent; there is {names or 'no facilitator in the policy'}{more_cure}"
    await _refuse(send, 404, guarded, "path", path[:80], cure)


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, and then what else comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return first.pop() if first else await receive()

    return replayed


def _prefixes(urls: Mapping[str, str]) -> dict[str, str]:
    """`/facilitators/<name>` for each, and each URL's own path, longest first; a path that two
    facilitators share names neither, so that both may serve it."""
    named = {f"/facilitators/{name}": name for name in urls}
    paths = [urlsplit(url).path.rstrip("/") for url in urls.values()]
    own = {
        path: name if paths.count(path) == 1 and len(urls) > 1 else ""
        for path, name in zip(paths, urls, strict=True)
    }
    merged = named | {path: name for path, name in own.items() if path}
    return dict(sorted(merged.items(), key=lambda item: -len(item[0])))
