"""The policy as frozen models, with a default for everything that has one. No YAML.

Attribute names end in their unit; the YAML key is the name without it, because there the unit is part
of the value. In code, models are built by attribute name (`SettlePolicy(hold_s=25)`); `load.py`
validates by YAML key only, and hands in the context that makes a bare number an error. What is checked
across sections stands in coherence.py.
"""

from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from guardian.policy.auth import AuthPolicy
from guardian.policy.callers import CallersPolicy
from guardian.policy.cases import Case
from guardian.policy.checks import CheckPolicy
from guardian.policy.coherence import refuse_incoherent
from guardian.policy.demands import DemandsPolicy, OffersPolicy
from guardian.policy.keys import (
    CircuitPolicy,
    Layer,
    PreflightPolicy,
    RetryPolicy,
    SettlePolicy,
)
from guardian.policy.layers import InForce, Layers
from guardian.policy.network import SHIPPED, NetworkPolicy, TokenPolicy
from guardian.policy.profile import NO_PROFILE, Profile, load_profile
from guardian.policy.rules import ActPolicy, ClassifyPolicy
from guardian.policy.section import Section
from guardian.policy.spending import SpendingPolicy
from guardian.policy.types import (
    Count,
    Duration,
    Misplaced,
    Name,
    PaceValue,
    Written,
    network_id,
    whole,
)
from guardian.policy.units import Amount
from guardian.policy.urls import FacilitatorUrl
from guardian.policy.webhooks import WebhookPolicy

__all__ = [
    "SHIPPED",
    "AuthPolicy",
    "CheckPolicy",
    "CircuitPolicy",
    "DemandsPolicy",
    "FacilitatorPolicy",
    "InForce",
    "Layer",
    "NetworkPolicy",
    "OffersPolicy",
    "Policy",
    "PreflightPolicy",
    "RetryPolicy",
    "RoutePolicy",
    "SettlePolicy",
    "TokenPolicy",
    "WebhookPolicy",
]

Order = Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(whole)]


class FacilitatorPolicy(Layer):
    """One facilitator, how it is chosen, and what differs there."""

    name: Name = Field(description="Its name in rules, metrics and paths (`/facilitators/<name>/…`).")
    url: FacilitatorUrl = Field(description="Its base URL, without credentials and without query.")
    profile: Annotated[Name | None, Written] = Field(
        default=None,
        description="The dialect it speaks: a file in policies/profiles/, or `profiles/<name>.yaml` beside "
        "the policy file. Default: the protocol and nothing more.",
    )
    order: Annotated[Order | None, Written] = Field(
        default=None,
        description="Lower is asked first; those of equal order share the payments by weight. Default: the "
        "place in the list, from 0.",
    )
    weight: Count = Field(default=1, description="Share of the payments among facilitators of equal order.")
    max_settles: Annotated[Count | None, Written] = Field(
        default=None, description="Settles under way at once, per network. Default: no limit."
    )
    pace: Annotated[PaceValue | None, Written] = Field(
        default=None,
        description="Requests started in a span of time: `50 per s`, `600 per m`. Default: no limit.",
    )
    failover_to: Annotated[tuple[Name, ...] | None, Written] = Field(
        default=None,
        max_length=64,
        description="Facilitators that a request which provably was not executed may go to, `[]` for none. "
        "Default: all.",
    )
    auth: Annotated[AuthPolicy | None, Written] = Field(
        default=None,
        description="Credentials, from the environment or a mounted file. Default: the caller's pass "
        "through.",
    )


class RoutePolicy(Layer):
    """One paid API on the agent plane: `/<name>/…` goes to `upstream`."""

    name: Name = Field(description="First part of its path; it may not hide a path of the guardian.")
    upstream: FacilitatorUrl = Field(
        description="Where it goes: a URL without credentials and without query."
    )


