"""One purchase, one payment: what happens to a client that signed again."""

import asyncio
from typing import Any

import httpx
import pytest

from guardian.chain.target import Expired, Paid
from guardian.policy.model import FacilitatorPolicy, Policy
from guardian.settlement.states import Answer, Money
from guardian.store.memory import MemoryStore
from tests.flow.scene import STRANGER, TX, Caller, Scene, refused, settled, signed_payment

LOST = httpx.ReadTimeout("no reply")


async def orphan(scene: Scene) -> None:
    """Play until the first payment is settled and its caller was told a failure."""
    told = await scene.settle(signed_payment(1))
    assert told.heard["success"] is False
    scene.chain.say(Paid(TX, 4, 1))
    await scene.until_record(lambda record: record.orphan)


def test_a_new_signature_waits_for_the_payment_in_doubt_and_gets_its_outcome() -> None:
    async def script(scene: Scene) -> None:
        _, first = scene.calling(signed_payment(1))
        await scene.until_record(lambda record: record.money is Money.POLLING)
        first.cancel()
        again, waiting = scene.calling(signed_payment(2))
        await scene.until(lambda: len(scene.flow.lives) == 2)
        scene.chain.say(Paid(TX, 4, 1))
        await waiting
        assert (again.heard["success"], again.heard["transaction"]) == (True, TX)
        assert len(scene.settles) == 1

    Scene(LOST).play(script)


def test_an_orphan_pays_for_the_next_identical_purchase_once() -> None:
    async def script(scene: Scene) -> None:
        await orphan(scene)
        second = await scene.settle(signed_payment(2))
        assert (second.heard["success"], second.heard["transaction"]) == (True, TX)
        assert len(scene.settles) == 1
        third = await scene.settle(signed_payment(3))
        assert third.heard["success"] is True
        assert len(scene.settles) == 2

    Scene(LOST, settled("0x" + "ef" * 32), hold_s=0.1, hold_without_hash_s=0.2).play(script)


def test_what_was_answered_by_an_orphan_is_never_settled_itself() -> None:
    store = MemoryStore()

    async def script(scene: Scene) -> None:
        await orphan(scene)
        await scene.settle(signed_payment(2))
        again = await scene.settle(signed_payment(2))
        assert again.heard["errorReason"] == "duplicate_settlement"
        assert len(scene.settles) == 1

    async def restarted(scene: Scene) -> None:
        for nonce in (1, 2):
            again = await scene.settle(signed_payment(nonce))
            assert again.heard["errorReason"] == "duplicate_settlement"
        assert scene.settles == []

    Scene(LOST, settled(), store=store, hold_s=0.1, hold_without_hash_s=0.2).play(script)
    Scene(settled(), store=store).play(restarted)


def test_nobody_without_the_payers_key_can_use_an_orphan() -> None:
    async def script(scene: Scene) -> None:
        await orphan(scene)
        scene.verify_reply = httpx.Response(
            200, json={"isValid": False, "invalidReason": "invalid_signature"}
        )
        thief = await scene.settle(signed_payment(2, key=STRANGER))
        assert thief.heard["success"] is False
        assert (await scene.record(next(iter(scene.chain.targets)))).orphan

    Scene(LOST, hold_s=0.1, hold_without_hash_s=0.2).play(script)


