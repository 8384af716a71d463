"""A diff says what changes for whom, and nothing where both mean the same."""

import pytest

from guardian.policy.diff import Change, Side, diff
from guardian.policy.load import validate
from guardian.policy.places import Places
from guardian.policy.tree import read_tree

TEXT = """\
version: 1
default:
  minimum_amount: $0.001
settle: {hold: 20s}
facilitators:
  - name: main
    url: http://main
  - name: slow
    url: http://slow
    settlement_timeout: 2m
networks:
  base:
    rpc: [https://rpc/hunter2]
    settlement_timeout: 60s
  eip155:10:
    settlement_timeout: 60s
routes:
  - {name: weather, upstream: http://w, settle: {hold: 10s}}
  - {name: news, upstream: http://n}
classify:
  rules:
    - {name: a, when: {operation: verify, reason: one}, class: permanent}
    - {name: b, when: {operation: verify, reason: two}, class: permanent}
  default: {settle: settlement, verify: unknown}
"""


def side(text: str) -> Side:
    tree = read_tree(text, "p.yaml")
    return Side(validate(tree), Places(tree))


def changes(*replacements: tuple[str, str]) -> list[Change]:
    text = TEXT
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new, 1)
    return diff(side(TEXT), side(text))


def said(*replacements: tuple[str, str]) -> list[str]:
    return [str(change) for change in changes(*replacements)]


def test_the_same_policy_has_no_changes() -> None:
    assert changes() == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("settle: {hold: 20s}\n", ""),
        ("version: 1\n", "# a comment\nversion: 1\n"),
        ("  base:\n", "  eip155:8453:\n"),
        ("    settlement_timeout: 60s\n", "    settlement_timeout: 1m\n"),
        ("    settlement_timeout: 60s\n", ""),  # shipped for Base
        ("    url: http://main\n", "    url: http://main\n    order: 0\n    weight: 1\n"),
    ],
)
def test_another_writing_of_the_same_is_no_change(old: str, new: str) -> None:
    replacements = [(old, new)]
    if "hold" in old:
        replacements.append(
            ("  minimum_amount: $0.001\n", "  minimum_amount: $0.001\n  settle: {hold: 20s}\n")
        )
    assert [change for change in changes(*replacements) if "order" not in change.what] == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "    settlement_timeout: 60s\n  eip",
            "    settlement_timeout: 90s\n  eip",
            "settlement_timeout: 60s → 90s for eip155:8453 through every other facilitator (line 14)",
        ),
        ("timeout: 2m", "timeout: 3m", "settlement_timeout: 120s → 180s through slow (line 10)"),
        (
            "settlement_timeout: 2m",
            "retry: {attempts: 1}",
            "retry.attempts: 3 → 1 through slow (line 10)",
        ),
        ("hold: 20s", "hold: 21s", "settle.hold: 20s → 21s on every other route (line 4)"),
        ("hold: 10s", "hold: 11s", "settle.hold: 10s → 11s on route weather (line 18)"),
        ("$0.001", "$0.002", "minimum_amount: $0.001 → $0.002 (line 3)"),
        (
            "hunter2",
            "hunter3",
            "rpc: https://rpc/… → https://rpc/… (another path or key) for eip155:8453 (line 13)",
        ),
        (
            "  eip155:10:\n",
            "  eip155:10:\n    confirmations: 2\n",
            "confirmations: 1 → 2 for eip155:10 (line 16)",
        ),
        ("http://main", "http://other", "facilitator main: url: http://main → http://other (line 7)"),
        (
            "  - name: slow\n    url: http://slow\n    settlement_timeout: 2m\n",
            "",
            "facilitator slow is gone (line 8 before)",
        ),
        (
            "  - name: slow\n",
            "  - {name: new, url: http://new}\n  - name: slow\n",
            "facilitator new is new (line 8)",
        ),
        ("    url: http://main\n", "    url: http://main\n    order: 9\n", "main, slow → slow, main"),
        ("class: permanent}", "class: transient}", "classify rule a: class: permanent → transient (line 22)"),
        ("verify: unknown", "verify: permanent", "classify.default.verify: unknown → permanent (line 24)"),
        ("settle: {hold: 20s}\n", "settle: {hold: 20s}\nretention: 7d\n", "retention: 90d → 7d (line 5)"),
        (
            "    rpc: [https://rpc/hunter2]\n",
            "    rpc: [https://rpc/hunter2]\n    tokens: {'0x" + "1" * 40 + "': {symbol: NEW}}\n",
            "nothing → NEW, domain unknown, decimals unknown for eip155:8453 (line 14)",
        ),
    ],
)
def test_a_change_is_told_with_whom_it_concerns_and_its_lines(old: str, new: str, expected: str) -> None:
    found = said((old, new))
    assert any(expected in line for line in found), found
    assert not any("hunter" in line for line in found)


def test_rules_in_another_order_are_told() -> None:
    assert said(("name: a,", "name: x,"), ("name: b,", "name: a,"), ("name: x,", "name: b,"))[-1] == (
        "classify rules are asked in another order: a, b → b, a"
    )


@pytest.mark.parametrize(("before", "place"), [("name: a,", "asked first"), ("name: b,", "asked after a")])
def test_a_new_rule_is_told_with_its_place(before: str, place: str) -> None:
    rule = "name: new, when: {operation: verify, reason: new}, class: permanent}\n    - {"
    assert f"classify rule new is new, {place}" in said((before, rule + before))[0]


def test_a_default_is_told_for_the_networks_it_reaches() -> None:
    [change] = changes(("default:\n", "default:\n  settlement_timeout: 50s\n"))
    assert change.networks == ("every other network",)
    assert change.facilitators == ("every other facilitator",)


def test_what_an_act_rule_does_is_told_also_where_a_layer_has_a_key_of_that_name() -> None:
    rule = "act: {rules: [{name: a, when: {class: permanent}, %s}], default: {}}\n"
    for was, now, what in (
        ("retry: false", "retry: true", "act rule a: retry: false → true"),
        ("circuit: neutral", "circuit: faulty", "act rule a: circuit: neutral → faulty"),
    ):
        (change,) = diff(side(TEXT + rule % was), side(TEXT + rule % now))
        assert str(change).startswith(what)


def test_a_minimum_that_gives_way_to_that_of_the_profile_is_told() -> None:
    """A facilitator's own key comes before its profile's limit ($0.001 at cdp)."""
    head = "version: 1\ndefault: {minimum_amount: $0.0001}\n"
    head += "facilitators:\n  - {name: main, url: http://m, profile: cdp"
    (change,) = diff(side(head + ", minimum_amount: $0.0001}\n"), side(head + "}\n"))
    assert (change.what, change.before, change.after) == ("minimum_amount", "$0.0001", "$0.001")
