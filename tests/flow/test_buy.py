"""What becomes of an agent's payment: seller said, chain said → agent heard, record shows."""

import asyncio
from typing import Any

import pytest

from guardian.chain.target import Expired, Paid
from guardian.errors import NotSent, ReplyLost
from guardian.flow.buy_record import purchase_of
from guardian.settlement.states import Answer, Money
from guardian.store.memory import MemoryStore
from guardian.upstream.reply import Reply, whole_reply
from tests.flow.buy_scene import GOODS, Agent, BuyScene, demand, goods, refusal, signed
from tests.flow.scene import STRANGER, TX

LOST = ReplyLost("the connection broke")
SHORT: Any = {"hold_s": 0.1, "hold_without_hash_s": 0.2}


async def in_doubt(scene: BuyScene, nonce: int = 1) -> Agent:
    """Play until the agent has been sent away with a payment in doubt."""
    agent = await scene.buy(signed(nonce))
    assert agent.status == 503, agent.said
    return agent


# -- the goods come at once


def test_goods_pass_as_they_are_and_the_payment_is_recorded_first() -> None:
    async def script(scene: BuyScene) -> None:
        scene.says = [look]
        agent = await scene.buy(signed(), (b"x-a", b"1"))
        assert (agent.status, agent.said) == (200, GOODS)
        assert scene.presented == [[signed_before[0], (b"x-a", b"1")]]
        record = await scene.record()
        assert (record.money, record.answer, record.body) == (Money.CONFIRMED, Answer.ACCEPTED, b"")
        assert (record.plane, record.route, record.verb, record.resource) == (
            "agent",
            "shop",
            "GET",
            "http://shop/weather",
        )
        assert record.key.startswith("agent/eip155:84532/")

    signed_before: list[tuple[bytes, bytes]] = []

    async def look() -> Reply:
        (record,) = await scene.store.page()
        assert (record.money, bool(record.body)) == (Money.PENDING, True)
        signed_before.append(scene.presented[0][0])
        return goods()

    scene = BuyScene(goods())
    scene.play(script)


def test_a_receipt_is_kept_and_the_chain_has_the_last_word() -> None:
    async def script(scene: BuyScene) -> None:
        await scene.buy(signed())
        record = await scene.record()
        assert (record.hint, record.transaction, record.vouched) == (TX, None, True)
        scene.chain.say(Paid(TX, 4, 1))
        record = await scene.until_record(lambda record: record.chain_proven)
        assert (record.money, record.transaction) == (Money.CONFIRMED, TX)
        assert not record.orphan

    BuyScene(goods(success=True, transaction=TX)).play(script)


def test_a_receipt_without_a_transfer_is_counted_as_a_lie() -> None:
    async def script(scene: BuyScene) -> None:
        await scene.buy(signed())
        scene.chain.say(Expired(9))
        record = await scene.until_record(lambda record: record.money is Money.FAILED)
        assert not record.unpaid
        assert 'guardian_diagnoses_total{host="shop",kind="receipt_lies",route="shop"} 1.0' in metrics(scene)

    BuyScene(goods(success=True, transaction=TX)).play(script)


def test_a_purchase_that_was_delivered_bars_no_other() -> None:
    async def script(scene: BuyScene) -> None:
        for nonce in (1, 2, 3):
            assert (await scene.buy(signed(nonce))).status == 200
        assert scene.nonces == [1, 2, 3]

    BuyScene(goods).play(script)


def test_two_purchases_under_way_at_once_are_two() -> None:
    async def script(scene: BuyScene) -> None:
        both = [scene.buying(signed(1)), scene.buying(signed(2))]
        await scene.until(lambda: len(scene.presented) == 2)
        go.set()
        for agent, task in both:
            await task
            assert agent.status == 200

    go = asyncio.Event()

    async def slow() -> Reply:
        await go.wait()
        return goods()

    BuyScene(slow).play(script)


# -- they do not


