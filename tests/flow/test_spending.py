"""What agents may spend: rules say → seller asked or not, agent heard, budget shows."""

import asyncio
import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from guardian.chain.target import Expired, Paid
from guardian.errors import CannotDecide, NotSent, ReplyLost, StoreUnavailable
from guardian.flow import approvals as waiting
from guardian.flow import spending as room
from guardian.flow.approvals import State
from guardian.policy.model import Policy
from guardian.sandbox.node import SandboxError
from guardian.sandbox.redis_server import RedisServer, redis_command
from guardian.settlement.states import Answer, Money
from guardian.store import ledger as books
from guardian.store.ledger import Ask, Line
from guardian.store.open import open_store
from tests.flow.buy_scene import GOODS, Agent, BuyScene, demand, goods, refusal, signed
from tests.flow.scene import SELLER, TX, USDC

PRICE = 10_000
LOST = ReplyLost("the connection broke")
SHORT: Any = {"hold_s": 0.1, "hold_without_hash_s": 0.2}
NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC).timestamp()
OTHER = "0x" + "33" * 20
CENTS = {"name": "cents", "per_day": "$0.03"}


class SpendScene(BuyScene):
    """A guardian with rules, at a time that only the script moves."""

    def __init__(self, *rules: dict[str, Any], says: Any = goods, **how: Any) -> None:
        self.spending: dict[str, Any] = {"rules": list(rules)}
        self.now = NOON
        super().__init__(says, **how)
        self.guardian.parts.clock = lambda: self.now

    def _policy(self, settle: dict[str, Any], route: dict[str, Any]) -> Policy:
        policy = super()._policy(settle, route)
        told = policy.model_dump(exclude_unset=True) | {
            "spending": self.spending,
            "callers": {"mtls_name_header": "x-name", "trusted_proxies": ["10.0.0.1"]},
            "networks": policy.networks,
        }
        return Policy.model_validate(told)

    async def counted(self) -> list[int]:
        return [one["counted"] for one in await self.flow.spending.counted()]

    async def buy_as(self, caller: str, *headers: tuple[bytes, bytes]) -> Agent:
        agent = self.agent(*headers)
        agent.caller = caller
        await self.flow.handle(agent)
        return agent

    def allow_another_look(self) -> None:
        self.flow.spending._look_at = 0.0


def changed(nonce: int, **accepted: Any) -> tuple[bytes, bytes]:
    """A payment whose terms say something else than what was signed."""
    name, value = signed(nonce)
    payload = json.loads(base64.b64decode(value))
    payload["accepted"] |= accepted
    return name, base64.b64encode(json.dumps(payload).encode())


# -- refusals


def test_a_denial_is_a_403_that_names_the_rule_and_nothing_is_sent_or_recorded() -> None:
    async def script(scene: SpendScene) -> None:
        agent = await scene.buy(signed())
        assert (agent.status, scene.presented, await scene.store.page()) == (403, [], [])
        problem = agent.problem
        assert problem["type"] == "urn:payment-guardian:spending-denied"
        assert (problem["rule"], problem["limit"], problem["sent"]) == ("small", "per_payment", False)
        assert "10000 atomic is more than $0.009" in problem["detail"]
        metrics = scene.guardian.parts.telemetry.metrics_page()[0].decode()
        assert 'guardian_spending_denied_total{limit="per_payment",rule="small"} 1.0' in metrics
        assert 'guardian_purchases_total{outcome="denied",route="shop"} 1.0' in metrics

    SpendScene({"name": "small", "per_payment": "$0.009"}).play(script)


