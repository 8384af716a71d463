"""Explaining names every value and its origin, and prints no secret."""

import re

import pytest

from guardian.policy.explain import Choice, Line, explain, explain_for, warnings
from guardian.policy.load import parse_policy, validate
from guardian.policy.tree import read_tree
from guardian.policy.urls import redact_url

TEXT = """\
version: 1
facilitators:
  - name: main
    url: http://h
networks:
  base:
    rpc: ["https://u:hunter2@rpc.example/v2/hunter2?k=hunter2", "http://n:8545"]
  eip155:10:
    confirmations: 2
settle:
  hold: 1500ms
"""


def lines() -> dict[str, Line]:
    tree = read_tree(TEXT, "p.yaml")
    return {line.path: line for line in explain(validate(tree), tree)}


def test_a_value_of_the_file_names_its_line() -> None:
    assert lines()["default.settle.hold"] == Line("default.settle.hold", "1.5s", "p.yaml:11")
    assert lines()["networks.eip155:10.confirmations"].origin == "p.yaml:9"


def test_a_value_the_file_leaves_out_names_its_source() -> None:
    found = lines()
    assert found["default.settle.hold_without_hash"].origin == "built in"
    assert found["networks.base.settlement_timeout"].origin == "shipped for eip155:8453"
    assert found["networks.eip155:1.finality"] == Line(
        "networks.eip155:1.finality", "finalized", "shipped for eip155:1"
    )
    assert found["networks.eip155:10.settlement_timeout"].origin == "built in"


LAYERED = """\
version: 1
default:
  settlement_timeout: 50s
facilitators:
  - name: main
    url: https://api.cdp.coinbase.com/x402
    profile: cdp
    auth: {bearer: {env: TOKEN}}
  - {name: other, url: http://other, settle: {hold: 9s}}
networks:
  eip155:10: {}
  base:
    tokens:
      "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913": {symbol: USD}
routes: [{name: weather, upstream: http://w, retry: {attempts: 1}}]
classify:
  rules:
    - {name: elsewhere, when: {network: "eip155:1", operation: verify, reason: x}, class: permanent}
    - {name: here, when: {facilitator: main, operation: verify, reason: x}, class: permanent}
  default: {settle: settlement, verify: unknown}
"""


def combined(network: str = "", facilitator: str = "", route: str = "") -> dict[str, Line]:
    tree = read_tree(LAYERED, "p.yaml")
    return {
        line.path: line for line in explain_for(validate(tree), tree, Choice(network, facilitator, route))
    }


def test_a_combination_tells_which_layer_says_each_value() -> None:
    found = combined("eip155:8453", "other", "weather")
    assert found["settle.hold"] == Line("settle.hold", "9s", "p.yaml:9")
    assert found["retry.attempts"] == Line("retry.attempts", "1", "p.yaml:15")
    assert found["settlement_timeout"].origin == "shipped for eip155:8453"
    assert found["preflight.token_domain"] == Line("preflight.token_domain", "refuse", "built in")
    assert combined("eip155:10")["settlement_timeout"] == Line("settlement_timeout", "50s", "p.yaml:3")
    assert found["rpc"].value == "none: payments are not watched"
    token = found["tokens.0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"]
    assert (token.value.startswith("USD, 'USD Coin'"), token.origin) == (True, "p.yaml:14")


def test_a_combination_tells_the_rules_and_the_profile_that_may_apply() -> None:
    found = combined("eip155:8453", "main")
    assert "classify.rules.here" in found
    assert "classify.rules.elsewhere" not in found
    assert found["profile.limits.longest_description"] == Line(
        "profile.limits.longest_description", "500", "profile cdp"
    )
    assert found["minimum_amount"] == Line("minimum_amount", "$0.001", "profile cdp")
    assert found["facilitators[0].auth"].value == "{bearer: {env: TOKEN}}"
    assert "classify.rules.here" not in combined("eip155:8453", "other")


def test_no_key_of_an_rpc_endpoint_is_shown() -> None:
    assert lines()["networks.base.rpc"].value == "https://rpc.example/…, http://n:8545"
    assert not any("hunter2" in line.value for line in lines().values())
    assert redact_url("http://[hunter2") == "…"


def test_a_network_that_nobody_watches_or_chose_is_warned_about() -> None:
    assert [re.split(r"[:,] ", warning)[1] for warning in warnings(parse_policy(TEXT))] == [
        "no settlement_timeout chosen",
        "no rpc",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("default: {settlement_timeout: 50s}\n", "default.settlement_timeout: does not reach base, "),
        ("networks: {eip155:8543: {}}\n", "did you mean eip155:8453?"),
        ("routes: [{name: a, upstream: http://a}]\n", "add `profile: x402-org`"),
        ("default: {}\n", "facilitators[1]: its URL ends in /settle, "),
    ],
)
def test_what_may_not_do_what_it_seems_to_is_warned_about(text: str, said: str) -> None:
    head = "version: 1\nfacilitators:\n- {name: main, url: https://x402.org/facilitator}\n"
    head += "- {name: deep, url: http://h/x/settle/}\n"
    assert any(said in warning for warning in warnings(parse_policy(head + text)))


def test_on_a_route_its_own_minimum_is_shown() -> None:
    text = (
        "version: 1\nfacilitators: [{name: main, url: http://h, minimum_amount: $0.002}]\n"
        "routes: [{name: weather, upstream: http://u, minimum_amount: $0.01}]\n"
    )
    tree = read_tree(text, "p.yaml")
    told = explain_for(validate(tree), tree, Choice("eip155:8453", "main", "weather"))
    least = next(line for line in told if line.path == "minimum_amount")
    assert (least.value, least.origin) == ("$0.01", "p.yaml:3")