@pytest.mark.parametrize(
    "says", [refusal, lambda: refusal(400), lambda: refusal(503), lambda: LOST, lambda: goods(b"")]
)
def test_whatever_else_is_answered_leaves_the_payment_in_doubt(says: object) -> None:
    async def script(scene: BuyScene) -> None:
        scene.says = [made if isinstance(made := says(), Exception) else says]  # type: ignore[operator]
        agent = await in_doubt(scene)
        record = await scene.record()
        assert (record.money, record.answer) == (Money.POLLING, Answer.PENDING)
        problem = agent.problem
        assert problem["type"] == "urn:payment-guardian:payment-in-doubt"
        assert problem["payment"] == record.id
        assert problem["statusUrl"] == f"/payments/{record.id}"
        assert int(dict(agent.heard[0].headers)[b"retry-after"]) >= 1

    BuyScene(goods(), **SHORT).play(script)


def test_the_seller_is_asked_again_before_the_block_a_few_times_and_delivers() -> None:
    async def script(scene: BuyScene) -> None:
        agent = await scene.buy(signed())
        assert (agent.status, agent.said) == (200, GOODS)
        assert scene.nonces == [1, 1, 1]
        record = await scene.record()
        assert (record.money, record.answer) == (Money.POLLING, Answer.ACCEPTED)
        scene.chain.say(Paid(TX, 4, 1))
        await scene.until_record(lambda record: record.money is Money.CONFIRMED_LATE)

    BuyScene(refusal(transaction=TX), LOST, goods()).play(script)


def test_before_the_block_it_is_never_a_tight_loop() -> None:
    async def script(scene: BuyScene) -> None:
        await in_doubt(scene)
        assert len(scene.presented) == 4

    BuyScene(refusal, hold_s=1.0, hold_without_hash_s=1.5).play(script)


def test_as_soon_as_the_chain_shows_it_the_same_signature_goes_again() -> None:
    async def script(scene: BuyScene) -> None:
        agent, task = scene.buying(signed())
        await scene.until(lambda: len(scene.presented) == 4)
        scene.says = [refusal(), goods()]
        scene.chain.say(Paid(TX, 4, 1))
        await task
        assert (agent.status, agent.said) == (200, GOODS)
        assert set(scene.nonces) == {1}
        record = await scene.record()
        assert (record.money, record.answer, record.transaction) == (
            Money.CONFIRMED_LATE,
            Answer.ACCEPTED,
            TX,
        )

    BuyScene(refusal).play(script)


def test_paid_and_refused_for_good_is_an_orphan_and_never_a_402() -> None:
    async def script(scene: BuyScene) -> None:
        agent, task = scene.buying(signed())
        await scene.until(lambda: scene.chain.targets)
        scene.chain.say(Paid(TX, 4, 1))
        await task
        assert agent.status == 503
        assert agent.problem["type"] == "urn:payment-guardian:paid-not-delivered"
        assert agent.problem["transaction"] == TX
        assert (await scene.record()).orphan
        assert 'guardian_diagnoses_total{host="shop",kind="charged_on_4xx",route="shop"} 1.0' in metrics(
            scene
        )
        scene.says = [goods()]
        again = await scene.buy(signed())
        assert again.status == 200
        assert not (await scene.record()).orphan

    BuyScene(refusal).play(script)


def test_proven_unpaid_the_sellers_last_word_passes() -> None:
    async def script(scene: BuyScene) -> None:
        agent, task = scene.buying(signed())
        await scene.until(lambda: scene.chain.targets)
        scene.chain.say(Expired(9))
        await task
        assert (agent.status, agent.said) == (402, b"{}")
        record = await scene.record()
        assert (record.money, record.answer) == (Money.FAILED_ORPHANED, Answer.REFUSED)

    BuyScene(refusal).play(script)


def test_what_never_left_may_be_sent_again() -> None:
    async def script(scene: BuyScene) -> None:
        with pytest.raises(NotSent):
            await scene.buy(signed())
        assert (await scene.record()).money is Money.FAILED
        assert (await scene.buy(signed())).status == 200
        assert scene.nonces == [1, 1]

    BuyScene(NotSent("nobody"), goods()).play(script)


