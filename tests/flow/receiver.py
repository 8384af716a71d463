"""A receiver of webhooks on localhost: real HTTP, and an answer for each request as the script says."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Self

from standardwebhooks import Webhook as Verifier

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HANGS = 0


@dataclass(frozen=True, slots=True)
class Got:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    @property
    def kind(self) -> str:
        return str(self.event["type"])

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str = SECRET) -> dict[str, Any]:
        """Raises where the signature is not good, by somebody else's implementation."""
        return dict(Verifier(secret).verify(self.body, self.headers))


class Receiver:
    """says: statuses in order, or whole replies; the last one for ever; HANGS for no answer at all."""

    def __init__(self, *says: int | bytes) -> None:
        self.says: list[int | bytes] = list(says) or [200]
        self.got: list[Got] = []
        self.taken: list[Got] = []
        self._changed = asyncio.Condition()
        self._over = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hooks"
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._over.set()
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                await self._answer(writer, Got(head[0].split(" ")[1], headers, body))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, got: Got) -> None:
        says = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        self.got.append(got)
        async with self._changed:
            self._changed.notify_all()
        if says == HANGS:
            await self._over.wait()
            raise ConnectionError
        if isinstance(says, int):
            if 200 <= says < 300:
                self.taken.append(got)
            says = b"HTTP/1.1 %d x\r\ncontent-length: 0\r\n\r\n" % says
        writer.write(says)
        await writer.drain()

    async def until(self, count: int) -> list[Got]:
        """The requests, once there are so many."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.got) >= count)
        return self.got

    @property
    def kinds(self) -> list[str]:
        return [got.kind for got in self.got]
