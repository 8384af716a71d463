"""Paid requests through the agent plane: whatever the seller's facilitator or the block does, the agent
pays once, is never told to pay again for it, and gets its goods where that can be."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import HOLDS, NO_CIRCUIT
from eth_account.signers.local import LocalAccount
from stage import PRICE, until

from guardian.flow.evidence_check import check_bundle, check_on_chain
from guardian.sandbox.buyer_py import Purchase, buy_now, send_payment, sign_payment
from guardian.sandbox.cable import Cable
from guardian.sandbox.world import RunningGuardian, RunningSeller, SellerKind, World, buy_ts

pytestmark = pytest.mark.e2e

PAIRS: list[tuple[str, SellerKind]] = [("py", "py"), ("ts", "ts"), ("py", "ts"), ("ts", "py"), ("py", "v1")]


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A guardian with a route to each seller. The sellers settle at the misbehaving facilitator itself;
    `guarded` is one that settles through this guardian: it stands on both sides of it. `far` is the first
    seller from afar, each packet a tenth of a second later."""

    world: World
    guardian: RunningGuardian
    sellers: dict[str, RunningSeller]
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))

    def url(self, name: str, payer: LocalAccount) -> str:
        """One purchase of its own for each payer: nobody shows who it is before it signs."""
        return f"{self.guardian.url}/{name}/weather?for={payer.address}"

    def payer(self) -> LocalAccount:
        return self.world.chain.new_payer()

    def buy(self, payer: LocalAccount, name: str = "py", *, timeout_s: float = 60.0) -> Purchase:
        return buy_now(self.url(name, payer), payer, timeout_s=timeout_s)

    def buying(self, payer: LocalAccount, name: str = "py") -> "Future[Purchase]":
        return self.pool.submit(self.buy, payer, name)

    def transfers(self, payer: LocalAccount) -> list[Any]:
        return list(self.world.chain.transfers(payer=payer.address))

    def record(self, payer: LocalAccount, **facts: Any) -> dict[str, Any]:
        """The payer's only record on the agent plane, once these facts stand in it."""

        def shows() -> dict[str, Any] | None:
            page = self.guardian.get("/api/settlements?limit=1000")["settlements"]
            mine = [one for one in page if one["payer"] == payer.address.lower() and one["plane"] == "agent"]
            fits = len(mine) == 1 and all(mine[0][name] == value for name, value in facts.items())
            return mine[0] if fits else None

        return dict(until(shows))

    @contextmanager
    def blocks_held_back(self) -> Iterator[None]:
        """No block inside; one a second again afterwards."""
        self.world.chain.stop_mining()
        try:
            yield
        finally:
            self.world.chain.set_interval(1)

    def until_settling(self) -> None:
        """Wait until the facilitator begins to settle once more. A seller without a guardian delivers late
        only what its facilitator sees mined while it is asked: once the nonce is used, /verify refuses it.
        So a block between two presentations pays for nothing, and must not come there by chance."""
        settles = self.world.facilitators[0].counters()["settle"]
        until(lambda: self.world.facilitators[0].counters()["settle"] > settles)

    def is_broadcast(self, payer: LocalAccount) -> bool:
        word = payer.address[2:].lower()
        return any(word in tx["input"] for tx in self.world.chain.pending_transactions())


def _sidecar(world: World, hold: str, kinds: tuple[SellerKind, ...]) -> Iterator[Sidecar]:
    facilitator = world.facilitators[0].url
    sellers: dict[str, RunningSeller] = {kind: world.start_seller(kind, facilitator) for kind in kinds}

    def policy() -> str:
        routes = [
            f"  - {{name: {name}, upstream: '{seller.url.removesuffix('/weather')}'}}"
            for name, seller in sellers.items()
        ]
        lines = (HOLDS[hold], NO_CIRCUIT, "routes:", *routes)
        return world.policy_text(settlement_timeout="3s", network_lines=("block_time: 1s",), lines=lines)

    guardian = world.start_guardian(policy())
    sellers["guarded"] = world.start_seller("py", guardian.url)
    near = urlsplit(sellers["py"].url)
    with Cable("127.0.0.1", near.port or 80) as cable, ThreadPoolExecutor(8) as pool:
        cable.slow(0.1)
        sellers["far"] = replace(sellers["py"], url=f"http://127.0.0.1:{cable.port}{near.path}")
        guardian.policy.write_text(policy())
        until(lambda: guardian.get("/api/policy")["version"] == 2)
        yield Sidecar(world, guardian, sellers, pool)