@pytest.mark.parametrize(
    ("rule", "limit"),
    [
        ({"only": {"payee": OTHER}}, "only.payee"),
        ({"never": {"payee": [OTHER, SELLER]}}, "never.payee"),
        ({"only": {"host": "api.example.com"}}, "only.host"),
        ({"never": {"host": "shop"}}, "never.host"),
        ({"only": {"asset": OTHER}}, "only.asset"),
        ({"never": {"network": "eip155:*"}}, "never.network"),
        ({"only": {"network": "base"}}, "only.network"),
        ({"never": {"route": "shop"}}, "never.route"),
        ({"only": {"caller": "ann"}}, "only.caller"),
        ({"for": {"asset": USDC}, "per_payment": "9999 atomic"}, "per_payment"),
        ({"per_day": "$0.009999"}, "per_day"),
    ],
)
def test_a_rule_refuses_what_it_is_about(rule: dict[str, Any], limit: str) -> None:
    async def script(scene: SpendScene) -> None:
        agent = await scene.buy(signed())
        assert (agent.status, agent.problem["limit"], scene.presented) == (403, limit, [])

    SpendScene({"name": "rule"} | rule).play(script)


@pytest.mark.parametrize(
    "rule",
    [
        {"only": {"payee": [OTHER, SELLER], "host": "shop", "asset": USDC, "network": "base-sepolia"}},
        {"never": {"payee": OTHER, "host": "other", "asset": OTHER, "network": "solana:*"}},
        {"for": {"payee": OTHER}, "per_payment": "$0.001"},
        {"for": {"network": "base"}, "never": {"route": "shop"}},
        {"for": {"caller": "ann"}, "per_day": "$0.001"},
        {"per_payment": "$0.01", "per_hour": "$0.01", "per_day": "$0.01", "approve_above": "$0.01"},
        {"for": {"asset": USDC}, "per_payment": "10000 atomic"},
    ],
)
def test_what_no_rule_refuses_passes(rule: dict[str, Any]) -> None:
    async def script(scene: SpendScene) -> None:
        agent = await scene.buy(signed())
        assert (agent.status, agent.said) == (200, GOODS)

    SpendScene({"name": "rule"} | rule).play(script)


def test_dollars_say_nothing_of_a_token_that_is_none_so_it_is_refused() -> None:
    async def script(scene: SpendScene) -> None:
        agent = await scene.buy(changed(1, asset=OTHER))
        assert (agent.status, agent.problem["limit"], scene.presented) == (403, "per_day", [])
        assert "no dollar token" in agent.problem["detail"]

    SpendScene(CENTS).play(script)


def test_what_was_signed_counts_not_what_is_said_beside_it() -> None:
    async def script(scene: SpendScene) -> None:
        agent = await scene.buy(changed(1, amount="1"))
        assert (agent.status, agent.problem["limit"]) == (403, "per_payment")
        agent = await scene.buy(changed(2, payTo=OTHER))
        assert (agent.status, agent.problem["limit"]) == (403, "per_payment")
        assert scene.presented == []

    SpendScene({"name": "small", "per_payment": "$0.009"}).play(script)


def test_a_payee_that_was_signed_beside_another_has_to_be_allowed_too() -> None:
    async def script(scene: SpendScene) -> None:
        agent = await scene.buy(changed(1, payTo=OTHER))
        assert (agent.status, agent.problem["limit"], scene.presented) == (403, "only.payee", [])

    SpendScene({"name": "known", "only": {"payee": OTHER}}).play(script)


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ({"per_day": "$1"}, 403),
        ({"payments_per_day": 5}, 403),
        ({"only": {"asset": USDC}}, 403),
        ({"only": {"host": "shop"}}, 200),
        ({"for": {"route": "shop", "caller": "ann"}, "per_day": "$1"}, 200),
    ],
)
def test_a_payment_that_cannot_be_read_passes_only_where_nobody_has_to_count_it(
    rule: dict[str, Any], status: int
) -> None:
    async def script(scene: SpendScene) -> None:
        agent = await scene.buy((b"x-payment", b"?"))
        assert (agent.status, len(scene.presented)) == (status, int(status == 200))

    SpendScene({"name": "rule"} | rule).play(script)


# -- budgets


def test_a_budget_takes_what_fits_and_names_the_rule_then() -> None:
    async def script(scene: SpendScene) -> None:
        said = [(await scene.buy(signed(n))).status for n in (1, 2, 3)]
        assert said == [200, 200, 200]
        agent = await scene.buy(signed(4))
        assert (agent.status, agent.problem["rule"], agent.problem["limit"]) == (403, "cents", "per_day")
        assert "30000 of 30000" in agent.problem["detail"]
        assert (scene.nonces, await scene.counted()) == ([1, 2, 3], [30_000])

    SpendScene(CENTS).play(script)


