"""A payment as a real chain shows it, and as its kept logs still prove it."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from guardian.chain.evidence import Use
from guardian.chain.onchain import on_chain_at, use_in
from guardian.errors import ChainUnavailable
from guardian.sandbox.chain import Chain
from guardian.wire.names import Network, TxHash
from tests.chain.anvil_scene import Purchase

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with Chain(mining=None) as running:
        yield running


def test_a_payment_is_shown_with_its_block_and_the_logs_that_prove_it(chain: Chain) -> None:
    purchase = Purchase(chain)
    hash = TxHash(purchase.broadcast(chain))
    chain.mine()
    target = purchase.target(chain)
    target = replace(target, asset=target.asset.lower(), payer=target.payer.lower())
    found = asyncio.run(on_chain_at(chain.url, Network(chain.network), hash, target))
    assert (found.use, found.block, found.transaction) == ("paid", chain.head, hash)
    assert len(found.block_hash) == 66
    assert use_in(found.logs, hash, target)[0] is Use.PAID
    assert use_in(found.logs, hash, replace(target, amount=target.amount + 1))[0] is Use.MISMATCH
    assert use_in(found.logs[:1], hash, target)[0] is not Use.PAID


def test_a_transaction_that_is_in_no_block_is_not_shown(chain: Chain) -> None:
    target = Purchase(chain).target(chain)
    with pytest.raises(ChainUnavailable):
        asyncio.run(on_chain_at(chain.url, Network(chain.network), TxHash("0x" + "12" * 32), target))