def test_who_waited_for_a_sending_that_could_not_be_is_told_that_nothing_left() -> None:
    async def script(scene: BuyScene) -> None:
        both = [scene.buying(signed())[1] for _ in range(2)]
        await scene.until(lambda: scene.presented)
        go.set()
        told = await asyncio.gather(*both, return_exceptions=True)
        assert [type(one) for one in told] == [NotSent, NotSent]
        assert scene.nonces == [1]

    go = asyncio.Event()

    async def unreached() -> Reply:
        await go.wait()
        raise NotSent("nobody")

    BuyScene(unreached).play(script)


def test_a_reply_that_breaks_off_is_in_doubt() -> None:
    async def script(scene: BuyScene) -> None:
        with pytest.raises(ReplyLost):
            await scene.buy(signed())
        record = await scene.until_record(lambda record: record.money is Money.POLLING)
        assert record.answer is Answer.ABANDONED

    broken = Reply(200, [(b"transfer-encoding", b"chunked")])
    broken.feed(b"half")
    broken.fail(LOST)
    BuyScene(broken).play(script)


def test_without_a_store_nothing_is_sent() -> None:
    async def script(scene: BuyScene) -> None:
        await scene.store.close()
        agent = await scene.buy(signed())
        assert (agent.status, agent.problem["sent"], scene.presented) == (503, False, [])
        await scene.store.open()

    BuyScene(goods()).play(script)


# -- what passes unguarded


def test_a_payment_that_cannot_be_read_passes() -> None:
    async def script(scene: BuyScene) -> None:
        agent = await scene.buy((b"payment-signature", b"??"))
        assert (agent.status, agent.heard[0]) == (402, refused)
        assert await scene.store.page() == []
        assert 'guardian_purchases_total{outcome="unreadable",route="shop"} 1.0' in metrics(scene)

    refused = refusal()
    BuyScene(refused).play(script)


@pytest.mark.parametrize(("status", "money"), [(200, Money.CONFIRMED), (402, Money.UNRESOLVED)])
def test_where_no_chain_is_watched_everything_passes_on_record(status: int, money: Money) -> None:
    async def script(scene: BuyScene) -> None:
        assert (await scene.buy(signed(1))).status == status
        record = await scene.record()
        assert (record.watched, record.money) == (False, money)
        assert (await scene.buy(signed(2))).status == status
        assert scene.nonces == [1, 2]

    BuyScene(lambda: whole_reply(status, (), b"x"), watched=False).play(script)


# -- who asks again


@pytest.mark.parametrize("again", [(signed(2),), (signed(1),), ()])
def test_the_next_request_is_answered_by_the_payment_that_exists(
    again: tuple[tuple[bytes, bytes], ...],
) -> None:
    async def script(scene: BuyScene) -> None:
        await in_doubt(scene)
        asked = len(scene.presented)
        agent, task = scene.buying(*again, demanded=None if again else demand())
        await scene.until(lambda: len(scene.presented) > asked)
        scene.says = [goods()]
        scene.chain.say(Paid(TX, 4, 1))
        await task
        assert (agent.status, agent.said) == (200, GOODS)
        assert set(scene.nonces) == {1}
        record = await scene.record()
        assert (record.money, record.answer) == (Money.CONFIRMED_LATE, Answer.ACCEPTED)

    BuyScene(refusal, **SHORT).play(script)


def test_a_signature_that_another_payment_answered_is_never_sent() -> None:
    async def script(scene: BuyScene) -> None:
        await in_doubt(scene)
        scene.says = [goods()]
        assert (await scene.buy(signed(2))).status == 200
        first, second = await scene.record(1), await scene.record(2)
        assert (second.paid_by, first.replayed_by) == (first.key, second.key)
        assert (second.money, second.answer) == (Money.FAILED, Answer.ACCEPTED)
        again = await scene.buy(signed(2))
        assert (again.status, again.problem["type"]) == (409, "urn:payment-guardian:answered-by-another")
        assert set(scene.nonces) == {1}

    BuyScene(refusal, **SHORT).play(script)


