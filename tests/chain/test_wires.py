"""What comes back over the wire, and what nonsense becomes: on real sockets."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from guardian.chain import wires
from guardian.chain.endpoint import SILENT_BLOCKS, Endpoint
from guardian.chain.wires import BatchRefused, Call, HttpWire, RateLimited, WsWire
from guardian.errors import ChainUnavailable

Answer = tuple[int, dict[str, str], bytes]
ONE = [Call("eth_chainId", [])]
TWO = [Call("eth_chainId", []), Call("eth_blockNumber", [])]


@contextmanager
def http_node(answer: Callable[[Any], Answer]) -> Iterator[str]:
    """A server that answers each message as told."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, body = answer(asked)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asked(answer: Callable[[Any], Answer], calls: list[Call] = ONE) -> list[dict[str, Any]]:
    async def script(url: str) -> list[dict[str, Any]]:
        wire = HttpWire(url, timeout_s=2.0)
        try:
            return await wire(calls)
        finally:
            await wire.close()

    with http_node(answer) as url:
        return asyncio.run(script(url))


def body(found: object) -> bytes:
    return json.dumps(found).encode()


def test_a_batch_comes_back_in_the_order_of_its_calls() -> None:
    def answer(messages: Any) -> Answer:
        return 200, {}, body([{"id": m["id"], "result": m["method"]} for m in reversed(messages)])

    assert [reply["result"] for reply in asked(answer, TWO)] == ["eth_chainId", "eth_blockNumber"]


@pytest.mark.parametrize(
    ("status", "headers", "found", "wait_s"),
    [
        (429, {"Retry-After": "7"}, None, 7.0),
        (429, {}, {"error": {"code": -32005, "data": {"rate": {"backoff_seconds": 30}}}}, 30.0),
        (429, {}, "slow down", None),
        (503, {"Retry-After": "3"}, None, 3.0),
        (200, {}, {"id": None, "error": {"code": -32029, "message": "Rate limit exceeded"}}, None),
        (400, {}, {"id": 1, "error": {"code": -32012, "message": "credits limited to 6000/sec"}}, None),
    ],
)
def test_a_rate_limit_is_told_apart_with_the_time_it_asks_for(
    status: int, headers: dict[str, str], found: object, wait_s: float | None
) -> None:
    for calls in (ONE, TWO):
        with pytest.raises(RateLimited) as raised:
            asked(lambda _: (status, headers, body(found)), calls)
        assert raised.value.wait_s == wait_s


def test_an_error_below_500_with_a_json_body_is_the_nodes_answer() -> None:
    def answer(message: Any) -> Answer:
        error = {"code": -32602, "message": "block range too large"}
        return 400, {}, body({"id": message["id"], "error": error})

    assert asked(answer)[0]["error"]["message"] == "block range too large"


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (200, b"<html>welcome</html>"),
        (200, b""),
        (200, b"null"),
        (200, b'"0x1"'),
        (200, b"[" * 5000),
        (200, b'{"id": 999, "result": "0x1"}'),
        (200, b'[{"id": 1, "result": "0x1"}, {"id": 1, "result": "0x2"}]'),
        (200, b'[1, "two"]'),
        (200, b"\xff\xfe"),
        (401, b'{"id": 1, "error": {"code": -32600, "message": "no such key"}}'),
        (302, b""),
        (500, b'{"id": 1, "error": {"code": -32603, "message": "internal"}}'),
        (502, b"bad gateway"),
    ],
)
@pytest.mark.parametrize("calls", [ONE, TWO], ids=["one", "batch"])
def test_nonsense_is_no_answer(status: int, found: bytes, calls: list[Call]) -> None:
    with pytest.raises(ChainUnavailable):
        asked(lambda _: (status, {}, found), calls)


@pytest.mark.parametrize("status", [200, 400, 413])
def test_a_batch_refused_as_a_whole_may_pass_in_parts(status: int) -> None:
    error = {"id": None, "error": {"code": -32600, "message": "batch too large"}}
    with pytest.raises(BatchRefused):
        asked(lambda _: (status, {}, body(error)), TWO)


def test_an_answer_of_any_size_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "MAX_MESSAGE_BYTES", 1000)
    with pytest.raises(ChainUnavailable, match="too large"):
        asked(lambda message: (200, {}, body({"id": message["id"], "result": "0x" + "0" * 2000})))


