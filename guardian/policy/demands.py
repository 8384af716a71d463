"""What is done about the 402 of a route's upstream before an agent signs: `demands:` and `offers:`. No I/O.

The checks themselves stand in settlement/demand.py, the order of offers in flow/offered.py.
"""

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from guardian.policy.checks import REFUSE, WARN, Check
from guardian.policy.section import Section
from guardian.policy.types import NetworkName, TimesValue, Written
from guardian.policy.units import Times


class DemandsPolicy(Section):
    """What is looked at in a 402 before an agent signs. Each check is `off`, `warn` or `refuse`; an offer
    that is refused is taken out, and where none is left the agent gets a 403 that says why."""

    token_domain: Check = Field(
        default=REFUSE,
        description="EIP-712 name and version in `extra` against the token table and the token's contract: "
        "what is signed under a wrong one can never settle.",
    )
    price_jump: Check = Field(
        default=WARN,
        description="The amount is more than `largest_price_jump` times what the same method and URL cost in "
        "the same token before.",
    )
    largest_price_jump: TimesValue = Field(
        default=Times.of(2), description="How much more than before is no jump: `1.5x`, `2x`."
    )
    payee_change: Check = Field(
        default=WARN,
        description="`payTo` is none of those that this host named before for the same token.",
    )
    network_name: Check = Field(
        default=WARN,
        description="The network is not written as its protocol version writes it: v1 by name (`base`), v2 "
        "as CAIP-2 (`eip155:8453`). SDK clients pass such an offer over.",
    )
    unknown_network: Check = Field(
        default=WARN,
        description="Neither the policy nor any table here knows the network: nobody could watch a payment.",
    )
    minimum_amount: Check = Field(
        default=WARN,
        description="The amount is below `minimum_amount`: the seller's facilitator may not settle it.",
    )
    unreadable: Check = Field(
        default=WARN,
        description="The demand cannot be read, so that nothing of it was looked at (keys that stand twice, "
        "no JSON, more than 256 offers).",
    )


class OffersPolicy(Section):
    """Which networks of a 402 an agent is offered, and which first: most clients take the first that they
    can pay on. Nothing is ever added; stands in `default` and in routes."""

    prefer: tuple[NetworkName, ...] = Field(
        default=(),
        max_length=64,
        description="These networks first, in this order; the others after them as the seller has them.",
    )
    only: Annotated[tuple[NetworkName, ...] | None, Written] = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Offers on other networks are taken out; where none is left the agent gets a 403. "
        "Default: all.",
    )
    unhealthy: Literal["last", "drop", "off"] = Field(
        default="last",
        description="Offers on a network that is unhealthy go behind the others (`last`), or are taken out "
        "while one is left on another network (`drop`); `off` does not look.",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for id in self.prefer:
            if self.only is not None and id not in self.only and not is_among(id, self.only):
                raise ValueError(f"prefer names {id}, and only leaves it out; add it there, or drop it here")
        return self


def is_among(network: str, named: Iterable[str]) -> bool:
    """Whether a list of networks, or of families like `eip155:*`, means this one."""
    family = network.partition(":")[0] + ":*"
    return any(one in (network, family) for one in named)
