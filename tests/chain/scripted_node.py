"""A node that says what a test wrote down: the chain's side of the script, behind the wire's seam."""

from collections.abc import Sequence
from typing import Any

from guardian.chain.evidence import AUTHORIZATION_CANCELED, AUTHORIZATION_USED, TRANSFER, word
from guardian.chain.limits import CALLS_PER_S
from guardian.chain.rpc import Endpoints
from guardian.chain.target import Finding, Target
from guardian.chain.watcher import Watcher
from guardian.chain.wires import BatchRefused, Call, RateLimited
from guardian.errors import ChainUnavailable
from guardian.wire.names import Address, Network, Nonce

ASSET = Address("0x" + "a5" * 20)
PAYER = Address("0x" + "b1" * 20)
SHOP = Address("0x" + "c2" * 20)
NONCE = Nonce("0x" + "d3" * 32)
GENESIS_S = 1_000_000
BLOCK_S = 2


def tx(number: int) -> str:
    return "0x" + hex(number)[2:].rjust(64, "e")


def target(**changes: Any) -> Target:
    fields = {
        "key": "k", "asset": ASSET, "payer": PAYER, "pay_to": SHOP, "amount": 1000, "nonce": NONCE,
        "valid_before": GENESIS_S + 300, "from_block_time": GENESIS_S + 200,
    }  # fmt: skip
    return Target(**(fields | changes))


def used(nonce: str = NONCE, payer: str = PAYER, asset: str = ASSET) -> dict[str, Any]:
    return {
        "address": asset,
        "topics": [AUTHORIZATION_USED, "0x" + word(payer), "0x" + word(nonce)],
        "data": "0x",
    }


def cancelled(nonce: str = NONCE) -> dict[str, Any]:
    return used(nonce) | {"topics": [AUTHORIZATION_CANCELED, "0x" + word(PAYER), "0x" + word(nonce)]}


def transfer(
    pay_to: str = SHOP, amount: int = 1000, payer: str = PAYER, asset: str = ASSET
) -> dict[str, Any]:
    return {
        "address": asset,
        "topics": [TRANSFER, "0x" + word(payer), "0x" + word(pay_to)],
        "data": "0x" + word(hex(amount)),
    }


