"""The token behaves as USDC's does, and the chain obeys."""

import pytest
from eth_account import Account

from guardian.sandbox.buyer_py import sign_payment
from guardian.sandbox.chain import Chain, RpcError, Transfer, wallet_signature
from guardian.sandbox.world import World

pytestmark = pytest.mark.e2e
PRICE = 10_000


@pytest.fixture
def chain(world: World) -> Chain:
    return world.chain


def signed(chain: Chain, account, pay_to: str, **more) -> tuple[dict[str, str], str]:
    payload = sign_payment(chain, account, pay_to, PRICE, **more)["paymentPayload"]["payload"]
    return payload["authorization"], payload["signature"]


def test_an_authorization_moves_the_amount_once(chain: Chain) -> None:
    payer, pay_to = chain.new_payer(PRICE), Account.create().address
    authorization, signature = signed(chain, payer, pay_to)
    transaction = chain.broadcast_authorization(authorization, signature)
    again = chain.broadcast_authorization(authorization, signature)
    block = int(chain.receipt(transaction)["blockNumber"], 16)
    assert chain.receipt(again)["status"] == "0x0"
    assert chain.transfers(payer=payer.address) == [
        Transfer(payer.address.lower(), pay_to.lower(), PRICE, transaction, block)
    ]
    assert chain.balance(pay_to) == PRICE
    assert [
        (use.cancelled, use.transaction) for use in chain.uses(payer.address, authorization["nonce"])
    ] == [(False, transaction)]


def test_a_cancelled_authorization_moves_nothing(chain: Chain) -> None:
    payer, pay_to = chain.new_payer(), Account.create().address
    authorization, signature = signed(chain, payer, pay_to)
    chain.cancel_authorization(payer.key.hex(), authorization["nonce"])
    refused = chain.broadcast_authorization(authorization, signature)
    assert chain.receipt(refused)["status"] == "0x0"
    assert chain.authorization_state(payer.address, authorization["nonce"])
    assert [use.cancelled for use in chain.uses(payer.address, authorization["nonce"])] == [True]
    assert chain.transfers(payer=payer.address) == []


def test_a_signature_of_somebody_else_moves_nothing(chain: Chain) -> None:
    payer, thief = chain.new_payer(), chain.new_payer()
    authorization, signature = signed(chain, thief, thief.address)
    stolen = chain.broadcast_authorization({**authorization, "from": payer.address}, signature)
    assert chain.receipt(stolen)["status"] == "0x0"
    assert not chain.authorization_state(payer.address, authorization["nonce"])


def test_a_smart_wallet_pays_with_its_owner_s_signature(chain: Chain) -> None:
    owner, pay_to = Account.create(), Account.create().address
    wallet = chain.new_wallet(owner.address, PRICE)
    authorization, signature = signed(chain, owner, pay_to, payer=wallet)
    wrapped = "0x" + wallet_signature(bytes.fromhex(signature[2:])).hex()
    transaction = chain.broadcast_authorization(authorization, wrapped)
    assert chain.receipt(transaction)["status"] == "0x1"
    assert chain.balance(pay_to) == PRICE


def test_without_mining_transactions_wait_and_can_be_dropped(chain: Chain) -> None:
    payer = chain.new_payer()
    authorization, signature = signed(chain, payer, payer.address)
    chain.stop_mining()
    try:
        transaction = chain.broadcast_authorization(authorization, signature)
        assert transaction in [waiting["hash"] for waiting in chain.pending_transactions()]
        chain.drop_transactions([transaction])
        assert chain.pending_transactions() == []
    finally:
        chain.set_automine(True)
    assert not chain.authorization_state(payer.address, authorization["nonce"])


def test_reverting_to_a_snapshot_takes_the_payment_back(chain: Chain) -> None:
    payer, pay_to = chain.new_payer(), Account.create().address
    snapshot = chain.snapshot()
    chain.receipt(chain.broadcast_authorization(*signed(chain, payer, pay_to)))
    assert chain.balance(pay_to) == PRICE
    chain.revert(snapshot)
    assert chain.balance(pay_to) == 0


def test_a_refused_call_names_the_method(chain: Chain) -> None:
    with pytest.raises(RpcError, match="no_such_method"):
        chain.rpc("no_such_method")
