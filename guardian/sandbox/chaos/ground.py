"""What runs in a trial: chain, facilitators, nodes that lie, Redis, and replicas of the guardian with a cable
between each of them and what it needs. Starts, restarts and stops; no faults and no load.
"""

import asyncio
import contextlib
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from guardian.sandbox.cable import Cable
from guardian.sandbox.chaos.schedule import StoreKind
from guardian.sandbox.lying_node import LyingNode
from guardian.sandbox.node import SandboxError
from guardian.sandbox.process import Process, answers, python_module
from guardian.sandbox.redis_server import HOST, SERVICE, RedisServer, RedisWithSentinel
from guardian.sandbox.world import World, free_port, http_json

HOLD_S, HOLD_WITHOUT_HASH_S = 6.0, 12.0
CONFIRMATIONS = 2
SUPERVISION_S = 0.1
PAGE = 200

DOWN_AFTER_S = 2.0
"""A busy machine must not look like a dead primary: nothing may fail over once everything is healed."""
RESTART_PAUSE_S = 0.3
CLOCK_SHIM = Path(__file__).parent / "clock"


@dataclass(slots=True)
class Life:
    """One process of a replica, from start to end (Unix seconds)."""

    number: int
    begun: float
    ended: float | None = None
    how: str = ""


class SentinelCable(Cable):
    """A cable to a sentinel that names, instead of the servers, the cables to them. All ports have five
    digits, so the lengths in the protocol stay right."""

    def __init__(self, port: int, renamed: dict[int, int]) -> None:
        super().__init__(HOST, port)
        self._renamed = [(f"\n{old}\r".encode(), f"\n{new}\r".encode()) for old, new in renamed.items()]

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The same, with other ports in what passes."""
        original, renamed = writer.write, self._renamed

        def write(piece: bytes) -> None:
            for old, new in renamed:
                piece = piece.replace(old, new)
            original(piece)

        writer.write = write  # type: ignore[method-assign,assignment]
        await super()._carry(reader, writer)


@dataclass(slots=True)
class Replica:
    """A guardian and its supervisor, which starts it again whenever it has ended."""

    number: int
    url: str
    ops_url: str
    command: list[str]
    log: Path
    clock: Path
    to_chain: Cable
    to_store: list[Cable]
    process: Process | None = None
    up: bool = False
    wanted: bool = True
    lives: list[Life] = field(default_factory=list)

    @property
    def life(self) -> int:
        return self.lives[-1].number if self.lives else 0

    def start(self) -> None:
        paths = [str(CLOCK_SHIM), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {"PYTHONPATH": os.pathsep.join(paths), "GUARDIAN_SANDBOX_CLOCK": str(self.clock)}
        self.process = Process(f"guardian-{self.number}", self.command, self.log, env=environment)
        self.lives.append(Life(len(self.lives) + 1, time.time()))

    def ended(self, how: str) -> None:
        self.up = False
        if self.lives and self.lives[-1].ended is None:
            self.lives[-1].ended, self.lives[-1].how = time.time(), how

    async def supervise(self) -> None:
        """For ever: start what has ended, and say when it can be asked."""
        while True:
            if self.process is None or not self.process.alive:
                if self.process is not None:
                    self.ended(f"exit {self.process.returncode}")
                    await asyncio.sleep(RESTART_PAUSE_S)
                if self.wanted:
                    self.start()
            elif not self.up and self.wanted:
                self.up = await asyncio.to_thread(answers, f"{self.ops_url}/healthz") and self.process.alive
            await asyncio.sleep(SUPERVISION_S)

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.alive:
            os.kill(self.process.pid, number)


class Ground:
    """Everything, started and stopped together. A context manager."""

    def __init__(self, directory: Path, *, replicas: int, facilitators: int, store: StoreKind) -> None:
        self.directory = directory
        self.store_kind: StoreKind = store
        self._count = replicas
        self.world = World(
            mining=1.0, facilitators=facilitators, confirmation_timeout_s=3.0, directory=directory
        )
        self.redis: RedisServer | None = None
        self.sentinel: RedisWithSentinel | None = None
        self.replicas: list[Replica] = []
        self.node: LyingNode
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.world)
            self.node = stack.enter_context(LyingNode(self.world.chain.url))
            if self.store_kind == "redis":
                self.redis = stack.enter_context(RedisServer(self.directory / "redis"))
            elif self.store_kind == "sentinel":
                self.sentinel = stack.enter_context(
                    RedisWithSentinel(self.directory / "redis", down_after_s=DOWN_AFTER_S)
                )
            stack.callback(self._stop_replicas)
            self.replicas = [self._replica(number, stack) for number in range(self._count)]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _stop_replicas(self) -> None:
        for replica in self.replicas:
            if replica.process is not None:
                replica.process.kill()

    def _replica(self, number: int, stack: ExitStack) -> Replica:
        to_chain = stack.enter_context(Cable(HOST, self.world.chain.port))
        to_store, store = self._store(stack)
        policy, clock = self.directory / f"guardian-{number}.yaml", self.directory / f"clock-{number}"
        policy.write_text(self._policy(f"http://{HOST}:{to_chain.port}"))
        clock.write_text("0")
        listen, ops = f"{HOST}:{free_port()}", f"{HOST}:{free_port()}"
        command = python_module(
            *("guardian.cli", "serve", "--policy", str(policy), "--listen", listen),
            *("--ops-listen", ops, "--store", store),
        )
        log = self.directory / f"guardian-{number}.log"
        return Replica(number, f"http://{listen}", f"http://{ops}", command, log, clock, to_chain, to_store)

    def _store(self, stack: ExitStack) -> tuple[list[Cable], str]:
        if self.redis is not None:
            cable = stack.enter_context(Cable(HOST, self.redis.port))
            return [cable], f"redis://{HOST}:{cable.port}/0?timeout=2s"
        if self.sentinel is not None:
            servers = [self.sentinel.primary, self.sentinel.replica]
            cables = [stack.enter_context(Cable(HOST, server.port)) for server in servers]
            renamed = {server.port: cable.port for server, cable in zip(servers, cables, strict=True)}
            ask = stack.enter_context(SentinelCable(self.sentinel.sentinel_port, renamed))
            return [*cables, ask], f"redis+sentinel://{HOST}:{ask.port}/{SERVICE}/0?wait=1&timeout=3s"
        return [], f"sqlite:///{self.directory / 'guardian.db'}"

    def _policy(self, chain_url: str) -> str:
        facilitators = [
            f"  - {{name: f{n}, url: '{one.url}', order: 1}}" for n, one in enumerate(self.world.facilitators)
        ]
        lines = [
            "version: 1",
            "facilitators:",
            *facilitators,
            "networks:",
            f"  {self.world.chain.network}:",
            f"    rpc: ['{chain_url}', '{self.node.url}']",
            "    settlement_timeout: 6s",
            "    block_time: 1s",
            "    post_sign_delay: 0s",
            f"    confirmations: {CONFIRMATIONS}",
            "    finality: 3",
            f"settle: {{hold: {HOLD_S:g}s, hold_without_hash: {HOLD_WITHOUT_HASH_S:g}s}}",
            "circuit: {failure_threshold: 5, recovery_time: 3s}",
        ]
        return "\n".join(lines) + "\n"

    async def ready(self, limit_s: float = 60.0) -> None:
        """Until every replica says that it is ready. Raises TimeoutError."""
        waiting = list(self.replicas)
        async with asyncio.timeout(limit_s):
            while waiting:
                if waiting[0].up and await asyncio.to_thread(_is_ready, waiting[0]):
                    waiting.pop(0)
                else:
                    await asyncio.sleep(SUPERVISION_S)

    def _page(self, path: str) -> list[dict[str, object]]:
        """Asked of each replica in turn: a machine at its limit takes its time."""
        for replica in (*self.replicas, *self.replicas):
            with contextlib.suppress(OSError):
                return list(http_json(replica.ops_url + path)["settlements"])
        raise SandboxError(f"no replica gives {path}")

    def pages(self, path: str) -> list[dict[str, object]]:
        """All records that a replica lists there, newest first."""
        found: list[dict[str, object]] = []
        before = ""
        while True:
            page = self._page(f"{path}limit={PAGE}{before}")
            found += page
            if len(page) < PAGE:
                return found
            before = f"&before={page[-1]['created_at']!r}"


def _is_ready(replica: Replica) -> bool:
    try:
        return bool(http_json(f"{replica.ops_url}/readyz")["ready"])
    except OSError:
        return False