def test_while_the_first_is_in_doubt_new_signatures_are_put_aside() -> None:
    async def script(scene: BuyScene) -> None:
        await in_doubt(scene)
        for nonce in (2, 3):
            agent = await scene.buy(signed(nonce))
            assert agent.status == 503
            assert agent.problem["payment"] == (await scene.record(1)).id
        assert set(scene.nonces) == {1}
        assert 'guardian_diagnoses_total{host="shop",kind="buyer_loops",route="shop"} 1.0' in metrics(scene)

    BuyScene(refusal, **SHORT).play(script)


def test_a_new_signature_goes_its_way_once_the_first_is_proven_unpaid() -> None:
    async def script(scene: BuyScene) -> None:
        await in_doubt(scene)
        agent, task = scene.buying(signed(2))
        await scene.until(lambda: len(scene.flow.buys.open) == 2)
        scene.chain.say(Expired(9))
        scene.says = [goods()]
        await task
        assert agent.status == 200
        assert scene.nonces[-1] == 2

    BuyScene(refusal, hold_s=0.1, hold_without_hash_s=1.0).play(script)


def test_nobody_but_the_payer_gets_what_it_paid_for() -> None:
    async def script(scene: BuyScene) -> None:
        await in_doubt(scene)
        scene.says = [goods()]
        forged = await scene.buy(signed(2, key=STRANGER))
        assert (forged.status, forged.problem["sent"]) == (503, False)
        assert (await scene.record(2)).money is Money.FAILED
        assert set(scene.nonces) == {1}

    BuyScene(refusal, **SHORT).play(script)


@pytest.mark.parametrize("changes", [{"amount": "20000"}, {"payTo": "0x" + "33" * 20}])
def test_a_demand_for_something_else_passes(changes: dict[str, str]) -> None:
    async def script(scene: BuyScene) -> None:
        await in_doubt(scene)
        asked = demand(**changes)
        agent = await scene.buy(demanded=asked)
        assert (agent.status, agent.heard, agent.said) == (402, [asked], b"{}")

    BuyScene(refusal, **SHORT).play(script)


def test_a_demand_to_another_buyer_passes() -> None:
    async def script(scene: BuyScene) -> None:
        mine, other = (b"authorization", b"Bearer me"), (b"authorization", b"Bearer somebody")
        assert (await scene.buy(mine, signed())).status == 503
        scene.says = [goods()]
        assert (await scene.buy(other, demanded=demand())).status == 402
        assert (await scene.buy(mine, demanded=demand())).status == 200

    BuyScene(refusal, **SHORT).play(script)


def test_another_idempotency_key_is_another_purchase_and_the_same_one_is_not() -> None:
    async def script(scene: BuyScene) -> None:
        key, other = (b"idempotency-key", b"one"), (b"idempotency-key", b"two")
        assert (await scene.buy(key, signed(1))).status == 503
        scene.says = [goods]
        assert (await scene.buy(other, signed(2))).status == 200
        assert scene.nonces[-1] == 2
        assert (await scene.buy(key, signed(3))).status == 200
        assert scene.nonces[-1] == 1

    BuyScene(refusal, **SHORT).play(script)


def test_another_body_is_another_purchase() -> None:
    async def script(scene: BuyScene) -> None:
        await in_doubt(scene)
        scene.says = [goods()]
        agent = scene.agent(signed(2))
        agent.body = b"order"
        await scene.flow.handle(agent)
        assert (agent.status, scene.nonces[-1]) == (200, 2)

    BuyScene(refusal, **SHORT).play(script)


# -- who has left


