"""A JSON-RPC node that lies: a proxy before a real one, over HTTP and WebSocket, told what to do in process.

    with LyingNode(chain.url) as node:          # reach it at node.url and node.ws_url
        node.fall_behind(5); node.freeze(); node.keep_up()
        node.stall(); node.go_on(); node.answer_late(0.5)
        node.claim_chain(1)
        node.drop_logs(); node.drop_receipts()
        node.limit(retry_after_s=2)             # HTTP 429; allow=20: only beyond 20 calls a second
        node.answer_garbage(b"<html>")
        node.mute()                             # subscriptions go silent
        hash = node.invent_payment(asset=…, payer=…, pay_to=…, amount=…, nonce=…)
        node.be_honest()                        # all of the above undone
        node.calls                              # how often each method was asked, refused ones included

Faults may be combined. Runs in threads of its own; uses nothing of the code under test.
"""

import contextlib
import http.client
import json
import secrets
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from eth_utils.crypto import keccak
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
USED = "0x" + keccak(text="AuthorizationUsed(address,bytes32)").hex()
AUTHORIZATION_STATE = "0x" + keccak(text="authorizationState(address,bytes32)")[:4].hex()
UPSTREAM_TIMEOUT_S = 20.0
HEAD_POLL_S = 0.05
STOP_POLL_S = 0.02
BLOCK_PARAMETER = {"eth_call": 1, "eth_getCode": 1, "eth_getBalance": 1, "eth_getTransactionCount": 1}

Reply = dict[str, Any]


@dataclass(slots=True)
class _Lies:
    """What is wrong with the node at the moment."""

    behind: int = 0
    frozen_at: int | None = None
    late_s: float = 0.0
    chain_id: int | None = None
    no_logs: bool = False
    no_receipts: bool = False
    muted: bool = False
    garbage: bytes | None = None
    limited: bool = False
    retry_after_s: float | None = None
    allowed_per_s: int = 0
    invented: dict[str, Reply] = field(default_factory=dict)


def _word(value: str | int) -> str:
    text = hex(value) if isinstance(value, int) else value
    return "0x" + text.lower().removeprefix("0x").rjust(64, "0")


