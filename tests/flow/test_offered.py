"""Whatever policy and health say, an agent is shown offers of its seller, unchanged, or none."""

import base64
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from guardian.flow.offered import arranged, is_empty
from guardian.policy.demands import OffersPolicy
from guardian.wire.demand import read_demand, with_accepts

NETWORKS = ("eip155:8453", "eip155:137", "eip155:84532", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "odd", "")
named = st.lists(st.sampled_from([*NETWORKS[:4], "eip155:*"]), unique=True, max_size=4)
offers = st.lists(
    st.fixed_dictionaries({"network": st.sampled_from(NETWORKS), "amount": st.integers(0, 9).map(str)}),
    max_size=6,
)


@st.composite
def policies(draw: st.DrawFn) -> OffersPolicy:
    only = draw(st.none() | named.filter(bool))
    prefer = [one for one in draw(named) if only is None or one in only]
    return OffersPolicy(
        prefer=tuple(prefer),
        only=None if only is None else tuple(only),
        unhealthy=draw(st.sampled_from(["last", "drop", "off"])),
    )


def demanded(header: list[Any], body: list[Any]) -> Any:
    in_header = base64.b64encode(json.dumps({"x402Version": 2, "accepts": header}).encode())
    return read_demand(
        [(b"payment-required", in_header)], json.dumps({"x402Version": 1, "accepts": body}).encode()
    )


@settings(max_examples=300, deadline=None)
@given(offers, offers, policies(), st.sets(st.sampled_from(NETWORKS)))
def test_offers_are_moved_or_left_out_and_never_made(
    header: list[Any], body: list[Any], policy: OffersPolicy, sick: set[str]
) -> None:
    demand = demanded(header, body)
    shown = arranged(demand.offers, policy, lambda network: "sick" if network in sick else "")
    lines, text = with_accepts(demand, shown)
    for spot, had, has in (
        ("header", header, json.loads(base64.b64decode(lines[0][1]))["accepts"]),
        ("body", body, json.loads(text)["accepts"]),
    ):
        left = list(had)
        for offer in has:
            left.remove(offer)  # raises where it was made up, or stands there twice
        here = [offer for offer in shown if offer.spot == spot]
        assert [offer.terms for offer in here] == has
        ill = [offer.network in sick for offer in here]
        if policy.unhealthy == "last" and len({offer.network for offer in shown}) > 1:
            assert ill == sorted(ill)
        if policy.unhealthy == "drop" and not all(ill):
            assert not any(ill) or len({offer.network for offer in demand.offers}) == 1
        if policy.only is None and had:
            assert has
    assert is_empty(shown, demand.offers) or all(
        any(offer.spot == spot for offer in shown) for spot in {offer.spot for offer in demand.offers}
    )


def test_health_is_not_asked_for_where_there_is_no_choice() -> None:
    demand = demanded([{"network": "eip155:137"}, {"network": "eip155:137"}], [])

    def asked(network: str) -> str:
        raise AssertionError(network)

    assert arranged(demand.offers, OffersPolicy(), asked) == list(demand.offers)