@pytest.mark.parametrize(
    ("key", "later_s"), [("payments_per_hour", 1800), ("per_hour", 1800), ("per_day", 41400)]
)
def test_a_budget_begins_anew_with_the_hour_or_the_day(key: str, later_s: float) -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(signed(1))).status == 200
        scene.now = NOON + later_s - 1
        assert (await scene.buy(signed(2))).status == 403
        scene.now = NOON + later_s
        assert (await scene.buy(signed(2))).status == 200
        assert (await scene.buy(signed(3))).status == 403

    SpendScene({"name": "rule", key: 1 if key.startswith("payments") else "$0.01"}).play(script)


def test_each_caller_has_a_budget_of_its_own_where_the_rule_says_so() -> None:
    async def script(scene: SpendScene) -> None:
        said = [
            (await scene.buy_as(who, signed(n))).status
            for n, who in enumerate(["key:ann", "key:ann", "key:bob", "certificate:cn", "", ""], 1)
        ]
        assert said == [200, 403, 200, 200, 200, 403]

    SpendScene({"name": "each", "per": "caller", "per_day": "$0.01"}).play(script)


def test_a_rule_for_a_caller_counts_only_that_one() -> None:
    async def script(scene: SpendScene) -> None:
        said = [
            (await scene.buy_as(who, signed(n))).status
            for n, who in enumerate(["key:ann", "key:bob", "certificate:ann", "key:bob", ""], 1)
        ]
        assert said == [200, 200, 403, 200, 200]

    SpendScene({"name": "ann", "for": {"caller": "ann"}, "payments_per_day": 1}).play(script)


def test_assets_are_never_added_up() -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(signed(1))).status == 200
        eurc = "0x808456652fdb597867f38412077a9182bf77359f"
        assert (await scene.buy(changed(2, asset=eurc))).status == 403  # no dollar: not one of them
        await scene.flow.spending.counted()

    SpendScene({"name": "rule", "per_day": "$0.02"}).play(script)


def test_a_payment_that_was_not_sent_counts_no_longer() -> None:
    async def script(scene: SpendScene) -> None:
        with pytest.raises(NotSent):
            await scene.buy(signed(1))
        await scene.until(lambda: scene.flow.spending._released)
        assert await scene.counted() == [0]
        scene.says = [goods]
        assert (await scene.buy(signed(1))).status == 200
        assert (await scene.buy(signed(2))).status == 403

    SpendScene({"name": "one", "payments_per_day": 1}, says=NotSent("refused")).play(script)


def test_a_payment_in_doubt_counts_until_the_chain_proves_that_it_never_paid() -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(signed(1))).status == 503
        other = scene.agent(signed(2))
        other.url = "http://shop/else"
        await scene.flow.handle(other)
        assert (other.status, await scene.counted()) == (403, [1])
        scene.chain.say(Expired(9))
        await scene.until_record(lambda record: record.money is Money.FAILED_ORPHANED)
        await scene.until(lambda: scene.flow.spending._released)
        scene.says = [goods]
        assert (await scene.buy(signed(3))).status == 200

    SpendScene({"name": "one", "payments_per_day": 1}, says=LOST, **SHORT).play(script)


def test_a_payment_that_the_chain_shows_paid_stays_counted() -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(signed(1))).status == 503
        scene.chain.say(Paid(TX, 4, 1))
        await scene.until_record(lambda record: record.money is Money.CONFIRMED_LATE)
        while await scene.store.ledger.unsettled(9):
            await asyncio.sleep(0)
        assert await scene.counted() == [1]

    SpendScene({"name": "one", "payments_per_day": 1}, says=LOST, **SHORT).play(script)