class LyingNode:
    """One proxy. Everything may be called from any thread."""

    def __init__(self, upstream: str) -> None:
        self._host = urlsplit(upstream).netloc
        self._lies = _Lies()
        self._awake = threading.Event()
        self._awake.set()
        self._closing = threading.Event()
        self._upstream = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._recent: deque[float] = deque()
        self._counting = threading.Lock()
        self.calls: Counter[str] = Counter()
        self._http = _HttpServer(("127.0.0.1", 0), _Handler)
        self._http.node = self
        self._ws: Server = serve(self._converse, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.ws_url = f"ws://127.0.0.1:{self._ws.socket.getsockname()[1]}"
        self._threads = [
            threading.Thread(target=self._http.serve_forever, args=(STOP_POLL_S,), daemon=True),
            threading.Thread(target=self._ws.serve_forever, daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._awake.set()
        self._http.shutdown()
        self._http.server_close()
        self._ws.shutdown()
        for thread in self._threads:
            thread.join()
        for connection in self._connections:
            connection.close()

    # --- what to do

    def be_honest(self) -> None:
        """Undo everything; what was stalled is answered."""
        self._lies = _Lies()
        self._awake.set()

    def fall_behind(self, blocks: int) -> None:
        """Know nothing of the newest blocks; a higher number than before is a head that goes backwards."""
        self._lies.behind = blocks

    def freeze(self) -> None:
        """Stay at this head, politely."""
        self._lies.frozen_at = self._real_head() - self._lies.behind

    def keep_up(self) -> None:
        self._lies.behind, self._lies.frozen_at = 0, None

    def stall(self) -> None:
        """Take questions and answer none."""
        self._awake.clear()

    def go_on(self) -> None:
        """Answer again, what was stalled included; other lies stay."""
        self._awake.set()

    def answer_late(self, seconds: float) -> None:
        self._lies.late_s = seconds

    def claim_chain(self, chain_id: int) -> None:
        self._lies.chain_id = chain_id

    def drop_logs(self) -> None:
        """Answer every log query with nothing."""
        self._lies.no_logs = True

    def drop_receipts(self) -> None:
        """Know no transaction."""
        self._lies.no_receipts = True

    def mute(self) -> None:
        """Announce no heads, on connections that stay open."""
        self._lies.muted = True

    def limit(self, *, retry_after_s: float | None = None, allow: int = 0) -> None:
        """Refuse with 429 what exceeds so many calls a second."""
        self._lies.retry_after_s, self._lies.allowed_per_s = retry_after_s, allow
        self._lies.limited = True

    def answer_garbage(self, body: bytes) -> None:
        self._lies.garbage = body

    def invent_payment(self, *, asset: str, payer: str, pay_to: str, amount: int, nonce: str) -> str:
        """A transaction in this node's newest block that no other node knows; its hash."""
        digest, block = "0x" + secrets.token_hex(32), hex(self._head())
        events = [
            {"address": asset, "topics": [USED, _word(payer), nonce.lower()], "data": "0x"},
            {"address": asset, "topics": [TRANSFER, _word(payer), _word(pay_to)], "data": _word(amount)},
        ]
        logs = [
            event | {"transactionHash": digest, "blockNumber": block, "logIndex": hex(at), "removed": False}
            for at, event in enumerate(events)
        ]
        self._lies.invented[digest] = {
            "transactionHash": digest,
            "blockNumber": block,
            "status": "0x1",
            "logs": logs,
        }
        return digest

    # --- answering

    def respond(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for one HTTP message."""
        self._awake.wait()
        lies = self._lies
        self._closing.wait(lies.late_s)
        found = json.loads(body)
        calls = found if isinstance(found, list) else [found]
        self.calls.update(str(call["method"]) for call in calls)
        if self._too_many(len(calls)):
            headers = {} if lies.retry_after_s is None else {"Retry-After": f"{lies.retry_after_s:g}"}
            return 429, headers, b'{"error": {"code": 429, "message": "Too Many Requests"}}'
        if lies.garbage is not None:
            return 200, {}, lies.garbage
        answers = [self._answer(call) for call in calls]
        return 200, {}, json.dumps(answers if isinstance(found, list) else answers[0]).encode()

    def _too_many(self, calls: int) -> bool:
        lies, now = self._lies, time.monotonic()
        if not lies.limited:
            return False
        with self._counting:
            while self._recent and self._recent[0] < now - 1.0:
                self._recent.popleft()
            if len(self._recent) + calls > lies.allowed_per_s:
                return True
            self._recent.extend([now] * calls)
            return False

    def _answer(self, call: Reply) -> Reply:
        method, params = str(call["method"]), list(call.get("params", []))
        reply: Reply = {"jsonrpc": "2.0", "id": call.get("id")}
        top = self._top()
        if method in ("eth_chainId", "net_version") and self._lies.chain_id is not None:
            return reply | {"result": hex(self._lies.chain_id)}
        if method in ("eth_getTransactionReceipt", "eth_getTransactionByHash"):
            return reply | {"result": self._transaction(method, params, top)}
        if method == "eth_getLogs":
            return reply | self._logs(params[0], top)
        if method == "eth_call" and self._is_invented(params[0]):
            return reply | {"result": _word(1)}
        if top is not None:
            hidden = self._limited_view(method, params, top)
            if hidden is not None:
                return reply | hidden
        return reply | self._ask(method, params)

    def _limited_view(self, method: str, params: list[Any], top: int) -> Reply | None:
        """The answer of a node that knows no block above top; else its question, bounded in place."""
        if method == "eth_blockNumber":
            return {"result": hex(top)}
        at = BLOCK_PARAMETER.get(method, 0 if method == "eth_getBlockByNumber" else None)
        if at is None or len(params) <= at:
            return None
        if params[at] == "pending" and method == "eth_getBlockByNumber":
            return {"result": None}
        if params[at] in ("latest", "pending"):
            params[at] = hex(top)
        elif str(params[at]).startswith("0x") and int(params[at], 16) > top:
            unknown = {"code": -32000, "message": "header not found"}
            return {"result": None} if method == "eth_getBlockByNumber" else {"error": unknown}
        return None

    def _transaction(self, method: str, params: list[Any], top: int | None) -> Any:
        if self._lies.no_receipts:
            return None
        found = self._lies.invented.get(params[0]) or self._ask(method, params).get("result")
        block = found.get("blockNumber") if found else None
        hidden = top is not None and block is not None and int(block, 16) > top
        return None if hidden else found

    def _logs(self, query: Reply, top: int | None) -> Reply:
        if self._lies.no_logs:
            return {"result": []}
        real_head = self._real_head() if top is None else top
        first, last = (_number(query.get(name), real_head) for name in ("fromBlock", "toBlock"))
        last = min(last, real_head)
        if first > last:
            return {"result": []}
        real = self._ask("eth_getLogs", [query | {"fromBlock": hex(first), "toBlock": hex(last)}])
        events = [log for receipt in self._lies.invented.values() for log in receipt["logs"]]
        kinds = (query.get("topics") or [[]])[0]
        shown = [log for log in events if log["topics"][0] in kinds and first <= int(log["blockNumber"], 16)]
        return {"result": real["result"] + shown} if "result" in real else real

    def _is_invented(self, call: Reply) -> bool:
        data = str(call.get("data") or call.get("input") or "")
        words = ["0x" + data[10:74], "0x" + data[74:138]]
        return data.startswith(AUTHORIZATION_STATE) and any(
            receipt["logs"][0]["topics"][1:] == words for receipt in self._lies.invented.values()
        )

    # --- the real node

    def _real_head(self) -> int:
        return int(self._ask("eth_blockNumber", [])["result"], 16)

    def _top(self) -> int | None:
        """The newest block that is known here; None: as many as the real node has."""
        if self._lies.frozen_at is not None:
            return self._lies.frozen_at
        return max(0, self._real_head() - self._lies.behind) if self._lies.behind else None

    def _head(self) -> int:
        top = self._top()
        return self._real_head() if top is None else top

    def _ask(self, method: str, params: list[Any]) -> Reply:
        connection = getattr(self._upstream, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self._host, timeout=UPSTREAM_TIMEOUT_S)
            self._upstream.connection = connection
            self._connections.append(connection)
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            connection.request("POST", "/", json.dumps(message), {"Content-Type": "application/json"})
            reply = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException) as exc:
            connection.close()
            return {"error": {"code": -32603, "message": type(exc).__name__}}
        return {name: reply[name] for name in ("result", "error") if name in reply}

    def close_upstream(self) -> None:
        """Let go of this thread's connection to the real node."""
        connection = getattr(self._upstream, "connection", None)
        if connection is not None:
            connection.close()

    # --- over a WebSocket

    def _converse(self, socket: ServerConnection) -> None:
        """Answers in order; heads are announced between them to whoever subscribed."""
        subscribed, told = False, self._head()
        try:
            while not self._closing.is_set():
                with contextlib.suppress(TimeoutError):
                    text = socket.recv(timeout=HEAD_POLL_S)
                    subscribed = subscribed or "eth_subscribe" in str(text)
                    socket.send(self._spoken(text.encode() if isinstance(text, str) else text))
                if subscribed and not self._lies.muted and (head := self._head()) != told:
                    told = head
                    note = {"subscription": "0x1", "result": {"number": hex(head)}}
                    socket.send(json.dumps({"method": "eth_subscription", "params": note}))
        except (ConnectionClosed, OSError):
            pass
        finally:
            self.close_upstream()

    def _spoken(self, text: bytes) -> str:
        found = json.loads(text)
        if isinstance(found, dict) and found.get("method") == "eth_subscribe":
            self.calls.update(["eth_subscribe"])
            return json.dumps({"jsonrpc": "2.0", "id": found["id"], "result": "0x1"})
        status, _, body = self.respond(text)
        if status == 429 and isinstance(found, dict):
            return json.dumps({"id": found["id"]} | json.loads(body))
        return body.decode(errors="replace")


def _number(block: Any, head: int) -> int:
    return int(block, 16) if isinstance(block, str) and block.startswith("0x") else head


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    node: LyingNode

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that gave up waiting is no fault of this node's."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HttpServer

    def do_POST(self) -> None:
        node = self.server.node
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        status, headers, answer = node.respond(body)
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def finish(self) -> None:
        super().finish()
        self.server.node.close_upstream()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""
