"""How JSON-RPC calls reach a node: over HTTP, or over a WebSocket.

A wire sends calls as one message and gives the node's reply objects in the order of the calls. It
knows nothing of chains. Foreign exceptions become ChainUnavailable here, and their texts are left
out: they hold URLs, and URLs of RPC services hold keys. For the same reason web3's provider writes the
messages over HTTP and does not send them: it logs the URL of every call, tells no Retry-After, and reads
replies of any size.
"""

import asyncio
import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from aiohttp.client_exceptions import ServerDisconnectedError
from web3 import AsyncHTTPProvider
from web3.types import RPCEndpoint
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from guardian.chain.limits import is_rate_limit, retry_after_s, wait_in_error_s
from guardian.errors import ChainUnavailable

MAX_CONNECTIONS = 8
"""Per node: a tick needs one or two, signature checks and catching up the rest."""

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""A pending block with whole transactions is some megabytes on busy chains."""

CLOSE_INVALID = 1007
"""RFC 6455: a message whose content is not what its type promises."""

BATCH_REFUSED_STATUSES = (400, 413)
NO_ANSWER_STATUSES = (401, 402, 403)
"""Statuses below 500 whose body, JSON or not, says nothing about the question: the key is at fault."""


class Call(NamedTuple):
    """One JSON-RPC call."""

    method: str
    params: list[Any]


class BatchRefused(ChainUnavailable):
    """The node answered a batch as a whole with an error: smaller ones may pass."""


class RateLimited(ChainUnavailable):
    """The service wants fewer calls. wait_s: how long it asked for, None where it did not say."""

    def __init__(self, text: str, wait_s: float | None = None) -> None:
        super().__init__(text)
        self.wait_s = wait_s


class Wire(Protocol):
    """Sends calls as one message; the reply objects, `result` or `error`, in the calls' order."""

    async def __call__(self, calls: Sequence[Call]) -> list[dict[str, Any]]: ...

    async def close(self) -> None: ...


def _messages(ids: Sequence[int], calls: Sequence[Call]) -> bytes:
    messages = [
        {"jsonrpc": "2.0", "id": number, "method": call.method, "params": call.params}
        for number, call in zip(ids, calls, strict=True)
    ]
    return orjson.dumps(messages if len(messages) > 1 else messages[0])