def test_a_second_signature_for_the_same_purchase_does_not_count_twice() -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(signed(1))).status == 503
        for nonce in (2, 3):
            assert (await scene.buy(signed(nonce))).status == 503
        assert await scene.counted() == [20_000 - PRICE]
        scene.says = [goods]
        assert (await scene.buy(signed(4))).status == 200
        assert {*scene.nonces} == {1}
        assert await scene.counted() == [PRICE]

    SpendScene({"name": "one", "per_day": "$0.01"}, says=refusal, **SHORT).play(script)


def test_the_same_payment_presented_again_does_not_count_twice() -> None:
    async def script(scene: SpendScene) -> None:
        assert [(await scene.buy(signed(1))).status for _ in "ab"] == [503, 503]
        unpaid = await scene.buy(demanded=demand())
        assert (unpaid.status, await scene.counted()) == (503, [1])
        scene.says = [goods]
        assert (await scene.buy(signed(1))).status == 200
        assert await scene.counted() == [1]

    SpendScene({"name": "one", "payments_per_day": 1}, says=refusal, **SHORT).play(script)


def test_the_same_payment_at_once_counts_once() -> None:
    async def script(scene: SpendScene) -> None:
        payment = signed(1)
        agents = await asyncio.gather(*(scene.buy(payment) for _ in range(5)))
        assert [agent.status for agent in agents].count(403) == 0
        assert await scene.counted() == [1]

    SpendScene({"name": "one", "payments_per_day": 1}).play(script)


def test_a_second_payment_counts_once_the_first_is_proven_unpaid_and_it_is_sent() -> None:
    async def script(scene: SpendScene) -> None:
        scene.says = [lambda: goods() if scene.nonces[-1] == 2 else refusal()]
        assert (await scene.buy(signed(1))).status == 503
        agent, task = scene.buying(signed(2))
        await scene.until_record(lambda record: record.money is Money.IDLE, nonce=2)
        assert await scene.counted() == [1]
        scene.chain.say(Expired(9))
        await task
        assert (agent.status, scene.nonces[-1]) == (200, 2)
        await scene.until(lambda: scene.flow.spending._released)
        assert await scene.counted() == [1]

    SpendScene({"name": "two", "payments_per_day": 2}, says=LOST, hold_s=0.2, hold_without_hash_s=2.0).play(
        script
    )


def test_a_second_payment_that_finds_no_room_when_its_turn_comes_is_refused_and_not_sent() -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(signed(1))).status == 503
        agent, task = scene.buying(signed(2))
        await scene.until_record(lambda record: record.money is Money.IDLE, nonce=2)
        await scene.flow.spending.stop("ann")
        scene.chain.say(Expired(9))
        await task
        assert (agent.status, agent.problem["limit"]) == (403, "stop")
        record = await scene.record(2)
        assert (record.money, record.reopens) == (Money.FAILED, True)
        await scene.flow.spending.resume("ann")
        scene.says = [goods]
        assert (await scene.buy(signed(2))).status == 200

    SpendScene({"name": "two", "payments_per_day": 2}, says=LOST, hold_s=0.2, hold_without_hash_s=2.0).play(
        script
    )


def test_a_payment_that_waits_for_another_goes_nowhere_else_uncounted() -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(signed(1))).status == 503
        waiting, task = scene.buying(signed(2))
        await scene.until_record(lambda record: record.money is Money.IDLE, nonce=2)
        other = scene.agent(*waiting.headers)
        other.url = "http://shop/else"
        await scene.flow.handle(other)
        assert (other.status, other.problem["sent"]) == (503, False)
        await task
        assert (2 in scene.nonces, await scene.counted()) == (False, [1])

    SpendScene({"name": "two", "payments_per_day": 2}, says=LOST, **SHORT).play(script)


def test_payments_on_a_network_that_nobody_watches_count_too() -> None:
    async def script(scene: SpendScene) -> None:
        assert [(await scene.buy(signed(n))).status for n in (1, 2)] == [200, 403]
        scene.now += 3600
        scene.says = [NotSent("refused")]
        with pytest.raises(NotSent):
            await scene.buy(signed(3))
        await scene.until(lambda: scene.flow.spending._released)
        scene.says = [goods]
        assert (await scene.buy(signed(3))).status == 200

    SpendScene({"name": "one", "payments_per_hour": 1}, watched=False).play(script)


