"""What is wrong with an offer of a 402, and what is not."""

from decimal import Decimal
from typing import Any

import pytest

from guardian.settlement.demand import DemandCheck, DemandFacts, faults
from guardian.wire.demand import Offer, read_demand
from guardian.wire.networks import Domain
from tests.wire.test_demand import b64, v1_body, v1_offer
from tests.wire.wire_bodies import PAYEE, requirements

SEPOLIA = Domain("USDC", "2")
OTHER = "0x" + "9" * 40


def v2(**changes: Any) -> Offer:
    header = b64({"x402Version": 2, "accepts": [requirements(**changes)]})
    demand = read_demand([(b"payment-required", header)], b"")
    assert demand is not None
    return demand.offers[0]


def v1(**changes: Any) -> Offer:
    demand = read_demand([], v1_body(v1_offer(**changes)))
    assert demand is not None
    return demand.offers[0]


def found(offer: Offer, **facts: Any) -> list[DemandCheck]:
    return [fault.check for fault in faults(offer, DemandFacts(**facts))]


@pytest.mark.parametrize("offer", [v2, v1])
def test_a_sound_offer_has_no_fault(offer: Any) -> None:
    facts = {
        "table": SEPOLIA,
        "minimum": 1,
        "price_before": 10_000,
        "payees_before": frozenset([PAYEE.lower()]),
    }
    assert found(offer(), **facts) == []


@pytest.mark.parametrize("offer", [v2, v1])
def test_a_domain_that_is_not_the_tokens_is_a_fault_with_its_cure(offer: Any) -> None:
    wrong = offer(extra={"name": "USD Coin", "version": "3"})
    name, version = faults(wrong, DemandFacts(table=SEPOLIA))
    assert (name.check, name.found, name.expected) == (DemandCheck.TOKEN_DOMAIN, "'USD Coin'", "'USDC'")
    place = "PAYMENT-REQUIRED" if offer is v2 else "body"
    assert (name.field, version.field) == (
        f"{place}.accepts[0].extra.name",
        f"{place}.accepts[0].extra.version",
    )
    assert 'extra.name "USDC"' in name.cure


def test_the_contracts_word_goes_before_the_table() -> None:
    offer = v2(extra={"name": "Renamed", "version": "2"})
    assert found(offer, table=SEPOLIA) == ["token_domain"]
    assert found(offer, table=SEPOLIA, contract=Domain("Renamed", "2")) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": {}},
        {"extra": {"name": "Wallet", "version": "1", "verifyingContract": OTHER}},
        {"extra": {"name": "Any", "version": "1", "assetTransferMethod": "permit2"}},
        {"scheme": "upto", "extra": {"name": "Any", "version": "1"}},
    ],
)
def test_what_is_not_signed_under_the_tokens_domain_is_no_fault(changes: dict[str, Any]) -> None:
    assert found(v2(**changes), table=SEPOLIA) == []


@pytest.mark.parametrize(("amount", "checks"), [(20_000, []), (20_001, ["price_jump"]), (1, [])])
def test_only_more_than_the_limit_is_a_jump(amount: int, checks: list[str]) -> None:
    offer = v2(amount=str(amount))
    assert found(offer, price_before=10_000, largest_jump=Decimal(2)) == checks
    assert found(offer) == []


def test_amounts_beyond_every_float_are_compared_exactly() -> None:
    before = 2**255 - 19
    facts = {"price_before": before, "largest_jump": Decimal(1)}
    assert found(v2(amount=str(before)), **facts) == []
    assert found(v2(amount=str(before + 1)), **facts) == ["price_jump"]


@pytest.mark.parametrize(("offer", "key"), [(v2, "amount"), (v1, "maxAmountRequired")])
def test_the_amount_is_the_one_that_a_client_of_its_version_reads(offer: Any, key: str) -> None:
    lure = {"amount": "1", "maxAmountRequired": "1"} | {key: "90000"}
    (fault,) = faults(offer(**lure), DemandFacts(price_before=10_000))
    assert (fault.check, fault.field.rpartition(".")[2]) == (DemandCheck.PRICE_JUMP, key)


def test_a_payee_that_was_never_named_before_is_a_change() -> None:
    assert found(v2(), payees_before=frozenset([OTHER])) == ["payee_change"]
    assert found(v2(), payees_before=frozenset([OTHER, PAYEE.lower()])) == []


@pytest.mark.parametrize(
    ("offer", "right"),
    [
        (v1(network="eip155:84532"), "'base-sepolia'"),
        (v1(network="Base"), "'base'"),
        (v1(network="eip155:99999"), "the v1 name of a network"),
        (v2(network="base"), "'eip155:8453'"),
        (v2(network="somewhere"), "the CAIP-2 id of a network"),
        (v2(network="eip155:084532"), "the CAIP-2 id of a network"),
    ],
)
def test_a_network_is_written_as_its_version_writes_it(offer: Offer, right: str) -> None:
    (fault,) = faults(offer, DemandFacts())
    assert (fault.check, fault.expected) == (DemandCheck.NETWORK_NAME, right)


def test_a_v1_name_that_nobody_knows_may_be_right() -> None:
    assert found(v1(network="newchain")) == []
    assert found(v1(network="newchain"), network_known=False) == ["unknown_network"]


def test_below_the_minimum_is_told_for_exact_only() -> None:
    assert found(v2(), minimum=10_001) == ["minimum_amount"]
    assert found(v2(scheme="upto"), minimum=10_001) == []


@pytest.mark.parametrize(
    "changes", [{"amount": None}, {"payTo": 7}, {"network": None}, {"extra": 7}, {"asset": None}]
)
def test_nothing_that_is_missing_breaks_a_check(changes: dict[str, Any]) -> None:
    facts = {"table": SEPOLIA, "minimum": 1, "price_before": 1, "payees_before": frozenset([OTHER])}
    assert set(found(v2(**changes), **facts)) <= set(DemandCheck)
