"""The watcher and the signature check against a real chain, over HTTP and over a WebSocket."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount

from guardian.chain.rpc import Endpoints
from guardian.chain.signature import Authorization, signed_by_payer
from guardian.chain.target import Cancelled, Expired, Finding, Paid, Seen, Target, Unused
from guardian.chain.watcher import Watcher
from guardian.sandbox.chain import Chain, wallet_signature
from guardian.wire.names import Address, Network, Nonce

SHOP = "0x" + "c2" * 20
TYPES = [
    {"name": "from", "type": "address"},
    {"name": "to", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "validAfter", "type": "uint256"},
    {"name": "validBefore", "type": "uint256"},
    {"name": "nonce", "type": "bytes32"},
]

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with Chain(mining=None) as running:
        yield running


class Purchase:
    """A signed authorization on the sandbox's chain, by a key or by a wallet's owner."""

    def __init__(self, chain: Chain, *, lasts_s: int = 300, wallet: bool = False) -> None:
        self.owner: LocalAccount = chain.new_payer()
        self.payer = chain.new_wallet(self.owner.address) if wallet else self.owner.address
        self.nonce = "0x" + secrets.token_hex(32)
        self.fields: dict[str, Any] = {
            "from": self.payer, "to": SHOP, "value": 1000, "validAfter": 0,
            "validBefore": chain.time() + lasts_s, "nonce": self.nonce,
        }  # fmt: skip
        signed = self.owner.sign_typed_data(
            chain.domain(),
            {"TransferWithAuthorization": TYPES},
            self.fields | {"nonce": bytes.fromhex(self.nonce[2:])},
        )
        raw = bytes(signed.signature)
        self.signature = "0x" + (wallet_signature(raw) if wallet else raw).hex()

    def broadcast(self, chain: Chain) -> str:
        return chain.broadcast_authorization({k: str(v) for k, v in self.fields.items()}, self.signature)

    def target(self, chain: Chain) -> Target:
        return Target(
            key=self.nonce, asset=Address(chain.token), payer=Address(self.payer), pay_to=Address(SHOP),
            amount=1000,
            nonce=Nonce(self.nonce), valid_before=self.fields["validBefore"], from_block_time=time.time(),
        )  # fmt: skip

    def authorization(self, chain: Chain, **changes: Any) -> Authorization:
        fields = {
            "chain_id": chain.chain_id, "asset": chain.token, "domain_name": "USDC", "domain_version": "2",
            "payer": self.payer, "to": SHOP, "value": 1000, "valid_after": 0,
            "valid_before": self.fields["validBefore"], "nonce": self.nonce,
        }  # fmt: skip
        return Authorization(**(fields | changes))


class Watching:
    """A running watcher and its findings, to be waited for."""

    def __init__(self, chain: Chain, url: str, **settings: Any) -> None:
        network = Network(chain.network)
        known = {"block_time_s": 0.4, "confirmations": 1, "finality_blocks": 3}
        self.watcher = Watcher(network, Endpoints(network, [url]), clock=time.time, **(known | settings))
        self.found: asyncio.Queue[Finding] = asyncio.Queue()

    async def __aenter__(self) -> "Watching":
        await self.watcher.start()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.watcher.stop()

    def watch(self, target: Target) -> None:
        self.watcher.watch(target, self.found.put_nowait)

    async def until(self, kind: type) -> Any:
        async with asyncio.timeout(10):
            while not isinstance(finding := await self.found.get(), kind):
                pass
        return finding


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
