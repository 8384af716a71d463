"""Whose purchase it is, what is kept for it, and what an operator, a store or a key can do in between."""

import asyncio
import base64
import json
from typing import Any

import pytest

from guardian.chain.target import Paid
from guardian.errors import ReplyLost, StoreUnavailable
from guardian.flow.sealing import Sealing
from guardian.settlement.record import Settlement, written_off
from guardian.settlement.states import Answer, Money
from guardian.store.memory import MemoryStore
from guardian.upstream.reply import Reply, whole_reply
from tests.flow.buy_scene import GOODS, URL, Agent, BuyScene, demand, goods, refusal, signed
from tests.flow.scene import NETWORK, TX, USDC, signed_payment

SHORT: Any = {"hold_s": 0.1, "hold_without_hash_s": 0.2}


async def orphan(scene: BuyScene, *headers: tuple[bytes, bytes]) -> Agent:
    """Play until a payment stands on chain that the seller refuses."""
    agent, task = scene.buying(*headers, signed())
    await scene.until(lambda: scene.chain.targets)
    scene.chain.say(Paid(TX, 4, 1))
    await task
    assert agent.problem["type"] == "urn:payment-guardian:paid-not-delivered"
    return agent


# -- whose it is


def test_a_stranger_who_is_nobody_yet_is_shown_the_price_once_the_seller_refuses_for_good() -> None:
    async def script(scene: BuyScene) -> None:
        await orphan(scene)
        stranger = await scene.buy(demanded=demand())
        assert stranger.status == 402
        payer = await scene.buy(signed(2))  # but the payer's own signature is put aside
        assert payer.status == 503
        assert set(scene.nonces) == {1}

    BuyScene(refusal).play(script)


def test_a_buyer_that_shows_who_it_is_never_sees_the_price_again() -> None:
    async def script(scene: BuyScene) -> None:
        me = (b"authorization", b"Bearer me")
        await orphan(scene, me)
        assert (await scene.buy(me, demanded=demand())).status == 503

    BuyScene(refusal).play(script)


def test_callers_with_a_name_have_their_purchases_to_themselves() -> None:
    class Named(Agent):
        caller = "key:somebody"

    async def script(scene: BuyScene) -> None:
        assert (await scene.buy(signed(1))).status == 503
        scene.says = [goods]
        somebody = Named(scene, demanded=demand())
        await scene.flow.handle(somebody)
        assert (somebody.status, set(scene.nonces)) == (402, {1})

    BuyScene(refusal, **SHORT).play(script)


def test_a_signature_for_one_request_gets_nothing_at_another() -> None:
    async def script(scene: BuyScene) -> None:
        agent = scene.agent(signed())
        agent.breaks = True
        await scene.flow.handle(agent)
        scene.says = [refusal]
        elsewhere = scene.agent(signed())
        elsewhere.url = URL + "?of=everything"
        await scene.flow.handle(elsewhere)
        assert elsewhere.status == 402
        assert (await scene.buy(signed())).said == GOODS

    BuyScene(goods()).play(script)


def test_the_same_payment_identifier_is_the_same_purchase_whatever_the_body() -> None:
    def named(nonce: int) -> tuple[bytes, bytes]:
        header, value = signed(nonce)
        payload = json.loads(base64.b64decode(value))
        payload["extensions"] = {"payment-identifier": {"info": {"id": "order-1234567890"}}}
        return header, base64.b64encode(json.dumps(payload).encode())

    async def script(scene: BuyScene) -> None:
        assert (await scene.buy(named(1))).status == 503
        scene.says = [goods()]
        again = scene.agent(named(2))
        again.body = b"with the time of the day in it"
        await scene.flow.handle(again)
        assert (again.status, set(scene.nonces)) == (200, {1})

    BuyScene(refusal, **SHORT).play(script)


def test_an_orphan_that_was_written_off_bars_nobody() -> None:
    async def script(scene: BuyScene) -> None:
        await orphan(scene)
        record = await scene.record()
        await scene.store.update(record, written_off(record, by="me", reason="small", now=1.0))
        scene.says = [goods()]
        assert (await scene.buy(signed(2))).status == 200
        assert scene.nonces[-1] == 2

    BuyScene(refusal).play(script)


def test_where_orphans_are_not_to_be_used_they_bar_nobody() -> None:
    async def script(scene: BuyScene) -> None:
        await orphan(scene)
        scene.says = [goods()]
        assert (await scene.buy(signed(2))).status == 200
        assert scene.nonces[-1] == 2

    BuyScene(refusal, reuse_orphans="off").play(script)


