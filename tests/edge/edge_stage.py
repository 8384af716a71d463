"""A stage for the edge: an ASGI application before facilitators that remember what reached them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from guardian.app import Guardian, build
from guardian.policy.model import NetworkPolicy, Policy
from guardian.store.memory import MemoryStore
from guardian.store.protocol import Store
from tests.flow.scene import NETWORK, PAYER, settled

KINDS = {
    "kinds": [{"x402Version": 2, "scheme": "exact", "network": NETWORK}],
    "extensions": [],
    "signers": {},
}


class Stage:
    """One guardian, served in process. replies: by the path's last part, a response or a handler;
    supported: what /supported answers from the start."""

    def __init__(
        self, urls: dict[str, str] | None = None, *, store: Store | None = None, supported: Any = None
    ) -> None:
        self.requests: list[httpx.Request] = []
        self.replies: dict[str, Any] = {
            "settle": settled(),
            "verify": httpx.Response(200, json={"isValid": True, "payer": PAYER.address.lower()}),
            "supported": supported or httpx.Response(200, json=KINDS),
        }
        self.store = store or MemoryStore()
        self.guardian = self._build(urls or {"main": "http://facilitator"})

    def _build(self, urls: dict[str, str]) -> Guardian:
        policy = Policy.model_validate(
            {
                "version": 1,
                "facilitators": [{"name": name, "url": url} for name, url in urls.items()],
                "networks": {NETWORK: NetworkPolicy(post_sign_delay_s=0, block_time_s=0.05)},
                "retry": {"attempts": 1},
            }
        )
        return build(policy, self.store, transport=httpx.MockTransport(self._facilitator))

    async def _facilitator(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        reply = self.replies.get(request.url.path.rsplit("/", 1)[-1], httpx.Response(404, text="not here"))
        if isinstance(reply, Exception):
            raise reply
        if callable(reply):
            return await reply(request)
        return httpx.Response(reply.status_code, headers=reply.headers.raw, content=reply.content)

    def play(self, script: Callable[["Stage", httpx.AsyncClient], Awaitable[None]]) -> None:
        """Run a script with a client of the data port."""
        self._play(script, self.guardian.data)

    def play_operations(self, script: Callable[["Stage", httpx.AsyncClient], Awaitable[None]]) -> None:
        """Run a script with a client of the operations port."""
        self._play(script, self.guardian.operations)

    def _play(self, script: Callable[["Stage", httpx.AsyncClient], Awaitable[None]], app: Any) -> None:
        async def run() -> None:
            await self.guardian.start()
            self.requests.clear()  # what it asked on its own account
            try:
                async with asyncio.timeout(20), client(app) as http:
                    await script(self, http)
            finally:
                await self.guardian.parts.tasks.finish(0)
                await self.guardian.stop()

        asyncio.run(run())

    @property
    def paths(self) -> list[str]:
        """Where the facilitators' requests went, with their hosts."""
        return [f"{request.url.host}{request.url.path}" for request in self.requests]


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://guardian")


class RawCaller:
    """A caller in bare ASGI: its messages one by one, and what it was sent."""

    def __init__(self, *messages: dict[str, Any], path: str = "/settle", headers: Any = ()) -> None:
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": list(headers),
        }
        self.messages = list(messages)
        self.left = asyncio.Event()
        self.sent: list[Any] = []

    async def receive(self) -> dict[str, Any]:
        if self.messages:
            return self.messages.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def call(self, app: Any) -> None:
        await app(self.scope, self.receive, self.send)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def heard(self) -> Any:
        return json.loads(self.sent[1]["body"])


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}
