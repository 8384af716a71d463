"""The connections to Redis: bounded, every operation with a deadline, every error translated.

An operation that got no answer is asked again until its deadline, so only what may happen twice is
ever sent from here (the scripts see to that). After the deadline nobody knows whether it happened:
StoreUnavailable, and nothing is sent for it (law 10). No key, no script and no record here.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from redis.asyncio.sentinel import Sentinel
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from guardian.errors import GuardianError, StoreUnavailable
from guardian.store.redis_dial import Dialer
from guardian.store.redis_pipe import Command, Pipes
from guardian.store.redis_scripts import Script
from guardian.store.redis_url import RedisAddress, Topology

LINES = 8
"""Round trips under way at once, for reads and for writes each: while they last, others gather."""

BATCH = 50
"""Commands in one round trip: some hundred kB at most."""

CLUSTER_LINES = 32
"""A Cluster's client takes one command at a time."""

SPARE = 4
"""Connections for what is not sent in batches."""

ATTEMPTS = 12
PAUSE_FIRST_S = 0.02
PAUSE_CAP_S = 0.5
"""A failover takes seconds; the deadline usually ends it first."""

REPLICA_SHARE = 0.5
"""How much of one attempt's time WAIT may use, so that its answer still comes in time."""

T = TypeVar("T")
log = logging.getLogger("guardian")

_FINAL = (AuthenticationError, AuthorizationError)
_AGAIN = (
    RedisConnectionError,
    RedisTimeoutError,
    ReadOnlyError,
    ClusterDownError,
    SlotNotCoveredError,
    TryAgainError,
    OSError,
)
_PASSING = ("READONLY", "LOADING", "BUSY", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "NOREPLICAS")
"""States of a server that pass. Inside a script's error they stand in the middle of the text."""

_PERMISSION = "the user lacks a permission: see docs/redis.md for what it needs"
_LOGIN = "Redis refuses the user or the password: give them in the URL, or with password_file="
_CURES = (
    ("maxmemory", "Redis is out of memory: raise maxmemory, or prune older records"),
    ("MISCONF", "Redis cannot write to its disk: see its log"),
    ("no permission", _PERMISSION),
    ("can't run this command", _PERMISSION),  # inside a script, Redis 6
    ("Authentication required", _LOGIN),
    ("WRONGPASS", _LOGIN),
    ("username-password", _LOGIN),
    (
        "No master found",
        "no sentinel names a primary: look at the sentinels, and at the service in the store URL",
    ),
    ("connecting to", "Redis cannot be reached: look whether it runs, and at host and port of the store URL"),
)
"""By words of the error, because a script wraps it and the client takes its code away."""

_CURED = tuple(cure for _, cure in _CURES)


class _NotReplicated(RedisError):
    """Fewer replicas than demanded have the write."""


