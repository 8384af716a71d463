"""A stage for flow scripts: facilitator said, chain said → caller heard, record shows.

The real flows over the memory store; the facilitator is respx' or a plain handler on httpx' seam, the
chain a watcher that says what the script tells it to. Signatures are real.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from eth_account import Account
from eth_account.messages import encode_typed_data

from guardian.app import Guardian, build
from guardian.chain.target import Finding, Target
from guardian.policy.model import NetworkPolicy, Policy
from guardian.settlement.record import Settlement
from guardian.store.memory import MemoryStore
from guardian.store.protocol import Store
from guardian.wire.names import Network, TxHash

NETWORK = Network("eip155:84532")
USDC = "0x036cbd53842c5426634e7929541ec2318f3dcf7e"
SELLER = "0x" + "22" * 20
PAYER = Account.from_key("0x" + "11" * 32)
STRANGER = Account.from_key("0x" + "99" * 32)
TX = TxHash("0x" + "ab" * 32)
OTHER_TX = TxHash("0x" + "cd" * 32)


SIGNED_WITHIN_S = 100
_SIGNED_AT = [0]


def _now(valid_for_s: int) -> int:
    """One moment for what a test signs twice, where the payment is valid for longer: another second would
    make another payload of it."""
    now = int(time.time())
    if now - _SIGNED_AT[0] > SIGNED_WITHIN_S or valid_for_s <= 2 * SIGNED_WITHIN_S:
        _SIGNED_AT[0] = now
    return _SIGNED_AT[0]


def signed_payment(
    nonce: int = 1,
    *,
    key: Any = PAYER,
    valid_for_s: int = 300,
    resource: str = "https://shop/x",
    pay_to: str = SELLER,
    amount: int = 10_000,
    asked: dict[str, str] | None = None,
) -> bytes:
    """A v2 body for /verify and /settle, signed; `key` other than the payer's forges it. asked: terms that
    are not as they were signed."""
    valid_before = _now(valid_for_s) + valid_for_s
    terms = {
        "scheme": "exact",
        "network": NETWORK,
        "amount": str(amount),
        "asset": USDC,
        "payTo": pay_to,
        "maxTimeoutSeconds": valid_for_s,
        "extra": {"name": "USDC", "version": "2"},
        **(asked or {}),
    }
    authorization = {
        "from": PAYER.address,
        "to": pay_to,
        "value": amount,
        "validAfter": 0,
        "validBefore": valid_before,
        "nonce": "0x" + f"{nonce:064x}",
    }
    signature = key.sign_message(
        encode_typed_data(
            {"name": "USDC", "version": "2", "chainId": 84532, "verifyingContract": USDC},
            {
                "TransferWithAuthorization": [
                    {"name": "from", "type": "address"},
                    {"name": "to", "type": "address"},
                    {"name": "value", "type": "uint256"},
                    {"name": "validAfter", "type": "uint256"},
                    {"name": "validBefore", "type": "uint256"},
                    {"name": "nonce", "type": "bytes32"},
                ]
            },
            authorization,
        )
    ).signature
    told = {name: str(value) for name, value in authorization.items()}
    payload = {
        "x402Version": 2,
        "resource": {"url": resource},
        "accepted": terms,
        "payload": {"signature": "0x" + bytes(signature).hex(), "authorization": told},
    }
    return json.dumps({"x402Version": 2, "paymentPayload": payload, "paymentRequirements": terms}).encode()


class Caller:
    """One caller of the flows: it hears one answer, unless it leaves first."""

    only = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(self, body: bytes, generation: Any = None) -> None:
        self.body = body
        self.generation = generation
        self.gone = False
        self.leave: Callable[[], None] = lambda: None
        self.status = 0
        self.heard: dict[str, Any] = {}

    def when_gone(self, tell: Callable[[], None]) -> None:
        def leave() -> None:
            self.gone = True
            tell()

        self.leave = leave

    async def answer(self, status: int, headers: Any, body: bytes) -> bool:
        if self.gone:
            return False
        self.status, self.heard = status, json.loads(body)
        return True


class ScriptedWatcher:
    """Says about the chain what the script tells it to say."""

    endpoints = None
    healthy = True
    fault = ""
    head = 0

    def __init__(self) -> None:
        self.block_is_earlier = False
        self.targets: dict[str, tuple[Target, Callable[[Finding], None]]] = {}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def watch(self, target: Target, on_finding: Callable[[Finding], None]) -> None:
        self.targets[target.key] = (target, on_finding)

    def hint(self, key: str, transaction: TxHash) -> None: ...

    async def is_earlier(self, block: int, moment: float) -> bool:
        return self.block_is_earlier

    def say(self, finding: Finding) -> None:
        for _, on_finding in list(self.targets.values()):
            on_finding(finding)


Answerer = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


class Scene:
    """One guardian, its facilitator's script, and its chain."""

    def __init__(
        self, *replies: Any, store: Store | None = None, watched: bool = True, **settle: Any
    ) -> None:
        self.replies = list(replies)
        self.settles: list[bytes] = []
        self.verifies: list[bytes] = []
        self.verify_reply: Any = httpx.Response(200, json={"isValid": True, "payer": PAYER.address.lower()})
        self.chain = ScriptedWatcher()
        self.store = store or MemoryStore()
        self.guardian = self._guardian(watched, settle)
        self.flow = self.guardian.settle

    def _guardian(self, watched: bool, settle: dict[str, Any]) -> Guardian:
        guardian = build(self.policy(settle), self.store, transport=httpx.MockTransport(self._facilitator))
        if watched:
            guardian.parts.watchers[NETWORK] = self.chain  # type: ignore[assignment]
        return guardian

    def policy(self, settle: dict[str, Any]) -> Policy:
        """What is in force; settle: keys of that section."""
        return Policy.model_validate(
            {
                "version": 1,
                "facilitators": [{"name": "main", "url": "http://facilitator"}],
                "networks": {NETWORK: NetworkPolicy(post_sign_delay_s=0, block_time_s=0.05)},
                "settle": settle,
            }
        )

    async def _facilitator(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/supported":
            return httpx.Response(404)
        if request.url.path == "/verify":
            self.verifies.append(request.content)
            return _said(self.verify_reply)
        self.settles.append(request.content)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, asyncio.Event):
            reply = (reply, settled())
        if isinstance(reply, tuple):
            event, reply = reply
            await event.wait()
        return _said(reply)

    def play(self, script: Callable[["Scene"], Awaitable[None]]) -> None:
        """Run a script against a started guardian; a script that hangs fails."""

        async def run() -> None:
            await self.guardian.start()
            try:
                async with asyncio.timeout(20):
                    await script(self)
            finally:
                await self.guardian.parts.tasks.finish(0)
                await self.guardian.stop()

        asyncio.run(run())

    async def settle(self, body: bytes) -> Caller:
        """A caller that waits for its answer."""
        caller = Caller(body, self.guardian.parts.generation)
        await self.flow.settle(caller)
        return caller

    def calling(self, body: bytes) -> tuple[Caller, "asyncio.Task[None]"]:
        """A caller that is still waiting."""
        caller = Caller(body, self.guardian.parts.generation)
        return caller, asyncio.get_running_loop().create_task(self.flow.settle(caller))

    async def record(self, key: str = "") -> Settlement:
        """The only record, or the one of a key."""
        records = await self.store.page()
        return next(record for record in records if not key or record.key == key)

    async def until(self, holds: Callable[[], Any]) -> None:
        """Wait for a fact of this process; the script's limit bounds it."""
        while not holds():
            await asyncio.sleep(0.002)

    async def until_record(self, holds: Callable[[Settlement], Any]) -> Settlement:
        """Wait until the newest record is so."""
        while not (records := await self.store.page()) or not holds(records[0]):
            await asyncio.sleep(0.002)
        return records[0]


def _said(reply: Any) -> httpx.Response:
    if isinstance(reply, Exception):
        raise reply
    return httpx.Response(reply.status_code, content=reply.content, headers=reply.headers)


def settled(transaction: str = TX) -> httpx.Response:
    """A facilitator's success."""
    return httpx.Response(
        200,
        json={
            "success": True,
            "transaction": transaction,
            "network": NETWORK,
            "payer": PAYER.address.lower(),
        },
    )


def refused(reason: str, *, status: int = 200, transaction: str = "", message: str = "") -> httpx.Response:
    """A facilitator's failure in a complete body."""
    body = {
        "success": False,
        "errorReason": reason,
        "errorMessage": message,
        "transaction": transaction,
        "network": NETWORK,
        "payer": PAYER.address.lower(),
    }
    return httpx.Response(status, json=body)
