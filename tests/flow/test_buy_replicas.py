"""Two replicas on one Redis before one seller: an agent may come to either, and pays once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from guardian.chain.target import Paid
from guardian.sandbox.node import SandboxError
from guardian.sandbox.redis_server import RedisServer, redis_command
from guardian.settlement.states import Answer, Money
from guardian.store.open import open_store
from tests.flow.buy_scene import BuyScene, demand, goods, refusal, signed
from tests.flow.scene import TX


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    try:
        redis_command()
    except SandboxError as missing:
        pytest.skip(str(missing))
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def play(
    server: RedisServer, prefix: str, script: Callable[[BuyScene, BuyScene], Awaitable[None]], **settle: Any
) -> None:
    """A script against two started replicas, the first of which watches the chain."""

    async def run() -> None:
        pair = [BuyScene(refusal, store=open_store(f"{server.url}?prefix={prefix}"), **settle) for _ in "ab"]
        for scene in pair:
            await scene.guardian.start()
        try:
            async with asyncio.timeout(20):
                await script(pair[0], pair[1])
        finally:
            for scene in pair:
                await scene.guardian.parts.tasks.finish(0)
                await scene.guardian.stop()

    asyncio.run(run())


def test_a_payment_in_doubt_at_one_replica_answers_at_the_other(server: RedisServer) -> None:
    async def script(first: BuyScene, second: BuyScene) -> None:
        assert (await first.buy(signed(1))).status == 503
        await second.until(lambda: len(second.flow.buys.open) == 1)
        second.says = [goods()]
        unpaid = await second.buy(demanded=demand())
        assert (unpaid.status, second.nonces) == (200, [1])
        first.chain.say(Paid(TX, 4, 1))
        record = await first.until_record(lambda record: record.money is Money.CONFIRMED_LATE)
        assert record.answer is Answer.ACCEPTED

    play(server, "doubt", script, hold_s=0.1, hold_without_hash_s=0.3)


def test_a_new_signature_at_the_other_replica_is_put_aside(server: RedisServer) -> None:
    async def script(first: BuyScene, second: BuyScene) -> None:
        assert (await first.buy(signed(1))).status == 503
        second.flow.buys.open = type(second.flow.buys.open)()  # no message came
        assert (await second.buy(signed(2))).status == 503
        assert set(first.nonces + second.nonces) == {1}

    play(server, "aside", script, hold_s=0.1, hold_without_hash_s=0.3)


def test_both_wait_and_one_presents_and_one_delivers(server: RedisServer) -> None:
    async def script(first: BuyScene, second: BuyScene) -> None:
        assert (await first.buy(signed(1))).status == 503
        await second.until(lambda: len(second.flow.buys.open) == 1)
        here, waits_here = first.buying(signed(1))
        there, waits_there = second.buying(signed(1))
        await asyncio.sleep(0)
        first.says = second.says = [goods(), refusal]  # one seller: it delivers once
        first.chain.say(Paid(TX, 4, 1))
        await asyncio.gather(waits_here, waits_there)
        assert sorted([here.status, there.status]) == [200, 402]

    play(server, "both", script, hold_s=2.0, hold_without_hash_s=2.0)
