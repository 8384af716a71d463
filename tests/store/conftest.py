"""Records to store, and every kind of store, each in a fresh place."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from guardian.settlement.record import Settlement
from guardian.settlement.states import Answer, Money
from guardian.store.open import open_store
from guardian.store.protocol import Store

Script = Callable[[Store], Awaitable[None]]
Run = Callable[[Script], None]


def settlement(nonce: str = "1", **changes: object) -> Settlement:
    facts: dict[str, object] = {
        "key": f"eip155:8453/0xusdc/0xpayer/{nonce}",
        "id": f"pay_{nonce}",
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


@pytest.fixture(params=["memory", "sqlite"])
def store_url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    return sqlite_url if request.param == "sqlite" else "memory://"


@pytest.fixture
def run(store_url: str) -> Run:
    return lambda script: run_on(store_url, script)


@pytest.fixture
def new() -> Callable[..., Settlement]:
    return settlement