def test_no_fault_names_the_url_that_may_hold_a_key() -> None:
    async def script() -> None:
        wire = HttpWire("http://127.0.0.1:9/v2/secret", timeout_s=1.0)
        with pytest.raises(ChainUnavailable) as raised:
            await wire(ONE)
        assert str(raised.value) == "Connection refused"
        assert raised.value.__suppress_context__
        await wire.close()

    asyncio.run(script())


class Socket:
    """A WebSocket node of which the test says what it sends."""

    def __init__(self) -> None:
        self.connections: list[ServerConnection] = []
        self.subscriptions = 0
        self.head = 100
        self.refuse: dict[str, Any] | None = None

    async def converse(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        async for text in connection:
            await connection.send(json.dumps(self.answer(json.loads(text))))

    def answer(self, call: Any) -> dict[str, Any]:
        if self.refuse:
            return {"id": call["id"], "error": self.refuse}
        if call["method"] == "eth_subscribe":
            self.subscriptions += 1
            return {"id": call["id"], "result": "0x1"}
        head = {"number": hex(self.head), "hash": f"0x{self.head:x}", "timestamp": hex(self.head)}
        return {"id": call["id"], "result": "0x2105" if call["method"] == "eth_chainId" else head}

    async def announce(self) -> None:
        note = {"method": "eth_subscription", "params": {"result": {"number": hex(self.head)}}}
        await self.connections[-1].send(json.dumps(note))


class Listening:
    """An endpoint on such a node."""

    def __init__(self) -> None:
        self.node = Socket()
        self.now = 0.0
        self.heard = asyncio.Event()

    async def __aenter__(self) -> "Listening":
        self._server = await serve(self.node.converse, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        wire = WsWire(f"ws://127.0.0.1:{port}", on_head=self.heard.set)
        self.endpoint = Endpoint("ws", wire, 8453, clock=lambda: self.now)
        await self.endpoint.probe()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.endpoint.close()
        self._server.close()
        await self._server.wait_closed()

    async def next_block(self, *, announced: bool) -> None:
        self.node.head += 1
        self.now += 2
        if announced:
            self.heard.clear()
            await self.node.announce()
            await self.heard.wait()
        await self.endpoint.probe()


def test_a_subscription_that_dies_in_silence_is_noticed_and_asked_for_again() -> None:
    async def script() -> None:
        async with Listening() as listening:
            for _ in range(5):
                await listening.next_block(announced=True)
                assert listening.endpoint.announces_heads
            for _ in range(SILENT_BLOCKS + 1):
                await listening.next_block(announced=False)
            assert not listening.endpoint.announces_heads
            assert listening.endpoint.up
            assert listening.node.subscriptions == 2
            for _ in range(10):
                await listening.next_block(announced=False)
            assert listening.node.subscriptions == 2
            await listening.next_block(announced=True)
            assert listening.endpoint.announces_heads

    asyncio.run(script())


def test_after_a_new_connection_the_chain_id_is_asked_for_again() -> None:
    async def script() -> None:
        async with Listening() as listening:
            await listening.node.connections[-1].close()
            listening.node.answer = lambda call: {  # type: ignore[method-assign]
                "id": call["id"],
                "result": "0x1" if call["method"] == "eth_chainId" else "0x",
            }
            for _ in range(3):
                listening.now += 2
                await listening.endpoint.probe()
            assert listening.endpoint.wrong_chain

    asyncio.run(script())


def test_a_rate_limit_over_a_websocket_is_obeyed_too() -> None:
    async def script() -> None:
        async with Listening() as listening:
            listening.node.refuse = {"code": 429, "message": "exceeded its compute units per second capacity"}
            with pytest.raises(RateLimited):
                await listening.endpoint.ask("eth_blockNumber")
            assert listening.endpoint.resting_s() > 0
            assert listening.endpoint.up

    asyncio.run(script())


def test_garbage_on_a_websocket_ends_the_connection_and_not_the_endpoint() -> None:
    async def script() -> None:
        async with Listening() as listening:
            await listening.node.connections[-1].send("<html>")
            await listening.node.connections[-1].wait_closed()
            listening.now += 60
            await listening.endpoint.probe()
            await listening.endpoint.probe()
            assert listening.endpoint.up
            assert len(listening.node.connections) == 2

    asyncio.run(script())
