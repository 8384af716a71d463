"""What one reply of a facilitator means: the words that classification hands out. No I/O, no clock."""

from dataclasses import dataclass
from enum import StrEnum


class Operation(StrEnum):
    """What the facilitator was asked."""

    VERIFY = "verify"
    SETTLE = "settle"


class Outcome(StrEnum):
    """What may be done next; on settle UNKNOWN is as much in doubt as SETTLEMENT."""

    SUCCESS = "success"
    TRANSIENT = "transient"  # provably not executed: the same payload may be sent again
    SETTLEMENT = "settlement"  # may have been broadcast: only the chain knows
    PERMANENT = "permanent"  # provably not executed, and never will be: do not repeat
    UNKNOWN = "unknown"  # for the operator to look at


class Health(StrEnum):
    """What a reply says about the facilitator itself, for its circuit."""

    HEALTHY = "healthy"
    FAULTY = "faulty"
    NEUTRAL = "neutral"  # counts neither for nor against: a slow chain is no broken facilitator


@dataclass(frozen=True, slots=True)
class Verdict:
    """One reply, classified.

    rule: which rule decided, of a bounded set (safe as a label); reason: the facilitator's own, listed
    or as sent; message: its text, shortened and without signatures; transaction: a hash it named, which
    proves nothing; cure: what to change, where known; retry_after_ok: the reply's Retry-After header is
    about this request; failover: another facilitator may be asked (never after an attempt in doubt).
    """

    outcome: Outcome
    rule: str
    reason: str
    message: str
    health: Health
    transaction: str = ""
    cure: str = ""
    retry_after_ok: bool = False
    failover: bool = False
