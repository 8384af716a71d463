"""The most specific layer that names a key wins, key by key."""

from decimal import Decimal

import pytest

from guardian.policy.load import parse_policy
from guardian.policy.model import (
    FacilitatorPolicy,
    Layer,
    NetworkPolicy,
    Policy,
    RoutePolicy,
    SettlePolicy,
)
from guardian.policy.units import Amount

TEXT = """\
version: 1
default:
  settlement_timeout: 10s
  minimum_amount: $0.01
  preflight: {validity: warn, description: {do: refuse, mode: shadow}}
settle: {hold: 1s, hold_without_hash: 40s}
facilitators:
  - {name: one, url: http://one, retry: {attempts: 7}, settle: {hold: 3s}}
  - {name: two, url: http://two}
networks:
  base: {settle: {hold: 2s, reuse_orphans: "off"}, minimum_amount: 5 atomic}
  eip155:10: {settlement_timeout: 20s}
routes:
  - {name: weather, upstream: http://w, settle: {hold: 4s}, retry: {attempts: 9}}
"""
POLICY = parse_policy(TEXT)
BASE, OTHER = "eip155:8453", "eip155:10"


@pytest.mark.parametrize(
    ("network", "facilitator", "route", "hold_s"),
    [
        ("eip155:5", "", "", 1),
        (BASE, "", "", 2),
        (BASE, "two", "", 2),
        (BASE, "one", "", 3),
        ("eip155:5", "one", "", 3),
        (BASE, "one", "weather", 4),
        (BASE, "", "weather", 4),
        ("never:heard", "of", "it", 1),
    ],
)
def test_the_most_specific_layer_wins(network: str, facilitator: str, route: str, hold_s: float) -> None:
    assert POLICY.in_force(network, facilitator, route).settle.hold_s == hold_s


def test_a_section_is_laid_over_key_by_key() -> None:
    found = POLICY.in_force(BASE, "one", "weather")
    assert found.settle == SettlePolicy(hold_s=4, hold_without_hash_s=40, reuse_orphans="off")
    assert found.retry.attempts == 9
    assert (found.preflight.validity.do, found.preflight.token_domain.do) == ("warn", "refuse")
    assert found.preflight.description.mode == "shadow"


def test_shipped_values_of_a_network_come_before_the_default() -> None:
    assert POLICY.network("eip155:1").settlement_timeout_s == 180
    assert POLICY.network("eip155:5").settlement_timeout_s == 10
    assert POLICY.network(OTHER).settlement_timeout_s == 20


def test_an_amount_is_dollars_or_atomic_units() -> None:
    assert POLICY.network(BASE).minimum_amount == Amount(atomic=5)
    assert POLICY.network(OTHER).minimum_amount == Amount(dollars=Decimal("0.01"))


def test_the_only_facilitator_is_always_the_one_asked() -> None:
    policy = Policy(
        version=1, facilitators=(FacilitatorPolicy(name="a", url="http://a", settle=SettlePolicy(hold_s=9)),)
    )
    assert policy.in_force(BASE).settle.hold_s == 9


def test_the_top_level_is_short_for_the_default_also_in_code() -> None:
    routes = (RoutePolicy(name="a", upstream="http://a"),)
    short = Policy(version=1, routes=routes, settle=SettlePolicy(hold_s=9))
    long = Policy(version=1, routes=routes, default=Layer(settle=SettlePolicy(hold_s=9)))
    assert short.in_force(BASE) == long.in_force(BASE)


def test_what_is_in_force_is_looked_up_once() -> None:
    assert POLICY.in_force(BASE, "one") is POLICY.in_force(BASE, "one")


def test_names_that_callers_make_up_take_no_memory() -> None:
    assert POLICY.in_force("made:up1", "f1", "r1") is POLICY.in_force("made:up2", "f2", "r2")


def test_a_changed_copy_has_its_own_values_in_force() -> None:
    assert POLICY.network(OTHER).settlement_timeout_s == 20
    changed = POLICY.model_copy(update={"networks": {OTHER: NetworkPolicy(settlement_timeout_s=21)}})
    assert changed.network(OTHER).settlement_timeout_s == 21
    assert POLICY.network(OTHER).settlement_timeout_s == 20


def test_tokens_are_laid_over_the_shipped_table() -> None:
    usdc = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
    text = f"networks: {{base: {{tokens: {{'{usdc}': {{name: Other}}, '0x{'1' * 40}': {{symbol: NEW}}}}}}}}\n"
    tokens = (
        parse_policy("version: 1\nfacilitators: [{name: a, url: http://a}]\n" + text).network(BASE).tokens
    )
    assert (tokens[usdc.lower()].name, tokens[usdc.lower()].decimals) == ("Other", 6)
    assert (tokens["0x" + "1" * 40].symbol, tokens["0x" + "1" * 40].decimals) == ("NEW", None)
    assert POLICY.network(BASE).tokens[usdc.lower()].name == "USD Coin"


def test_endpoints_are_never_shown() -> None:
    policy = parse_policy(
        "version: 1\nfacilitators: [{name: a, url: http://a}]\nnetworks: {base: {rpc: [http://h/hunter2]}}"
    )
    assert "hunter2" not in repr(policy.network(BASE))


@pytest.mark.parametrize(
    ("layers", "sound"),
    [
        ("settle: {hold: 30s}\nnetworks: {base: {settle: {hold_without_hash: 29s}}}", False),
        ("settle: {hold: 30s}\nnetworks: {base: {settle: {hold: 28s, hold_without_hash: 29s}}}", True),
        ("routes: [{name: a, upstream: http://a, settle: {hold: 81s}}]", False),
        (
            "settle: {hold_without_hash: 90s}\nroutes: [{name: a, upstream: http://a, settle: {hold: 81s}}]",
            True,
        ),
        ("networks: {base: {settle: {hold_without_hash: 26s}}, ethereum: {settle: {hold: 80s}}}", True),
        (
            "networks: {base: {settle: {hold_without_hash: 26s}}}\n"
            "routes: [{name: a, upstream: http://a, settle: {hold: 30s}}]",
            False,
        ),
        ("preflight: {shortest_validity: 2d}", False),
        ("preflight: {shortest_validity: 2d, longest_validity: 3d}", True),
    ],
)
def test_no_combination_of_layers_may_contradict_itself(layers: str, sound: bool) -> None:
    text = f"version: 1\nfacilitators: [{{name: main, url: http://h}}]\n{layers}\n"
    if sound:
        parse_policy(text)
    else:
        with pytest.raises(Exception, match="is shorter than"):
            parse_policy(text)
