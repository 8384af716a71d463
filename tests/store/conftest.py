"""Records to store, and every kind of store, each in a fresh place."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from guardian.sandbox.node import SandboxError
from guardian.sandbox.redis_server import RedisCluster, RedisServer, redis_command
from guardian.settlement.record import Settlement
from guardian.settlement.states import Answer, Money
from guardian.store.open import open_store
from guardian.store.protocol import Store
from guardian.wire.names import public_id

Script = Callable[[Store], Awaitable[None]]
Run = Callable[[Script], None]


def settlement(nonce: str = "1", **changes: object) -> Settlement:
    key = str(changes.get("key", f"eip155:8453/0xusdc/0xpayer/{nonce}"))
    facts: dict[str, object] = {
        "key": key,
        "id": public_id(key),
        "money": Money.PENDING,
        "answer": Answer.HELD,
        "x402_version": 2,
        "scheme": "exact",
        "method": "eip3009",
        "network": "eip155:8453",
        "network_as_sent": "base",
        "asset": "0xusdc",
        "payer": "0xpayer",
        "pay_to": "0xpayee",
        "amount": 10_000,
        "nonce": nonce,
        "resource": "https://shop/a",
        "created_at": 1_000.0,
        "updated_at": 1_000.0,
        "body": b"\x00as sent",
    }
    return Settlement(**(facts | changes))  # type: ignore[arg-type]


def run_on(url: str, script: Script) -> None:
    async def main() -> None:
        store = open_store(url)
        await store.open()
        try:
            await script(store)
        finally:
            await store.close()

    asyncio.run(main())


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'guardian.db'}"


@pytest.fixture(scope="session")
def redis_here() -> None:
    """Skips, with the reason, where there is no Redis to run."""
    try:
        redis_command()
    except SandboxError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def redis_server(redis_here: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


_prefixes = (f"test{number}" for number in itertools.count())


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return f"{redis_server.url}?prefix={next(_prefixes)}"


@pytest.fixture(scope="session")
def redis_cluster(redis_here: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster_url(redis_cluster: RedisCluster) -> str:
    return f"{redis_cluster.url}?prefix={next(_prefixes)}"


@pytest.fixture(params=["memory", "sqlite", "redis", "cluster"])
def store_url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory://"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def run(store_url: str) -> Run:
    return lambda script: run_on(store_url, script)


@pytest.fixture
def new() -> Callable[..., Settlement]:
    return settlement
