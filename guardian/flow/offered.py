"""Which offers of a 402 an agent is shown, and in which order. Pure: what is healthy is handed in.

Header and body are each put in the same order by the same rule. Offers are left out or moved, never made
and never changed.
"""

from collections.abc import Callable, Mapping, Sequence

from guardian.policy.demands import OffersPolicy, is_among
from guardian.wire.demand import Offer

SPOTS = ("header", "body")


def arranged(offers: Sequence[Offer], policy: OffersPolicy, fault_of: Callable[[str], str]) -> list[Offer]:
    """The offers to show, the first to be preferred. fault_of: why a network is unhealthy, "" for healthy;
    asked only where there is a choice."""
    allowed = [offer for offer in offers if policy.only is None or is_among(offer.network, policy.only)]
    networks = {offer.network for offer in allowed}
    choice = len(networks) > 1 and policy.unhealthy != "off"
    sick: dict[str, bool] = {network: bool(fault_of(network)) for network in networks} if choice else {}
    shown: list[Offer] = []
    for spot in SPOTS:
        here = [offer for offer in allowed if offer.spot == spot]
        if policy.unhealthy == "drop" and not all(sick.get(offer.network) for offer in here):
            here = [offer for offer in here if not sick.get(offer.network)]
        shown += sorted(here, key=lambda offer: _rank(offer, policy, sick))
    return shown


def _rank(offer: Offer, policy: OffersPolicy, sick: Mapping[str, bool]) -> tuple[bool, int]:
    named = (place for place, one in enumerate(policy.prefer) if is_among(offer.network, (one,)))
    return bool(sick.get(offer.network)), next(named, len(policy.prefer))


def is_empty(shown: Sequence[Offer], had: Sequence[Offer]) -> bool:
    """Header or body demanded something, and has nothing left to show: its client could pay nothing."""
    return {offer.spot for offer in had} != {offer.spot for offer in shown}