def test_a_policy_that_is_reloaded_goes_on_with_what_is_counted() -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(signed(1))).status == 200
        scene.spending = {"rules": [{"name": "cents", "per_day": "$0.01"}]}
        scene.guardian.parts.generation.policy = scene._policy({}, {})
        assert (await scene.buy(signed(2))).status == 403

    SpendScene(CENTS).play(script)


# -- after a crash


def test_a_hold_without_a_record_is_released_once_nobody_can_be_about_to_record_it() -> None:
    async def script(scene: SpendScene) -> None:
        agent = await scene.buy(signed(1))  # makes the budget
        (budget,) = await scene.store.ledger.budgets()
        line = Line(budget.name, "1", "9", budget.ends_at)
        await scene.store.ledger.hold(Ask("agent/nobody", "t", NOON, (line,)))
        scene.allow_another_look()
        agent = await scene.buy(signed(2))
        assert (agent.status, await scene.counted()) == (403, [2])
        scene.now = NOON + room.ABANDONED_S + 1
        scene.allow_another_look()
        assert (await scene.buy(signed(2))).status == 200
        assert (await scene.buy(signed(3))).status == 403

    SpendScene({"name": "two", "payments_per_day": 2}).play(script)


def test_what_was_paid_stays_counted_when_its_record_is_no_longer_retained() -> None:
    async def script(scene: SpendScene) -> None:
        await scene.flow.spending.settle_up()  # as at every start
        assert (await scene.buy(signed(1))).status == 200
        scene.chain.say(Paid(TX, 4, 1))
        await scene.until_record(lambda record: record.chain_proven)
        (hold,) = await scene.store.ledger.unsettled(9)
        scene.now += 3601.0
        assert await scene.store.prune(scene.now, 9) == 1
        scene.allow_another_look()
        assert not await scene.flow.spending.settle_up()
        assert (await scene.store.ledger.standing(hold.key), await scene.counted()) == (hold, [1])

    scene = SpendScene({"name": "one", "payments_per_day": 1})
    scene.guardian.parts.generation.policy = scene.guardian.parts.policy.model_copy(
        update={"retention_s": 3600.0}
    )
    scene.flow.spending.look_at = _nothing  # type: ignore[method-assign]
    scene.play(script)


def test_a_release_that_a_crash_left_undone_is_made_up_for() -> None:
    async def script(scene: SpendScene) -> None:
        look_at, scene.flow.spending.look_at = scene.flow.spending.look_at, _nothing  # type: ignore[method-assign]
        with pytest.raises(NotSent):
            await scene.buy(signed(1))
        scene.flow.spending.look_at = look_at  # type: ignore[method-assign]
        scene.says = [goods]
        scene.allow_another_look()
        assert (await scene.buy(signed(2))).status == 200

    SpendScene({"name": "one", "payments_per_day": 1}, says=NotSent("no")).play(script)


async def _nothing(key: str) -> None:
    """As if the process had died."""


def test_a_claim_that_comes_very_late_is_held_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(scene: SpendScene) -> None:
        claim = scene.store.claim

        async def slow(new: Any) -> Any:
            (hold,) = await scene.store.ledger.unsettled(9)
            assert await scene.store.ledger.release(hold.key, hold.token)  # taken for abandoned
            return await claim(new)

        monkeypatch.setattr(scene.store, "claim", slow)
        monkeypatch.setattr(room, "CLAIM_WITHIN_S", -1.0)
        assert (await scene.buy(signed(1))).status == 200
        assert await scene.counted() == [1]

    SpendScene({"name": "one", "payments_per_day": 1}).play(script)


