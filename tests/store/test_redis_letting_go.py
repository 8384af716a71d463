"""Letting go of broken connections harms nobody who does so at the same time."""

import asyncio
from types import SimpleNamespace

from redis.exceptions import ConnectionError as RedisConnectionError

from guardian.store.redis_link import Link
from guardian.store.redis_url import read_redis_url


class _Pool:
    async def disconnect(self, inuse_connections: bool) -> None:
        """As the client's pool does when another task was cancelled while it closed the same connection."""
        raise asyncio.CancelledError


def test_the_cancellation_of_another_task_does_not_end_an_operation() -> None:
    async def script() -> None:
        link = Link(read_redis_url("redis://127.0.0.1:1/0"))
        link._client = SimpleNamespace(connection_pool=_Pool())
        faults = [RedisConnectionError("broken")]

        async def attempt() -> str:
            if faults:
                raise faults.pop()
            return "answered"

        assert await link.in_time(attempt) == "answered"

    asyncio.run(script())
