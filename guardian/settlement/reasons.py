"""The list of known error reasons, as data: what each proves on /verify and on /settle. Read-only.

`reasons.json` lists every string that is known to travel from a facilitator, and nothing else is ever
taken for definitive. `broadcast` says whether a transaction can have been sent when the reason is
raised: no | maybe | yes | prior (an earlier attempt of the same identity may have landed) | deploy only.
Source: the Python and TypeScript SDKs, the Go sources, x402-rs, the CDP OpenAPI document, Circle's pages.
"""

from dataclasses import dataclass
from importlib import resources

import orjson

from guardian.settlement.verdict import Health, Operation, Outcome


@dataclass(frozen=True, slots=True)
class Reason:
    """One listed reason.

    read: raised by a read before the broadcast, so that a time-out in its text is that read's own.
    payload: the payment causes it, though it may pass later. failover: another facilitator may be asked.
    """

    name: str
    verify: Outcome
    settle: Outcome
    broadcast: str
    meaning: str
    sources: tuple[str, ...]
    cure: str = ""
    failover: bool = False
    read: bool = False
    payload: bool = False

    def outcome(self, operation: Operation) -> Outcome:
        """What the reason proves when it answers this operation."""
        return self.settle if operation is Operation.SETTLE else self.verify

    @property
    def prior(self) -> bool:
        """Whether an earlier attempt that landed is a possible cause."""
        return "prior" in self.broadcast


def _load() -> dict[str, Reason]:
    data = resources.files("guardian.settlement").joinpath("reasons.json").read_bytes()
    return {
        name: Reason(
            name=name,
            verify=Outcome(row["verify"]),
            settle=Outcome(row["settle"]),
            broadcast=row["broadcast"],
            meaning=row["meaning"],
            sources=tuple(row["sources"]),
            cure=row.get("cure", ""),
            failover=row.get("failover", False),
            read=row.get("read", False),
            payload=row.get("payload", False),
        )
        for name, row in orjson.loads(data).items()
    }


REASONS: dict[str, Reason] = _load()


CATCH_ALLS = frozenset(
    {
        "invalid_exact_evm_failed_to_execute_transfer",
        "invalid_exact_evm_transaction_failed",
        "invalid_exact_solana_transaction_failed",
        "invalid_exact_svm_transaction_failed",
        "invalid_upto_evm_transaction_failed",
        "settle_exact_node_failure",
        "settlement_failed",
        "transaction_failed",
        "unexpected_error",
        "unexpected_settle_error",
        "unknown_error",
        "unknown_settlement_error",
    }
)
"""Reasons put round whatever was thrown, at any step: a message that names a step before the broadcast
says more than they do."""


@dataclass(frozen=True, slots=True)
class ErrorType:
    """A generic error type of an API gateway, sent in bodies that are no x402 reply (CDP v2)."""

    verify: Outcome
    settle: Outcome
    health: Health


_REFUSED = ErrorType(Outcome.PERMANENT, Outcome.PERMANENT, Health.FAULTY)
_BROKEN = ErrorType(Outcome.TRANSIENT, Outcome.SETTLEMENT, Health.FAULTY)
_SLOW = ErrorType(Outcome.TRANSIENT, Outcome.SETTLEMENT, Health.NEUTRAL)

ERROR_TYPES: dict[str, ErrorType] = {
    "invalid_request": ErrorType(Outcome.PERMANENT, Outcome.PERMANENT, Health.NEUTRAL),
    "unauthorized": _REFUSED,
    "forbidden": _REFUSED,
    "not_found": _REFUSED,
    "payment_method_required": _REFUSED,
    "rate_limit_exceeded": ErrorType(Outcome.TRANSIENT, Outcome.TRANSIENT, Health.NEUTRAL),
    "service_unavailable": _BROKEN,
    "bad_gateway": _BROKEN,
    "internal_server_error": _BROKEN,
    "timed_out": _SLOW,
    "client_closed_request": _SLOW,
    "request_canceled": _SLOW,
    "settlement_failed": _SLOW,
}
"""CDP OpenAPI `ErrorType`; read only from a key `errorType`."""