def test_a_payment_of_an_agent_answers_no_seller() -> None:
    async def script(scene: BuyScene) -> None:
        await orphan(scene)
        record = await scene.record()
        found = await scene.guardian.settle.purchases.before(
            Settlement(
                **{name: getattr(record, name) for name in record.__struct_fields__}
                | {"key": "other", "plane": "facilitator"}
            ),
            scene.guardian.parts.generation,
        )
        assert found == []

    BuyScene(refusal).play(script)


# -- v1


def v1_payment(nonce: int = 1) -> tuple[bytes, bytes]:
    payload = json.loads(signed_payment(nonce))["paymentPayload"]["payload"]
    said = {"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": payload}
    return b"x-payment", base64.b64encode(json.dumps(said).encode())


def v1_demand() -> Reply:
    terms = json.loads(signed_payment())["paymentRequirements"]
    terms |= {"network": "base-sepolia", "maxAmountRequired": terms.pop("amount"), "resource": URL}
    return whole_reply(402, (), json.dumps({"x402Version": 1, "accepts": [terms]}).encode())


def test_a_payment_of_v1_is_guarded_by_what_its_seller_asked_for() -> None:
    async def script(scene: BuyScene) -> None:
        asked = v1_demand()
        priced = await scene.buy(demanded=asked)
        assert (priced.status, priced.heard, json.loads(priced.said)["x402Version"]) == (402, [asked], 1)
        assert (await scene.buy(v1_payment())).status == 503
        record = await scene.record()
        assert (record.watched, record.asset) == (True, USDC)
        scene.says = [goods()]
        assert (await scene.buy(demanded=v1_demand())).status == 200

    BuyScene(refusal, **SHORT).play(script)


def test_a_payment_of_v1_whose_seller_was_never_heard_passes_on_record() -> None:
    async def script(scene: BuyScene) -> None:
        assert (await scene.buy(v1_payment())).status == 402
        assert (await scene.record()).watched is False

    BuyScene(refusal).play(script)


# -- what is kept


def test_what_is_kept_is_sealed_and_presents_again_after_a_restart() -> None:
    store, key = MemoryStore(), Sealing([b"k" * 32])

    async def before(scene: BuyScene) -> None:
        assert (await scene.buy(signed())).status == 503
        assert signed()[1] not in (await scene.record()).body

    async def after(scene: BuyScene) -> None:
        assert (await scene.buy(demanded=demand())).status == 200
        assert scene.nonces == [1]

    BuyScene(refusal, store=store, sealing=key, **SHORT).play(before)
    BuyScene(goods(), store=store, sealing=key).play(after)


def test_without_the_key_nothing_is_presented_and_nobody_pays_again() -> None:
    store = MemoryStore()

    async def before(scene: BuyScene) -> None:
        assert (await scene.buy(signed())).status == 503

    async def after(scene: BuyScene) -> None:
        assert (await scene.buy(demanded=demand())).status == 503
        assert scene.presented == []

    BuyScene(refusal, store=store, sealing=Sealing([b"k" * 32]), **SHORT).play(before)
    BuyScene(goods(), store=store, sealing=Sealing([b"o" * 32]), **SHORT).play(after)


def test_a_replica_without_the_key_destroys_nothing_and_pays_nothing_twice() -> None:
    store, key = MemoryStore(), Sealing([b"k" * 32])

    async def with_key(scene: BuyScene) -> None:
        assert (await scene.buy(signed())).status == 503

    async def without(scene: BuyScene) -> None:
        was = (await scene.record()).body
        assert (await scene.buy(demanded=demand())).status == 503
        assert (await scene.buy(signed(2))).status == 503, "no other beside it"
        scene.chain.say(Paid(TX, 4, 1))
        record = await scene.until_record(lambda record: record.money is Money.CONFIRMED_LATE)
        assert (await scene.buy(demanded=demand())).status == 503
        assert ((await scene.record()).body, record.body, scene.presented) == (was, was, [])

    async def with_it_again(scene: BuyScene) -> None:
        assert (await scene.buy(demanded=demand())).status == 200
        assert scene.nonces == [1]

    BuyScene(refusal, store=store, sealing=key, **SHORT).play(with_key)
    BuyScene(goods(), store=store, sealing=Sealing(), **SHORT).play(without)
    BuyScene(goods(), store=store, sealing=key, **SHORT).play(with_it_again)


def test_what_a_payers_own_request_brings_along_is_presented_without_the_key() -> None:
    store = MemoryStore()

    async def with_key(scene: BuyScene) -> None:
        assert (await scene.buy(signed())).status == 503

    async def without(scene: BuyScene) -> None:
        assert (await scene.buy(signed())).status in (200, 503)
        assert set(scene.nonces) <= {1}

    BuyScene(refusal, store=store, sealing=Sealing([b"k" * 32]), **SHORT).play(with_key)
    BuyScene(goods(), store=store, sealing=Sealing(), **SHORT).play(without)


