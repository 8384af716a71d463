"""What never moved is never reported as paid, and once the chain proves it the record says so.

A world of its own: its clock is moved past the expiry of every payment made here.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from eth_account.signers.local import LocalAccount
from stage import PRICE, Stage, until

from guardian.sandbox.buyer_py import Purchase
from guardian.sandbox.node import SandboxError
from guardian.sandbox.world import World

pytestmark = pytest.mark.e2e


@dataclass
class Doomed:
    """A payment that cannot succeed, and what its buyer got."""

    payer: LocalAccount
    purchase: Purchase


def cancelled(stage: Stage, payer: LocalAccount) -> Purchase:
    """The facilitator takes its transaction back."""
    stage.facilitator.control("cancelled", times=1)
    return stage.buying(payer).result()


def dropped(stage: Stage, payer: LocalAccount) -> Purchase:
    """The mempool forgets the transaction."""
    stage.facilitator.control("pending_200", times=1)
    with stage.blocks_held_back():
        buying = stage.buying(payer)
        stage.world.chain.drop_transactions(until(lambda: stage.waiting(payer)))
    return buying.result()


def nonce_cancelled(stage: Stage, payer: LocalAccount) -> Purchase:
    """The payer cancels the authorization and the transaction is gone: proof long before the expiry."""
    stage.facilitator.control("pending_200", times=1)
    with stage.blocks_held_back():
        buying = stage.buying(payer)
        stage.world.chain.drop_transactions(until(lambda: stage.waiting(payer)))
        nonce = stage.records(payer)[0]["nonce"]
        stage.world.chain.cancel_authorization("0x" + bytes(payer.key).hex(), nonce)
    purchase = buying.result()
    record = stage.record(payer, money="failed_orphaned", chain_proven=True)
    assert "cancelled" in record["message"]
    return purchase


def reverted(stage: Stage, payer: LocalAccount) -> Purchase:
    """The money leaves between the broadcast and the block."""
    stage.facilitator.control("rs_500", times=1)
    with stage.blocks_held_back():
        buying = stage.buying(payer)
        until(lambda: stage.waiting(payer))
        stage.world.chain.fund(payer.address, -PRICE)
    return buying.result()


def balance_gone(stage: Stage, payer: LocalAccount) -> Purchase:
    """The money leaves between /verify and /settle."""
    seen = stage.facilitator.counters()["settle"]
    stage.facilitator.control("ok", delay_s=0.5, times=1)
    buying = stage.buying(payer)
    until(lambda: stage.facilitator.counters()["settle"] > seen)
    stage.world.chain.fund(payer.address, -PRICE)
    return buying.result()


def liar(stage: Stage, payer: LocalAccount) -> Purchase:
    """The facilitator reports success and sends nothing."""
    stage.facilitator.control("liar", times=1)
    return stage.buying(payer).result()


Script = Callable[[Stage, LocalAccount], Purchase]
HONEST: list[Script] = [cancelled, dropped, nonce_cancelled, reverted, balance_gone]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Its holds are short: most of these outcomes are known only after an expiry."""
    with ExitStack() as stack:
        try:
            world = stack.enter_context(World(mining=1.0, confirmation_timeout_s=1.5))
        except SandboxError as error:
            pytest.skip(f"no sandbox here: {error}")
        holds = "settle: {hold: 1s, hold_without_hash: 2s}"
        policy = world.policy_text(settlement_timeout="3s", network_lines=("block_time: 1s",), lines=(holds,))
        with Stage(world, world.start_guardian(policy)) as stage:
            yield stage


@pytest.fixture(scope="module")
def doomed(stage: Stage) -> dict[Script, Doomed]:
    """All scripts played, then the chain's clock moved past every expiry."""
    played = {}
    for script in (*HONEST, liar):
        payer = stage.world.chain.new_payer(PRICE)
        played[script] = Doomed(payer, script(stage, payer))
    stage.world.chain.advance_time(400)
    return played


@pytest.mark.parametrize("script", HONEST)
def test_what_never_moved_is_never_reported_as_paid(
    stage: Stage, doomed: dict[Script, Doomed], script: Script
) -> None:
    one, before = doomed[script], stage.seller().deliveries()
    assert one.purchase.status == 402
    record = stage.record(one.payer, money="failed_orphaned", chain_proven=True)
    assert (record["orphan"], record["unpaid"], record["transaction"]) == (False, False, None)
    assert record["answer"] in ("refused", "pending")
    assert not stage.sending_again(one.purchase.payloads[-1])[0].delivered
    assert stage.seller().deliveries() == before
    assert stage.transfers(one.payer) == []


def test_a_success_that_the_chain_denies_raises_an_alert(stage: Stage, doomed: dict[Script, Doomed]) -> None:
    one = doomed[liar]
    assert one.purchase.delivered
    record = stage.record(one.payer, money="failed", unpaid=True, chain_proven=True)
    assert stage.transfers(one.payer) == []
    lines = [line for line in stage.guardian.process.log_text().splitlines() if record["id"] in line]
    assert [line for line in lines if "unpaid" in line and "error" in line.lower()]
    assert not stage.sending_again(one.purchase.payloads[-1])[0].delivered


def test_only_the_liars_buyer_was_served(stage: Stage, doomed: dict[Script, Doomed]) -> None:
    assert [one.purchase.delivered for one in doomed.values()].count(True) == 1
    assert stage.seller().deliveries() == 1
