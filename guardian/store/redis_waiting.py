"""What is logged while a store on Redis is being opened and does not answer at once. No password, no I/O."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from guardian.store.redis_url import RedisAddress, Topology

TOLD_AFTER_S = 0.5
"""A server that is there is asked all it has to be asked in a tenth of that."""

log = logging.getLogger("guardian")


@asynccontextmanager
async def told_of_waiting(address: RedisAddress) -> AsyncIterator[None]:
    """Say once what is waited for, and once that it is there; what it failed of is the caller's to say."""
    facts = {"store": shown(address)}
    told: list[str] = []

    def tell() -> None:
        told.append("waiting")
        meanwhile = "nothing is answered and nothing is sent"
        log.warning("waiting for the store", extra=facts | {"meanwhile": meanwhile})

    timer = asyncio.get_running_loop().call_later(TOLD_AFTER_S, tell)
    try:
        yield
    finally:
        timer.cancel()
    if told:
        log.info("the store is there", extra=facts)


def shown(address: RedisAddress) -> str:
    """Its URL without user, password and options."""
    topology = address.topology
    kind = "" if topology is Topology.SINGLE else f"+{topology.value}"
    hosts = ((f"[{host}]" if ":" in host else host, port) for host, port in address.servers)
    servers = ",".join(f"{host}:{port}" for host, port in hosts)
    path = f"/{address.service}" if address.service else ""
    path += "" if topology is Topology.CLUSTER else f"/{address.db}"
    return f"{'rediss' if address.tls else 'redis'}{kind}://{servers}{path}"