def test_a_body_is_presented_again_with_the_payment() -> None:
    async def script(scene: BuyScene) -> None:
        agent = scene.agent(signed(), (b"x-a", b"first"))
        agent.method, agent.body = "POST", b"order"
        await scene.flow.handle(agent)
        assert agent.status == 503
        scene.says = [goods()]
        again = scene.agent((b"x-a", b"second"), demanded=demand())
        again.method, again.body = "POST", b"order"
        await scene.flow.handle(again)
        assert again.status == 200
        assert scene.presented[-1] == [(b"x-a", b"second"), signed_first]

    signed_first = signed()
    BuyScene(refusal, **SHORT).play(script)


@pytest.mark.parametrize("status", [201, 204, 303])
def test_a_success_that_says_all_with_its_head_is_the_goods(status: int) -> None:
    async def script(scene: BuyScene) -> None:
        assert (await scene.buy(signed())).status == status
        assert (await scene.record()).answer is Answer.ACCEPTED

    BuyScene(whole_reply(status, (), b"")).play(script)


def test_a_body_of_known_length_that_breaks_off_is_asked_for_again_unseen() -> None:
    async def script(scene: BuyScene) -> None:
        agent = await scene.buy(signed())
        assert (agent.status, agent.said, len(agent.heard)) == (200, GOODS, 1)

    broken = Reply(200, [(b"content-length", b"10")])
    broken.feed(b"half")
    broken.fail(ReplyLost("the connection broke"))
    BuyScene(broken, goods()).play(script)


def test_events_are_passed_on_as_they_come() -> None:
    async def script(scene: BuyScene) -> None:
        agent, task = scene.buying(signed())
        await scene.until(lambda: agent.heard)
        stream.feed(b"data: 1\n\n")
        stream.end()
        await task
        assert agent.said == b"data: 1\n\n"

    stream = Reply(200, [(b"content-type", b"text/event-stream"), (b"transfer-encoding", b"chunked")])
    BuyScene(stream).play(script)


# -- the store


class Shaky(MemoryStore):
    """Takes no updates while it is told so."""

    away = False

    async def update(self, old: Settlement, new: Settlement, **how: Any) -> None:
        if self.away:
            raise StoreUnavailable("away")
        await super().update(old, new, **how)


def test_a_store_that_goes_away_after_the_sending_loses_nothing_that_is_known() -> None:
    store = Shaky()

    async def script(scene: BuyScene) -> None:
        def falls() -> Reply:
            store.away = True
            return goods()

        scene.says = [falls]
        assert (await scene.buy(signed())).status == 200
        store.away = False
        record = await scene.until_record(lambda record: record.answer is Answer.ACCEPTED)
        assert record.money is Money.CONFIRMED

    BuyScene(goods(), store=store).play(script)


def test_an_unwatched_payment_whose_reply_is_lost_is_not_taken_for_failed() -> None:
    async def script(scene: BuyScene) -> None:
        with pytest.raises(ReplyLost):
            await scene.buy(signed())
        assert (await scene.record()).money is Money.UNRESOLVED

    BuyScene(ReplyLost("broke"), watched=False).play(script)


def test_an_unwatched_payment_whose_reply_breaks_off_is_in_doubt() -> None:
    async def script(scene: BuyScene) -> None:
        agent = scene.agent(signed())

        async def breaks(reply: Reply) -> bool:
            raise ReplyLost("it broke off")

        agent.answer = breaks  # type: ignore[method-assign]
        with pytest.raises(ReplyLost):
            await scene.flow.handle(agent)
        record = await scene.record()
        assert (record.money, record.tainted) == (Money.UNRESOLVED, True)

    BuyScene(goods, watched=False).play(script)


def test_a_v1_payment_in_doubt_stands_before_others_also_after_a_restart() -> None:
    store = MemoryStore()

    async def first(scene: BuyScene) -> None:
        assert (await scene.buy(demanded=v1_demand())).status == 402
        assert (await scene.buy(v1_payment(1))).status == 503

    async def later(scene: BuyScene) -> None:
        assert (await scene.buy(v1_payment(1))).status == 503, "no 402, which would have it sign again"
        assert (await scene.buy(v1_payment(2))).status == 503
        sent = {dict(headers)[b"x-payment"] for headers in scene.presented}
        assert sent <= {v1_payment(1)[1]}, "the second is not sent while the first may have paid"
        assert {record.asset for record in await store.page()} == {USDC}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.flow.scene.time.time", lambda: 2e9)
        BuyScene(refusal, store=store, **SHORT).play(first)
        BuyScene(refusal, store=store, **SHORT).play(later)


