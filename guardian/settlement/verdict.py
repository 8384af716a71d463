"""What one reply of a facilitator means: the words that classification hands out. No I/O, no clock."""

from enum import StrEnum
from typing import Literal

import msgspec
from msgspec.structs import replace


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


class Alert(StrEnum):
    """Who is told beyond the counters."""

    OFF = "off"
    LOG = "log"
    PAGE = "page"  # log line at error level and the alert metric


IN_DOUBT = frozenset({Outcome.SETTLEMENT, Outcome.UNKNOWN})
"""On settle: may have moved money, so nothing is sent again and nobody is told that it failed (law 1)."""


class Verdict(msgspec.Struct, frozen=True):
    """One reply, classified, and what follows from it.

    rule: which rule decided, of a bounded set (safe as a label); reason: the facilitator's own, listed
    or as sent; message: its text, shortened and without signatures; transaction: a hash it named, which
    proves nothing; cure: what to change, where known; retry_after_ok: the reply's Retry-After header is
    about this request.

    retry: the same facilitator may be asked again; failover: another one may be (neither ever after an
    attempt in doubt); watch: ask the chain; answer: hand the reason on, or keep the caller waiting for
    the chain; alert: who is told. soft: in doubt only because nothing is known about the reply, so that
    a rule of the policy may say what it means; prior: an earlier attempt that landed would explain it.
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
    retry: bool = False
    watch: bool = False
    answer: Literal["reason", "pending"] = "reason"
    alert: Alert = Alert.OFF
    soft: bool = False
    prior: bool = False


def by_class(operation: Operation, verdict: Verdict) -> Verdict:
    """The verdict with retry, watch and answer as its class has them, and nothing that a doubt forbids."""
    if operation is Operation.SETTLE and verdict.outcome in IN_DOUBT:
        return replace(
            verdict,
            retry=False,
            failover=False,
            retry_after_ok=False,
            watch=True,
            answer="pending",
        )
    transient = verdict.outcome is Outcome.TRANSIENT
    return replace(verdict, retry=transient, retry_after_ok=transient and verdict.retry_after_ok)