class TwoFacilitators(Scene):
    """The first one cannot be reached for /verify, so the second is asked."""

    def policy(self, settle: dict[str, Any]) -> Policy:
        second = FacilitatorPolicy(name="second", url="http://second")
        one = super().policy(settle)
        return one.model_copy(update={"facilitators": (*one.facilitators, second)})

    async def _facilitator(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/verify":
            if request.url.host != "second":
                raise httpx.ConnectError("nobody listens")
            self.shown = {name: value for name, value in request.headers.items() if name.startswith("x-")}
        return await super()._facilitator(request)


def test_a_callers_credentials_for_the_first_facilitator_prove_its_signature_at_no_other() -> None:
    async def script(scene: Scene) -> None:
        await orphan(scene)
        caller = Caller(signed_payment(2, key=STRANGER), scene.guardian.parts.generation)
        caller.headers = ((b"x-api-key", b"for the first alone"), (b"x-trace", b"1"))
        await scene.flow.settle(caller)
        assert isinstance(scene, TwoFacilitators)
        assert scene.shown == {"x-trace": "1"}

    TwoFacilitators(LOST, hold_s=0.1, hold_without_hash_s=0.2).play(script)


def test_another_resource_is_another_purchase() -> None:
    async def script(scene: Scene) -> None:
        await orphan(scene)
        other = await scene.settle(signed_payment(2, resource="https://shop/y"))
        assert other.heard["success"] is True
        assert len(scene.settles) == 2

    Scene(LOST, settled(), hold_s=0.1, hold_without_hash_s=0.2).play(script)


@pytest.mark.parametrize(("reuse", "sends"), [("same_payee", 1), ("off", 2)])
def test_the_policy_says_how_far_an_orphan_reaches(reuse: str, sends: int) -> None:
    async def script(scene: Scene) -> None:
        await orphan(scene)
        await scene.settle(signed_payment(2, resource="https://shop/y"))
        assert len(scene.settles) == sends

    Scene(LOST, settled(), hold_s=0.1, hold_without_hash_s=0.2, reuse_orphans=reuse).play(script)


def test_once_the_first_is_proven_unpaid_the_second_goes_its_own_way() -> None:
    async def script(scene: Scene) -> None:
        _, first = scene.calling(signed_payment(1))
        await scene.until_record(lambda record: record.money is Money.POLLING)
        second, waiting = scene.calling(signed_payment(2))
        await scene.until(lambda: len(scene.flow.lives) == 2)
        scene.chain.say(Expired(9))
        await asyncio.gather(first, waiting)
        assert second.heard["success"] is True
        assert len(scene.settles) == 2

    Scene(LOST, settled()).play(script)


def test_a_payment_merely_under_way_blocks_no_parallel_purchase() -> None:
    release = asyncio.Event()

    async def script(scene: Scene) -> None:
        _, first = scene.calling(signed_payment(1))
        await scene.until(lambda: scene.settles)
        second = await scene.settle(signed_payment(2))
        assert second.heard["success"] is True
        release.set()
        await first

    Scene(release, settled()).play(script)


def test_whoever_left_while_it_was_sent_and_signs_anew_gets_what_the_first_one_bought() -> None:
    release = asyncio.Event()

    async def script(scene: Scene) -> None:
        left, first = scene.calling(signed_payment(1))
        await scene.until(lambda: scene.settles)
        left.gone = True
        second, waiting = scene.calling(signed_payment(2))
        await scene.until(lambda: len(scene.flow.lives) == 2)
        release.set()
        await asyncio.gather(first, waiting)
        assert second.heard["success"] is True
        assert len(scene.settles) == 1

    Scene(release, settled()).play(script)


def test_a_payment_whose_caller_has_left_is_abandoned_though_another_one_waits_for_its_end() -> None:
    async def script(scene: Scene) -> None:
        left, first = scene.calling(signed_payment(1))
        await scene.until_record(lambda record: record.money is Money.POLLING)
        second, waiting = scene.calling(signed_payment(2))
        await scene.until(lambda: any(live.others for live in scene.flow.lives))
        left.gone = True
        await first
        (key,) = scene.chain.targets
        assert (await scene.record(key)).answer is Answer.ABANDONED
        second.gone = True
        await waiting
        _, tell = scene.chain.targets[key]
        tell(Paid(TX, 4, 1))
        while not (await scene.record(key)).orphan:
            await asyncio.sleep(0.002)

    Scene(LOST).play(script)


def test_a_success_that_only_another_payments_caller_waits_for_is_recorded_at_once() -> None:
    release = asyncio.Event()

    async def script(scene: Scene) -> None:
        left, first = scene.calling(signed_payment(1))
        await scene.until(lambda: scene.settles)
        left.gone = True
        second, waiting = scene.calling(signed_payment(2))
        await scene.until(lambda: any(live.others for live in scene.flow.lives))
        await first
        second.gone = True
        await waiting
        release.set()
        await scene.until(lambda: not any(live.sending for live in scene.flow.lives))
        records = {record.money: record for record in await scene.store.page()}
        assert records[Money.CONFIRMED].orphan

    Scene(release, settled()).play(script)


def test_whoever_was_told_nothing_while_it_was_sent_and_signs_anew_gets_what_the_first_one_bought() -> None:
    release = asyncio.Event()

    async def script(scene: Scene) -> None:
        first = await scene.settle(signed_payment(1))
        assert first.heard["errorReason"] == "unexpected_settle_error"
        again = await scene.settle(signed_payment(2))
        assert again.heard["success"] is False
        release.set()
        await scene.until(lambda: any(live.paid for live in scene.flow.lives))
        third = await scene.settle(signed_payment(3))
        assert third.heard["success"] is True
        assert len(scene.settles) == 1

    Scene(release, settled(), hold_s=0.1, hold_without_hash_s=0.1).play(script)


def test_where_what_its_caller_left_was_refused_the_second_goes_its_own_way() -> None:
    release = asyncio.Event()

    async def script(scene: Scene) -> None:
        left, first = scene.calling(signed_payment(1))
        await scene.until(lambda: scene.settles)
        left.gone = True
        second, waiting = scene.calling(signed_payment(2))
        await scene.until(lambda: len(scene.flow.lives) == 2)
        release.set()
        await asyncio.gather(first, waiting)
        assert second.heard["success"] is True
        assert len(scene.settles) == 2

    Scene((release, refused("insufficient_funds")), settled()).play(script)


def test_while_the_first_stays_in_doubt_the_second_hears_pending_and_is_not_sent() -> None:
    async def script(scene: Scene) -> None:
        await scene.settle(signed_payment(1))
        second = await scene.settle(signed_payment(2))
        assert (second.heard["errorReason"], second.heard["transaction"]) == ("settlement_pending", TX)
        assert len(scene.settles) == 1
        record = await scene.until_record(lambda record: record.answer is Answer.PENDING)
        assert record.money is Money.IDLE

    Scene(refused("settlement_pending", transaction=TX), hold_s=0.1, hold_without_hash_s=0.2).play(script)