@pytest.mark.parametrize("sealing", [Sealing(), Sealing([b"o" * 32])])
def test_a_v1_payment_in_doubt_stands_before_others_also_where_what_is_kept_cannot_be_opened(
    sealing: Sealing,
) -> None:
    store = MemoryStore()

    async def first(scene: BuyScene) -> None:
        assert (await scene.buy(demanded=v1_demand())).status == 402
        assert (await scene.buy(v1_payment(1))).status == 503

    async def later(scene: BuyScene) -> None:
        assert (await scene.buy(v1_payment(2))).status == 503
        assert scene.presented == []
        assert {record.asset for record in await store.page()} == {USDC}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.flow.scene.time.time", lambda: 2e9)
        BuyScene(refusal, store=store, sealing=Sealing([b"k" * 32]), **SHORT).play(first)
        BuyScene(refusal, store=store, sealing=sealing, **SHORT).play(later)


def sent_on(status: int = 307, **receipt: Any) -> Reply:
    """A seller that wants the slash at the end of its path."""
    reply = goods(b"", status, **receipt)
    reply.headers = [*reply.headers, (b"location", b"/shop/weather/")]
    return reply


async def following(scene: BuyScene, nonce: int) -> tuple[Agent, "asyncio.Task[None]"]:
    """An agent that goes to where it is sent, with the payment that it has signed."""
    first = await scene.buy(signed(nonce))
    assert (first.status, dict(first.heard[0].headers)[b"location"]) == (307, b"/shop/weather/")
    agent = scene.agent(signed(nonce))
    agent.url = f"{URL}/"
    return agent, asyncio.get_running_loop().create_task(scene.flow.handle(agent))


def test_a_payment_that_is_sent_on_is_guarded_where_it_is_taken() -> None:
    async def script(scene: BuyScene) -> None:
        agent, waiting = await following(scene, 1)
        await scene.until(lambda: len(scene.presented) >= 3)
        assert not agent.heard  # the seller's 402 would have it sign again
        scene.chain.say(Paid(TX, 4, 1))
        await waiting
        assert (agent.status, agent.said) == (200, GOODS)
        record = await scene.record()
        assert (record.money, record.answer) == (Money.CONFIRMED_LATE, Answer.ACCEPTED)
        assert record.resource == f"{URL}/"

    BuyScene(sent_on(), refusal, refusal, goods).play(script)


def test_a_payment_that_was_sent_on_and_never_came_is_listed_if_it_was_taken() -> None:
    async def script(scene: BuyScene) -> None:
        assert (await scene.buy(signed())).status == 307
        scene.chain.say(Paid(TX, 4, 1))
        assert (await scene.until_record(lambda record: record.chain_proven)).orphan

    BuyScene(sent_on()).play(script)


def test_a_new_signature_that_is_sent_on_waits_for_the_one_that_came_before() -> None:
    async def script(scene: BuyScene) -> None:
        _, waiting = await following(scene, 1)
        await waiting  # told that the outcome is not known
        agent, waiting = await following(scene, 2)
        scene.chain.say(Paid(TX, 4, 1))
        await waiting
        assert (agent.status, agent.said) == (200, GOODS)
        assert scene.nonces.count(2) == 1  # where it was sent on, and nowhere else

    asked: list[int] = []

    def seller() -> Reply:
        asked.append(1)
        if len(scene.presented) == 1 or scene.nonces[-1] == 2:
            return sent_on()
        return goods() if scene.chain.targets and scene.nonces.count(2) else refusal()

    scene = BuyScene(seller, hold_s=0.3, hold_without_hash_s=0.3)
    scene.play(script)


def test_a_redirection_that_says_it_was_paid_is_the_goods() -> None:
    async def script(scene: BuyScene) -> None:
        assert (await scene.buy(signed())).status == 302
        assert (await scene.record()).answer is Answer.ACCEPTED

    BuyScene(sent_on(302, success=True, transaction=TX, network=NETWORK)).play(script)


def test_an_unwatched_payment_that_is_sent_on_is_delivered_where_it_is_taken() -> None:
    async def script(scene: BuyScene) -> None:
        agent, waiting = await following(scene, 1)
        assert (await scene.record()).answer is not Answer.ACCEPTED
        await waiting
        assert (agent.said, (await scene.record()).answer) == (GOODS, Answer.ACCEPTED)

    BuyScene(sent_on(), goods, watched=False).play(script)