@pytest.fixture(scope="module")
def patient(world: World) -> Iterator[Sidecar]:
    """Holds its agents until the outcome is known."""
    yield from _sidecar(world, "patient", ("py", "ts", "v1"))


@pytest.fixture(scope="module")
def impatient(world: World) -> Iterator[Sidecar]:
    """Its holds are over before a withheld block comes."""
    yield from _sidecar(world, "impatient", ("py",))


@pytest.fixture(autouse=True)
def _well_again(world: World) -> Iterator[None]:
    yield
    world.facilitators[0].control("ok", operation="settle")
    world.facilitators[0].control("ok", operation="verify")
    world.chain.set_interval(1)


def paid_once(sidecar: Sidecar, payer: LocalAccount) -> str:
    """The transaction of the only payment."""
    (transfer,) = sidecar.transfers(payer)
    assert transfer.amount == PRICE
    return str(transfer.transaction)


def stays_paid_once(sidecar: Sidecar, payer: LocalAccount) -> None:
    """Two blocks later there is still one payment."""
    time.sleep(2)
    paid_once(sidecar, payer)


@pytest.mark.parametrize(("buyer", "name"), [*PAIRS, ("py", "guarded"), ("py", "far")])
def test_a_purchase_passes_unchanged_and_is_on_record(patient: Sidecar, buyer: str, name: str) -> None:
    payer = patient.payer()
    if buyer == "ts":
        bought = buy_ts(patient.url(name, payer), "0x" + bytes(payer.key).hex())
        status, body = bought["status"], bought["body"]
    else:
        purchase = patient.buy(payer, name)
        status, body = purchase.status, purchase.body
    assert (status, "sunny" in str(body)) == (200, True)
    record = patient.record(payer, answer="accepted", chain_proven=True)
    assert (record["transaction"], record["money"]) == (paid_once(patient, payer), "confirmed")
    assert (record["route"], record["watched"]) == (name, True)


@pytest.mark.parametrize("name", ["py", "ts", "guarded", "far"])
def test_an_agent_that_waits_gets_its_goods_when_the_block_is_late(patient: Sidecar, name: str) -> None:
    payer = patient.payer()
    with patient.blocks_held_back():
        buying = patient.buying(payer, name)
        until(lambda: patient.is_broadcast(payer))
        time.sleep(5)  # the seller's facilitator gives up after 1.5 s, and once more
        assert not buying.done()
        if name != "guarded":
            patient.until_settling()
            patient.world.chain.mine()
    assert (bought := buying.result()).delivered, bought
    paid_once(patient, payer)
    assert len(bought.nonces) == 1
    record = patient.record(payer, answer="accepted", chain_proven=True)
    assert not record["orphan"]


def test_three_naive_tries_on_a_slow_block_make_one_transfer(impatient: Sidecar) -> None:
    payer = impatient.payer()
    with impatient.blocks_held_back():
        tries = [impatient.buy(payer) for _ in range(3)]
    assert [one.status for one in tries] == [503, 503, 503], tries
    assert [len(one.nonces) for one in tries] == [1, 0, 0]
    assert {one.body["payment"] for one in tries} == {impatient.record(payer)["id"]}
    until(lambda: impatient.transfers(payer))
    assert impatient.buy(payer).status == 503  # the seller itself has no use for a payment that is used
    stays_paid_once(impatient, payer)