class HttpWire:
    """POST of one message, over connections that stay open; no redirects, bounded replies."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._url = url
        self._provider = AsyncHTTPProvider(url)
        self._timeout = ClientTimeout(total=timeout_s)
        self._session: ClientSession | None = None

    async def __call__(self, calls: Sequence[Call]) -> list[dict[str, Any]]:
        ids, message = self._message(calls)
        try:
            try:
                status, headers, body = await self._post(message)
            except ServerDisconnectedError:  # an idle connection that the node had closed
                status, headers, body = await self._post(message)
        except (ClientError, TimeoutError, OSError, ValueError) as exc:
            raise ChainUnavailable(_reason(exc)) from None
        return _replies(ids, status, headers, body)

    def _message(self, calls: Sequence[Call]) -> tuple[list[int], bytes]:
        """The ids of the calls, and all of them as one message."""
        asked = [(RPCEndpoint(call.method), call.params) for call in calls]
        if len(asked) == 1:
            message = self._provider.encode_rpc_request(*asked[0])
            return [orjson.loads(message)["id"]], message
        message = self._provider.encode_batch_rpc_request(asked)
        return [one["id"] for one in orjson.loads(message)], message

    async def _post(self, message: bytes) -> tuple[int, Mapping[str, str], bytes]:
        if self._session is None:
            self._session = ClientSession(
                timeout=self._timeout, connector=TCPConnector(limit=MAX_CONNECTIONS)
            )
        kind = {"content-type": "application/json"}
        async with self._session.post(
            self._url, data=message, headers=kind, allow_redirects=False
        ) as response:
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > MAX_MESSAGE_BYTES:
                    raise ChainUnavailable("an answer is too large")
            return response.status, response.headers, bytes(body)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _reason(fault: Exception) -> str:
    """What went wrong, without the fault's own text; a number of the system's is said in its words."""
    number = getattr(fault, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else type(fault).__name__


def _is_id(found: object) -> bool:
    return found is None or type(found) is int


def _replies(
    ids: Sequence[int], status: int, headers: Mapping[str, str], body: bytes
) -> list[dict[str, Any]]:
    """The reply objects in the order of ids; raises what the HTTP status and the body call for."""
    try:
        found = orjson.loads(body)
    except ValueError:
        found = None
    wait_s = retry_after_s(headers.get("retry-after"), time.time())
    error = found.get("error") if isinstance(found, dict) else None
    if status == 429 or (status == 503 and wait_s is not None) or is_rate_limit(error):
        raise RateLimited(f"HTTP {status}", wait_in_error_s(error) if wait_s is None else wait_s)
    if status >= 500 or status in NO_ANSWER_STATUSES:
        raise ChainUnavailable(f"HTTP {status}")
    if len(ids) > 1 and not isinstance(found, list):
        if status in BATCH_REFUSED_STATUSES or error is not None:
            raise BatchRefused("a batch was answered as a whole")
        raise ChainUnavailable(f"HTTP {status} and no list of answers")
    replies = found if isinstance(found, list) else [found]
    by_id = {id: reply for reply in replies if isinstance(reply, dict) and _is_id(id := reply.get("id"))}
    if len(ids) == 1 and error is not None and by_id.keys() <= {None}:
        return [replies[0]]
    if by_id.keys() != set(ids) or len(replies) != len(ids):
        raise ChainUnavailable(f"HTTP {status} and no answer to the question")
    return [by_id[number] for number in ids]


class WsWire:
    """One WebSocket for calls and for newHeads; it connects when it is first used, and again.

    connections: how often it connected; announced: heads that came by subscription.
    """

    def __init__(self, url: str, *, on_head: Callable[[], None]) -> None:
        self._url = url
        self._on_head = on_head
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._connection: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self.subscribed = False
        self.connections = 0
        self.announced = 0

    async def __call__(self, calls: Sequence[Call]) -> list[dict[str, Any]]:
        try:
            async with self._opening:
                if self._connection is None:
                    await self._open()
            return await self._send(calls)
        except InvalidStatus as exc:
            status, header = exc.response.status_code, exc.response.headers.get("retry-after")
            if status == 429:
                raise RateLimited("HTTP 429", retry_after_s(header, time.time())) from None
            raise ChainUnavailable(f"HTTP {status}") from None
        except (WebSocketException, OSError, TimeoutError, ValueError) as exc:
            raise ChainUnavailable(_reason(exc)) from None

    async def _open(self) -> None:
        connection = await connect(self._url, max_size=MAX_MESSAGE_BYTES)
        self._connection = connection
        self.connections += 1
        self._reader = asyncio.create_task(self._read(connection))
        try:
            replies = await self._send([Call("eth_subscribe", ["newHeads"])])
        except BaseException:
            await self.close()
            raise
        self.subscribed = "result" in replies[0]

    async def _send(self, calls: Sequence[Call]) -> list[dict[str, Any]]:
        if self._connection is None:
            raise ChainUnavailable("the connection was lost")
        loop = asyncio.get_running_loop()
        futures = {next(self._ids): loop.create_future() for _ in calls}
        self._waiting.update(futures)
        try:
            await self._connection.send(_messages(list(futures), calls).decode())
            return list(await asyncio.gather(*futures.values()))
        finally:
            for number in futures:
                self._waiting.pop(number, None)

    async def _read(self, connection: ClientConnection) -> None:
        try:
            async for text in connection:
                self._take(orjson.loads(text))
        except ValueError:  # no JSON: nothing that follows on this connection can be trusted
            await connection.close(CLOSE_INVALID)
        except (WebSocketException, OSError):
            pass  # the finally clause tells everybody who waits
        finally:
            self._lost(connection)

    def _take(self, message: Any) -> None:
        for reply in message if isinstance(message, list) else [message]:
            if not isinstance(reply, dict):
                continue
            if reply.get("method") == "eth_subscription":
                self.announced += 1
                self._on_head()
                continue
            number = reply.get("id")
            if number is None and "error" in reply:
                self._fail(_refusal(reply["error"]))
                continue
            future = self._waiting.get(number) if isinstance(number, int) else None
            if future is not None and not future.done():
                future.set_result(reply)

    def _lost(self, connection: ClientConnection) -> None:
        if self._connection is connection:
            self._connection = None
            self.subscribed = False
            self._fail(ChainUnavailable("the connection was lost"))

    def _fail(self, why: ChainUnavailable) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(why)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        self.subscribed = False
        self._fail(ChainUnavailable("closed"))
        if connection is not None:
            await connection.close()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
            self._reader = None


def _refusal(error: Any) -> ChainUnavailable:
    if is_rate_limit(error):
        return RateLimited("too many calls", wait_in_error_s(error))
    return BatchRefused("a batch was answered as a whole")


def wire_for(url: str, *, timeout_s: float, on_head: Callable[[], None]) -> Wire:
    """The wire that an endpoint's URL asks for; on_head is called where the node announces heads."""
    if url.startswith(("ws://", "wss://")):
        return WsWire(url, on_head=on_head)
    return HttpWire(url, timeout_s=timeout_s)
