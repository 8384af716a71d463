"""`spending:` as a file: what loads, what is refused and where, what explain and diff say; and rounding."""

from decimal import Decimal

import pytest

from guardian.errors import PolicyError
from guardian.policy.budget import Demand, Denial, Spend, floor_of, judge
from guardian.policy.diff import Side, diff
from guardian.policy.explain import Choice, explain, explain_for
from guardian.policy.load import parse_policy
from guardian.policy.places import Places
from guardian.policy.spending import SpendingPolicy
from guardian.policy.tree import read_tree
from guardian.policy.units import Amount

HEAD = """\
version: 1
routes:
  - {name: weather, upstream: "http://127.0.0.1:18500"}
callers:
  keys:
    - {name: research, key: {env: KEY}}
spending:
  rules:
"""
MIXED = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
USDC = MIXED.lower()


def spending(*lines: str) -> SpendingPolicy:
    return parse_policy(HEAD + "".join(f"    {line}\n" for line in lines)).spending


def test_a_rule_loads_with_one_value_or_a_list() -> None:
    (rule,) = spending(
        "- name: a",
        f'  for: {{caller: research, route: [weather], network: base, asset: "{MIXED}"}}',
        "  only: {host: [API.example.com]}",
        "  per: caller",
        "  per_hour: 1000 atomic",
        "  per_day: $5",
    ).rules
    assert rule.for_.asset == (USDC,)
    assert (rule.for_.network, rule.only.host) == (("eip155:8453",), ("api.example.com",))
    assert (rule.per_hour, rule.per_day) == (Amount(atomic=1000), Amount(dollars=Decimal(5)))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["- {name: a}"], "9:7: spending.rules[0]: it refuses nothing"),
        (["- {name: a, only: {}}"], "it refuses nothing"),
        (["- {name: a, per_dya: $1}"], "9:17: spending.rules[0].per_dya: unknown key; did you mean per_day?"),
        (["- {name: a, per_day: 1}"], "9:26: spending.rules[0].per_day: '1' has no unit"),
        (["- {name: a, per_day: 5 atomic}"], "per_day is in atomic units"),
        (["- {name: a, for: {route: wether}, per_day: $1}"], "did you mean weather?"),
        (["- {name: a, never: {caller: reserch}}"], "did you mean research?"),
        (["- {name: a, only: {payee: 0x12}}"], "is not an address"),
        (["- {name: a, only: {payee: '0x12'}}"], "write 0x and 40 hex digits"),
        (["- {name: a, only: {host: 'http://x/'}}"], "is not a host"),
        (["- {name: a, only: {network: nowhere}}"], "is not a network"),
        (["- {name: a, per_day: $1}", "- {name: a, per_day: $2}"], "10:14: spending.rules[1].name"),
        (["- {name: a, payments_per_day: 0}"], "is too small"),
        (["- {name: a, per: agent, per_day: $1}"], "spending.rules[0].per"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_stands(lines: list[str], said: str) -> None:
    with pytest.raises(PolicyError) as refused:
        spending(*lines)
    assert said in str(refused.value)


def test_a_budget_for_each_caller_needs_callers_with_names() -> None:
    text = HEAD.replace("    - {name: research, key: {env: KEY}}\n", "").replace("callers:\n  keys:\n", "")
    with pytest.raises(PolicyError, match="no caller has a name"):
        parse_policy(text + "    - {name: a, per: caller, per_day: $1}\n")


def test_spending_without_routes_is_refused() -> None:
    text = "version: 1\nfacilitators: [{name: a, url: 'http://a'}]\nspending: {stop: true}\n"
    with pytest.raises(PolicyError, match="only payments on routes count"):
        parse_policy(text)


@pytest.mark.parametrize(
    ("dollars", "decimals", "atomic"),
    [
        ("0.10", 6, 100_000),
        ("0.0000019", 6, 1),
        ("0.0000001", 6, 0),
        ("1", None, None),
        ("999999999999.123456789012345678", 18, 999999999999123456789012345678),
    ],
)
def test_a_limit_is_rounded_down(dollars: str, decimals: int | None, atomic: int | None) -> None:
    assert floor_of(Amount(dollars=Decimal(dollars)), decimals) == atomic


def test_what_a_payment_does_not_show_is_taken_for_the_worst() -> None:
    policy = spending(f'- {{name: a, for: {{asset: "{USDC}"}}, per_day: 5 atomic}}')
    hidden = Spend("weather", "shop", network="eip155:8453", payer="0xp", payee=("0xs",), amount=1)
    assert isinstance(judge(policy, hidden), Denial)
    policy = spending("- {name: a, per_day: $1}")
    unreadable = Spend("weather", "shop", network="eip155:8453", asset=USDC, decimals=6)
    verdict = judge(policy, unreadable)
    assert isinstance(verdict, Denial)
    assert "cannot be read" in verdict.why


def test_all_rules_that_are_about_it_count_it() -> None:
    policy = spending(
        "- {name: a, per_day: $1, per_hour: $0.5}",
        "- {name: b, payments_per_day: 3}",
        "- {name: c, for: {network: 'solana:*'}, per_day: $1}",
    )
    spend = Spend("weather", "shop", "", "eip155:8453", USDC, "0xp", ("0xs",), 7, 6)
    demand = judge(policy, spend)
    assert isinstance(demand, Demand)
    assert [(one.rule, one.key, one.amount, one.most) for one in demand.limits] == [
        ("a", "per_hour", 7, 500_000),
        ("a", "per_day", 7, 1_000_000),
        ("b", "payments_per_day", 1, 3),
    ]


TEXT = HEAD + "    - {name: a, for: {route: weather, network: base}, per_day: $5}\n"


def test_explain_and_diff_speak_of_it() -> None:
    policy, tree = parse_policy(TEXT), read_tree(TEXT, "p.yaml")
    lines = {line.path: (line.value, line.origin) for line in explain(policy, tree)}
    assert lines["spending.stop"] == ("false", "built in")
    value, origin = lines["spending.rules.a"]
    assert value == "{name: a, for: {route: weather, network: eip155:8453}, per_day: $5}"
    assert origin == "p.yaml:9"
    for choice, shown in ((Choice("eip155:8453"), True), (Choice("eip155:1"), False)):
        paths = [line.path for line in explain_for(policy, tree, choice)]
        assert ("spending.rules.a" in paths) is shown
    newer = TEXT.replace("$5", "$6").replace("spending:\n", "spending:\n  stop: true\n")
    sides = [Side(parse_policy(text), Places(read_tree(text, "p.yaml"))) for text in (TEXT, newer)]
    assert [str(change) for change in diff(*sides)] == [
        "spending.stop: false → true (line 8)",
        "spending rule a: per_day: $5 → $6 (line 9 → 10)",
    ]
