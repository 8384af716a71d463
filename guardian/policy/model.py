"""The policy as frozen models, with a default for everything that has one. No I/O, no YAML.

Attribute names end in their unit; the YAML key is the name without it, because there the unit is part
of the value. In code, models are built by attribute name (`SettlePolicy(hold_s=25)`); `load.py`
validates by YAML key only, and hands in the context that makes a bare number an error.
"""

from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from guardian.policy.section import Section
from guardian.policy.types import (
    Count,
    Delay,
    Duration,
    FacilitatorUrl,
    Factor,
    Finality,
    Misplaced,
    Name,
    RpcUrl,
    network_id,
    reserved_route,
)
from guardian.wire.names import Network


class FacilitatorPolicy(Section):
    """One facilitator. url: its base, without credentials and without a slash at the end."""

    name: Name
    url: FacilitatorUrl


class NetworkPolicy(Section):
    """One network. No rpc means unwatched: payments pass, the chain is not asked."""

    rpc: tuple[RpcUrl, ...] = Field(default=(), max_length=16, repr=False)
    settlement_timeout_s: Duration = 60.0
    block_time_s: Duration = 2.0
    congestion_multiplier: Factor = 3.0
    post_sign_delay_s: Delay = 1.0
    confirmations: Count = 1
    finality: Finality = 12
    resend_after_blocks: Count = 3

    _is_default: bool = PrivateAttr(default=False)

    @property
    def is_default(self) -> bool:
        """Nobody chose a settlement timeout for this network: warn once."""
        return self._is_default

    @property
    def confirmation_time_s(self) -> float:
        """How long a transfer may take here while the chain is busy, before it is worth asking."""
        return self.block_time_s * self.congestion_multiplier


class SettlePolicy(Section):
    """How long the caller of /settle is held, and which orphans may pay for a repeat."""

    hold_s: Duration = 25.0
    hold_without_hash_s: Duration = 80.0
    reuse_orphans: Literal["same_resource", "same_payee", "off"] = "same_resource"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.hold_without_hash_s < self.hold_s:
            raise ValueError("hold_without_hash is shorter than hold; make it at least as long")
        return self


class CircuitPolicy(Section):
    """When a facilitator is left alone, and how it is tried again."""

    failure_threshold: Count = 3
    recovery_time_s: Duration = 30.0
    half_open_trials: Count = 1


class RetryPolicy(Section):
    """How often one request may be sent in all, the first time included."""

    attempts: Count = 3


class RoutePolicy(Section):
    """One paid API on the agent plane: `/<name>/…` goes to `upstream`."""

    name: Name
    upstream: FacilitatorUrl


class Policy(Section):
    """The whole policy. networks: by CAIP-2 id, each complete: what the file leaves out is filled
    from the shipped values of that network."""

    version: Literal[1]
    facilitators: tuple[FacilitatorPolicy, ...] = Field(default=(), max_length=64)
    networks: dict[str, NetworkPolicy] = Field(default={}, max_length=256)
    settle: SettlePolicy = SettlePolicy()
    circuit: CircuitPolicy = CircuitPolicy()
    retry: RetryPolicy = RetryPolicy()
    routes: tuple[RoutePolicy, ...] = Field(default=(), max_length=1024)

    def network(self, id: str) -> NetworkPolicy:
        """What holds for a network, named in the file or not."""
        return self.networks.get(id) or SHIPPED.get(id) or ANY_OTHER

    @field_validator("networks")
    @classmethod
    def _complete(cls, networks: dict[str, NetworkPolicy]) -> dict[str, NetworkPolicy]:
        complete: dict[str, NetworkPolicy] = {}
        for key, network in networks.items():
            if (id := network_id(key, ("networks", key))) in complete:
                raise Misplaced(
                    ("networks", key), f"{key} names the network {id} a second time; merge the two"
                )
            complete[id] = completed(id, network)
        return complete

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if not self.facilitators and not self.routes:
            raise ValueError("neither facilitators nor routes: name at least one of either")
        return self

    @model_validator(mode="after")
    def _routes_do_not_collide(self) -> Self:
        urls = [facilitator.url for facilitator in self.facilitators]
        for index, route in enumerate(self.routes):
            if taken := reserved_route(route.name, urls):
                raise Misplaced(
                    ("routes", index, "name"), f"route {route.name!r} {taken}; choose another name"
                )
        return self


def completed(id: str, given: NetworkPolicy) -> NetworkPolicy:
    """`given` with the shipped values of the network where it says nothing."""
    shipped = SHIPPED.get(id)
    chosen: dict[str, Any] = {field: getattr(given, field) for field in given.model_fields_set}
    network = (shipped or ANY_OTHER).model_copy(update=chosen)
    network._is_default = shipped is None and "settlement_timeout_s" not in chosen
    return network


# The starting values from the field. The table in policies/default.yaml says the same; a test holds that.
SHIPPED: dict[str, NetworkPolicy] = {
    Network("eip155:8453"): NetworkPolicy(
        settlement_timeout_s=60, block_time_s=2, congestion_multiplier=3, post_sign_delay_s=1, finality=12
    ),
    Network("eip155:84532"): NetworkPolicy(
        settlement_timeout_s=90, block_time_s=2, congestion_multiplier=5, post_sign_delay_s=1.5, finality=12
    ),
    # Not a rollup: a reorganisation is real here, and finality takes two epochs.
    Network("eip155:1"): NetworkPolicy(
        settlement_timeout_s=180,
        block_time_s=12,
        congestion_multiplier=3,
        post_sign_delay_s=0.5,
        finality="finalized",
    ),
}
ANY_OTHER = NetworkPolicy()
ANY_OTHER._is_default = True
