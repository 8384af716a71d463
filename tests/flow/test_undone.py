"""What a reorganisation takes back is in doubt again, and nobody is handed it until it is proven anew."""

import asyncio

import httpx

from guardian.chain.target import Expired, Paid, Reorged
from guardian.flow.diagnosis import Kind
from guardian.settlement.record import Settlement
from guardian.settlement.states import Answer, Money
from tests.flow.buy_scene import BuyScene, goods, signed
from tests.flow.scene import OTHER_TX, TX, Scene, settled, signed_payment

LOST = httpx.ReadTimeout("no reply")
BRIEF = {"hold_s": 0.05, "hold_without_hash_s": 0.05}


async def charged(scene: Scene) -> Settlement:
    """Its caller left in doubt, and then the chain showed it: an orphan."""
    caller, waiting = scene.calling(signed_payment())
    await scene.until_record(lambda record: record.money is Money.POLLING)
    caller.leave()
    await waiting
    scene.chain.say(Paid(TX, 7, 1))
    return await scene.until_record(lambda record: record.orphan)


async def undone(scene: Scene) -> Settlement:
    scene.chain.say(Reorged(TX))
    return await scene.until_record(lambda record: not record.chain_proven)


def test_a_payment_that_was_undone_is_no_orphan_and_buys_nothing() -> None:
    async def script(scene: Scene) -> None:
        await charged(scene)
        record = await undone(scene)
        assert (record.money, record.orphan, record.hint) == (Money.POLLING, False, TX)
        again = await scene.settle(signed_payment())
        assert (again.heard["success"], again.heard["errorReason"]) == (False, "settlement_pending")

    Scene(LOST, **BRIEF).play(script)


def test_a_caller_that_waits_for_an_undone_payment_hears_of_the_next_transaction_at_once() -> None:
    async def script(scene: Scene) -> None:
        await charged(scene)
        await undone(scene)
        caller, waiting = scene.calling(signed_payment())
        await scene.until(lambda: any(live.callers for live in scene.flow.lives))
        scene.chain.say(Paid(OTHER_TX, 9, 1))
        await waiting
        assert (caller.heard["success"], caller.heard["transaction"]) == (True, OTHER_TX)
        assert len(scene.settles) == 1

    Scene(LOST).play(script)


def test_a_newly_signed_payment_is_not_answered_with_one_that_was_undone() -> None:
    async def script(scene: Scene) -> None:
        await charged(scene)
        await undone(scene)
        other = await scene.settle(signed_payment(2))
        assert other.heard["success"] is False
        assert len(scene.settles) == 1

    Scene(LOST, **BRIEF).play(script)


def test_a_delivered_payment_that_was_undone_stands_in_nobodys_way() -> None:
    async def script(scene: Scene) -> None:
        await scene.settle(signed_payment())
        scene.chain.say(Paid(TX, 7, 1))
        await scene.until_record(lambda record: record.chain_proven)
        record = await undone(scene)
        assert (record.money, record.answer) == (Money.POLLING, Answer.ACCEPTED)
        async with asyncio.timeout(2):  # far less than the hold
            assert (await scene.settle(signed_payment(2))).heard["success"] is True
            assert (await scene.settle(signed_payment())).heard["errorReason"] == "duplicate_settlement"

    Scene(settled(), settled(OTHER_TX)).play(script)


def test_a_delivery_whose_payment_was_undone_for_good_is_unpaid_and_nobodys_lie() -> None:
    async def script(scene: Scene) -> None:
        await scene.settle(signed_payment())
        scene.chain.say(Paid(TX, 7, 1))
        await scene.until_record(lambda record: record.chain_proven)
        await undone(scene)
        scene.chain.say(Expired(99))
        record = await scene.until_record(lambda record: record.unpaid)
        assert record.money is Money.FAILED_ORPHANED
        assert Kind.FACILITATOR_LIES not in {one.kind for one in scene.guardian.parts.diagnosis.all()}

    Scene(settled()).play(script)


def test_a_receipt_whose_payment_was_undone_for_good_is_no_lie_of_its_seller() -> None:
    async def script(scene: BuyScene) -> None:
        await scene.buy(signed())
        scene.chain.say(Paid(TX, 7, 1))
        await scene.until_record(lambda record: record.chain_proven)
        scene.chain.say(Reorged(TX))
        await scene.until_record(lambda record: record.money is Money.POLLING)
        scene.chain.say(Expired(99))
        record = await scene.until_record(lambda record: record.money is Money.FAILED_ORPHANED)
        assert record.vouched
        assert Kind.RECEIPT_LIES not in {one.kind for one in scene.guardian.parts.diagnosis.all()}

    BuyScene(lambda: goods(success=True, transaction=TX)).play(script)
