"""The watcher and the signature check against a real chain, over HTTP and over a WebSocket."""

import asyncio
from collections.abc import Iterator

import pytest

from guardian.chain.rpc import Endpoints
from guardian.chain.signature import signed_by_payer
from guardian.chain.target import Cancelled, Expired, Paid, Reorged, Seen, Unused
from guardian.sandbox.chain import Chain
from guardian.wire.names import Network
from tests.chain.anvil_scene import Purchase, Watching

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with Chain(mining=None) as running:
        yield running


@pytest.fixture(params=["url", "ws_url"], ids=["http", "websocket"])
def url(request: pytest.FixtureRequest, chain: Chain) -> str:
    return str(getattr(chain, request.param))


def test_a_payment_is_seen_in_the_mempool_and_paid_in_its_block(chain: Chain, url: str) -> None:
    async def script() -> None:
        purchase = Purchase(chain)
        async with Watching(chain, url) as watching:
            watching.watch(purchase.target(chain))
            await watching.until(Unused)
            hash = await asyncio.to_thread(purchase.broadcast, chain)
            assert await watching.until(Seen) == Seen(hash)
            await asyncio.to_thread(chain.mine)
            assert await watching.until(Paid) == Paid(hash, chain.head, 1)

    asyncio.run(script())


def test_a_payment_made_before_the_watch_is_found(chain: Chain, url: str) -> None:
    async def script() -> None:
        purchase = Purchase(chain)
        hash = purchase.broadcast(chain)
        chain.mine(30)
        async with Watching(chain, url) as watching:
            watching.watch(purchase.target(chain))
            assert (await watching.until(Paid)).transaction == hash

    asyncio.run(script())


def test_a_cancellation_is_told_when_it_is_final(chain: Chain, url: str) -> None:
    async def script() -> None:
        purchase = Purchase(chain)
        hash = chain.cancel_authorization(purchase.owner.key.hex(), purchase.nonce)
        chain.mine(4)
        async with Watching(chain, url) as watching:
            watching.watch(purchase.target(chain))
            assert await watching.until(Cancelled) == Cancelled(hash)

    asyncio.run(script())


def test_an_authorization_expires_by_the_chains_time(chain: Chain, url: str) -> None:
    async def script() -> None:
        purchase = Purchase(chain)
        async with Watching(chain, url) as watching:
            watching.watch(purchase.target(chain))
            await watching.until(Unused)
            await asyncio.to_thread(chain.advance_time, 400)
            await asyncio.to_thread(chain.mine, 3)
            await watching.until(Expired)

    asyncio.run(script())


def test_a_payment_undone_by_a_reorganisation_is_not_paid(chain: Chain, url: str) -> None:
    async def script() -> None:
        purchase = Purchase(chain)
        before = chain.snapshot()
        async with Watching(chain, url, confirmations=3) as watching:
            watching.watch(purchase.target(chain))
            await watching.until(Unused)
            await asyncio.to_thread(purchase.broadcast, chain)
            await asyncio.to_thread(chain.mine)
            await watching.until(Seen)
            await asyncio.to_thread(chain.revert, before)
            await asyncio.to_thread(chain.drop_transactions)
            await asyncio.to_thread(chain.mine, 5)
            assert isinstance(await watching.until(Unused | Paid), Unused)

    asyncio.run(script())


def test_a_payment_told_and_undone_before_it_is_final_is_told_as_undone(chain: Chain, url: str) -> None:
    async def script() -> None:
        purchase = Purchase(chain)
        before = chain.snapshot()
        async with Watching(chain, url) as watching:
            watching.watch(purchase.target(chain))
            hash = await asyncio.to_thread(purchase.broadcast, chain)
            await asyncio.to_thread(chain.mine)
            await watching.until(Paid)
            await asyncio.to_thread(chain.revert, before)
            await asyncio.to_thread(chain.drop_transactions)
            await asyncio.to_thread(chain.mine, 6)
            assert await watching.until(Reorged) == Reorged(hash)
            await asyncio.to_thread(purchase.broadcast, chain)
            await asyncio.to_thread(chain.mine)
            await watching.until(Paid)

    asyncio.run(script())


def test_the_payers_key_signs_and_no_other_field_may_differ(chain: Chain) -> None:
    async def script() -> None:
        purchase = Purchase(chain)
        endpoints = Endpoints(Network(chain.network), [chain.url])
        genuine = purchase.authorization(chain)
        assert await signed_by_payer(genuine, purchase.signature, endpoints)
        assert await signed_by_payer(genuine, purchase.signature)
        for change in ({"value": 1001}, {"to": chain.token}, {"chain_id": 1}, {"domain_name": "USD Coin"}):
            assert not await signed_by_payer(
                purchase.authorization(chain, **change), purchase.signature, endpoints
            )
        assert not await signed_by_payer(genuine, "0x", endpoints)
        assert not await signed_by_payer(genuine, purchase.signature + "6492" * 16, endpoints)
        await endpoints.close()

    asyncio.run(script())


def test_a_wallet_signs_by_erc_1271(chain: Chain) -> None:
    async def script() -> None:
        purchase = Purchase(chain, wallet=True)
        endpoints = Endpoints(Network(chain.network), [chain.url])
        genuine = purchase.authorization(chain)
        assert await signed_by_payer(genuine, purchase.signature, endpoints)
        assert not await signed_by_payer(
            purchase.authorization(chain, value=1001), purchase.signature, endpoints
        )
        assert not await signed_by_payer(genuine, purchase.signature)
        await endpoints.close()

    asyncio.run(script())
