"""What is in force once all layers of a policy are laid over each other, and which layer said so.

    route > facilitator > network > shipped values of the network > `default` > built in

The most specific layer that names a key wins, key by key, also inside `settle`, `circuit`, `retry`,
`preflight`, `demands` and `offers`. A name that the policy does not know adds no layer. No I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal

from guardian.policy.demands import DemandsPolicy, OffersPolicy
from guardian.policy.keys import SECTIONS, CircuitPolicy, PreflightPolicy, RetryPolicy, SettlePolicy
from guardian.policy.network import SHIPPED, SHIPPED_TOKENS, NetworkPolicy, TokenPolicy
from guardian.policy.section import Section
from guardian.policy.tree import Path
from guardian.policy.units import Amount, Pace

if TYPE_CHECKING:
    from guardian.policy.model import Policy

SHIPPED_AT: Final = "shipped"
"""First step of the path of a layer that no file holds."""


@dataclass(frozen=True, slots=True)
class InForce:
    """Everything that holds for one combination of network, facilitator and route."""

    settlement_timeout_s: float
    post_sign_delay_s: float
    post_sign_delay_when: Literal["adaptive", "always", "on_failure"]
    minimum_amount: Amount | None
    settle: SettlePolicy
    circuit: CircuitPolicy
    retry: RetryPolicy
    preflight: PreflightPolicy
    demands: DemandsPolicy
    offers: OffersPolicy
    rpc: tuple[str, ...] = field(repr=False)
    rpc_pace: Pace
    """May hold keys: never shown."""
    block_time_s: float
    congestion_multiplier: float
    confirmations: int
    finality: int | Literal["safe", "finalized"]
    resend_after_blocks: int
    tokens: Mapping[str, TokenPolicy]
    is_default: bool
    """Nobody chose a settlement timeout for this network, only for all of them: warn once."""

    @property
    def confirmation_time_s(self) -> float:
        """How long a transfer may take here while the chain is busy, before it is worth asking."""
        return self.block_time_s * self.congestion_multiplier


@dataclass(frozen=True, slots=True)
class Stack:
    """The layers of one combination, the most specific first, each with the path it stands at."""

    network: str
    layers: tuple[tuple[Path, Section], ...]

    def find(self, key: str, section: str = "") -> tuple[Any, Path | None]:
        """The value in force and the path of the layer that says so; None: built in."""
        for path, layer in self.layers:
            if section:
                if section not in layer.model_fields_set:
                    continue
                path, layer = (*path, section), getattr(layer, section)
            if key in layer.model_fields_set:
                return getattr(layer, key), path
        built_in = getattr(NetworkPolicy(), section) if section else NetworkPolicy()
        return getattr(built_in, key), None

    def lay(self, section: str) -> Any:
        """A section with every key in force."""
        kind = type(getattr(NetworkPolicy(), section))
        return kind.model_construct(**{key: self.find(key, section)[0] for key in kind.model_fields})

    def tokens(self) -> dict[str, TokenPolicy]:
        """By address; key by key over the shipped table."""
        known = dict(SHIPPED_TOKENS.get(self.network, {}))
        for _, layer in self.layers:
            for address, token in layer.tokens.items() if isinstance(layer, NetworkPolicy) else ():
                chosen = {key: getattr(token, key) for key in token.model_fields_set}
                known[address] = known.get(address, TokenPolicy()).model_copy(update=chosen)
        return known

    def in_force(self) -> InForce:
        """All of it."""
        found = {key: self.find(key) for key in _SINGLE}
        return InForce(
            **{key: value for key, (value, _) in found.items()},
            **{section: self.lay(section) for section in SECTIONS},
            tokens=self.tokens(),
            is_default=found["settlement_timeout_s"][1] in (None, ("default",)),
        )


_SINGLE: Final = tuple(
    one.name for one in fields(InForce) if one.name not in (*SECTIONS, "tokens", "is_default")
)


class Layers:
    """The layers of one policy. Answers are kept: combinations of known names only, so it stays small."""

    def __init__(self, policy: "Policy") -> None:
        self._policy = policy
        self._facilitators = {one.name: index for index, one in enumerate(policy.facilitators)}
        self._routes = {one.name: index for index, one in enumerate(policy.routes)}
        self.only = policy.facilitators[0].name if len(policy.facilitators) == 1 else ""
        self._kept: dict[tuple[str, str, str], InForce] = {}

    def in_force(self, network: str, facilitator: str, route: str) -> InForce:
        """What holds. Without a facilitator: what holds whichever is asked; an only one is always asked."""
        found = self._kept.get((network, facilitator or self.only, route))
        return found or self._laid(network, facilitator, route)

    def stack(self, network: str, facilitator: str, route: str) -> Stack:
        """The layers that hold, the most specific first."""
        policy, found = self._policy, list[tuple[Path, Section]]()
        if (index := self._routes.get(route)) is not None:
            found.append((("routes", index), policy.routes[index]))
        if (index := self._facilitators.get(facilitator)) is not None:
            found.append((("facilitators", index), policy.facilitators[index]))
        if network in policy.networks:
            found.append((("networks", network), policy.networks[network]))
        if network in SHIPPED:
            found.append(((SHIPPED_AT, network), SHIPPED[network]))
        return Stack(network, (*found, (("default",), policy.default), ((), policy)))

    def _laid(self, network: str, facilitator: str, route: str) -> InForce:
        """Callers name networks: what is kept goes by the names that the policy knows."""
        named = (
            network
            if network in self._policy.networks or network in SHIPPED or network in SHIPPED_TOKENS
            else "",
            facilitator if facilitator in self._facilitators else self.only,
            route if route in self._routes else "",
        )
        found = self._kept.get(named)
        if found is None:
            found = self._kept[named] = self.stack(*named).in_force()
        return found
