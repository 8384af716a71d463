"""Limits on what agents spend, on a real chain: 200 payments at once, and a `kill -9` among them."""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import HOLDS, NO_CIRCUIT
from stage import PRICE, until

from guardian.sandbox.buyer_py import Purchase, send_payment, sign_payment
from guardian.sandbox.node import SandboxError
from guardian.sandbox.redis_server import RedisServer
from guardian.sandbox.world import RunningGuardian, RunningSeller, World

pytestmark = pytest.mark.e2e

MANY, FITTING = 200, 40
LIMIT = FITTING * PRICE + PRICE - 1
UNPAID = {"failed", "failed_orphaned"}
OPEN = {"idle", "pending"}


@pytest.fixture(scope="module")
def seller(world: World) -> RunningSeller:
    return world.start_seller("py", world.facilitators[0].url)


@pytest.fixture
def policy(world: World, seller: RunningSeller) -> str:
    lines = (
        HOLDS["patient"],
        NO_CIRCUIT,
        "routes:",
        f"  - {{name: shop, upstream: '{seller.url.removesuffix('/weather')}'}}",
        "spending:",
        "  rules:",
        f"    - {{name: day, per_day: '${LIMIT / 1e6}'}}",
    )
    return world.policy_text(settlement_timeout="3s", network_lines=("block_time: 1s",), lines=lines)


@pytest.fixture
def guardian(world: World, policy: str) -> RunningGuardian:
    return world.start_guardian(policy)


class Agents:
    """Payments of several payers, each for a purchase of its own."""

    def __init__(self, world: World, guardian: RunningGuardian, seller: RunningSeller) -> None:
        self.world, self.guardian, self.seller = world, guardian, seller
        self.guardians = [guardian]
        self.payers = [world.chain.new_payer(100_000_000) for _ in range(8)]
        self.signed = 0

    def payment(self) -> tuple[str, dict[str, Any]]:
        self.signed += 1
        payer = self.payers[self.signed % len(self.payers)]
        body = sign_payment(self.world.chain, payer, self.seller.pay_to, PRICE, resource=self.seller.url)
        url = self.guardians[self.signed % len(self.guardians)].url
        return f"{url}/shop/weather?for={self.signed}", body["paymentPayload"]

    async def pay(self, payments: list[tuple[str, dict[str, Any]]]) -> list[Purchase]:
        return await asyncio.gather(*(send_payment(url, payload) for url, payload in payments))

    def transfers(self) -> int:
        return sum(len(self.world.chain.transfers(payer=payer.address)) for payer in self.payers)

    def records(self) -> list[dict[str, Any]]:
        return list(self.guardian.get("/api/settlements?limit=1000")["settlements"])

    def counted(self) -> int:
        (budget,) = self.guardian.get("/api/spending")["budgets"]
        return int(budget["counted"])


def test_of_200_payments_at_once_exactly_those_are_made_that_fit(
    world: World, guardian: RunningGuardian, seller: RunningSeller
) -> None:
    agents = Agents(world, guardian, seller)
    said = asyncio.run(agents.pay([agents.payment() for _ in range(MANY)]))
    denied = [one for one in said if one.status == 403]
    assert len(denied) == MANY - FITTING, [one.status for one in said]
    assert {(one.body["rule"], one.body["limit"]) for one in denied} == {("day", "per_day")}
    assert len(agents.records()) == FITTING
    until(lambda: all(one["chain_proven"] for one in agents.records()), 40)
    assert (agents.transfers(), agents.counted()) == (FITTING, FITTING * PRICE)


def test_a_kill_loses_no_hold_and_makes_no_room(
    world: World, guardian: RunningGuardian, seller: RunningSeller
) -> None:
    agents = Agents(world, guardian, seller)
    payments = [agents.payment() for _ in range(MANY)]

    async def cut_off() -> list[Purchase]:
        first = asyncio.create_task(agents.pay(payments[: MANY // 2]))
        while not await asyncio.to_thread(agents.records):  # the first are on record, and none answered yet
            await asyncio.sleep(0.01)
        await asyncio.to_thread(guardian.kill)
        said = await first
        await asyncio.to_thread(guardian.start)
        return said

    before = asyncio.run(cut_off())
    assert any(one.error for one in before), "nothing was cut off"
    held = agents.counted()
    on_record = [one for one in agents.records() if one["money"] not in UNPAID]
    assert len(on_record) * PRICE <= held <= FITTING * PRICE
    said = asyncio.run(agents.pay(payments[MANY // 2 :]))
    assert any(one.status == 403 for one in said)
    assert agents.counted() == FITTING * PRICE
    assert len([one for one in agents.records() if one["money"] not in UNPAID]) <= FITTING
    asyncio.run(agents.pay(payments))  # all come again, with what they have signed
    assert agents.counted() <= FITTING * PRICE
    until(lambda: agents.transfers() >= FITTING - (held - len(on_record) * PRICE) // PRICE, 40)
    assert agents.transfers() <= FITTING


def test_two_replicas_share_a_limit_while_one_is_killed(
    world: World, policy: str, seller: RunningSeller, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(RedisServer(tmp_path))
        except SandboxError as missing:
            pytest.skip(str(missing))
        pair = [world.start_guardian(policy, store=server.url) for _ in "ab"]
        for one in pair:
            stack.callback(one.stop)
        agents = Agents(world, pair[0], seller)
        agents.guardians = pair
        payments = [agents.payment() for _ in range(MANY)]

        names = {one.get("/api/diagnosis")["replica"]: one for one in pair}

        async def cut_off() -> tuple[list[Purchase], RunningGuardian]:
            paying = asyncio.create_task(agents.pay(payments))
            while not (records := await asyncio.to_thread(agents.records)):
                await asyncio.sleep(0.01)
            paid_by = names[records[0]["owner"]]  # all that fits may have come to the other one
            await asyncio.to_thread(paid_by.kill)
            return await paying, paid_by

        said, killed = asyncio.run(cut_off())
        assert any(one.error for one in said), "nothing was cut off"
        assert sum(one.delivered for one in said) <= FITTING
        killed.start()
        asyncio.run(agents.pay([agents.payment() for _ in range(MANY // 2)]))
        assert agents.counted() == FITTING * PRICE
        assert agents.transfers() <= len([one for one in agents.records() if one["money"] not in UNPAID])
        assert len([one for one in agents.records() if one["money"] not in UNPAID]) <= FITTING
        until(lambda: all(one["money"] not in OPEN for one in agents.records()), 60)
        assert agents.transfers() <= FITTING


def test_an_operator_stops_and_resumes(
    world: World, guardian: RunningGuardian, seller: RunningSeller
) -> None:
    agents = Agents(world, guardian, seller)
    assert httpx.post(f"{guardian.ops_url}/api/spending/stop", json={"by": "ann"}).status_code == 200
    (denied,) = asyncio.run(agents.pay([agents.payment()]))
    assert (denied.status, denied.body["limit"]) == (403, "stop")
    guardian.kill()
    guardian.start()
    (denied,) = asyncio.run(agents.pay([agents.payment()]))
    assert denied.status == 403
    assert httpx.post(f"{guardian.ops_url}/api/spending/resume", json={"by": "ann"}).status_code == 200
    (bought,) = asyncio.run(agents.pay([agents.payment()]))
    assert bought.delivered