class Link:
    """One store's way to its server, sentinels or cluster. refusal: why it serves nothing just now."""

    def __init__(self, address: RedisAddress) -> None:
        self.address = address
        self.refusal = ""
        self._client: Any = None
        self._turn = -1
        self._sentinel: Sentinel | None = None
        lines, batch = (CLUSTER_LINES, 1) if self.is_cluster else (LINES, BATCH)
        self._reads = Pipes(self._execute_reads, lines=lines, batch=batch)
        self._writes = Pipes(self._execute_writes, lines=lines, batch=batch)
        # Two attempts within the deadline at least: the first one may meet a connection that is dead.
        self._attempt_s = address.timeout_s * 0.4
        self._dialer = Dialer(address, self._attempt_s)

    async def open(self) -> None:
        """Make the clients; the first command connects. Raises StoreUnavailable."""
        try:
            await self._dialer.prepare()
        except (OSError, ValueError) as exc:
            raise StoreUnavailable(f"the certificates for TLS cannot be read: {exc}") from exc
        self._sentinel = self._dialer.sentinel()
        if self.is_cluster:
            # A redirected command may need a second connection.
            self._client = self._dialer.cluster(3 * CLUSTER_LINES)
        else:
            self._client = self._dialer.primary(self._sentinel, 2 * LINES + SPARE)
        self.refusal = ""

    async def close(self) -> None:
        client, self._client = self._client, None
        await self._reads.close()
        await self._writes.close()
        if client is not None:
            await client.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()
            self._sentinel = None

    @property
    def is_cluster(self) -> bool:
        return self.address.topology is Topology.CLUSTER

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """One reply for each command. Only reads, and what may be done twice."""
        if not commands:
            return []
        return await self.in_time(partial(self._ask_once, commands))

    async def run(self, script: Script, keys: Sequence[str], values: Sequence[object]) -> Any:
        """What a script returns; with `wait=`, once so many replicas have what it wrote."""
        return await self.in_time(partial(self._run_once, script, (len(keys), *keys, *values)))

    async def on_primaries(self, *command: object) -> list[Any]:
        """The reply of each server that takes writes; raises ResponseError as the server words it."""
        return await self.in_time(partial(self._on_primaries_once, command), raw=True)

    async def named(self, pattern: str, step: int) -> AsyncIterator[list[str]]:
        """The keys that match, server by server. What moves between two of them meanwhile may be met twice,
        or not at all. step: keys looked at in one round trip."""
        for server in await self.in_time(self._primaries):
            cursor = -1
            while cursor:
                asked = ("SCAN", max(cursor, 0), "MATCH", pattern, "COUNT", step)
                said, found = await self.in_time(partial(server.execute_command, *asked))
                cursor = int(said)
                yield [name.decode() for name in found]

    def listener(self) -> Any:
        """A client of its own, for subscribing; the caller closes it."""
        if not self.is_cluster:
            return self._dialer.primary(self._sentinel, 1)
        # Classic messages reach every node of a cluster, so any one will do; none twice in a row.
        nodes = [(node.host, node.port) for node in self._client.get_primaries()] if self._client else []
        servers = nodes or list(self.address.servers)
        self._turn += 1
        return self._dialer.server(*servers[self._turn % len(servers)], 1)

    async def in_time(self, attempt: Callable[[], Awaitable[T]], *, raw: bool = False) -> T:
        """The result of an attempt that succeeds before the deadline; raises StoreUnavailable.

        raw: let the server's own refusal through as ResponseError, and ask although it is refused.
        """
        if self._client is None:
            raise StoreUnavailable("the store is not open")
        if self.refusal and not raw:
            raise StoreUnavailable(self.refusal)
        faults: list[Exception] = []
        try:
            async with asyncio.timeout(self.address.timeout_s):
                return await self._until_answered(attempt, faults)
        except TimeoutError as exc:
            last = f" ({_said(faults[-1])})" if faults else ""
            limit = f"{self.address.timeout_s:g} s{last}"
            raise StoreUnavailable(
                f"Redis gave no answer within {limit}; a write may be done all the same"
            ) from exc
        except ResponseError as exc:
            if raw:
                raise
            raise unavailable(exc) from exc
        except GuardianError:
            raise
        except Exception as exc:  # whatever the client came upon, the answer is not known: fail closed
            raise unavailable(exc) from exc

    async def _until_answered(self, attempt: Callable[[], Awaitable[T]], faults: list[Exception]) -> T:
        pause_s = PAUSE_FIRST_S
        for left in reversed(range(ATTEMPTS)):
            try:
                return await attempt()
            except (RedisError, RedisClusterException, OSError, RuntimeError) as exc:
                if not left or not _passes(exc):
                    raise
                faults.append(exc)
                await self._let_go()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_CAP_S)
        raise AssertionError("the last attempt returns or raises")

    async def _ask_once(self, commands: Sequence[Command]) -> list[Any]:
        if len(commands) == 1:
            return [await self._reads.send(commands[0])]
        return list(await asyncio.gather(*(self._reads.send(command) for command in commands)))

    async def _run_once(self, script: Script, values: tuple[object, ...]) -> Any:
        try:
            return await self._writes.send(("EVALSHA", script.sha, *values))
        except NoScriptError:  # a restart, a failover or SCRIPT FLUSH: EVAL brings it along
            return await self._writes.send(("EVAL", script.text, *values))

    async def _execute(self, commands: list[Command]) -> list[Any]:
        client = self._client
        if client is None:
            raise StoreUnavailable("the store is closed")
        async with asyncio.timeout(self.address.timeout_s):
            if self.is_cluster:
                return [await client.execute_command(*commands[0])]
            async with client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                replies: list[Any] = await pipe.execute(raise_on_error=False)
                return replies

    async def _execute_reads(self, commands: list[Command]) -> list[Any]:
        """Where writes want a replica, a primary without any is not believed: for some seconds after a
        failover the old one takes itself for it still, and what it says is old."""
        if not self.address.wait:
            return await self._execute(commands)
        *replies, about = await self._execute([*commands, ("INFO", "replication")])
        if isinstance(about, Exception):
            raise about
        if not about.get("connected_slaves"):
            raise _NotReplicated("no replica follows the primary: it may be an old one")
        return replies

    async def _execute_writes(self, commands: list[Command]) -> list[Any]:
        """One WAIT behind all of them: it looks at everything that this connection has written."""
        wanted = self.address.wait
        if not wanted:
            return await self._execute(commands)
        limit_ms = int(self._attempt_s * REPLICA_SHARE * 1000)
        *replies, have = await self._execute([*commands, ("WAIT", wanted, limit_ms)])
        if isinstance(have, Exception):
            raise have
        if have < wanted:
            raise _NotReplicated(f"{have} of {wanted} replicas have the write")
        return replies

    async def _on_primaries_once(self, command: Command) -> list[Any]:
        servers = await self._primaries()
        return list(await asyncio.gather(*(server.execute_command(*command) for server in servers)))

    async def _primaries(self) -> list[Any]:
        if not self.is_cluster:
            return [self._client]
        await self._client.initialize()
        return list(self._client.get_primaries())

    async def _let_go(self) -> None:
        """Of idle connections: they may be as dead as this one, or lead to what is a replica now."""
        if not self.is_cluster and self._client is not None:  # a Cluster's client does it itself
            try:
                await self._client.connection_pool.disconnect(inuse_connections=False)
            except asyncio.CancelledError:  # of another task that lets go of the same connections
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
            except (RedisError, OSError, RuntimeError) as exc:
                log.debug("a broken connection could not be closed: %s", exc)


def unavailable(exc: Exception) -> StoreUnavailable:
    """Redis's error as ours, with the cure where one is known; it holds no stored value."""
    said = _said(exc)
    return StoreUnavailable(said if said.startswith(_CURED) else f"Redis failed: {said}")


def _said(exc: Exception) -> str:
    text = str(exc).partition(" : <")[0]  # behind it a list of clients, as Python shows them
    cure = next((cure for word, cure in _CURES if word in text), "")
    return f"{cure} ({_shortened(text)})" if cure else _shortened(text)


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "…"


def _passes(exc: Exception) -> bool:
    """Whether the next attempt may find another state."""
    if isinstance(exc, _FINAL):
        return False
    if isinstance(exc, RuntimeError):  # uvloop's word for a connection that broke meanwhile
        return "closed" in str(exc)
    return isinstance(exc, (*_AGAIN, _NotReplicated)) or _names(exc, *_PASSING)


def _names(exc: Exception, *words: str) -> bool:
    return isinstance(exc, ResponseError) and any(word in str(exc) for word in words)
