"""The keys that may stand on every layer of a policy, with what each does, its unit and its default.

The built-in default of a key is written here and nowhere else; which layer wins is decided in layers.py.
The descriptions are the documentation: the JSON Schema and docs/policy.md are made from them.
"""

from typing import Annotated, Literal

from pydantic import Field

from guardian.policy.checks import REFUSE, WARN, Check
from guardian.policy.demands import DemandsPolicy, OffersPolicy
from guardian.policy.section import Section
from guardian.policy.types import AmountValue, Count, Delay, Duration, Written


class SettlePolicy(Section):
    """How long the caller of /settle is held, and which orphans may pay for a repeat."""

    hold_s: Duration = Field(
        default=25.0,
        description="How long the caller of /settle waits for the outcome once a transaction hash is known. "
        "Then it is told `settlement_pending` with the hash, and SDKs ask again at once, which "
        "gives a second hold. Below the 30 s that older SDKs wait.",
    )
    hold_without_hash_s: Duration = Field(
        default=80.0,
        description="The same while no hash is known, when SDKs do not ask again: so it is worth waiting "
        "almost as long as they do (90 s). Never shorter than `hold`.",
    )
    reuse_orphans: Literal["same_resource", "same_payee", "off"] = Field(
        default="same_resource",
        description="Which earlier payment, taken and never delivered, answers a newly signed one of the "
        "same payer, payee, asset and amount: one for the same resource (or where either names "
        "none), any to the same payee, or none.",
    )


class CircuitPolicy(Section):
    """When a facilitator is left alone on a network, and how it is tried again."""

    failure_threshold: Count = Field(
        default=3,
        description="So many faulty replies in a row open the circuit; a settlement timeout never counts.",
    )
    recovery_time_s: Duration = Field(
        default=30.0, description="How long an open circuit rests before it lets a trial through."
    )
    half_open_trials: Count = Field(
        default=1, description="So many trials at a time, all of them healthy, close the circuit again."
    )


class RetryPolicy(Section):
    """How often one request may be sent in all."""

    attempts: Count = Field(
        default=3,
        description="Sends of one request in all, the first included. A settle is repeated only when it "
        "provably was not executed; 1 never repeats.",
    )


class PreflightPolicy(Section):
    """What is looked at before anything is sent. Each check is `off`, `warn` or `refuse`."""

    token_domain: Check = Field(
        default=REFUSE,
        description="EIP-712 name and version against the token table and the token's contract: a wrong one "
        "(`USD Coin` on Base Sepolia) can never settle.",
    )
    minimum_amount: Check = Field(
        default=REFUSE, description="The amount is below `minimum_amount` or the facilitator's own minimum."
    )
    payer_is_payee: Check = Field(
        default=WARN, description="Payer and payee are one address: mostly a test gone live."
    )
    validity: Check = Field(
        default=REFUSE,
        description="`validBefore` is over, or nearer than `shortest_validity`: it would expire on the way.",
    )
    validity_too_long: Check = Field(
        default=WARN,
        description="`validBefore` is farther than `longest_validity`: so long a failed payment stays "
        "usable.",
    )
    shortest_validity_s: Duration = Field(
        default=6.0,
        description="The least time an authorization must be valid for; SDK facilitators ask for 6 s.",
    )
    longest_validity_s: Duration = Field(
        default=86400.0,
        description="The longest time an authorization should be valid for; SDKs sign for 5 minutes.",
    )
    description: Check = Field(
        default=REFUSE,
        description="The description is longer than the facilitator's profile allows (CDP: 500 characters).",
    )
    payment_id: Check = Field(
        default=WARN,
        description="The payment has no payment-identifier, and the facilitator's profile says that a repeat "
        "may then be charged again (Circle).",
    )
    unsupported: Check = Field(
        default=WARN, description="No facilitator's /supported lists this network and scheme."
    )


class Layer(Section):
    """The keys that may stand in `default`, in a network, in a facilitator and in a route."""

    settlement_timeout_s: Duration = Field(
        default=60.0,
        description="Deadline of the call to the facilitator, after which a settlement counts as late. The "
        "watch of the chain goes on to the proof. Measure it: the slowest confirmation in a "
        "busy hour, and some.",
    )
    post_sign_delay_s: Delay = Field(
        default=1.0,
        description="The age a signature should have before it is settled, so that the facilitator's node "
        "has seen the state it was signed in; `0s` never waits.",
    )
    post_sign_delay_when: Literal["adaptive", "always", "on_failure"] = Field(
        default="adaptive",
        description="`adaptive` waits only until the signature is that old, `always` waits that long before "
        "every settle, `on_failure` only before a repeat.",
    )
    minimum_amount: Annotated[AmountValue | None, Written] = Field(
        default=None,
        description="The least amount worth settling: dollars (`$0.001`) for the dollar tokens of the token "
        "table, or the token's smallest unit (`1000 atomic`). The limit in a facilitator's "
        "profile comes right after the facilitator's own key. `preflight.minimum_amount` says "
        "what happens below it.",
    )
    settle: SettlePolicy = Field(
        default=SettlePolicy(), description="How long the caller of /settle is held."
    )
    circuit: CircuitPolicy = Field(
        default=CircuitPolicy(),
        description="When a facilitator is left alone; one circuit per facilitator and network.",
    )
    retry: RetryPolicy = Field(default=RetryPolicy(), description="How often one request is sent.")
    preflight: PreflightPolicy = Field(
        default=PreflightPolicy(), description="What is looked at before anything is sent."
    )
    demands: DemandsPolicy = Field(
        default=DemandsPolicy(), description="What is looked at in a 402 before an agent signs."
    )
    offers: OffersPolicy = Field(
        default=OffersPolicy(),
        description="Which networks of a 402 an agent is offered, and which first; in `default` and routes.",
    )


SECTIONS: tuple[str, ...] = ("settle", "circuit", "retry", "preflight", "demands", "offers")
"""Keys of a layer that are laid over each other key by key; at the top level they stand for `default`."""
