"""A stage for the agent plane: a real server in front of an upstream whose every byte a test decides."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from guardian.app import build
from guardian.edge.agent_plane import AgentPlane
from guardian.edge.callers import Door
from guardian.edge.data_port import DataPort
from guardian.edge.facilitator_plane import FacilitatorPlane
from guardian.flow.paid import PaidFlow
from guardian.listener import Bounded, ListenerConfig
from guardian.policy.model import Policy
from guardian.store.memory import MemoryStore
from guardian.upstream.client import Upstreams
from guardian.upstream.limits import Limits

LIMIT_S = 15.0
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

LOOP = uvicorn.Config("", log_config=None).get_loop_factory()
"""As `guardian serve` has it."""

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


class Asked:
    """A request as it came to the upstream. body: what came with it when its length was named."""

    def __init__(self, head: bytes, reader: Reader, writer: Writer) -> None:
        line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        self.line = line
        self.head = head
        self.headers = [tuple(one.split(b": ", 1)) for one in lines]
        self.reader, self.writer = reader, writer
        self.body = b""

    def all(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.headers if found.lower() == name]

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    async def chunk(self) -> bytes:
        size = int(await self.reader.readline(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Until the guardian has let go of this connection."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass


Script = Callable[[Asked], Awaitable[None]]


async def answer_ok(asked: Asked) -> None:
    await asked.say(OK)


class Upstream:
    """A bare server. script: what is done with each request, after its head (and its body, if its length
    is named and `whole`)."""

    def __init__(self) -> None:
        self.script: Script = answer_ok
        self.whole = True
        self.requests: list[Asked] = []
        self.connections = 0
        self.arrived: asyncio.Queue[Asked] = asyncio.Queue()

    async def serve(self, reader: Reader, writer: Writer) -> None:
        self.connections += 1
        try:
            while head := await _head(reader):
                asked = Asked(head, reader, writer)
                length = asked.all(b"content-length")
                if length and self.whole:
                    asked.body = await reader.readexactly(int(length[0]))
                self.requests.append(asked)
                self.arrived.put_nowait(asked)
                await self.script(asked)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _head(reader: Reader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


class Answer:
    """What a caller heard. whole: the answer was ended as its head says."""

    def __init__(self, head: bytes) -> None:
        line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        self.status = int(line.split(b" ")[1])
        self.headers = [tuple(one.split(b": ", 1)) for one in lines]
        self.body = b""
        self.trailers: list[bytes] = []
        self.whole = False

    def all(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.headers if found == name]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection to the guardian."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Answer:
        return Answer(await self.reader.readuntil(b"\r\n\r\n"))

    async def chunk(self) -> bytes:
        size = int(await self.reader.readline(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def hear(self, *, bodiless: bool = False) -> Answer:
        """A whole answer, or as much of one as comes."""
        answer = await self.head()
        try:
            if bodiless or answer.status in (204, 304):
                pass
            elif length := answer.all(b"content-length"):
                answer.body = await self.reader.readexactly(int(length[0]))
            else:
                while part := await self.chunk_or_end(answer):
                    answer.body += part
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            return answer
        answer.whole = True
        return answer

    async def chunk_or_end(self, answer: Answer) -> bytes:
        size = int(await self.reader.readline(), 16)
        if size:
            return (await self.reader.readexactly(size + 2))[:-2]
        while (line := await self.reader.readline()) != b"\r\n":
            if not line:
                raise asyncio.IncompleteReadError(b"", 1)
            answer.trailers.append(line.strip())
        return b""

    async def ask(self, target: bytes, *lines: bytes, method: bytes = b"GET", body: bytes = b"") -> Answer:
        await self.say(request(target, *lines, method=method, body=body))
        return await self.hear(bodiless=method == b"HEAD")

    def leave(self) -> None:
        self.writer.transport.abort()


def request(target: bytes, *lines: bytes, method: bytes = b"GET", body: bytes = b"") -> bytes:
    if body:
        lines = (*lines, b"content-length: %d" % len(body))
    return b"\r\n".join((method + b" " + target + b" HTTP/1.1", b"host: guardian:8402", *lines, b"", body))


class Stage:
    """A guardian with the route `weather` to an upstream at `base`, and the route `dead` to nobody."""

    def __init__(self, *, base: str = "", limits: Limits | None = None, paid: PaidFlow | None = None) -> None:
        self.upstream = Upstream()
        self._base = base
        self._limits = limits or Limits()
        self._paid = paid
        self.callers: dict[str, Any] = {}
        self._clients: list[Client] = []

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20))
        self._clients.append(client)
        return client

    async def ask(self, target: bytes, *lines: bytes, method: bytes = b"GET", body: bytes = b"") -> Answer:
        return await (await self.client()).ask(target, *lines, method=method, body=body)

    def play(self, script: "Callable[[Stage], Awaitable[None]]") -> None:
        async def run() -> None:
            async with asyncio.timeout(LIMIT_S):
                await self._run(script)

        with asyncio.Runner(loop_factory=LOOP) as runner:
            runner.run(run())

    async def _run(self, script: "Callable[[Stage], Awaitable[None]]") -> None:
        server = await asyncio.start_server(self.upstream.serve, "127.0.0.1", 0, limit=1 << 20)
        self.upstream_port = server.sockets[0].getsockname()[1]
        upstreams = Upstreams(self._limits)
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        app = self.app = await self._app(upstreams)
        config = self.config = ListenerConfig(
            app,
            http=Bounded,
            lifespan="off",
            log_config=None,
            server_header=False,
            proxy_headers=False,
            ws="none",
        )
        config.load()
        state = ServerState()
        state.default_headers.append((b"date", b"today"))
        guardian = await asyncio.get_running_loop().create_server(
            lambda: Bounded(config, state, {}), sock=listening
        )
        try:
            await script(self)
        finally:
            for client in self._clients:
                client.leave()
            await upstreams.aclose()
            guardian.close()
            server.close()
            await server.wait_closed()
            async with asyncio.timeout(LIMIT_S):
                await asyncio.gather(*state.tasks)
            await self.parts.store.close()

    async def _app(self, upstreams: Upstreams) -> DataPort:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            self.dead_port = nobody.getsockname()[1]
        guardian = build(self.policy(), MemoryStore())
        parts = self.parts = guardian.parts
        await parts.store.open()
        facilitators = FacilitatorPlane(parts, guardian.settle, guardian.verify)
        door = Door()
        return DataPort(parts, AgentPlane(parts, upstreams, door, self._paid), facilitators)

    def policy(self, **names: str) -> Policy:
        """The routes in force, and others by name."""
        routes = {
            "weather": f"http://127.0.0.1:{self.upstream_port}{self._base}",
            "dead": f"http://127.0.0.1:{self.dead_port}",
            **names,
        }
        listed = [{"name": name, "upstream": url} for name, url in routes.items()]
        return Policy.model_validate({"version": 1, "routes": listed, "callers": self.callers})


def says(data: bytes) -> Script:
    """An upstream that always says the same."""

    async def script(asked: Asked) -> None:
        await asked.say(data)

    return script


def head(status: bytes, *lines: bytes) -> bytes:
    """The head of a reply."""
    return b"\r\n".join((b"HTTP/1.1 " + status, *lines, b"", b""))


def play(script: Callable[[Stage], Awaitable[None]], *, base: str = "", limits: Limits | None = None) -> None:
    """A script on a stage of its own."""
    Stage(base=base, limits=limits).play(script)


async def settled(count: Callable[[], int]) -> int:
    """A number, once it has stopped growing."""
    before, still = -1, 0
    while still < 5:
        await asyncio.sleep(0.03)
        now = count()
        still = still + 1 if now == before and now > 0 else 0
        before = now
    return before