def test_a_claim_so_late_that_others_took_its_room_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(scene: SpendScene) -> None:
        claim, ledger = scene.store.claim, scene.store.ledger

        async def slow(new: Any) -> Any:
            (hold,) = await ledger.unsettled(9)
            (budget,) = await ledger.budgets()
            await ledger.release(hold.key, hold.token)
            line = Line(budget.name, "1", "1", budget.ends_at)
            assert (await ledger.hold(Ask("agent/other", "t", NOON, (line,)))).held
            return await claim(new)

        monkeypatch.setattr(scene.store, "claim", slow)
        monkeypatch.setattr(room, "CLAIM_WITHIN_S", -1.0)
        agent = await scene.buy(signed(1))
        assert (agent.status, scene.presented, await scene.counted()) == (403, [], [1])
        record = await scene.record()
        assert (record.money, record.answer) == (Money.FAILED, Answer.NONE)

    SpendScene({"name": "one", "payments_per_day": 1}).play(script)


# -- the switch


def test_a_policy_that_stops_refuses_every_new_payment() -> None:
    async def script(scene: SpendScene) -> None:
        scene.spending = {"stop": True}
        scene.guardian.parts.generation.policy = scene._policy({}, {})
        agent = await scene.buy(signed())
        assert (agent.status, agent.problem["rule"], agent.problem["limit"]) == (403, "spending", "stop")
        assert (await scene.buy((b"x-payment", b"?"))).status == 403

    SpendScene().play(script)


def test_a_stop_by_hand_refuses_new_payments_and_lets_those_that_exist_go_on() -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(signed(1))).status == 503
        stop = await scene.flow.spending.stop("ann", "a runaway")
        assert await scene.flow.spending.stop("bob") == stop
        other = scene.agent(signed(2))
        other.url = "http://shop/else"
        await scene.flow.handle(other)
        assert (other.status, other.problem["rule"]) == (403, "spending")
        assert "stopped by ann: a runaway" in other.problem["detail"]
        scene.says = [goods]
        assert (await scene.buy(signed(1))).status == 200
        assert await scene.flow.spending.resume("bob") == stop
        assert (await scene.buy(signed(3))).status == 200

    SpendScene(says=refusal, **SHORT).play(script)


def test_a_stop_by_hand_outlives_the_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/guardian.db"

    async def stop(scene: SpendScene) -> None:
        await scene.flow.spending.stop("ann")

    async def later(scene: SpendScene) -> None:
        assert (await scene.buy(signed())).status == 403
        await scene.flow.spending.resume("ann")
        assert (await scene.buy(signed())).status == 200

    SpendScene(store=open_store(url)).play(stop)
    SpendScene(store=open_store(url)).play(later)


def test_a_stop_by_hand_holds_where_agents_have_filled_the_approvals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guardian.store.ledger.MAX_PAPERS", 1)

    async def script(scene: SpendScene) -> None:
        await waits(scene, 1)
        stop = await scene.flow.spending.stop("ann")
        assert await scene.flow.spending.stopped() == stop
        other = scene.agent(signed(2))
        other.url = "http://shop/else"
        await scene.flow.handle(other)
        assert (other.status, other.problem["limit"]) == (403, "stop")
        assert len(await scene.flow.spending.approvals.all()) == 1, "nobody is asked meanwhile"

    SpendScene(ASKS).play(script)


