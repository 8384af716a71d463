"""What is held in memory of payments: as long as somebody waits or something may be learnt, and no longer."""

import asyncio

import pytest

from guardian.chain.target import Expired, Finding, Paid, Reorged
from guardian.errors import CannotClose
from guardian.flow.orphans import Orphans
from tests.flow.buy_scene import BuyScene, goods, refusal, signed
from tests.flow.scene import TX, Scene, refused, settled, signed_payment

PAID = Paid(TX, 4, 1)


async def all_are_let_go(scene: Scene | BuyScene) -> None:
    await scene.until(lambda: not len(scene.guardian.settle.lives))


def test_a_settlement_that_was_answered_is_let_go_once_the_chain_has_spoken() -> None:
    async def script(scene: Scene) -> None:
        await scene.settle(signed_payment())
        await scene.until_record(lambda record: record.answer == "accepted")
        assert len(scene.flow.lives) == 1
        scene.chain.say(PAID)
        await all_are_let_go(scene)

    Scene(settled()).play(script)


def test_a_payment_that_a_reorganisation_undid_is_taken_up_again_until_it_is_proven_anew() -> None:
    async def script(scene: Scene) -> None:
        await scene.settle(signed_payment())
        scene.chain.say(PAID)
        await all_are_let_go(scene)
        scene.chain.say(Reorged(TX))
        await scene.until(lambda: len(scene.flow.lives) == 1)
        scene.chain.say(PAID)
        await all_are_let_go(scene)
        assert (await scene.record()).chain_proven

    Scene(settled()).play(script)


@pytest.mark.parametrize("finding", [PAID, Expired(9)], ids=["paid", "expired"])
def test_a_doubt_whose_caller_has_its_answer_is_let_go_with_its_proof(finding: Finding) -> None:
    async def script(scene: Scene) -> None:
        await scene.settle(signed_payment())
        assert len(scene.flow.lives) == 1
        scene.chain.say(finding)
        await all_are_let_go(scene)

    Scene(refused("unknown_error", status=500), hold_s=0.01, hold_without_hash_s=0.01).play(script)


def test_a_refusal_that_comes_when_its_caller_has_left_is_let_go() -> None:
    async def script(scene: Scene) -> None:
        caller, task = scene.calling(signed_payment())
        await scene.until(lambda: scene.settles)
        caller.leave()
        await task
        assert len(scene.flow.lives) == 1
        answering.set()
        await all_are_let_go(scene)
        assert (await scene.record()).money == "failed"

    answering = asyncio.Event()
    Scene((answering, refused("insufficient_funds"))).play(script)


def test_an_agents_payment_is_let_go_once_the_chain_has_spoken() -> None:
    async def script(scene: BuyScene) -> None:
        await scene.buy(signed(1))
        await scene.until(lambda: scene.chain.targets)
        assert len(scene.guardian.settle.lives) == 1
        scene.chain.say(PAID)
        await all_are_let_go(scene)

    BuyScene(lambda: goods(success=True, transaction=TX)).play(script)


def test_an_orphan_is_told_of_once_though_its_buyer_comes_again_and_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def script(scene: BuyScene) -> None:
        await scene.buy(signed(1))
        scene.chain.say(PAID)
        await scene.until_record(lambda record: record.orphan)
        for _ in range(3):
            await all_are_let_go(scene)
            await scene.buy(signed(1))
        told = [line.message for line in caplog.records if line.message.startswith("orphan:")]
        assert told == ["orphan: charged, and nobody was handed the success"]

    BuyScene(refusal, hold_s=0.05, hold_without_hash_s=0.05).play(script)


def test_who_closes_an_orphan_waits_for_the_same_lock_as_who_is_handed_it() -> None:
    async def script(scene: BuyScene) -> None:
        await scene.buy(signed(1))
        scene.chain.say(PAID)
        record = await scene.until_record(lambda record: record.orphan)
        scene.says = [lambda: asking()]
        agent, buying = scene.buying(signed(1))
        await scene.until(lambda: scene.asking)
        orphans = Orphans(scene.guardian.parts, scene.guardian.settle)
        closing = asyncio.get_running_loop().create_task(orphans.write_off(record, "a test", "ann"))
        await asyncio.sleep(0)
        delivering.set()
        assert isinstance((await asyncio.gather(closing, return_exceptions=True))[0], CannotClose)
        await buying
        assert (agent.status, (await scene.record()).closed_by) == (200, "")
        await all_are_let_go(scene)

    async def asking() -> object:
        await delivering.wait()
        return goods()

    delivering = asyncio.Event()
    BuyScene(refusal, hold_s=0.1, hold_without_hash_s=0.1).play(script)
