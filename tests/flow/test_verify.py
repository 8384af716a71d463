"""Scripts of /verify: when the record knows better than any facilitator."""

from typing import Any

import httpx
import pytest

from guardian.chain.target import Paid
from guardian.settlement.states import Money
from tests.flow.scene import PAYER, STRANGER, TX, Caller, Scene, settled, signed_payment

LOST = httpx.ReadTimeout("no reply")
SPENT = httpx.Response(
    200,
    json={"isValid": False, "invalidReason": "invalid_exact_evm_nonce_already_used", "payer": PAYER.address},
)
BROKE = httpx.Response(
    200, json={"isValid": False, "invalidReason": "insufficient_funds", "payer": PAYER.address}
)


async def verify(scene: Scene, body: bytes) -> Caller:
    caller = Caller(body, scene.guardian.parts.generation)
    await scene.guardian.verify.verify(caller)
    return caller


async def orphan(scene: Scene) -> None:
    await scene.settle(signed_payment(1))
    scene.chain.say(Paid(TX, 4, 1))
    await scene.until_record(lambda record: record.orphan)


def test_the_facilitators_word_passes_byte_for_byte() -> None:
    async def script(scene: Scene) -> None:
        scene.verify_reply = httpx.Response(
            200, content=b'{"isValid": true,  "payer": "0xabc", "extra": {"a": 1}}'
        )
        caller = await verify(scene, signed_payment())
        assert caller.heard == {"isValid": True, "payer": "0xabc", "extra": {"a": 1}}

    Scene(settled()).play(script)


def test_an_orphan_verifies_from_the_record_although_its_nonce_is_used() -> None:
    async def script(scene: Scene) -> None:
        await orphan(scene)
        scene.verify_reply = SPENT
        caller = await verify(scene, signed_payment(1))
        assert caller.heard["isValid"] is True
        assert scene.verifies == []

    Scene(LOST, hold_s=0.1, hold_without_hash_s=0.2).play(script)


@pytest.mark.parametrize(
    "terms",
    [{"amount": 10_001}, {"asked": {"amount": "10001"}}, {"asked": {"payTo": "0x" + "33" * 20}}],
    ids=str,
)
def test_an_orphan_of_other_terms_does_not_verify(terms: dict[str, Any]) -> None:
    async def script(scene: Scene) -> None:
        await orphan(scene)
        caller = await verify(scene, signed_payment(1, **terms))
        assert (caller.heard["isValid"], caller.heard["invalidReason"]) == (False, "duplicate_settlement")

    Scene(LOST, hold_s=0.1, hold_without_hash_s=0.2).play(script)


def test_a_copy_of_an_orphan_with_another_signature_does_not_verify() -> None:
    async def script(scene: Scene) -> None:
        await orphan(scene)
        scene.verify_reply = SPENT
        caller = await verify(scene, signed_payment(1, key=STRANGER))
        assert caller.heard["isValid"] is False

    Scene(LOST, hold_s=0.1, hold_without_hash_s=0.2).play(script)


def test_what_was_delivered_does_not_verify_again() -> None:
    async def script(scene: Scene) -> None:
        await scene.settle(signed_payment())
        caller = await verify(scene, signed_payment())
        assert (caller.heard["isValid"], caller.heard["invalidReason"]) == (False, "duplicate_settlement")

    Scene(settled()).play(script)


def test_a_new_signature_verifies_when_only_the_first_payment_emptied_the_purse() -> None:
    async def script(scene: Scene) -> None:
        await orphan(scene)
        scene.verify_reply = BROKE
        caller = await verify(scene, signed_payment(2))
        assert caller.heard["isValid"] is True
        forged = await verify(scene, signed_payment(2, key=STRANGER))
        assert forged.heard["isValid"] is False

    Scene(LOST, hold_s=0.1, hold_without_hash_s=0.2).play(script)


def test_an_empty_purse_without_an_earlier_payment_stays_a_refusal() -> None:
    async def script(scene: Scene) -> None:
        scene.verify_reply = BROKE
        caller = await verify(scene, signed_payment(2))
        assert (caller.heard["isValid"], caller.heard["invalidReason"]) == (False, "insufficient_funds")

    Scene(settled()).play(script)


def test_a_dead_facilitator_is_a_complete_refusal_not_a_5xx() -> None:
    async def script(scene: Scene) -> None:
        scene.verify_reply = httpx.Response(404, text="nothing here")
        caller = await verify(scene, signed_payment())
        assert caller.status == 200
        assert caller.heard["isValid"] is False
        assert caller.heard["payer"] == PAYER.address.lower()

    Scene(settled()).play(script)


def test_verify_never_writes_a_settlement() -> None:
    async def script(scene: Scene) -> None:
        await verify(scene, signed_payment())
        assert await scene.store.page() == []
        assert (await scene.settle(signed_payment())).heard["success"] is True
        assert (await scene.record()).money is Money.CONFIRMED

    Scene(settled()).play(script)
