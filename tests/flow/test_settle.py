"""Scripts of single settles: what was said, what the caller heard, what the record shows."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from guardian.chain.rpc import Endpoints
from guardian.chain.signature import ERC1271_MAGIC
from guardian.chain.target import Cancelled, Expired, Mismatch, Paid, Reverted, Seen, Unused
from guardian.errors import BadPayment, StoreUnavailable
from guardian.settlement.states import Answer, Money
from guardian.store.memory import MemoryStore
from tests.chain.test_signature import Wallets
from tests.flow.scene import (
    NETWORK,
    OTHER_TX,
    PAYER,
    STRANGER,
    TX,
    Caller,
    Scene,
    refused,
    settled,
    signed_payment,
)

LOST = httpx.ReadTimeout("no reply")


def test_a_success_passes_through_and_is_recorded() -> None:
    async def script(scene: Scene) -> None:
        caller = await scene.settle(signed_payment())
        assert caller.heard["success"] is True
        assert caller.heard["transaction"] == TX
        record = await scene.record()
        assert (record.money, record.answer) == (Money.CONFIRMED, Answer.ACCEPTED)

    Scene(settled()).play(script)


def test_the_body_reaches_the_facilitator_byte_for_byte() -> None:
    async def script(scene: Scene) -> None:
        body = signed_payment().replace(b"{", b"{ ", 1)
        await scene.settle(body)
        assert scene.settles == [body]

    Scene(settled()).play(script)


@pytest.mark.parametrize(
    "reply",
    [
        LOST,
        httpx.RemoteProtocolError("reset"),
        refused("settlement_pending", transaction=OTHER_TX),
        refused("settlement_pending", status=500, transaction=OTHER_TX),
        refused("transaction_failed"),
        httpx.Response(500, text="transaction did not confirm in time: context deadline exceeded"),
        httpx.Response(504, text="<html>Gateway Timeout</html>"),
        httpx.Response(200, text="garbage"),
        httpx.Response(202, json={}),
    ],
    ids=lambda reply: repr(reply)[:40],
)
def test_whatever_leaves_a_doubt_is_delivered_late_once_the_chain_shows_it(reply: object) -> None:
    async def script(scene: Scene) -> None:
        caller, waiting = scene.calling(signed_payment())
        await scene.until_record(lambda record: record.money is Money.POLLING)
        scene.chain.say(Paid(TX, 7, 1))
        await waiting
        assert caller.heard["success"] is True
        assert caller.heard["transaction"] == TX
        record = await scene.record()
        assert (record.money, record.answer) == (Money.CONFIRMED_LATE, Answer.ACCEPTED)
        assert len(scene.settles) == 1

    Scene(reply).play(script)


def test_a_definitive_refusal_is_told_in_the_facilitators_words_and_not_sent_again() -> None:
    async def script(scene: Scene) -> None:
        body = signed_payment()
        for _ in range(2):
            caller = await scene.settle(body)
            assert caller.status == 200
            assert caller.heard["success"] is False
            assert caller.heard["errorReason"] == "invalid_exact_evm_payload_signature"
            assert caller.heard["transaction"] == ""
        assert len(scene.settles) == 1
        assert (await scene.record()).money is Money.FAILED

    Scene(refused("invalid_exact_evm_payload_signature")).play(script)


def test_a_forged_attempt_does_not_bar_the_payers_own() -> None:
    async def script(scene: Scene) -> None:
        forged = await scene.settle(signed_payment(key=STRANGER))
        assert forged.heard["success"] is False
        genuine = await scene.settle(signed_payment())
        assert genuine.heard["success"] is True

    Scene(refused("invalid_exact_evm_payload_signature"), settled()).play(script)


def test_five_callers_with_one_payment_get_one_delivery_from_one_send() -> None:
    async def script(scene: Scene) -> None:
        body = signed_payment()
        callers = await asyncio.gather(*(scene.settle(body) for _ in range(5)))
        assert sorted(caller.heard["success"] for caller in callers) == [False] * 4 + [True]
        told = {caller.heard.get("errorReason") for caller in callers if not caller.heard["success"]}
        assert told == {"duplicate_settlement"}
        assert len(scene.settles) == 1

    Scene(settled()).play(script)


def test_a_replay_after_success_is_told_duplicate() -> None:
    async def script(scene: Scene) -> None:
        body = signed_payment()
        await scene.settle(body)
        again = await scene.settle(body)
        assert again.heard["errorReason"] == "duplicate_settlement"
        assert len(scene.settles) == 1

    Scene(settled()).play(script)


def test_a_caller_that_leaves_changes_nothing_and_the_next_one_gets_the_goods() -> None:
    released = asyncio.Event()

    async def script(scene: Scene) -> None:
        body = signed_payment()
        first, waiting = scene.calling(body)
        await scene.until(lambda: scene.settles)
        first.gone = True
        released.set()
        await waiting
        record = await scene.until_record(lambda record: record.answer is Answer.ABANDONED)
        assert record.orphan
        second = await scene.settle(body)
        assert second.heard["success"] is True
        assert len(scene.settles) == 1

    Scene(released).play(script)


def test_when_the_hold_is_over_the_caller_hears_pending_with_the_hash_and_may_come_again() -> None:
    async def script(scene: Scene) -> None:
        body = signed_payment()
        first = await scene.settle(body)
        assert first.heard["errorReason"] == "settlement_pending"
        assert first.heard["transaction"] == OTHER_TX
        second, waiting = scene.calling(body)
        await scene.until(lambda: scene.chain.targets)
        scene.chain.say(Paid(TX, 7, 1))
        await waiting
        assert second.heard["success"] is True
        assert len(scene.settles) == 1

    Scene(refused("settlement_pending", transaction=OTHER_TX), hold_s=0.2, hold_without_hash_s=0.4).play(
        script
    )


def test_without_a_hash_nobody_is_told_settlement_pending() -> None:
    async def script(scene: Scene) -> None:
        caller = await scene.settle(signed_payment())
        assert caller.heard["errorReason"] != "settlement_pending"
        assert "do not pay again" in caller.heard["errorMessage"]
        assert (await scene.record()).answer is Answer.REFUSED

    Scene(LOST, hold_s=0.1, hold_without_hash_s=0.2).play(script)


def test_a_hash_seen_on_the_way_is_told() -> None:
    async def script(scene: Scene) -> None:
        caller, waiting = scene.calling(signed_payment())
        await scene.until_record(lambda record: record.money is Money.POLLING)
        scene.chain.say(Seen(TX))
        await waiting
        assert (caller.heard["errorReason"], caller.heard["transaction"]) == ("settlement_pending", TX)

    Scene(LOST, hold_s=0.3, hold_without_hash_s=5).play(script)


def test_the_same_authorization_goes_again_once_the_chain_shows_it_unused_for_three_blocks() -> None:
    async def script(scene: Scene) -> None:
        caller, waiting = scene.calling(signed_payment())
        await scene.until_record(lambda record: record.money is Money.POLLING)
        for block in (1, 2):
            scene.chain.say(Unused(block, False))
        await asyncio.sleep(0)
        assert len(scene.settles) == 1
        scene.chain.say(Unused(3, False))
        await scene.until(lambda: len(scene.settles) == 2)
        scene.chain.say(Paid(TX, 4, 1))
        await waiting
        assert caller.heard["success"] is True
        assert scene.settles[0] == scene.settles[1]

    Scene(LOST, settled()).play(script)


def test_a_facilitator_that_hangs_is_not_waited_for() -> None:
    async def script(scene: Scene) -> None:
        caller, waiting = scene.calling(signed_payment())
        await scene.until(lambda: scene.chain.targets)
        for block in (1, 2, 3):
            scene.chain.say(Unused(block, False))
        await scene.until(lambda: len(scene.settles) == 2)
        scene.chain.say(Paid(TX, 4, 1))
        await waiting
        assert caller.heard["success"] is True

    Scene(asyncio.Event(), settled()).play(script)


@pytest.mark.parametrize("finding", [Unused(9, True), Reverted(OTHER_TX)])
def test_what_may_still_land_is_not_sent_again(finding: Unused | Reverted) -> None:
    async def script(scene: Scene) -> None:
        await scene.settle(signed_payment())
        for _ in range(6):
            scene.chain.say(finding)
            scene.chain.say(Unused(9, False)) if isinstance(finding, Reverted) else None
        await scene.settle(signed_payment(nonce=1))
        assert len(scene.settles) == 1

    Scene(refused("transaction_failed", transaction=OTHER_TX), hold_s=0.2, hold_without_hash_s=0.4).play(
        script
    )


def test_after_a_lost_reply_a_later_refusal_proves_nothing() -> None:
    async def script(scene: Scene) -> None:
        caller, waiting = scene.calling(signed_payment())
        await scene.until_record(lambda record: record.money is Money.POLLING)
        for block in (1, 2, 3):
            scene.chain.say(Unused(block, False))
        await scene.until(lambda: len(scene.settles) == 2)
        record = await scene.until_record(lambda record: record.reason == "insufficient_funds")
        assert record.money is Money.POLLING
        scene.chain.say(Paid(TX, 4, 1))
        await waiting
        assert caller.heard["success"] is True

    Scene(LOST, refused("insufficient_funds")).play(script)


@pytest.mark.parametrize("proof", [Expired(9), Cancelled(OTHER_TX), Mismatch(OTHER_TX, "other payee")])
def test_a_proof_of_non_payment_ends_in_a_failure_that_charges_nobody(
    proof: Expired | Cancelled | Mismatch,
) -> None:
    async def script(scene: Scene) -> None:
        caller, waiting = scene.calling(signed_payment())
        await scene.until_record(lambda record: record.money is Money.POLLING)
        scene.chain.say(proof)
        await waiting
        assert caller.heard["success"] is False
        assert (await scene.record()).money is Money.FAILED_ORPHANED

    Scene(LOST).play(script)


def test_a_success_that_the_chain_denies_is_found_unpaid() -> None:
    async def script(scene: Scene) -> None:
        caller = await scene.settle(signed_payment())
        assert caller.heard["success"] is True
        scene.chain.say(Expired(9))
        record = await scene.until_record(lambda record: record.money is Money.FAILED)
        assert record.unpaid

    Scene(settled()).play(script)


@pytest.mark.parametrize(
    "other", [{"payer": STRANGER.address}, {"network": "eip155:1"}, {"network": "base"}], ids=str
)
def test_a_success_for_another_payment_sells_nothing_until_the_chain_has_spoken(
    other: dict[str, str],
) -> None:
    async def script(scene: Scene) -> None:
        caller, waiting = scene.calling(signed_payment())
        await scene.until_record(lambda record: record.money is Money.POLLING)
        scene.chain.say(Paid(OTHER_TX, 4, 1))
        await waiting
        assert (caller.heard["success"], caller.heard["transaction"]) == (True, OTHER_TX)
        assert (caller.heard["payer"], caller.heard["network"]) == (PAYER.address.lower(), NETWORK)

    Scene(httpx.Response(200, json={**json.loads(settled().content), **other})).play(script)


@pytest.mark.parametrize(
    "same",
    [{"payer": PAYER.address}, {"payer": ""}, {"network": "base-sepolia"}, {"network": "Base test"}],
    ids=str,
)
def test_other_names_of_the_same_are_no_other_payment(same: dict[str, str]) -> None:
    async def script(scene: Scene) -> None:
        assert (await scene.settle(signed_payment())).heard["success"] is True

    Scene(httpx.Response(200, json={**json.loads(settled().content), **same})).play(script)


def test_a_success_without_a_hash_gets_the_chains() -> None:
    async def script(scene: Scene) -> None:
        caller, waiting = scene.calling(signed_payment())
        await scene.until(lambda: scene.chain.targets)
        scene.chain.say(Paid(TX, 4, 1))
        await waiting
        assert (caller.heard["success"], caller.heard["transaction"]) == (True, TX)
        assert (await scene.record()).chain_proven

    Scene(settled("")).play(script)


def test_rate_limited_is_tried_again_with_the_same_payload() -> None:
    async def script(scene: Scene) -> None:
        caller = await scene.settle(signed_payment())
        assert caller.heard["success"] is True
        assert len(scene.settles) == 2

    limited = httpx.Response(429, json={"errorType": "rate_limit_exceeded"}, headers={"retry-after": "0"})
    Scene(limited, settled()).play(script)


def test_nothing_is_sent_without_a_record() -> None:
    class Broken(MemoryStore):
        async def claim(self, new: object, **_: object) -> object:  # type: ignore[override]
            raise StoreUnavailable("disk full")

    async def script(scene: Scene) -> None:
        with pytest.raises(StoreUnavailable):
            await scene.settle(signed_payment())
        assert scene.settles == []
        assert len(scene.flow.lives) == 0

    Scene(settled(), store=Broken()).play(script)


def test_what_is_no_payment_is_refused_with_its_field_and_nothing_sent() -> None:
    async def script(scene: Scene) -> None:
        with pytest.raises(BadPayment, match="value"):
            await scene.settle(signed_payment().replace(b'"value": "10000"', b'"value": "ten"'))
        assert scene.settles == []

    Scene(settled()).play(script)


def test_a_restart_takes_up_what_was_being_sent_and_the_next_caller_gets_it() -> None:
    store, body = MemoryStore(), signed_payment()

    async def killed(scene: Scene) -> None:
        _, waiting = scene.calling(body)
        await scene.until(lambda: scene.settles)
        waiting.cancel()

    async def restarted(scene: Scene) -> None:
        record = await scene.until_record(lambda record: record.money is Money.POLLING)
        assert record.answer is Answer.ABANDONED
        scene.chain.say(Paid(TX, 4, 1))
        record = await scene.until_record(lambda record: record.orphan)
        caller = await scene.settle(body)
        assert (caller.heard["success"], caller.heard["transaction"]) == (True, TX)
        assert scene.settles == []

    Scene(asyncio.Event(), store=store).play(killed)
    Scene(settled(), store=store).play(restarted)


def test_an_unwatched_payment_passes_with_the_facilitators_own_words() -> None:
    async def script(scene: Scene) -> None:
        caller = await scene.settle(signed_payment())
        assert caller.heard["errorReason"] == "settlement_pending"
        again = await scene.settle(signed_payment())
        assert again.heard["success"] is True
        assert not (await scene.record()).watched

    Scene(refused("settlement_pending", transaction=TX), settled(), watched=False).play(script)


def test_the_payer_is_told_even_where_the_facilitator_left_it_out() -> None:
    async def script(scene: Scene) -> None:
        caller = await scene.settle(signed_payment())
        assert caller.heard["payer"] == PAYER.address.lower()

    Scene(httpx.Response(200, json={"success": True, "transaction": TX, "network": "eip155:84532"})).play(
        script
    )


def test_someone_without_the_signature_gets_nothing_of_a_payment_seen_on_chain() -> None:
    async def script(scene: Scene) -> None:
        _, waiting = scene.calling(signed_payment(key=STRANGER))
        await scene.until_record(lambda record: record.money is Money.POLLING)
        scene.chain.say(Paid(TX, 4, 1))
        await waiting
        thief: Caller = _
        assert thief.heard["errorReason"] == "invalid_exact_evm_payload_signature"
        assert (await scene.record()).orphan  # charged, and nobody got it: a person may look

    Scene(LOST).play(script)


def test_who_signed_under_the_tokens_own_domain_gets_the_goods_whatever_the_seller_says_of_it() -> None:
    async def script(scene: Scene) -> None:
        body = signed_payment(asked={"extra": {"name": "USD Coin", "version": "2"}})  # type: ignore[dict-item]
        caller, waiting = scene.calling(body)
        await scene.until_record(lambda record: record.money is Money.POLLING)
        scene.chain.say(Paid(TX, 4, 1))
        await waiting
        assert caller.heard["success"] is True

    Scene(LOST).play(script)


def test_while_no_node_can_tell_whose_signature_it_is_the_payment_may_be_asked_for_again() -> None:
    async def script(scene: Scene) -> None:
        node = Wallets("0x" + ERC1271_MAGIC + "0" * 56, chain_id=84532)
        node.down = True
        scene.chain.endpoints = Endpoints(NETWORK, [], wires=[("n", node)])  # type: ignore[assignment]
        body = signed_payment(key=STRANGER)  # of a contract wallet's owner
        caller, waiting = scene.calling(body)
        await scene.until_record(lambda record: record.money is Money.POLLING)
        scene.chain.say(Paid(TX, 4, 1))
        await waiting
        assert (caller.heard["errorReason"], caller.heard["transaction"]) == ("settlement_pending", TX)
        assert (await scene.record()).orphan
        node.down = False
        scene.chain.endpoints = Endpoints(NETWORK, [], wires=[("n", node)])  # type: ignore[assignment]
        assert (await scene.settle(body)).heard["success"] is True
        await scene.chain.endpoints.close()  # type: ignore[attr-defined]

    Scene(LOST).play(script)


def test_a_payment_that_was_over_before_it_came_here_buys_nothing_again() -> None:
    async def script(scene: Scene) -> None:
        scene.chain.block_is_earlier = True
        caller, waiting = scene.calling(signed_payment())
        await scene.until_record(lambda record: record.money is Money.POLLING)
        scene.chain.say(Paid(TX, 4, 1))
        await waiting
        assert caller.heard["errorReason"] == "duplicate_settlement"
        assert not (await scene.record()).orphan

    Scene(refused("invalid_exact_evm_nonce_already_used")).play(script)


OTHER_TERMS = [
    {"pay_to": "0x" + "33" * 20},
    {"amount": 10_001},
    {"asked": {"payTo": "0x" + "33" * 20}},
    {"asked": {"amount": "10001"}},
]
"""Of the same nonce: signed anew for another payee or price, or only shown with such terms."""


@pytest.mark.parametrize("terms", OTHER_TERMS, ids=str)
def test_a_payment_buys_nothing_from_another_payee_and_nothing_dearer(terms: dict[str, Any]) -> None:
    released = asyncio.Event()

    async def script(scene: Scene) -> None:
        dear = signed_payment(**terms)
        first, waiting = scene.calling(signed_payment())
        await scene.until(lambda: scene.settles)
        assert (await scene.settle(dear)).heard["errorReason"] == "duplicate_settlement"
        first.gone = True
        released.set()
        await waiting
        assert (await scene.until_record(lambda record: record.orphan)).amount == 10_000
        assert (await scene.settle(dear)).heard["errorReason"] == "duplicate_settlement"
        assert (await scene.settle(signed_payment())).heard["success"] is True
        assert len(scene.settles) == 1

    Scene(released).play(script)


@pytest.mark.parametrize("wrong_amount", ["9999", "10001"])
def test_terms_that_were_refused_bind_nobody(wrong_amount: str) -> None:
    async def script(scene: Scene) -> None:
        wrong = await scene.settle(signed_payment(asked={"amount": wrong_amount}))
        assert wrong.heard["success"] is False
        assert (await scene.settle(signed_payment())).heard["success"] is True
        assert (await scene.record()).amount == 10_000

    Scene(refused("invalid_exact_evm_payload_authorization_value_mismatch"), settled()).play(script)


@pytest.mark.parametrize("anew", [{"amount": 9_000}, {"valid_for_s": 900}], ids=str)
@pytest.mark.parametrize("old_word", [Mismatch(OTHER_TX, "9000"), Expired(9)], ids=repr)
def test_what_the_chain_says_of_terms_that_were_refused_is_no_word_on_those_that_followed(
    anew: dict[str, int], old_word: Any
) -> None:
    slow = asyncio.Event()

    async def script(scene: Scene) -> None:
        _, waiting = scene.calling(signed_payment())
        await scene.until(lambda: scene.chain.targets)  # its confirmation is overdue
        (_, told_of_the_first), *_ = scene.chain.targets.values()
        slow.set()
        await waiting
        caller, waiting = scene.calling(signed_payment(**anew))
        await scene.until_record(lambda record: record.money is Money.POLLING)
        told_of_the_first(old_word)
        await asyncio.gather(*(t for t in asyncio.all_tasks() if t.get_name() == "finding"))
        record = await scene.record()
        assert record.money is Money.POLLING
        (target, _), *_ = scene.chain.targets.values()
        assert (target.amount, target.valid_before) == (record.amount, record.valid_before)
        scene.chain.say(Paid(TX, 4, 1))
        await waiting
        assert caller.heard["success"] is True

    Scene((slow, refused("insufficient_funds")), LOST).play(script)


def test_a_block_that_was_not_there_yet_is_none_of_before_though_it_is_dated_back() -> None:
    """After a halt a chain catches up with blocks of the time that it missed."""

    async def script(scene: Scene) -> None:
        scene.chain.block_is_earlier, scene.chain.head = True, 3
        caller, waiting = scene.calling(signed_payment())
        await scene.until_record(lambda record: record.money is Money.POLLING)
        scene.chain.say(Paid(TX, 4, 1))
        await waiting
        assert (caller.heard["success"], caller.heard["transaction"]) == (True, TX)

    Scene(LOST).play(script)


def test_no_orphan_is_reported_while_a_caller_waits_that_gets_the_goods(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def script(scene: Scene) -> None:
        body = signed_payment()
        await scene.settle(body)
        _, waiting = scene.calling(body)
        await scene.until(lambda: any(live.callers for live in scene.flow.lives))
        scene.chain.say(Paid(TX, 4, 1))
        await waiting

    Scene(refused("settlement_pending", transaction=OTHER_TX), hold_s=0.2, hold_without_hash_s=0.4).play(
        script
    )
    assert not [line for line in caplog.messages if line.startswith("orphan:")]


def test_an_orphan_that_nobody_waits_for_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    async def script(scene: Scene) -> None:
        await scene.settle(signed_payment())
        scene.chain.say(Paid(TX, 4, 1))
        await scene.until_record(lambda record: record.orphan)

    Scene(LOST, hold_s=0.1, hold_without_hash_s=0.2).play(script)
    assert len([line for line in caplog.messages if line.startswith("orphan:")]) == 1


def test_what_is_paid_keeps_no_signature() -> None:
    async def script(scene: Scene) -> None:
        await scene.settle(signed_payment())
        assert (await scene.record()).body == b""

    Scene(settled()).play(script)


def test_a_batch_sweep_may_be_repeated() -> None:
    async def script(scene: Scene) -> None:
        body = json.loads(signed_payment())
        for terms in (body["paymentRequirements"], body["paymentPayload"]["accepted"]):
            terms["scheme"] = "batch-settlement"
        body["paymentPayload"]["payload"] = {"type": "settle"}
        for _ in range(2):
            caller = await scene.settle(json.dumps(body).encode())
            assert (caller.status, caller.heard["success"]) == (200, True)
        assert len(scene.settles) == 2

    Scene(settled()).play(script)
