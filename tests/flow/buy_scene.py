"""A stage for the agent's side: seller said, chain said → agent heard, record shows.

The real flow over a store, the seller a list of replies on the plane's seam, the chain a watcher that
says what the script tells it to say. Signatures are real.
"""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

from guardian.app import Guardian, build
from guardian.flow.buy import BuyFlow
from guardian.flow.sealing import Sealing
from guardian.flow.signatures import Signatures
from guardian.policy.model import NetworkPolicy, Policy
from guardian.settlement.record import AGENT, Settlement
from guardian.store.memory import MemoryStore
from guardian.store.protocol import Store
from guardian.upstream.reply import Reply, whole_reply
from tests.flow.scene import NETWORK, ScriptedWatcher, signed_payment

GOODS = b'{"weather":"sunny"}'
URL = "http://shop/weather"
Says = Reply | Exception | Awaitable[Any]


def goods(body: bytes = GOODS, status: int = 200, **receipt: Any) -> Reply:
    """What was paid for. receipt: of the settlement, where the seller says any."""
    headers = [(b"content-type", b"application/json")]
    if receipt:
        headers.append((b"payment-response", base64.b64encode(json.dumps(receipt).encode())))
    return whole_reply(status, headers, body)


def refusal(status: int = 402, *, transaction: str = "", reason: str = "settlement_pending") -> Reply:
    """A seller's refusal as the SDKs write it."""
    said = {"success": False, "errorReason": reason, "transaction": transaction, "network": NETWORK}
    return whole_reply(status, [(b"payment-response", base64.b64encode(json.dumps(said).encode()))], b"{}")


def demand(**changes: Any) -> Reply:
    """A 402 that wants what `signed` signs."""
    terms = json.loads(signed_payment())["paymentRequirements"] | changes
    said = {"x402Version": 2, "resource": {"url": URL}, "accepts": [terms]}
    return whole_reply(402, [(b"payment-required", base64.b64encode(json.dumps(said).encode()))], b"{}")


def signed(nonce: int = 1, **how: Any) -> tuple[bytes, bytes]:
    """A payment in its header."""
    payload = json.loads(signed_payment(nonce, **how))["paymentPayload"]
    return b"payment-signature", base64.b64encode(json.dumps(payload).encode())


class Agent:
    """One request on its way through the plane, and what its sender heard."""

    method = "GET"
    url = URL
    caller = ""

    def __init__(
        self, scene: "BuyScene", *headers: tuple[bytes, bytes], demanded: Reply | None = None
    ) -> None:
        self.scene = scene
        self.generation = scene.guardian.parts.generation
        self.headers = list(headers)
        self.body = b""
        self.route = "shop"
        self.demand = demanded
        self.gone = False
        self.breaks = False
        self.status = 0
        self.heard: list[Reply] = []
        self.said = b""

    async def ask(self, headers: Any = None, *, head_s: float | None = None) -> Reply:
        return await self.scene.seller(self.headers if headers is None else list(headers))

    async def answer(self, reply: Reply) -> bool:
        assert not self.heard, "answered twice"
        self.heard.append(reply)
        if self.gone:
            return False
        self.status = reply.status
        while (part := await reply.read()) is not None:
            self.said += part
        return not self.gone and not self.breaks

    @property
    def problem(self) -> dict[str, Any]:
        assert (b"content-type", b"application/problem+json") in self.heard[0].headers
        return dict(json.loads(self.said))


