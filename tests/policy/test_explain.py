"""Explaining names every value and its origin, and prints no secret."""

import re

from guardian.policy.explain import Line, explain, json_schema, warnings
from guardian.policy.load import parse_policy, validate
from guardian.policy.tree import read_tree
from guardian.policy.types import redact_url

TEXT = """\
version: 1
facilitators:
  - name: main
    url: http://h
networks:
  base:
    rpc: ["https://u:hunter2@rpc.example/v2/hunter2?k=hunter2", "http://n:8545"]
  eip155:137:
    confirmations: 2
settle:
  hold: 1500ms
"""


def lines() -> dict[str, Line]:
    tree = read_tree(TEXT, "p.yaml")
    return {line.path: line for line in explain(validate(tree), tree)}


def test_a_value_of_the_file_names_its_line() -> None:
    assert lines()["settle.hold"] == Line("settle.hold", "1.5s", "p.yaml:11")
    assert lines()["networks.eip155:137.confirmations"].origin == "p.yaml:9"


def test_a_value_the_file_leaves_out_names_its_source() -> None:
    found = lines()
    assert found["settle.hold_without_hash"] == Line("settle.hold_without_hash", "80s", "default")
    assert found["networks.base.settlement_timeout"].origin == "shipped for eip155:8453"
    assert found["networks.eip155:1.finality"] == Line(
        "networks.eip155:1.finality", "finalized", "shipped for eip155:1"
    )
    assert found["networks.eip155:137.settlement_timeout"].origin == "default"


def test_no_key_of_an_rpc_endpoint_is_shown() -> None:
    assert lines()["networks.base.rpc"].value == "https://rpc.example/…, http://n:8545"
    assert not any("hunter2" in line.value for line in lines().values())
    assert redact_url("http://[hunter2") == "…"


def test_a_network_that_nobody_watches_or_chose_is_warned_about() -> None:
    assert [re.split(r"[:,] ", warning)[1] for warning in warnings(parse_policy(TEXT))] == [
        "no settlement_timeout chosen",
        "no rpc",
    ]


def test_the_schema_writes_defaults_as_the_file_does() -> None:
    sections = json_schema()["$defs"]
    assert sections["SettlePolicy"]["properties"]["hold"]["default"] == "25s"
    assert sections["CircuitPolicy"]["properties"]["recovery_time"]["default"] == "30s"
    assert sections["NetworkPolicy"]["additionalProperties"] is False
