"""What a Redis server must be before a payment is entrusted to it, judged from what it says of itself.

The record has to be durable before the first byte of a settle leaves (law 2), so a server that may
forget is refused: no append-only file, a policy that evicts keys, a read-only replica. Asking is in
`look`, judging in `judge`, which does no I/O.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from guardian.errors import StoreUnavailable
from guardian.store.redis_link import Link
from guardian.store.redis_url import Durability, RedisAddress, Topology

log = logging.getLogger("guardian")

SETTINGS = ("appendonly", "appendfsync", "maxmemory-policy", "min-replicas-to-write")
CLOCKS_APART_S = 60.0
"""No round trip takes that long, and no clock in step is that far off."""

OLDEST = (6, 0)
"""Before Redis 6 a script could change something and then fail for want of memory."""


@dataclass(frozen=True, slots=True)
class Server:
    """What one server says of itself; "" where it does not say. at: its clock, Unix seconds, 0 for none."""

    version: str
    role: str
    replicas: int
    appendonly: str
    appendfsync: str
    eviction: str
    min_replicas: str
    at: float = 0.0


async def check_servers(link: Link, *, quiet: bool = False) -> str:
    """Why a server that takes writes is unfit, or ""; warns, unless quiet, where it is doubtful."""
    refusals, warnings = set[str](), set[str]()
    for server in await look(link):
        if not quiet and (apart := clocks_apart(server, time.time())):
            log.error("store: %s", apart)
        refusal, doubts = judge(server, link.address)
        refusals |= {refusal} - {""}
        warnings |= set(doubts)
    for warning in () if quiet else sorted(warnings):
        log.warning("store: %s", warning)
    return "; ".join(sorted(refusals))


async def look(link: Link) -> list[Server]:
    """Every server that takes writes. Managed services forbid CONFIG; INFO knows most of it too."""
    infos, *settings = await asyncio.gather(
        _answers(link, "INFO"), *(_answers(link, "CONFIG GET", name) for name in SETTINGS)
    )
    if not infos:
        raise StoreUnavailable("Redis refuses INFO: allow it to the guardian's user")
    return [_server(info, *(_of(reply, number) for reply in settings)) for number, info in enumerate(infos)]


async def _answers(link: Link, *command: str) -> list[dict[str, Any]]:
    try:
        return [_mapping(reply) for reply in await link.on_primaries(*command)]
    except ResponseError:
        return []


def _of(replies: list[dict[str, Any]], number: int) -> str:
    """The value of the one setting asked for, on the server of that number."""
    values = replies[number].values() if number < len(replies) else ()
    return next((str(value) for value in values), "")


def _mapping(reply: object) -> dict[str, Any]:
    return {_text(name): _text(value) for name, value in reply.items()} if isinstance(reply, Mapping) else {}


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _server(info: dict[str, Any], appendonly: str, appendfsync: str, eviction: str, least: str) -> Server:
    aof = {"1": "yes", "0": "no"}.get(info.get("aof_enabled", ""), "")
    return Server(
        version=info.get("redis_version", ""),
        role=info.get("role", ""),
        replicas=int(info.get("connected_slaves", "0")),
        appendonly=appendonly or aof,
        appendfsync=appendfsync,
        eviction=eviction or info.get("maxmemory_policy", ""),
        min_replicas=least,
        at=int(info.get("server_time_usec", "0")) / 1e6,
    )


def clocks_apart(server: Server, now: float) -> str:
    """What an operator should know of two clocks, or ""; hours and days of budgets go by them."""
    off_s = now - server.at
    if not server.at or abs(off_s) <= CLOCKS_APART_S:
        return ""
    return f"this machine's clock is {abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} that of Redis"


def judge(server: Server, address: RedisAddress) -> tuple[str, list[str]]:
    """(why it is refused, or ""; what the operator should know)."""
    if _version(server.version) < OLDEST:
        return f"Redis {server.version} is too old: use 6.0 or newer", []
    if server.role not in ("master", ""):
        return "this Redis is a read-only replica: name the primary, or use redis+sentinel://", []
    if server.eviction and server.eviction != "noeviction":
        return (
            f"maxmemory-policy is {server.eviction}: Redis would delete records of payments;"
            " set maxmemory-policy noeviction",
            [],
        )
    warnings: list[str] = []
    if not server.eviction:
        warnings.append("cannot see maxmemory-policy: it must be noeviction")
    refusal = _judge_file(server, address.durability, warnings)
    _judge_replicas(server, address, warnings)
    return refusal, warnings


def _judge_file(server: Server, demanded: Durability, warnings: list[str]) -> str:
    if demanded is Durability.NONE:
        if server.appendonly != "yes":
            warnings.append("durability=none: payments are lost with the server; for trials only")
        return ""
    if server.appendonly == "no":
        return (
            "appendonly is no: a restart would forget payments that were sent; set appendonly yes and"
            " appendfsync always, or say durability=none where losing them is accepted"
        )
    if server.appendfsync == "no":
        return "appendfsync is no: set appendfsync always (or everysec)"
    if demanded is Durability.ALWAYS and server.appendfsync != "always":
        said = server.appendfsync or "unknown (CONFIG is forbidden)"
        return f"appendfsync is {said} and the store URL demands always: set appendfsync always"
    if not server.appendonly:
        warnings.append("cannot see appendonly: it must be yes")
    if demanded is Durability.DEFAULT and server.appendfsync != "always":
        warnings.append(
            f"appendfsync is {server.appendfsync or 'not to be seen'}: a crash of the server may lose the"
            " last second of records, and with it payments under way; set appendfsync always,"
            " or accept it with durability=everysec"
        )
    return ""


def _judge_replicas(server: Server, address: RedisAddress, warnings: list[str]) -> None:
    fails_over = address.topology is not Topology.SINGLE or server.replicas > 0
    if fails_over and not address.wait and server.min_replicas in ("", "0"):
        warnings.append(
            "a failover may lose the newest records: replicas get them after the answer; add wait=1"
            " to the store URL (not for a Cluster) and set min-replicas-to-write 1"
        )


def _version(text: str) -> tuple[int, ...]:
    """Of `7.2.4`; unknown ones pass."""
    numbers = [part for part in text.split(".")[:2] if part.isdigit()]
    return tuple(int(number) for number in numbers) if numbers else OLDEST