class BuyScene:
    """One guardian before one seller."""

    def __init__(
        self,
        *says: Any,
        store: Store | None = None,
        watched: bool = True,
        sealing: Sealing | None = None,
        callers: Any = None,
        route: dict[str, Any] | None = None,
        **settle: Any,
    ) -> None:
        """says: the seller's replies in order, the last one for ever; a callable makes a new one. route:
        its keys in the policy."""
        self.says = list(says)
        self.presented: list[list[tuple[bytes, bytes]]] = []
        self.asking = 0
        self.most_at_once = 0
        self.chain = ScriptedWatcher()
        self.store = store or MemoryStore()
        self.guardian: Guardian = build(self._policy(settle, route or {}), self.store)
        if watched:
            self.guardian.parts.watchers[NETWORK] = self.chain  # type: ignore[assignment]
        parts = self.guardian.parts
        self.flow = self.guardian.buy
        if sealing is not None:
            self.flow = BuyFlow(parts, self.guardian.settle, Signatures(parts), sealing)

    def _policy(self, settle: dict[str, Any], route: dict[str, Any]) -> Policy:
        network = NetworkPolicy(post_sign_delay_s=0, block_time_s=0.05)
        return Policy.model_validate(
            {
                "version": 1,
                "networks": {NETWORK: network},
                "settle": {"hold_s": 5.0, "hold_without_hash_s": 5.0} | settle,
                "routes": [{"name": "shop", "upstream": "http://shop", **route}],
            }
        )

    async def seller(self, headers: list[tuple[bytes, bytes]]) -> Reply:
        self.presented.append(headers)
        self.asking += 1
        self.most_at_once = max(self.most_at_once, self.asking)
        try:
            says = self.says.pop(0) if len(self.says) > 1 else self.says[0]
            if isinstance(says, Exception):
                raise says
            if isinstance(says, Reply):
                return says
            made = says()
            return made if isinstance(made, Reply) else await made
        finally:
            self.asking -= 1

    def play(self, script: Callable[["BuyScene"], Awaitable[None]]) -> None:
        """Run a script against a started guardian; a script that hangs fails."""

        async def run() -> None:
            await self.guardian.start()
            if self.flow is not self.guardian.buy:
                await self.flow.start()
            try:
                async with asyncio.timeout(20):
                    await script(self)
            finally:
                await self.guardian.parts.tasks.finish(0)
                await self.guardian.stop()

        asyncio.run(run())

    def agent(self, *headers: tuple[bytes, bytes], demanded: Reply | None = None) -> Agent:
        return Agent(self, *headers, demanded=demanded)

    async def buy(self, *headers: tuple[bytes, bytes], demanded: Reply | None = None) -> Agent:
        """An agent that waits for its answer."""
        agent = self.agent(*headers, demanded=demanded)
        await self.flow.handle(agent)
        return agent

    def buying(
        self, *headers: tuple[bytes, bytes], demanded: Reply | None = None
    ) -> tuple[Agent, "asyncio.Task[None]"]:
        """An agent that is still waiting."""
        agent = self.agent(*headers, demanded=demanded)
        return agent, asyncio.get_running_loop().create_task(self.flow.handle(agent))

    @property
    def nonces(self) -> list[int]:
        """Of the payments that reached the seller, in order."""
        return [_nonce_in(headers) for headers in self.presented]

    async def record(self, nonce: int = 1) -> Settlement:
        """The agent's record of a payment."""
        found = [one for one in await self.store.page() if one.plane == AGENT]
        return next(one for one in found if int(one.nonce, 16) == nonce)

    async def until(self, holds: Callable[[], Any]) -> None:
        """Wait for a fact of this process; the script's limit bounds it."""
        while not holds():
            await asyncio.sleep(0.002)

    async def until_record(self, holds: Callable[[Settlement], Any], nonce: int = 1) -> Settlement:
        """Wait until the record of a payment is so."""
        while True:
            found = [one for one in await self.store.page() if int(one.nonce, 16) == nonce]
            if found and holds(found[0]):
                return found[0]
            await asyncio.sleep(0.002)


def _nonce_in(headers: list[tuple[bytes, bytes]]) -> int:
    value = dict(headers).get(b"payment-signature", b"")
    if not value:
        return 0
    return int(json.loads(base64.b64decode(value))["payload"]["authorization"]["nonce"], 16)