def test_a_payment_that_bought_nothing_leaves_evidence_that_the_chain_bears_out(impatient: Sidecar) -> None:
    payer = impatient.payer()
    with impatient.blocks_held_back():
        assert impatient.buy(payer).status == 503
    until(lambda: impatient.transfers(payer))
    record = impatient.record(payer, chain_proven=True)
    bundle = impatient.guardian.get(f"/api/orphans/{record['id']}/evidence")
    assert bundle["transaction"]["hash"] == paid_once(impatient, payer)
    assert (bundle["transaction"]["use"], bundle["payment"]["orphan"]) == ("paid", True)
    assert bundle["authorization"]["authorization"]["nonce"] == record["nonce"]
    assert (bundle["request"]["method"], bundle["attempts"][0]["status"]) == ("GET", 402)
    assert all(holds for holds, _ in check_bundle(bundle)), check_bundle(bundle)
    holds, said = asyncio.run(check_on_chain(bundle, impatient.world.chain.url))
    assert holds, said


def test_three_signatures_for_one_purchase_make_one_transfer(impatient: Sidecar) -> None:
    payer, seller = impatient.payer(), impatient.sellers["py"]
    with impatient.blocks_held_back():
        for _ in range(3):
            body = sign_payment(impatient.world.chain, payer, seller.pay_to, PRICE, resource=seller.url)
            sent = asyncio.run(send_payment(impatient.url("py", payer), body["paymentPayload"]))
            assert sent.status == 503, sent
    until(lambda: impatient.transfers(payer))
    stays_paid_once(impatient, payer)
    loops = [one["routes"] for one in impatient.guardian.get("/api/diagnosis")["found"]]
    assert ["py"] in loops


def test_with_a_guardian_on_both_sides_the_goods_come_late(impatient: Sidecar) -> None:
    payer = impatient.payer()
    with impatient.blocks_held_back():
        tries = [impatient.buy(payer, "guarded") for _ in range(3)]
        assert [one.status for one in tries] == [503, 503, 503], tries
    until(lambda: impatient.transfers(payer))
    late = impatient.buy(payer, "guarded")
    assert late.delivered, late
    assert sum(len(one.nonces) for one in [*tries, late]) == 1
    paid_once(impatient, payer)
    impatient.record(payer, answer="accepted", money="confirmed_late")


@pytest.mark.parametrize("wait_s", [0.5, 4.0])
def test_a_client_that_gives_up_before_the_block_gets_its_goods_on_the_next_try(
    patient: Sidecar, wait_s: float
) -> None:
    payer = patient.payer()
    with patient.blocks_held_back():
        hasty = patient.buy(payer, timeout_s=2.0)
        assert hasty.error, hasty
        time.sleep(wait_s)
    again = patient.buy(payer)
    assert again.delivered, again
    assert (len(hasty.nonces), len(again.nonces)) == (1, 0)
    paid_once(patient, payer)
    patient.record(payer, answer="accepted", chain_proven=True)


@pytest.mark.parametrize("mode", ["reset", "http_500", "crash", "hang", "garbage"])
def test_whatever_the_facilitator_does_after_the_broadcast_is_paid_once(patient: Sidecar, mode: str) -> None:
    payer, facilitator = patient.payer(), patient.world.facilitators[0]
    facilitator.control(mode, when="after", times=1, **({"seconds": 5.0} if mode == "hang" else {}))
    buying = patient.buying(payer)
    if mode == "crash":
        facilitator.process.wait()
        facilitator.start()
    bought = buying.result()
    assert bought.status in (200, 503), bought
    until(lambda: patient.transfers(payer))
    if not bought.delivered:
        assert patient.buy(payer).status == 503
    stays_paid_once(patient, payer)


def test_what_was_never_settled_can_be_bought_anew(impatient: Sidecar) -> None:
    payer, facilitator = impatient.payer(), impatient.world.facilitators[0]
    facilitator.control("gas_race")
    assert impatient.buy(payer).status == 503
    facilitator.control("ok")
    bought = impatient.buy(payer)
    assert (bought.status, bought.nonces) == (200, []), bought
    paid_once(impatient, payer)


def test_a_killed_guardian_still_knows_the_payment(impatient: Sidecar) -> None:
    payer = impatient.payer()
    with impatient.blocks_held_back():
        assert impatient.buy(payer, "guarded").status == 503
        impatient.guardian.kill()
        impatient.guardian.start()
    until(lambda: impatient.transfers(payer))
    late = impatient.buy(payer, "guarded")
    assert (late.status, late.nonces) == (200, []), late
    paid_once(impatient, payer)