def test_a_stop_that_does_not_hold_is_not_told_as_done(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> bool:
        return False

    async def script(scene: SpendScene) -> None:
        monkeypatch.setattr(scene.guardian.parts.store.ledger, "swap", nothing)
        with pytest.raises(StoreUnavailable, match="stop again"):
            await scene.flow.spending.stop("ann")

    SpendScene().play(script)


# -- approvals

ASKS = {"name": "big", "approve_above": "$0.005"}


async def waits(scene: SpendScene, nonce: int) -> str:
    return waits_for(await scene.buy(signed(nonce)))


def waits_for(agent: Agent) -> str:
    assert (agent.status, agent.problem["type"]) == (403, "urn:payment-guardian:approval-required")
    assert (agent.problem["rule"], agent.problem["limit"]) == ("big", "approve_above")
    return str(agent.problem["approval"])


def test_a_payment_that_waits_passes_once_after_its_approval() -> None:
    async def script(scene: SpendScene) -> None:
        id = await waits(scene, 1)
        assert await waits(scene, 2) == id, "the same purchase, signed again"
        assert scene.presented == []
        (asked,) = await scene.flow.spending.approvals.all()
        assert (asked.id, asked.state, asked.amount, asked.url) == (
            id,
            State.ASKED,
            PRICE,
            "http://shop/weather",
        )
        await scene.flow.spending.approvals.decide(id, True, "ann")
        other = scene.agent(signed(7))
        other.url = "http://shop/else"
        await scene.flow.handle(other)
        assert other.status == 403, "another purchase"
        assert (await scene.buy(signed(3))).status == 200
        assert await waits(scene, 4) == id
        assert scene.nonces == [3]

    SpendScene(ASKS).play(script)


def test_one_caller_asks_for_so_many_approvals_a_day_and_others_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "MAX_ASKED", 2)

    async def script(scene: SpendScene) -> None:
        async def asks(caller: str, nonce: int) -> Agent:
            agent = scene.agent(signed(nonce))
            agent.caller, agent.url = caller, f"http://shop/{caller}/{nonce}"
            await scene.flow.handle(agent)
            return agent

        for nonce in (1, 2, 1, 2):
            waits_for(await asks("key:ann", nonce))
        refused = await asks("key:ann", 3)
        assert (refused.status, refused.problem["limit"]) == (403, "approve_above")
        assert "2 approvals today" in refused.problem["detail"]
        assert "approval" not in refused.problem
        waits_for(await asks("key:bob", 4))
        assert len(await scene.flow.spending.approvals.all()) == 3
        assert await scene.store.ledger.unsettled(9) == []
        scene.now += 86400
        waits_for(await asks("key:ann", 3))

    SpendScene(ASKS).play(script)


def test_all_approvals_are_listed_however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (waiting, books):
        monkeypatch.setattr(module, "LISTED", 2)

    async def script(scene: SpendScene) -> None:
        for nonce in range(1, 6):
            agent = scene.agent(signed(nonce))
            agent.url = f"http://shop/{nonce}"
            await scene.flow.handle(agent)
        assert len(await scene.flow.spending.approvals.all()) == 5

    SpendScene(ASKS).play(script)


def test_of_many_payments_at_once_one_uses_the_approval() -> None:
    async def script(scene: SpendScene) -> None:
        id = await waits(scene, 1)
        await scene.flow.spending.approvals.decide(id, True, "ann")
        agents = await asyncio.gather(*(scene.buy(signed(n)) for n in range(1, 9)))
        assert [agent.status for agent in agents].count(200) == 1
        assert len(scene.presented) == 1

    SpendScene(ASKS).play(script)


def test_an_approval_comes_back_when_its_payment_was_not_sent() -> None:
    async def script(scene: SpendScene) -> None:
        id = await waits(scene, 1)
        await scene.flow.spending.approvals.decide(id, True, "ann")
        scene.says = [NotSent("refused")]
        with pytest.raises(NotSent):
            await scene.buy(signed(1))
        await scene.until(lambda: scene.flow.spending._released)
        scene.says = [goods]
        assert (await scene.buy(signed(2))).status == 200

    SpendScene(ASKS).play(script)


def test_an_approval_is_over_after_its_time() -> None:
    async def script(scene: SpendScene) -> None:
        id = await waits(scene, 1)
        await scene.flow.spending.approvals.decide(id, True, "ann", lasts_s=60)
        scene.now += 61
        assert await waits(scene, 2) == id
        await scene.flow.spending.approvals.decide(id, True, "ann")
        scene.now += 3599
        assert (await scene.buy(signed(2))).status == 200

    SpendScene(ASKS).play(script)


def test_what_was_denied_stays_denied_and_says_by_whom() -> None:
    async def script(scene: SpendScene) -> None:
        approvals = scene.flow.spending.approvals
        id = await waits(scene, 1)
        await approvals.decide(id, True, "ann")
        await approvals.decide(id, False, "bob", "too dear")
        agent = await scene.buy(signed(1))
        assert (agent.status, agent.problem["limit"]) == (403, "approval_denied")
        assert "bob has denied it: too dear" in agent.problem["detail"]
        assert agent.problem["type"] == "urn:payment-guardian:spending-denied"

    SpendScene(ASKS).play(script)