def test_goods_that_come_when_nobody_is_there_wait_for_the_next() -> None:
    async def script(scene: BuyScene) -> None:
        agent, task = scene.buying(signed())
        await scene.until(lambda: scene.presented)
        agent.gone = True
        await scene.until_record(lambda record: record.money is Money.POLLING)
        go.set()
        await task
        assert (await scene.record()).answer is Answer.ABANDONED
        scene.says = [refusal]
        again = await scene.buy(demanded=demand())
        assert (again.status, again.said) == (200, GOODS)
        assert scene.nonces == [1]
        record = await scene.record()
        assert (record.answer, record.body) == (Answer.ACCEPTED, b"")

    go = asyncio.Event()

    async def slow() -> Reply:
        await go.wait()
        return goods()

    BuyScene(slow).play(script)


def test_a_client_that_gives_up_and_signs_again_waits_for_its_first_payment() -> None:
    async def script(scene: BuyScene) -> None:
        first, task = scene.buying(signed(1))
        await scene.until(lambda: scene.presented)
        first.gone = True
        again, waiting = scene.buying(signed(2))
        await scene.until(lambda: len(scene.flow.buys.open) == 2)
        go.set()
        await asyncio.gather(task, waiting)
        assert (again.status, again.said, first.status) == (200, GOODS, 0)
        assert scene.nonces == [1]

    go = asyncio.Event()

    async def slow() -> Reply:
        await go.wait()
        return goods()

    BuyScene(slow).play(script)


def test_a_connection_that_closes_while_the_goods_are_written_loses_nothing() -> None:
    async def script(scene: BuyScene) -> None:
        agent = scene.agent(signed())
        agent.breaks = True
        await scene.flow.handle(agent)
        record = await scene.record()
        assert record.orphan
        scene.says = [refusal]
        again = await scene.buy(signed(2))
        assert (again.status, again.said, scene.nonces) == (200, GOODS, [1])

    BuyScene(goods()).play(script)


def test_one_presentation_at_a_time_and_one_delivery() -> None:
    async def script(scene: BuyScene) -> None:
        await in_doubt(scene)
        waiting = [scene.buying(signed(1)) for _ in range(5)]
        await scene.until(lambda: len(scene.presented) > 4)
        scene.says = [goods(), refusal]
        scene.chain.say(Paid(TX, 4, 1))
        await asyncio.gather(*(task for _, task in waiting))
        assert sorted(agent.status for agent, _ in waiting) == [200, 402, 402, 402, 402]
        assert scene.most_at_once == 1

    BuyScene(refusal, hold_s=0.5, hold_without_hash_s=1.0).play(script)


# -- another process


def test_after_a_restart_the_payment_that_exists_still_answers() -> None:
    store = MemoryStore()

    async def before(scene: BuyScene) -> None:
        await in_doubt(scene)

    async def after(scene: BuyScene) -> None:
        await scene.until(lambda: scene.chain.targets)
        agent, task = scene.buying(demanded=demand())
        scene.chain.say(Paid(TX, 4, 1))
        await task
        assert (agent.status, agent.said) == (200, GOODS)
        assert set(scene.nonces) == {1}

    BuyScene(refusal, store=store, **SHORT).play(before)
    BuyScene(goods(), store=store).play(after)


def test_an_orphan_answers_after_a_restart_too() -> None:
    store = MemoryStore()

    async def before(scene: BuyScene) -> None:
        agent, task = scene.buying(signed())
        await scene.until(lambda: scene.chain.targets)
        scene.chain.say(Paid(TX, 4, 1))
        await task
        assert agent.status == 503

    async def after(scene: BuyScene) -> None:
        assert (await scene.buy(signed(2))).status == 200
        assert scene.nonces == [1]

    BuyScene(refusal, store=store).play(before)
    BuyScene(goods(), store=store).play(after)


def metrics(scene: BuyScene) -> str:
    return scene.guardian.parts.telemetry.metrics_page()[0].decode()


def test_what_one_caller_has_paid_is_not_for_another() -> None:
    """Named callers (keys, certificates) are told apart before either has signed."""

    async def script(scene: BuyScene) -> None:
        ours, theirs = Agent(scene), Agent(scene)
        ours.caller, theirs.caller = "key:ours", "key:theirs"
        assert purchase_of(ours) != purchase_of(theirs)

    BuyScene(goods()).play(script)
