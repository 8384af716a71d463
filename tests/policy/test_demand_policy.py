"""`demands:` and `offers:` in a policy: what they take, where they may stand, what is said of them."""

from decimal import Decimal

import pytest

from guardian.errors import PolicyError
from guardian.policy.demands import is_among
from guardian.policy.diff import Side, diff
from guardian.policy.explain import Choice, explain_for
from guardian.policy.load import parse_policy, validate
from guardian.policy.places import Places
from guardian.policy.rules import Mode
from guardian.policy.tree import read_tree
from guardian.policy.units import Times, parse_times, write_times

ROUTE = "version: 1\nroutes:\n  - name: shop\n    upstream: http://shop\n"
TEXT = (
    "version: 1\n"
    "demands: {price_jump: {do: refuse, mode: shadow}}\n"
    "offers: {prefer: [base]}\n"
    "networks: {base: {demands: {payee_change: refuse}}}\n"
    "routes:\n"
    "  - name: shop\n"
    "    upstream: http://shop\n"
    "    demands: {largest_price_jump: 1.5x}\n"
    "    offers: {only: [base, polygon], unhealthy: drop}\n"
    "  - {name: news, upstream: http://news}\n"
)


def refusal(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "p.yaml")
    return str(caught.value)


def test_keys_come_from_the_nearest_layer_that_says_them() -> None:
    policy = parse_policy(TEXT)
    shop = policy.in_force("eip155:8453", route="shop")
    assert (shop.demands.price_jump.do, shop.demands.price_jump.mode) == ("refuse", Mode.SHADOW)
    assert (shop.demands.payee_change.do, shop.demands.largest_price_jump) == (
        "refuse",
        Times(Decimal("1.5")),
    )
    assert (shop.offers.prefer, shop.offers.unhealthy) == (("eip155:8453",), "drop")
    news = policy.in_force("eip155:137", route="news")
    assert (news.demands.payee_change.do, news.offers.only, news.offers.unhealthy) == ("warn", None, "last")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("demands: {price_jump: maybe}", "write off, warn or refuse"),
        ("demands: {largest_price_jump: 2}", "write it like 2x"),
        ("demands: {largest_price_jump: 0.5x}", "less than 1x"),
        ("demands: {price_jumps: warn}", "did you mean price_jump?"),
        ("offers: {prefer: [bse]}", "is not a network"),
        ("offers: {only: []}", "only: a list names nothing; write 1 item at least, or leave the key out"),
        ("offers: {only: }", "nothing stands here"),
        ("offers: {prefer: [polygon], only: [base]}", "prefer names eip155:137, and only leaves it out"),
        ("offers: {unhealthy: first}", "none of last, drop, off"),
        ("networks: {base: {offers: {prefer: [base]}}}", "write it under a route"),
        ("facilitators: [{name: a, url: 'http://a', offers: {unhealthy: off}}]", "write it under a route"),
        ("facilitators: [{name: a, url: 'http://a', demands: {price_jump: off}}]", "write it under a route"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line_and_cure(lines: str, said: str) -> None:
    message = refusal(ROUTE + lines + "\n")
    assert message.startswith("p.yaml:5:")
    assert said in message


def test_a_family_of_networks_may_be_named() -> None:
    policy = parse_policy(ROUTE + "offers: {only: ['eip155:*'], prefer: [base]}\n")
    only = policy.in_force("", route="shop").offers.only
    assert only is not None
    assert is_among("eip155:1", only)
    assert not is_among("solana:1", only)


@pytest.mark.parametrize("written", ["1x", "2x", "1.5x", "1000.125x"])
def test_a_factor_reads_back_as_it_is_written(written: str) -> None:
    assert write_times(parse_times(written)) == written


def test_explain_tells_what_holds_on_a_route_and_where_it_stands() -> None:
    tree = read_tree(TEXT, "p.yaml")
    choice = Choice("eip155:8453", route="shop")
    lines = {line.path: (line.value, line.origin) for line in explain_for(validate(tree), tree, choice)}
    assert lines["demands.price_jump"] == ("refuse (shadow)", "p.yaml:2")
    assert lines["demands.payee_change"] == ("refuse", "p.yaml:4")
    assert lines["demands.largest_price_jump"] == ("1.5x", "p.yaml:8")
    assert lines["offers.only"] == ("[eip155:8453, eip155:137]", "p.yaml:9")
    assert lines["demands.token_domain"] == ("refuse", "built in")


def test_diff_tells_for_whom_a_check_changes() -> None:
    def side(text: str) -> Side:
        tree = read_tree(text, "p.yaml")
        return Side(validate(tree), Places(tree))

    changed = TEXT.replace("1.5x", "3x").replace("prefer: [base]", "prefer: [polygon]")
    told = [str(change) for change in diff(side(TEXT), side(changed))]
    assert "demands.largest_price_jump: 1.5x → 3x on route shop (line 8)" in told
    assert any(one.startswith("offers.prefer: eip155:8453 → eip155:137") for one in told)
