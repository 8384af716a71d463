"""What an agent may try in order to spend more than the rules let it: one nonce for two payments, terms that
no seller reads, headers that some servers read as others. Each is refused, and nothing is sent for it."""

import asyncio
import base64
import json
from typing import Any

import pytest

from guardian.chain.target import Mismatch
from guardian.errors import NotSent, StoreUnavailable
from guardian.flow import spending as room
from guardian.flow.approvals import PREFIX
from guardian.settlement.states import Money
from guardian.store import ledger as books
from guardian.store.ledger import Swap
from guardian.wire.sent import pays
from tests.flow.buy_scene import Agent, goods, refusal, signed
from tests.flow.scene import TX, USDC
from tests.flow.test_spending import CENTS, OTHER, SHORT, SpendScene, changed


def decoy(header: tuple[bytes, bytes], **authorization: Any) -> tuple[bytes, bytes]:
    """The same nonce and the very same signature over something else."""
    name, value = header
    payload = json.loads(base64.b64decode(value))
    payload["payload"]["authorization"] |= authorization
    for key in ("value", "to"):
        if key in authorization:
            payload["accepted"]["amount" if key == "value" else "payTo"] = authorization[key]
    return name, base64.b64encode(json.dumps(payload).encode())


async def at(scene: SpendScene, url: str, *headers: tuple[bytes, bytes]) -> Agent:
    agent = scene.agent(*headers)
    agent.url = url
    await scene.flow.handle(agent)
    return agent


@pytest.mark.parametrize("url", ["http://shop/weather", "http://shop/else"])
@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("says", [refusal, goods])
def test_a_small_payment_opens_no_door_for_a_large_one_with_its_nonce(
    url: str, watched: bool, says: Any
) -> None:
    async def script(scene: SpendScene) -> None:
        await scene.buy(signed(1, amount=1))
        before = len(scene.presented)
        agent = await at(scene, url, signed(1))
        assert (agent.status, len(scene.presented)) == (403, before)

    SpendScene({"name": "small", "per_payment": "$0.001"}, says=says, watched=watched, **SHORT).play(script)


def test_one_that_fits_its_limits_by_itself_is_not_sent_uncounted_for_its_nonce_either() -> None:
    async def script(scene: SpendScene) -> None:
        await scene.buy(signed(1, amount=1))
        before = len(scene.presented)
        agent = await at(scene, "http://shop/else", signed(1))
        assert (agent.status, len(scene.presented)) == (403, before)

    SpendScene(CENTS, says=refusal, **SHORT).play(script)


def test_a_payment_that_was_never_sent_opens_no_door_either() -> None:
    async def script(scene: SpendScene) -> None:
        with pytest.raises(NotSent):
            await scene.buy(signed(1, amount=1))
        scene.says = [goods]
        agent = await scene.buy(signed(1))
        assert (agent.status, len(scene.presented)) == (403, 1)

    SpendScene({"name": "small", "per_payment": "$0.001"}, says=NotSent("no")).play(script)


def test_a_stop_cannot_be_kept_out_by_papers() -> None:
    async def script(scene: SpendScene) -> None:
        for n in range(3):
            await scene.store.ledger.swap(Swap(f"{PREFIX}{n}", "", "x"), 2e9)
        await scene.flow.spending.stop("ann")
        assert await scene.flow.spending.stopped() is not None
        assert (await scene.buy(signed(1))).status == 403

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(books, "MAX_PAPERS", 3)
        SpendScene().play(script)


def test_approvals_that_are_over_make_room_for_new_ones() -> None:
    async def script(scene: SpendScene) -> None:
        for n in range(4):
            agent = await at(scene, f"http://shop/{n}", signed(n + 1))
        assert agent.status == 503
        scene.now += 3 * 86400
        assert (await at(scene, "http://shop/late", signed(9))).status == 403

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(books, "MAX_PAPERS", 3)
        SpendScene({"name": "big", "approve_above": "$0.005"}).play(script)