class Policy(Section):
    """One policy file: its sections."""

    version: Literal[1] = Field(description="The version of this format: 1.")
    default: Layer = Field(
        default=Layer(), description="What holds where no network, facilitator or route says otherwise."
    )
    facilitators: tuple[FacilitatorPolicy, ...] = Field(
        default=(), max_length=64, description="Who verifies and settles, in order of preference."
    )
    networks: dict[str, NetworkPolicy] = Field(
        default={},
        max_length=256,
        description="By CAIP-2 id (`eip155:8453`) or v1 name (`base`). A network that is not named here "
        "passes too, unwatched, with its shipped values or the default.",
    )
    settle: SettlePolicy = Field(default=SettlePolicy(), description="Short for `default.settle`.")
    circuit: CircuitPolicy = Field(default=CircuitPolicy(), description="Short for `default.circuit`.")
    retry: RetryPolicy = Field(default=RetryPolicy(), description="Short for `default.retry`.")
    preflight: PreflightPolicy = Field(
        default=PreflightPolicy(), description="Short for `default.preflight`."
    )
    demands: DemandsPolicy = Field(default=DemandsPolicy(), description="Short for `default.demands`.")
    offers: OffersPolicy = Field(default=OffersPolicy(), description="Short for `default.offers`.")
    routes: tuple[RoutePolicy, ...] = Field(
        default=(), max_length=1024, description="Paid APIs for agents, each at a path of its own."
    )
    classify: ClassifyPolicy = Field(
        default=ClassifyPolicy(),
        description="What replies mean, before the facilitator's profile and what is built in.",
    )
    act: ActPolicy = Field(
        default=ActPolicy(), description="What is done about replies, before what follows from their class."
    )
    callers: CallersPolicy = Field(
        default=CallersPolicy(),
        description="Who may call the data port, and how much of it one caller may use. Default: everybody, "
        "without a limit.",
    )
    webhooks: tuple[WebhookPolicy, ...] = Field(
        default=(), max_length=16, description="Who is told of what becomes of payments. Default: nobody."
    )
    spending: SpendingPolicy = Field(
        default=SpendingPolicy(),
        description="What agents may spend on the routes, and the switch that stops them. Default: no limit.",
    )
    retention_s: Duration = Field(
        default=90 * 86400.0,
        description="How long the record of a finished settlement is kept, `1h` at least; open ones and "
        "orphans stay.",
    )
    tests: tuple[Case, ...] = Field(
        default=(),
        max_length=1024,
        description="Replies with what must follow; `guardian policy check` runs them.",
    )

    _given: dict[str, Profile] = PrivateAttr(default_factory=dict)

    @cached_property
    def layers(self) -> Layers:
        """Which layer says what."""
        return Layers(self)

    def in_force(self, network: str, facilitator: str = "", route: str = "") -> InForce:
        """What holds for a network (CAIP-2) at a facilitator and on a route, named in the file or not."""
        return self.layers.in_force(network, facilitator, route)

    def network(self, id: str) -> InForce:
        """What holds for a network whichever facilitator is asked."""
        return self.layers.in_force(id, "", "")

    @cached_property
    def profiles(self) -> dict[str, Profile]:
        """By facilitator. A policy that was built in code has the shipped ones; raises PolicyError."""
        named = [(one.name, one.profile) for one in self.facilitators if one.profile is not None]
        return {name: self._given.get(profile) or load_profile(profile) for name, profile in named}

    def profile_of(self, facilitator: str) -> Profile:
        """What is known of a facilitator; the empty profile where the policy names none."""
        return self.profiles.get(facilitator, NO_PROFILE)

    def minimum_amount(self, network: str, facilitator: str) -> Amount | None:
        """The least that a facilitator is given: its own key, else the larger of what holds and what its
        profile says; the profile's where the two cannot be compared."""
        own = next((one.minimum_amount for one in self.facilitators if one.name == facilitator), None)
        limit = self.profile_of(facilitator).limits.minimum_amount
        holds = self.in_force(network, facilitator).minimum_amount
        if own or not (limit and holds):
            return own or limit or holds
        return holds if holds.exceeds(limit) else limit

    def knowing(self, profiles: dict[str, Profile]) -> "Policy":
        """This policy with the profiles, by their name, that its facilitators name."""
        policy = self.model_copy()
        policy._given = profiles
        return policy

    def __copy__(self) -> "Policy":
        """Without what was derived: a changed copy has its own."""
        copy: Policy = super().__copy__()
        for derived in ("layers", "profiles"):
            copy.__dict__.pop(derived, None)
        return copy

    @field_validator("networks")
    @classmethod
    def _keyed_by_id(cls, networks: dict[str, NetworkPolicy]) -> dict[str, NetworkPolicy]:
        by_id: dict[str, NetworkPolicy] = {}
        for key, network in networks.items():
            at = ("networks", key)
            if (id := network_id(key, at)) in by_id:
                raise Misplaced(at, f"{key} names the network {id} a second time; merge the two")
            by_id[id] = network.of(id, at)
        return by_id

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        refuse_incoherent(self)
        return self
