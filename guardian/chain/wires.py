"""How JSON-RPC calls reach a node: over HTTP through web3's provider, or over a WebSocket.

A wire sends calls as one message and gives the node's reply objects in the order of the calls. It
knows nothing of chains. Foreign exceptions become ChainUnavailable here, and their texts are left
out: they hold URLs, and URLs of RPC services hold keys.
"""

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast

from aiohttp import ClientError, ClientResponseError, ClientSession, ClientTimeout, TCPConnector
from aiohttp.client_exceptions import ServerDisconnectedError
from web3 import AsyncHTTPProvider
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from guardian.errors import ChainUnavailable

MAX_CONNECTIONS = 8
"""Per node: a tick needs one or two, signature checks and catching up the rest."""

MAX_WS_MESSAGE_BYTES = 32 * 1024 * 1024
"""A pending block with whole transactions is some megabytes on busy chains."""

BATCH_REFUSED_STATUSES = (400, 413)


class Call(NamedTuple):
    """One JSON-RPC call."""

    method: str
    params: list[Any]


class BatchRefused(ChainUnavailable):
    """The node answered a batch as a whole with an error: smaller ones may pass."""


class Wire(Protocol):
    """Sends calls as one message; the reply objects, `result` or `error`, in the calls' order."""

    async def __call__(self, calls: Sequence[Call]) -> list[dict[str, Any]]: ...

    async def close(self) -> None: ...


class HttpWire:
    """web3's HTTP provider, without its retries and with connections that stay open."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._provider = AsyncHTTPProvider(
            url,
            request_kwargs={"timeout": ClientTimeout(total=timeout_s)},
            exception_retry_configuration=None,
        )
        self._ready = False

    async def __call__(self, calls: Sequence[Call]) -> list[dict[str, Any]]:
        try:
            await self._open()
            try:
                return await self._send(calls)
            except ServerDisconnectedError:  # an idle connection that the node had closed
                return await self._send(calls)
        except ClientResponseError as exc:
            if len(calls) > 1 and exc.status in BATCH_REFUSED_STATUSES:
                raise BatchRefused(f"HTTP {exc.status} for a batch") from None
            raise ChainUnavailable(f"HTTP {exc.status}") from None
        except (ClientError, TimeoutError, OSError, Web3Exception, ValueError, TypeError) as exc:
            raise ChainUnavailable(type(exc).__name__) from None

    async def _open(self) -> None:
        if self._ready:
            return
        self._ready = True
        # web3's own session closes its connection after every call: a TLS handshake each.
        session = ClientSession(raise_for_status=True, connector=TCPConnector(limit=MAX_CONNECTIONS))
        await self._provider.cache_async_session(session)

    async def _send(self, calls: Sequence[Call]) -> list[dict[str, Any]]:
        if len(calls) == 1:
            one = await self._provider.make_request(RPCEndpoint(calls[0].method), calls[0].params)
            return [cast(dict[str, Any], one)]
        many = await self._provider.make_batch_request([(RPCEndpoint(c.method), c.params) for c in calls])
        if not isinstance(many, list) or len(many) != len(calls):
            raise BatchRefused("a batch was answered as a whole")
        ids = [cast(dict[str, Any], reply).get("id") for reply in many]
        if len(set(ids)) != len(calls):
            raise ChainUnavailable("a batch was answered with repeated ids")
        return [cast(dict[str, Any], reply) for reply in many]

    async def close(self) -> None:
        await self._provider.disconnect()
        self._ready = False


class WsWire:
    """One WebSocket for calls and for newHeads; it connects when it is first used, and again."""

    def __init__(self, url: str, *, on_head: Callable[[], None]) -> None:
        self._url = url
        self._on_head = on_head
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._connection: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self.subscribed = False

    async def __call__(self, calls: Sequence[Call]) -> list[dict[str, Any]]:
        try:
            async with self._opening:
                if self._connection is None:
                    await self._open()
            return await self._send(calls)
        except (WebSocketException, OSError, TimeoutError, ValueError) as exc:
            raise ChainUnavailable(type(exc).__name__) from None

    async def _open(self) -> None:
        connection = await connect(self._url, max_size=MAX_WS_MESSAGE_BYTES)
        self._connection = connection
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
        messages = [
            {"jsonrpc": "2.0", "id": number, "method": call.method, "params": call.params}
            for number, call in zip(futures, calls, strict=True)
        ]
        self._waiting.update(futures)
        try:
            await self._connection.send(json.dumps(messages if len(calls) > 1 else messages[0]))
            return list(await asyncio.gather(*futures.values()))
        finally:
            for number in futures:
                self._waiting.pop(number, None)

    async def _read(self, connection: ClientConnection) -> None:
        try:
            async for text in connection:
                self._take(json.loads(text))
        except (WebSocketException, OSError, ValueError):
            pass  # the finally clause tells everybody who waits
        finally:
            self._lost(connection)

    def _take(self, message: Any) -> None:
        for reply in message if isinstance(message, list) else [message]:
            if not isinstance(reply, dict):
                continue
            if reply.get("method") == "eth_subscription":
                self._on_head()
                continue
            number = reply.get("id")
            if number is None and "error" in reply:
                self._fail(BatchRefused("a batch was answered as a whole"))
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


def wire_for(url: str, *, timeout_s: float, on_head: Callable[[], None]) -> Wire:
    """The wire that an endpoint's URL asks for; on_head is called where the node announces heads."""
    if url.startswith(("ws://", "wss://")):
        return WsWire(url, on_head=on_head)
    return HttpWire(url, timeout_s=timeout_s)