def test_a_hold_that_was_renewed_is_not_old(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(scene: SpendScene) -> None:
        claim = scene.store.claim

        async def away(new: Any) -> Any:
            raise StoreUnavailable("away")

        monkeypatch.setattr(scene.store, "claim", away)
        assert (await scene.buy(signed(1))).status == 503

        async def slow(new: Any) -> Any:
            scene.allow_another_look()
            await scene.flow.spending.settle_up()  # another payment finds a budget full just now
            return await claim(new)

        scene.now += room.ABANDONED_S + 60
        monkeypatch.setattr(scene.store, "claim", slow)
        assert (await scene.buy(signed(1))).status == 200
        assert await scene.counted() == [1]

    SpendScene({"name": "one", "payments_per_day": 1}).play(script)


def test_terms_that_no_v1_seller_reads_do_not_say_which_token_is_paid() -> None:
    async def script(scene: SpendScene) -> None:
        _, value = changed(1, asset=OTHER)
        payload = json.loads(base64.b64decode(value))
        payload |= {"x402Version": 1, "scheme": "exact", "network": payload["accepted"]["network"]}
        agent = await scene.buy((b"x-payment", base64.b64encode(json.dumps(payload).encode())))
        assert (agent.status, scene.presented) == (403, [])

    SpendScene({"name": "usdc", "for": {"asset": USDC}, "per_payment": "9 atomic"}).play(script)


def test_a_header_that_some_servers_read_as_a_payment_is_one_that_cannot_be_read() -> None:

    name, value = signed(1)
    assert pays([(name.replace(b"-", b"_"), value)])

    async def script(scene: SpendScene) -> None:
        agent = await scene.buy((name.replace(b"-", b"_"), value))
        assert (agent.status, scene.presented) == (403, [])

    SpendScene(CENTS).play(script)


@pytest.mark.parametrize("url", ["http://shop/weather", "http://shop/else"])
def test_a_payment_that_no_rule_was_about_goes_nowhere_else_uncounted(url: str) -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy_as("key:bob", signed(1))).status == 503
        before = len(scene.presented)
        agent = scene.agent(signed(1))
        agent.caller, agent.url = "key:ann", url
        await scene.flow.handle(agent)
        assert (agent.status, agent.problem["limit"]) == (403, "per_payment")
        assert len(scene.presented) == before

    rule = {"name": "small", "for": {"caller": "ann"}, "per_payment": "$0.001"}
    SpendScene(rule, says=refusal, **SHORT).play(script)


def test_the_same_payment_at_another_url_is_counted_already() -> None:
    async def script(scene: SpendScene) -> None:
        payment = signed(1)
        assert (await scene.buy(payment)).status == 200
        assert (await at(scene, "http://shop/redirected", payment)).status == 200
        assert await scene.counted() == [1]

    SpendScene({"name": "one", "payments_per_day": 1}).play(script)


def test_two_payments_with_one_nonce_of_which_one_is_just_held_are_not_both_counted_as_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def script(scene: SpendScene) -> None:
        claim = scene.store.claim

        async def away(new: Any) -> Any:
            raise StoreUnavailable("away")

        monkeypatch.setattr(scene.store, "claim", away)
        assert (await scene.buy(signed(1, amount=1))).status == 503
        monkeypatch.setattr(scene.store, "claim", claim)
        assert (await scene.buy(signed(1))).status == 403
        assert (scene.presented, await scene.counted()) == ([], [1])

    SpendScene(CENTS).play(script)


def test_without_rules_a_second_payment_with_one_nonce_passes_as_before() -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(decoy(signed(1), value="1"))).status == 503
        scene.says = [goods]
        assert (await at(scene, "http://shop/else", signed(1))).status == 200
        await scene.flow.spending.stop("ann")
        assert (await at(scene, "http://shop/third", signed(1))).status == 403

    SpendScene(says=refusal, **SHORT).play(script)


def test_a_nonce_that_another_transfer_has_used_stays_counted() -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(changed(1, amount="1"))).status == 503
        assert await scene.counted() == [10_000]
        scene.chain.say(Mismatch(TX, "a transfer of 10000, not of 1"))
        await scene.until_record(lambda record: record.money is Money.FAILED_ORPHANED)
        while await scene.store.ledger.unsettled(9):
            await asyncio.sleep(0)
        assert await scene.counted() == [10_000]

    SpendScene(CENTS, says=refusal, **SHORT).play(script)
