"""Counts what a seller hands out; pure ASGI.

Imports nothing of the guardian: the v1 seller loads it in a venv of its own.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
PAID_PATH = "/weather"


class Counting:
    """Wraps an application. worked: the handler ran; delivered: 200 went out; refused: anything else."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.counts = {"worked": 0, "delivered": 0, "refused": 0}

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http" or scope["path"] != PAID_PATH:
            await self.app(scope, receive, send)
            return

        async def counting_send(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                self.counts["delivered" if message["status"] == 200 else "refused"] += 1
                print(
                    json.dumps({"path": scope["path"], "status": message["status"], **self.counts}),
                    flush=True,
                )

        await self.app(scope, receive, counting_send)
