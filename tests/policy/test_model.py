"""What is in force where the file says nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from guardian.policy.load import load_policy, parse_policy
from guardian.policy.model import (
    SHIPPED,
    FacilitatorPolicy,
    NetworkPolicy,
    Policy,
    RoutePolicy,
    SettlePolicy,
)

HEAD = "version: 1\nfacilitators: [{name: main, url: http://h}]\n"
DEFAULT_FILE = Path(__file__).parents[2] / "policies" / "default.yaml"


@pytest.mark.parametrize(
    ("network", "timeout_s", "block_s", "multiplier", "delay_s", "finality"),
    [
        ("eip155:8453", 60, 2, 3, 1, 12),
        ("eip155:84532", 90, 2, 5, 1.5, 12),
        ("eip155:1", 180, 12, 3, 0.5, "finalized"),
        ("eip155:137", 60, 2, 3, 1, "finalized"),
        ("eip155:42161", 60, 0.25, 24, 1, 96),
        ("eip155:43114", 60, 2, 3, 1, 12),
        ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", 60, 0.4, 10, 1, 12),
        ("eip155:10", 60, 2, 3, 1, 12),
    ],
)
def test_a_network_has_its_starting_values(
    network: str, timeout_s: float, block_s: float, multiplier: float, delay_s: float, finality: object
) -> None:
    found = parse_policy(HEAD).network(network)
    assert found.settlement_timeout_s == timeout_s
    assert found.block_time_s == block_s
    assert found.congestion_multiplier == multiplier
    assert found.post_sign_delay_s == delay_s
    assert found.finality == finality


def test_the_operators_copy_and_the_shipped_values_agree() -> None:
    in_file = load_policy(DEFAULT_FILE)
    assert set(SHIPPED) <= set(in_file.networks)
    for id in (*SHIPPED, "eip155:10"):
        assert replace(in_file.network(id), rpc=()) == parse_policy(HEAD).network(id)


def test_what_the_file_leaves_out_is_filled_from_the_shipped_values() -> None:
    network = parse_policy(HEAD + "networks: {eip155:1: {confirmations: 3}}").network("eip155:1")
    assert (network.confirmations, network.settlement_timeout_s, network.finality) == (3, 180, "finalized")


def test_a_network_goes_by_its_v1_name_too() -> None:
    assert (
        parse_policy(HEAD + "networks: {base: {confirmations: 3}}").network("eip155:8453").confirmations == 3
    )


@pytest.mark.parametrize(
    ("networks", "id", "is_default"),
    [
        ("{}", "eip155:8453", False),
        ("{}", "eip155:10", True),
        ("{eip155:10: {confirmations: 2}}", "eip155:10", True),
        ("{eip155:10: {settlement_timeout: 60s}}", "eip155:10", False),
    ],
)
def test_a_timeout_that_nobody_chose_is_marked(networks: str, id: str, is_default: bool) -> None:
    assert parse_policy(HEAD + f"networks: {networks}").network(id).is_default is is_default


def test_the_fixed_keys_have_their_defaults() -> None:
    policy = parse_policy(HEAD)
    assert (policy.settle.hold_s, policy.settle.hold_without_hash_s) == (25, 80)
    assert policy.settle.reuse_orphans == "same_resource"
    assert policy.circuit.model_dump() == {
        "failure_threshold": 3,
        "recovery_time_s": 30,
        "half_open_trials": 1,
    }
    assert policy.retry.attempts == 3


def test_a_policy_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse_policy(HEAD).settle.hold_s = 1  # type: ignore[misc]


def test_code_builds_policies_by_attribute_name() -> None:
    policy = Policy(
        version=1,
        routes=(RoutePolicy(name="a", upstream="http://h"),),
        settle=SettlePolicy(hold_s=0.5, hold_without_hash_s=1),
        networks={"eip155:137": NetworkPolicy(settlement_timeout_s=3)},
    )
    assert policy.settle.hold_s == 0.5
    assert policy.network("eip155:137").settlement_timeout_s == 3


def test_the_confirmation_time_allows_for_congestion() -> None:
    assert parse_policy(HEAD).network("eip155:84532").confirmation_time_s == 10


def test_a_policy_built_in_code_has_the_shipped_profiles() -> None:
    policy = Policy(version=1, facilitators=(FacilitatorPolicy(name="a", url="http://a", profile="cdp"),))
    assert policy.profile_of("a").name == "cdp"
    assert policy.profile_of("b").name == ""