class Node:
    """One scripted node: blocks come every BLOCK_S seconds, block 100 is the first head."""

    def __init__(self, *, chain_id: int = 8453, head: int = 100) -> None:
        self.chain_id = chain_id
        self.head = head
        self.receipts: dict[str, dict[str, Any]] = {}
        self.pool: dict[str, str] = {}
        self.down = False
        self.fails_on: set[str] = set()
        self.limited: float | None = None
        self.refuses: set[str] = set()
        self.range_limit = 10_000
        self.batch_limit = 1000
        self.states_kept = 10_000
        self.fork = 0
        self.messages: list[list[str]] = []
        self.ranges: list[tuple[int, int]] = []

    def mine(self, blocks: int = 1) -> None:
        self.head += blocks

    def include(self, number: int, *events: dict[str, Any], block: int | None = None, status: int = 1) -> str:
        """A mined transaction with these events, in the head block unless told otherwise."""
        at, digest = hex(block or self.head), tx(number)
        logs = [
            event | {"transactionHash": digest, "blockNumber": at, "logIndex": hex(index), "removed": False}
            for index, event in enumerate(events)
        ]
        self.receipts[digest] = {
            "transactionHash": digest,
            "blockNumber": at,
            "status": hex(status),
            "logs": logs,
        }
        return digest

    def reorganise(self) -> None:
        """Forget every mined transaction; the same heights get other blocks."""
        self.receipts.clear()
        self.fork += 1

    async def __call__(self, calls: Sequence[Call]) -> list[dict[str, Any]]:
        self.messages.append([call.method for call in calls])
        if self.down or self.fails_on & {call.method for call in calls}:
            raise ChainUnavailable("scripted")
        if self.limited is not None:
            raise RateLimited("scripted", self.limited)
        if len(calls) > self.batch_limit:
            raise BatchRefused("scripted")
        return [self._reply(call) for call in calls]

    async def close(self) -> None: ...

    def _reply(self, call: Call) -> dict[str, Any]:
        if call.method in self.refuses:
            return {"error": {"code": -32000, "message": "not today"}}
        try:
            return {"result": getattr(self, call.method)(*call.params)}
        except LookupError as exc:
            return {"error": {"code": -32000, "message": str(exc)}}

    def eth_chainId(self) -> str:
        return hex(self.chain_id)

    def eth_getBlockByNumber(self, which: str, full: bool) -> dict[str, Any] | None:
        if which == "pending":
            return {"transactions": [{"hash": h, "input": data} for h, data in self.pool.items()]}
        if which in ("safe", "finalized"):
            raise LookupError("no such tag")
        number = self.head if which == "latest" else int(which, 16)
        if number > self.head:
            return None
        return {
            "number": hex(number),
            "hash": f"0x{number:060x}{self.fork:04x}",
            "timestamp": hex(GENESIS_S + number * BLOCK_S),
        }

    def eth_getLogs(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        first, last = int(query["fromBlock"], 16), int(query["toBlock"], 16)
        self.ranges.append((first, last))
        if last - first + 1 > self.range_limit:
            raise LookupError("block range too large")
        wanted = query["topics"][2] if len(query["topics"]) > 2 else None
        return [
            log
            for receipt in self.receipts.values()
            for log in receipt["logs"]
            if first <= int(log["blockNumber"], 16) <= last
            and log["address"] in query["address"]
            and log["topics"][0] in query["topics"][0]
            and (wanted is None or log["topics"][2] in wanted)
        ]

    def eth_call(self, call: dict[str, Any], block: str) -> str:
        if int(block, 16) < self.head - self.states_kept:
            raise LookupError("missing trie node")
        words = ["0x" + call["data"][10:74], "0x" + call["data"][74:138]]
        spent = any(
            log["topics"][1:] == words
            and log["topics"][0] != TRANSFER
            and int(log["blockNumber"], 16) <= int(block, 16)
            for receipt in self.receipts.values()
            for log in receipt["logs"]
            if receipt["status"] == "0x1"
        )
        return "0x" + word(hex(spent))

    def eth_getTransactionReceipt(self, transaction: str) -> dict[str, Any] | None:
        return self.receipts.get(transaction)

    def eth_getTransactionByHash(self, transaction: str) -> dict[str, Any] | None:
        if transaction in self.receipts:
            return {"hash": transaction, "blockNumber": self.receipts[transaction]["blockNumber"]}
        return {"hash": transaction, "blockNumber": None} if transaction in self.pool else None


class Scene:
    """A watcher over scripted nodes, looked through by hand, with what it found."""

    def __init__(self, *nodes: Node, calls_per_s: float = CALLS_PER_S, **settings: Any) -> None:
        self.nodes = nodes or (Node(),)
        self.node = self.nodes[0]
        self.now = float(GENESIS_S + 200)
        self.set_by_s = 0.0  # what somebody has set the machine's clock by
        self.found: list[Finding] = []
        self.errors: list[str] = []
        self.endpoints = Endpoints(
            Network("eip155:8453"),
            [],
            clock=lambda: self.now,
            wall_clock=self.wall,
            calls_per_s=calls_per_s,
            on_error=self.errors.append,
            wires=[(f"node{index}", node) for index, node in enumerate(self.nodes)],
        )
        known = {"block_time_s": float(BLOCK_S), "confirmations": 1, "finality_blocks": 12}
        self.watcher = Watcher(
            Network("eip155:8453"), self.endpoints, clock=self.wall, on_error=self.errors.append,
            **(known | settings),
        )  # fmt: skip

    def wall(self) -> float:
        return self.now + self.set_by_s

    def watch(self, **changes: Any) -> None:
        self.watcher.watch(target(**changes), self.found.append)

    async def look(self, times: int = 1, *, mine: int = 0) -> list[Finding]:
        """What these looks newly found, each after `mine` further blocks on every node."""
        before = len(self.found)
        for _ in range(times):
            for node in self.nodes:
                node.mine(mine)
            self.now += max(1.0, mine * BLOCK_S)
            await self.watcher.look()
        return self.found[before:]
