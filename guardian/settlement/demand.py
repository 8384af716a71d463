"""What is wrong with one offer of a 402, before an agent signs for it. No I/O, no clock: facts come in.

A fault is a fact, not a decision: the policy says whether it is passed over, warned of or refused. Where
something is not known (a token without a table, a first price, a scheme nobody knows) nothing is said.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from guardian.settlement.preflight import domain_differences, short, units
from guardian.wire.demand import AMOUNT_KEYS, Offer
from guardian.wire.fields import found as shown
from guardian.wire.networks import V1_NAMES, Domain, network_of

SIGNED_BY_DOMAIN = ("", "eip3009")
"""Ways of transfer whose signature is made under the token's own domain; SDK clients take it for the
default. Permit2 has a domain of its own."""


class DemandCheck(StrEnum):
    """The checks, named as the policy names them."""

    TOKEN_DOMAIN = "token_domain"
    PRICE_JUMP = "price_jump"
    PAYEE_CHANGE = "payee_change"
    NETWORK_NAME = "network_name"
    UNKNOWN_NETWORK = "unknown_network"
    MINIMUM_AMOUNT = "minimum_amount"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class DemandFacts:
    """What an offer is measured against; None and empty: not known, or not limited.

    table, contract: the EIP-712 domain of its asset. minimum, price_before: atomic units. largest_jump: how
    many times the price before is none. payees_before: of the same host and token. network_known: by the
    policy or any table.
    """

    table: Domain | None = None
    contract: Domain | None = None
    minimum: int | None = None
    price_before: int | None = None
    largest_jump: Decimal = Decimal(2)
    payees_before: frozenset[str] = frozenset()
    network_known: bool = True


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. field: dotted path in the demand; found, expected: short texts; cure: one sentence."""

    check: DemandCheck
    field: str
    found: str
    expected: str
    cure: str


def faults(offer: Offer, facts: DemandFacts) -> list[Fault]:
    """Everything that is wrong with an offer, in the order of `DemandCheck`; empty for most."""
    return [fault for check in _CHECKS for fault in check(offer, facts)]


_Faults = Iterable[Fault]


def _token_domain(offer: Offer, facts: DemandFacts) -> _Faults:
    expected = facts.contract or facts.table
    if expected is None or not is_signed_by_domain(offer):
        return
    for part, sent, right in domain_differences(offer.domain_name, offer.domain_version, expected):
        yield Fault(
            DemandCheck.TOKEN_DOMAIN,
            _at(offer, f"extra.{part}"),
            shown(sent),
            repr(right),
            f'the seller has to say extra.{part} "{right}" for {short(offer.asset)} on '
            f"{offer.network_as_sent}: what is signed under another one cannot be settled",
        )


def is_signed_by_domain(offer: Offer) -> bool:
    """Whether what `extra` says of the domain goes into the payer's signature."""
    own = offer.domain_contract in ("", offer.asset)
    return own and offer.scheme == "exact" and offer.transfer_method in SIGNED_BY_DOMAIN


def _price_jump(offer: Offer, facts: DemandFacts) -> _Faults:
    before = facts.price_before
    if not before or offer.amount is None or offer.amount <= before:
        return
    limit = before * Fraction(facts.largest_jump)
    if offer.amount <= limit:
        return
    most = units(int(limit), offer.network, offer.asset)
    yield Fault(
        DemandCheck.PRICE_JUMP,
        _at(offer, _amount_key(offer)),
        units(offer.amount, offer.network, offer.asset),
        f"at most {most}; it was {units(before, offer.network, offer.asset)} before",
        "ask the seller why; where the new price is right, raise demands.largest_price_jump of the route",
    )


def _payee_change(offer: Offer, facts: DemandFacts) -> _Faults:
    known = facts.payees_before
    if not known or not offer.pay_to or offer.pay_to in known:
        return
    others = f", or one of {len(known) - 1} others" if len(known) > 1 else ""
    yield Fault(
        DemandCheck.PAYEE_CHANGE,
        _at(offer, "payTo"),
        shown(offer.pay_to),
        min(known) + others,
        "make sure with the seller that the account is its own; then let demands.payee_change of the route "
        "warn until it has been seen",
    )


def _network_name(offer: Offer, facts: DemandFacts) -> _Faults:
    """Some clients read `eip155:08453` as 8453, and would sign for a chain that no other check looked at."""
    sent = offer.network_as_sent
    if offer.x402_version == 1 and sent not in V1_NAMES:
        right = next((name for name, id in V1_NAMES.items() if id == offer.network), "")
        if ":" not in sent and not right:
            return  # a name that nobody knows may be right
    elif offer.x402_version == 2 and (":" not in sent or network_of(sent) is None):
        right = offer.network if network_of(sent) and ":" in offer.network else ""
    else:
        return
    kind = "v1 name of a network" if offer.x402_version == 1 else "CAIP-2 id of a network"
    yield Fault(
        DemandCheck.NETWORK_NAME,
        _at(offer, "network"),
        shown(sent),
        repr(str(right)) if right else f"the {kind}",
        f"the seller has to write the {kind} where x402Version is {offer.x402_version}",
    )


def _unknown_network(offer: Offer, facts: DemandFacts) -> _Faults:
    if facts.network_known:
        return
    yield Fault(
        DemandCheck.UNKNOWN_NETWORK,
        _at(offer, "network"),
        shown(offer.network_as_sent),
        "a network that the policy names or that is known here",
        "name it under networks, with its rpc, so that payments on it are watched",
    )


def _minimum_amount(offer: Offer, facts: DemandFacts) -> _Faults:
    """Only `exact` moves what is asked."""
    if facts.minimum is None or offer.amount is None or offer.scheme != "exact":
        return
    if offer.amount >= facts.minimum:
        return
    least = units(facts.minimum, offer.network, offer.asset)
    yield Fault(
        DemandCheck.MINIMUM_AMOUNT,
        _at(offer, _amount_key(offer)),
        units(offer.amount, offer.network, offer.asset),
        f"at least {least}",
        f"the seller has to ask for {least} or more, or minimum_amount of the route is too high",
    )


_CHECKS: tuple[Callable[[Offer, DemandFacts], _Faults], ...] = (
    _token_domain,
    _price_jump,
    _payee_change,
    _network_name,
    _unknown_network,
    _minimum_amount,
)


def _at(offer: Offer, field: str) -> str:
    place = "PAYMENT-REQUIRED" if offer.spot == "header" else "body"
    return f"{place}.accepts[{offer.index}].{field}"


def _amount_key(offer: Offer) -> str:
    first, second = AMOUNT_KEYS if offer.x402_version != 1 else AMOUNT_KEYS[::-1]
    return first if first in offer.terms else second
