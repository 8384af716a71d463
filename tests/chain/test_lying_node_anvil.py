"""The watcher before nodes that stall, lie, fall behind or limit it: no wrong word, and the truth in time."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from guardian.chain.endpoint import Endpoint, RpcRefused
from guardian.chain.target import Expired, Finding, Paid, Seen, Unused
from guardian.chain.wires import HttpWire
from guardian.sandbox.chain import Chain
from guardian.sandbox.lying_node import LyingNode
from tests.chain.anvil_scene import SHOP, Purchase, Watching

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with Chain(mining=None) as running:
        yield running


@pytest.fixture
def liar(chain: Chain) -> Iterator[LyingNode]:
    with LyingNode(chain.url) as node:
        yield node


async def pay(chain: Chain, purchase: Purchase) -> str:
    hash = await asyncio.to_thread(purchase.broadcast, chain)
    await asyncio.to_thread(chain.mine)
    return hash


async def told_within(watching: Watching, seconds: float) -> list[Finding]:
    await asyncio.sleep(seconds)
    return [watching.found.get_nowait() for _ in range(watching.found.qsize())]


async def until(fact: Any) -> None:
    async with asyncio.timeout(10):
        while not fact():
            await asyncio.sleep(0.02)


def test_an_invented_payment_is_not_told_and_the_real_one_is(chain: Chain, liar: LyingNode) -> None:
    async def script() -> None:
        purchase = Purchase(chain)
        async with Watching(chain, liar.url, chain.url) as watching:
            watching.watch(purchase.target(chain))
            await watching.until(Unused)
            forged = await asyncio.to_thread(
                lambda: liar.invent_payment(
                    asset=chain.token, payer=purchase.payer, pay_to=SHOP, amount=1000, nonce=purchase.nonce
                )
            )
            await asyncio.to_thread(chain.mine)
            assert await watching.until(Seen | Paid) == Seen(forged)
            await asyncio.to_thread(chain.mine, 2)
            assert Paid not in map(type, await told_within(watching, 0.6))
            assert any("contradict" in error for error in watching.errors)
            hash = await pay(chain, purchase)
            assert (await watching.until(Paid)).transaction == hash

    asyncio.run(script())


@pytest.mark.parametrize("lie", ["drop_logs", "drop_receipts"])
def test_what_one_node_hides_another_one_shows(chain: Chain, liar: LyingNode, lie: str) -> None:
    async def script() -> None:
        purchase = Purchase(chain)
        getattr(liar, lie)()
        async with Watching(chain, liar.url, chain.url, block_time_s=0.2) as watching:
            watching.watch(purchase.target(chain))
            await watching.until(Unused)
            hash = await pay(chain, purchase)
            paying = asyncio.create_task(watching.until(Paid))
            while not paying.done():
                await asyncio.to_thread(chain.mine)
                await asyncio.wait([paying], timeout=0.2)
            assert paying.result().transaction == hash

    asyncio.run(script())


def test_a_node_five_blocks_behind_is_failed_over(chain: Chain, liar: LyingNode) -> None:
    async def script() -> None:
        purchase = Purchase(chain)
        chain.mine(6)
        liar.fall_behind(5)
        async with Watching(chain, liar.url, chain.url) as watching:
            watching.watch(purchase.target(chain))
            hash = await pay(chain, purchase)
            assert (await watching.until(Paid)).transaction == hash
            await until(lambda: watching.endpoints.standings()[0].state.endswith("blocks behind"))
            assert not liar.calls["eth_getLogs"]

    asyncio.run(script())


def test_one_that_is_behind_denies_expiry_its_proof(chain: Chain, liar: LyingNode) -> None:
    async def script() -> None:
        purchase = Purchase(chain)
        chain.mine(10)
        liar.fall_behind(8)
        async with Watching(chain, chain.url, liar.url) as watching:
            watching.watch(purchase.target(chain))
            await watching.until(Unused)
            await asyncio.to_thread(chain.advance_time, 400)
            await asyncio.to_thread(chain.mine, 4)
            assert Expired not in map(type, await told_within(watching, 0.8))
            assert watching.watcher.healthy
            assert "cannot be proven" in watching.watcher.fault
            liar.keep_up()
            await watching.until(Expired)

    asyncio.run(script())


def test_retry_after_is_honoured_and_the_watch_goes_on(chain: Chain, liar: LyingNode) -> None:
    async def script() -> None:
        purchase = Purchase(chain)
        async with Watching(chain, liar.url) as watching:
            watching.watch(purchase.target(chain))
            await watching.until(Unused)
            liar.limit(retry_after_s=1)
            before = liar.calls.total()
            await until(lambda: liar.calls.total() > before)
            refused, refused_at = liar.calls.total(), time.monotonic()
            liar.be_honest()
            hash = await pay(chain, purchase)
            await until(lambda: liar.calls.total() > refused)
            assert time.monotonic() - refused_at > 0.9
            assert (await watching.until(Paid)).transaction == hash

    asyncio.run(script())


def test_a_watcher_finds_what_a_service_of_a_few_calls_a_second_allows(chain: Chain, liar: LyingNode) -> None:
    async def script() -> None:
        purchases = [Purchase(chain) for _ in range(5)]
        liar.limit(retry_after_s=0.2, allow=12)
        async with Watching(chain, liar.url) as watching:
            for purchase in purchases:
                watching.watch(purchase.target(chain))
            hashes = {await pay(chain, purchase) for purchase in purchases}
            assert {(await watching.until(Paid)).transaction for _ in purchases} == hashes

    asyncio.run(script())


@pytest.mark.parametrize("fault", ["stall", "garbage", "chain id"])
def test_a_node_gone_bad_in_mid_watch_is_left_for_the_other(
    chain: Chain, liar: LyingNode, fault: str
) -> None:
    async def script() -> None:
        purchase = Purchase(chain)
        async with Watching(chain, liar.url, chain.url, timeout_s=0.5) as watching:
            watching.watch(purchase.target(chain))
            await watching.until(Unused)
            await until(lambda: watching.endpoints.all[0].up)
            if fault == "stall":
                liar.stall()
            elif fault == "garbage":
                liar.answer_garbage(b"<html>maintenance</html>")
            else:
                liar.stall()
                await until(lambda: not watching.endpoints.all[0].up)
                liar.claim_chain(1)
                liar.go_on()
            hash = await pay(chain, purchase)
            assert (await watching.until(Paid)).transaction == hash
            if fault == "chain id":
                await until(lambda: "serves another chain" in watching.endpoints.standings()[0].state)
            liar.be_honest()

    asyncio.run(script())


def test_a_silent_subscription_does_not_blind_the_watcher(chain: Chain, liar: LyingNode) -> None:
    async def script() -> None:
        purchase = Purchase(chain)
        async with Watching(chain, liar.ws_url) as watching:
            watching.watch(purchase.target(chain))
            await watching.until(Unused)
            await until(lambda: watching.endpoints.all[0].announces_heads)
            liar.mute()
            chain.mine(5)
            hash = await pay(chain, purchase)
            assert (await watching.until(Paid)).transaction == hash
            await until(lambda: liar.calls["eth_subscribe"] == 2)

    asyncio.run(script())


def test_a_node_that_froze_tells_one_story(chain: Chain, liar: LyingNode) -> None:
    async def script() -> None:
        chain.mine()
        liar.freeze()
        last = chain.head
        chain.mine(2)
        node = Endpoint("liar", HttpWire(liar.url, timeout_s=5.0), chain.chain_id)
        assert (await node.ask("eth_getBlockByNumber", "latest", False))["number"] == hex(last)
        assert await node.ask("eth_getBlockByNumber", hex(last + 1), False) is None
        assert await node.ask("eth_getLogs", {"fromBlock": hex(last + 1), "toBlock": hex(last + 2)}) == []
        with pytest.raises(RpcRefused):
            await node.ask("eth_getCode", chain.token, hex(last + 1))
        assert len(await node.ask("eth_getCode", chain.token, "latest")) > 2
        liar.keep_up()
        assert await node.ask("eth_blockNumber") == hex(last + 2)
        await node.close()

    asyncio.run(script())


def test_a_late_node_is_believed_all_the_same(chain: Chain, liar: LyingNode) -> None:
    async def script() -> None:
        purchase = Purchase(chain)
        liar.answer_late(0.15)
        async with Watching(chain, liar.url) as watching:
            watching.watch(purchase.target(chain))
            hash = await pay(chain, purchase)
            assert (await watching.until(Paid)).transaction == hash

    asyncio.run(script())
