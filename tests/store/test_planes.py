"""Payments of agents and payments of sellers never stand before one another, whatever the store."""

import pytest

from guardian.settlement.record import AGENT
from guardian.settlement.states import Money

PAYER, ASSET = "0x" + "1" * 40, "0x" + "2" * 40


def of_agent(new, nonce, **changes):
    digits = f"0x{nonce:064x}"
    facts = {"purchase": "req:a", "plane": AGENT, "watched": True, "payer": PAYER, "asset": ASSET} | changes
    key = f"agent/eip155:8453/{ASSET}/{PAYER}/{digits}"
    return new(digits, key=key, **facts)


def of_seller(new, nonce, **changes):
    digits = f"0x{nonce:064x}"
    key = f"eip155:8453/{ASSET}/{PAYER}/{digits}"
    return new(digits, key=key, payer=PAYER, asset=ASSET, **changes)


def test_a_doubt_on_one_plane_bars_nobody_on_the_other(run, new):
    async def script(store):
        await store.claim(of_agent(new, 1, money=Money.UNRESOLVED))
        seller = await store.claim(of_seller(new, 1))
        assert (seller.created, seller.record.money, seller.blocking) == (True, Money.PENDING, ())
        await store.claim(of_seller(new, 2, money=Money.UNRESOLVED, resource="https://shop/b"))
        agent = await store.claim(of_agent(new, 2, purchase="req:b", resource="https://shop/b"))
        assert (agent.created, agent.record.money, agent.blocking) == (True, Money.PENDING, ())

    run(script)


@pytest.mark.parametrize(
    ("changes", "money"),
    [({}, Money.IDLE), ({"resource": "https://shop/b", "purchase": "req:b"}, Money.PENDING)],
)
def test_an_agents_doubt_bars_the_same_purchase_alone(run, new, changes, money):
    async def script(store):
        await store.claim(of_agent(new, 1, money=Money.UNRESOLVED))
        claim = await store.claim(of_agent(new, 2, **changes))
        assert claim.record.money is money
        assert [other.key for other in claim.blocking] == (
            [of_agent(new, 1).key] if money is Money.IDLE else []
        )

    run(script)


def test_what_an_agent_bought_is_kept_with_its_payment(run, new):
    async def script(store):
        sent = of_agent(new, 1, route="shop", verb="POST", payment_id="id:1", asker="me", body=b"\x01sealed")
        await store.claim(sent)
        assert await store.get(sent.key) == sent
        assert await store.get_by_id(sent.id) == sent

    run(script)
