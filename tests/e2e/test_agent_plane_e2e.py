"""The agent plane before unmodified sellers: unmodified buyers notice nothing, and pay once."""

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount
from stage import PRICE

from guardian.sandbox.buyer_py import Purchase, buy_now, send_payment
from guardian.sandbox.world import RunningGuardian, RunningSeller, SellerKind, World, buy_ts

pytestmark = pytest.mark.e2e

KINDS: tuple[SellerKind, ...] = ("py", "ts", "v1")
PAIRS: list[tuple[str, SellerKind]] = [("py", "py"), ("ts", "ts"), ("py", "ts"), ("ts", "py"), ("py", "v1")]


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A guardian with a route to each seller; the sellers settle at the facilitator itself."""

    world: World
    guardian: RunningGuardian
    sellers: dict[SellerKind, RunningSeller]

    def url(self, kind: SellerKind) -> str:
        return f"{self.guardian.url}/{kind}/weather"

    def buy(self, buyer: str, url: str, payer: LocalAccount) -> dict[str, Any]:
        if buyer == "ts":
            return buy_ts(url, "0x" + bytes(payer.key).hex())
        bought: Purchase = buy_now(url, payer)
        assert not bought.error, bought
        return {"status": bought.status, "body": str(bought.body), "receipt": bought.receipt}


@pytest.fixture(scope="module")
def sidecar(world: World) -> Sidecar:
    facilitator = world.facilitators[0].url
    sellers = {kind: world.start_seller(kind, facilitator) for kind in KINDS}
    bases = {kind: seller.url.removesuffix("/weather") for kind, seller in sellers.items()}
    routes = [f"  - {{name: {kind}, upstream: '{base}'}}" for kind, base in bases.items()]
    policy = world.policy_text(network_lines=("block_time: 1s",), lines=("routes:", *routes))
    return Sidecar(world, world.start_guardian(policy), sellers)


@pytest.mark.parametrize(("buyer", "kind"), PAIRS)
def test_a_purchase_through_the_route_is_the_purchase_itself(
    sidecar: Sidecar, buyer: str, kind: SellerKind
) -> None:
    seller, payer, other = sidecar.sellers[kind], *(sidecar.world.chain.new_payer() for _ in range(2))
    before = seller.deliveries()
    through = sidecar.buy(buyer, sidecar.url(kind), payer)
    directly = sidecar.buy(buyer, seller.url, other)
    assert (through["status"], "sunny" in through["body"]) == (200, True)
    assert through["body"] == directly["body"]
    assert seller.deliveries() == before + 2
    (transfer,) = sidecar.world.chain.transfers(payer=payer.address)
    assert transfer.amount == PRICE
    receipt = through["receipt"]
    assert (receipt["success"], receipt["transaction"]) == (True, transfer.transaction)
    assert receipt.keys() == directly["receipt"].keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_demand_comes_down_byte_for_byte(sidecar: Sidecar, kind: SellerKind) -> None:
    through, directly = (httpx.get(url) for url in (sidecar.url(kind), sidecar.sellers[kind].url))
    assert (through.status_code, through.content) == (402, directly.content)
    assert _end_to_end(through) == _end_to_end(directly)


@pytest.mark.parametrize("kind", ["py", "v1"])
def test_a_used_payment_is_refused_as_the_seller_refuses_it(sidecar: Sidecar, kind: SellerKind) -> None:

    payer, other = (sidecar.world.chain.new_payer() for _ in range(2))
    refusals = []
    for url, account in ((sidecar.url(kind), payer), (sidecar.sellers[kind].url, other)):
        bought = buy_now(url, account)
        assert bought.delivered, bought
        refusals.append(asyncio.run(send_payment(url, bought.payloads[-1])))
    through, directly = refusals
    assert through.status == directly.status == 402
    assert through.headers.keys() == directly.headers.keys()
    assert len(sidecar.world.chain.transfers(payer=payer.address)) == 1


def _end_to_end(response: httpx.Response) -> list[tuple[str, str]]:
    """In the server's order, without what belongs to one connection or one moment."""
    own = ("date", "connection", "keep-alive")
    return [(name, value) for name, value in response.headers.multi_items() if name not in own]
