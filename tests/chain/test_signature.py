"""Whose signature it is: by key, by contract, and what is never taken for one."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account

from guardian.chain.rpc import Endpoints
from guardian.chain.signature import ERC1271_MAGIC, Authorization, signed_by_payer, typed_data
from guardian.errors import ChainUnavailable
from guardian.wire.names import Address, Network, Nonce
from tests.chain.scripted_node import ASSET, NONCE, SHOP, Node

KEY = Account.from_key("0x" + "11" * 32)
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
AUTHORIZATION = Authorization(
    chain_id=8453,
    asset=ASSET,
    domain_name="USD Coin",
    domain_version="2",
    payer=Address(KEY.address),
    to=SHOP,
    value=1000,
    valid_after=0,
    valid_before=2_000_000,
    nonce=NONCE,
)


def signature(authorization: Authorization = AUTHORIZATION) -> str:
    message = typed_data(authorization)
    assert message is not None
    return "0x" + bytes(KEY.sign_message(message).signature).hex()


class Wallets(Node):
    """A node on which every address is a contract wallet that gives the same answer."""

    def __init__(self, answer: str, code: str = "0x60", chain_id: int = 8453) -> None:
        super().__init__(chain_id=chain_id)
        self.answer, self.code = answer, code
        self.heard = ""

    def eth_getCode(self, address: str, block: str) -> str:
        return self.code

    def eth_call(self, call: dict[str, Any], block: str) -> str:
        if not self.answer:
            raise LookupError("execution reverted")
        self.heard = call["data"]
        return self.answer


def asked(node: Node, authorization: Authorization = AUTHORIZATION, signed: str = "0x12") -> bool:
    async def script() -> bool:
        endpoints = Endpoints(Network("eip155:8453"), [], wires=[("node", node)])
        try:
            return await signed_by_payer(authorization, signed, endpoints)
        finally:
            await endpoints.close()

    return asyncio.run(script())


def by_key(authorization: Authorization, signed: str) -> bool:
    return asyncio.run(signed_by_payer(authorization, signed))


def test_the_payers_own_key_is_recovered_without_any_node() -> None:
    assert by_key(AUTHORIZATION, signature())
    assert by_key(replace(AUTHORIZATION, payer=Address(KEY.address.lower())), signature().upper())


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": 1},
        {"asset": SHOP},
        {"domain_name": "USDC"},
        {"domain_version": "1"},
        {"payer": SHOP},
        {"to": ASSET},
        {"value": 1001},
        {"valid_after": 1},
        {"valid_before": 2_000_001},
        {"nonce": Nonce("0x" + "00" * 32)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_field_is_signed(change: dict[str, Any]) -> None:
    assert not by_key(replace(AUTHORIZATION, **change), signature())


@pytest.mark.parametrize(
    "text", ["", "0x", "0x12", "0xzz", "é", "0x" + "00" * 65, "0x" + "ff" * 65, "0x" + "12" * 4000]
)
def test_what_is_no_signature_proves_nothing(text: str) -> None:
    assert not by_key(AUTHORIZATION, text)


@pytest.mark.parametrize(
    "change",
    [{"value": -1}, {"value": 2**256}, {"nonce": "0x12"}, {"nonce": "zz"}, {"asset": "0x1"}, {"to": "shop"}],
)
def test_fields_that_do_not_fit_their_types_are_no_message(change: dict[str, Any]) -> None:
    assert not by_key(replace(AUTHORIZATION, **change), signature())


def test_a_wallet_accepts_by_its_magic_word() -> None:
    assert asked(Wallets("0x" + ERC1271_MAGIC + "0" * 56))


@pytest.mark.parametrize("answer", ["", "0x", "0x" + "0" * 64, "0x" + "0" * 56 + ERC1271_MAGIC])
def test_any_other_answer_of_a_wallet_is_a_refusal(answer: str) -> None:
    assert not asked(Wallets(answer))


def test_an_address_without_code_has_no_wallets_word() -> None:
    assert not asked(Wallets("0x" + ERC1271_MAGIC + "0" * 56, code="0x"))


def counterfactual(inner: bytes) -> str:
    """An ERC-6492 signature: factory, its calldata, and what the wallet itself understands."""
    return "0x" + encode(["address", "bytes", "bytes"], [SHOP, b"deploy", inner]).hex() + "6492" * 16


def test_a_counterfactual_wallet_that_is_deployed_by_now_is_asked_about_what_it_signed_itself() -> None:
    node = Wallets("0x" + ERC1271_MAGIC + "0" * 56)
    assert asked(node, signed=counterfactual(b"\xab" * 70))
    assert ("ab" * 70) in node.heard
    assert "6492" not in node.heard


def test_a_counterfactual_wallet_that_is_not_there_yet_has_proven_nothing() -> None:
    assert not asked(Wallets("0x" + ERC1271_MAGIC + "0" * 56, code="0x"), signed=counterfactual(b"\xab" * 70))


@pytest.mark.parametrize("inside", ["", "12", "zz", "ff" * 96, "00" * 96])
def test_what_wraps_no_signature_is_none(inside: str) -> None:
    assert not asked(Wallets("0x" + ERC1271_MAGIC + "0" * 56), signed="0x" + inside + "6492" * 16)


def test_without_an_answering_node_nothing_is_said_of_a_wallet() -> None:
    node = Wallets("0x")
    node.down = True
    with pytest.raises(ChainUnavailable):
        asked(node)


def test_nonsense_for_code_is_no_answer() -> None:
    with pytest.raises(ChainUnavailable):
        asked(Wallets("0x", code="nonsense"))