def test_what_cannot_be_decided_is_refused_with_the_reason() -> None:
    async def script(scene: SpendScene) -> None:
        approvals = scene.flow.spending.approvals
        assert await approvals.decide("apr_none", True, "ann") is None
        id = await waits(scene, 1)
        for by, note, lasts_s in (("", "", 9.0), ("ann", "x" * 999, 9.0), ("ann", "", 0.0), ("ann", "", 1e9)):
            with pytest.raises(CannotDecide):
                await approvals.decide(id, True, by, note, lasts_s)
        await approvals.decide(id, True, "ann")
        await scene.buy(signed(1))
        with pytest.raises(CannotDecide, match="used by its payment"):
            await approvals.decide(id, False, "ann")

    SpendScene(ASKS).play(script)


# -- under concurrency, on real stores

MANY, FITTING = 200, 37
EXACT = {"name": "exact", "per_day": f"{FITTING * PRICE + PRICE - 1} atomic", "for": {"asset": USDC}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    try:
        redis_command()
    except SandboxError as missing:
        pytest.skip(str(missing))
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return f"{request.getfixturevalue('server').url}?prefix=exact"
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/guardian.db"


def test_of_200_payments_at_once_exactly_those_pass_that_fit(url: str) -> None:
    async def script(scene: SpendScene) -> None:
        agents = await asyncio.gather(*(scene.buy(payment) for payment in payments))
        said = [agent.status for agent in agents]
        assert (said.count(200), said.count(403)) == (FITTING, MANY - FITTING)
        assert len(scene.presented) == FITTING
        assert await scene.counted() == [FITTING * PRICE]

    payments = [signed(n) for n in range(1, MANY + 1)]
    SpendScene(EXACT, store=open_store(url)).play(script)


def test_two_replicas_on_redis_share_a_budget_exactly(server: RedisServer) -> None:
    async def run() -> None:
        pair = [SpendScene(EXACT, store=open_store(f"{server.url}?prefix=pair")) for _ in "ab"]
        for scene in pair:
            await scene.guardian.start()
        try:
            asked = (pair[n % 2].buy(payment) for n, payment in enumerate(payments))
            said = [agent.status for agent in await asyncio.gather(*asked)]
            assert (said.count(200), said.count(403)) == (FITTING, MANY - FITTING)
            assert len(pair[0].presented) + len(pair[1].presented) == FITTING
            assert await pair[1].counted() == [FITTING * PRICE]
            await pair[0].flow.spending.stop("ann")
            assert (await pair[1].buy(signed(999))).problem["limit"] == "stop"
        finally:
            for scene in pair:
                await scene.guardian.parts.tasks.finish(0)
                await scene.guardian.stop()

    payments = [signed(n) for n in range(1, MANY + 1)]
    asyncio.run(run())


def test_what_fits_is_admitted_also_while_others_are_given_back(url: str) -> None:
    async def script(scene: SpendScene) -> None:
        def says() -> Any:
            if next(turn) % 2:
                raise NotSent("refused")
            return goods()

        scene.says = [says]
        turn = iter(range(10**6))
        passed: list[int] = []
        for start in range(1, MANY, 40):
            asked = (scene.buy(payment) for payment in payments[start : start + 40])
            said = await asyncio.gather(*asked, return_exceptions=True)
            passed += [1 for agent in said if isinstance(agent, Agent) and agent.status == 200]
            await scene.guardian.parts.tasks.finish(5)
            assert await scene.counted() == [len(passed) * PRICE]
        scene.says = [goods]
        last = await asyncio.gather(*(scene.buy(payment) for payment in payments[-FITTING:]))
        assert len(passed) + [agent.status for agent in last].count(200) == FITTING
        assert await scene.counted() == [FITTING * PRICE]

    payments = [signed(n) for n in range(1, MANY + 41 + FITTING)]
    SpendScene(EXACT, store=open_store(url.replace("exact", "giving"))).play(script)
