"""Faults that come between two steps of a settle: what was found by trials with everything failing."""

import asyncio
from typing import Any

import httpx
import pytest

from guardian.chain.target import Expired, Paid
from guardian.errors import StoreUnavailable
from guardian.flow.replicas import UnusedNonce
from guardian.settlement.record import Settlement
from guardian.settlement.states import Answer, Money
from guardian.store.memory import MemoryStore
from guardian.store.protocol import Claim
from tests.flow.scene import TX, Scene, refused, settled, signed_payment

LOST = httpx.ReadTimeout("no reply")
LIMITED = httpx.Response(429, text="rate limit exceeded")
SHORT = {"hold_s": 0.1, "hold_without_hash_s": 0.2}


class Failing(MemoryStore):
    """A store that is away when it is told to be."""

    away = False
    claims_lost = 0

    async def claim(self, new: Settlement) -> Claim:
        claim = await super().claim(new)
        if self.claims_lost:  # done, and nobody is told
            self.claims_lost -= 1
            raise StoreUnavailable("no answer")
        return claim

    async def update(self, old: Settlement, new: Settlement, **how: Any) -> None:
        if self.away:
            raise StoreUnavailable("away")
        await super().update(old, new, **how)


async def orphan(scene: Scene) -> None:
    await scene.settle(signed_payment(1))
    scene.chain.say(Paid(TX, 4, 1))
    await scene.until_record(lambda record: record.orphan)


def test_a_payload_that_another_payment_paid_for_is_closed_and_no_unpaid_delivery() -> None:
    async def script(scene: Scene) -> None:
        await orphan(scene)
        assert (await scene.settle(signed_payment(2))).heard["success"] is True
        record = await scene.until_record(lambda record: record.answer is Answer.ACCEPTED)
        assert (record.money, bool(record.paid_by), record.unpaid) == (Money.FAILED, True, False)
        assert record not in await scene.store.open_records()

    Scene(LOST, **SHORT).play(script)


def test_what_is_presented_again_waits_for_a_payment_that_came_since() -> None:
    async def script(scene: Scene) -> None:
        refusal = await scene.settle(signed_payment(1))
        assert refusal.heard["success"] is False
        sent = len(scene.settles)
        scene.replies = [LOST]
        await scene.settle(signed_payment(2))
        assert len(scene.settles) == sent + 1
        again = await scene.settle(signed_payment(1))
        assert again.heard["success"] is False
        assert len(scene.settles) == sent + 1

    Scene(LIMITED, **SHORT).play(script)


def test_a_caller_of_a_payment_in_doubt_is_not_told_that_nothing_was_sent_when_the_store_goes() -> None:
    store = Failing()

    async def script(scene: Scene) -> None:
        waiting = asyncio.Event()
        scene.replies = [waiting]
        caller, call = scene.calling(signed_payment())
        await scene.until(lambda: scene.settles)
        store.away = True
        await call
        assert (caller.status, caller.heard["success"]) == (200, False)
        assert "not known yet" in caller.heard["errorMessage"]
        store.away = False
        waiting.set()
        record = await scene.until_record(lambda record: record.orphan)
        assert record.answer is Answer.REFUSED

    Scene(settled(), store=store, **SHORT).play(script)


def test_a_claim_whose_caller_was_lost_is_closed_by_the_chain() -> None:
    store = Failing()
    store.claims_lost = 1

    async def script(scene: Scene) -> None:
        with pytest.raises(StoreUnavailable):
            await scene.settle(signed_payment())
        record = await scene.record()
        assert record.money is Money.PENDING
        await scene.flow.replicas.watch_here(record.key)
        scene.chain.say(Expired(9))
        await scene.until_record(lambda record: record.money is Money.FAILED_ORPHANED)
        assert scene.settles == []

    Scene(settled(), store=store).play(script)


def test_what_waited_behind_another_payment_and_was_never_sent_is_closed_when_it_expires() -> None:
    async def script(scene: Scene) -> None:
        await scene.settle(signed_payment(1))
        await scene.settle(signed_payment(2))
        assert len(scene.settles) == 1
        scene.chain.say(Expired(9))
        await scene.until_record(lambda record: record.money is Money.FAILED)
        assert await scene.store.open_records() == []

    Scene(refused("settlement_pending", status=500), **SHORT).play(script)


def test_a_word_of_another_replica_may_come_while_the_claim_is_under_way() -> None:
    class Slow(MemoryStore):
        going_on = asyncio.Event()

        async def claim(self, new: Settlement) -> Claim:
            await self.going_on.wait()
            return await super().claim(new)

    async def script(scene: Scene) -> None:
        caller, call = scene.calling(signed_payment())
        await scene.until(lambda: len(scene.flow.lives) == 1)
        (live,) = scene.flow.lives
        scene.flow.replicas.unused(UnusedNonce(live.key, in_mempool=False))
        Slow.going_on.set()
        await call
        assert caller.heard["success"] is True

    Scene(settled(), store=Slow()).play(script)
