"""What an agent is told by the guardian itself, as whole replies: pure, one function per kind of answer.

Problem details (RFC 9457). Never a 402: it makes clients sign again.
"""

import math
from collections.abc import Sequence
from typing import Any

import orjson

from guardian.errors import SpendingDenied
from guardian.settlement.demand import Fault
from guardian.settlement.record import Settlement
from guardian.settlement.states import PAID
from guardian.upstream.reply import Reply, whole_reply
from guardian.wire.demand import Offer

KIND = "urn:payment-guardian:"
FAULTS_TOLD = 16
LEAST_WAIT_S, LONGEST_WAIT_S = 1, 30


def not_yet(record: Settlement, *, block_time_s: float, upstream_said: int) -> Reply:
    """The payment that exists stands before another one. upstream_said: its last status, 0 for none."""
    if record.money in PAID:
        kind, title = "paid-not-delivered", "Paid, and not delivered yet"
        why = "The payment is confirmed on chain and the seller has not delivered."
    else:
        kind, title = "payment-in-doubt", "The outcome of the payment is not known yet"
        why = "The payment may have moved money and the chain has not shown it yet."
    return _problem(
        503,
        kind,
        title,
        f"{why} Do not pay again: ask again for the same, and this payment is used.",
        retry_s=min(max(math.ceil(2 * block_time_s), LEAST_WAIT_S), LONGEST_WAIT_S),
        payment=record.id,
        statusUrl=f"/payments/{record.id}",
        money=record.money,
        network=record.network_as_sent,
        transaction=record.transaction or record.hint or "",
        upstreamStatus=upstream_said,
    )


def no_record(why: str) -> Reply:
    """Nothing was sent: no record, no payment (law 10)."""
    detail = f"The payment could not be recorded, so nothing was sent: {why}."
    return _problem(503, "no-record", "The payment cannot be recorded", detail, retry_s=5, sent=False)


def unproven(record: Settlement) -> Reply:
    """Another payment of this purchase is open, and whoever asks has not shown to be its payer."""
    detail = "An earlier payment for the same is open, and this signature cannot be shown to be its payer's."
    title = "The signature is not proven"
    return _problem(503, "signature-unproven", title, detail, retry_s=5, payment=record.id, sent=False)


def waits(record: Settlement) -> Reply:
    """This authorization came for another request, and was not sent there yet."""
    detail = "This payment came for another request, and waits there for an earlier one. Sign anew."
    title = "The payment waits elsewhere"
    return _problem(503, "payment-waits", title, detail, retry_s=5, payment=record.id, sent=False)


def denied(refusal: SpendingDenied) -> Reply:
    """The spending policy refuses it."""
    kind, title = "spending-denied", "The spending policy refuses this payment"
    more: dict[str, Any] = {"rule": refusal.rule, "limit": refusal.limit}
    cure = "Nothing was sent, and nothing was paid."
    if refusal.approval:
        more |= {"approval": refusal.approval}
        if refusal.limit == "approve_above":
            kind, title = "approval-required", "This payment waits for an approval"
            cure += f" Once it is approved (POST /api/approvals/{refusal.approval}/approve on the operations"
            cure += " port), ask for the same again."
    if (fault := refusal.fault) is not None:
        kind, title = "signature-refused", "The signature is not the payer's"
        more |= {"field": fault.field, "found": fault.found, "cure": fault.cure}
    detail = f"Rule {refusal.rule}, {refusal.limit}: {refusal.why}. {cure}"
    return _problem(403, kind, title, detail, sent=False, **more)


def bound(record: Settlement) -> Reply:
    """This authorization was put aside for an earlier one, which has bought what both were for."""
    detail = (
        "An earlier payment has paid for what this one was signed for; this one was never sent, and pays "
        "for nothing. Ask without a payment to buy again."
    )
    title = "Answered by an earlier payment"
    return _problem(409, "answered-by-another", title, detail, payment=record.id, sent=False)


def refused_demand(route: str, faults: Sequence[Fault]) -> Reply:
    """The policy lets nobody sign for any of these offers. faults: one or more, the first told at length."""
    first = faults[0]
    detail = (
        f"{first.field}: found {first.found}, expected {first.expected}; {first.cure}. Nothing was signed."
    )
    told: list[dict[str, Any]] = [
        {"check": str(one.check), "field": one.field, "found": one.found, "expected": one.expected}
        | {"cure": one.cure}
        for one in faults[:FAULTS_TOLD]
    ]
    title = "The seller's demand is refused by the policy"
    return _problem(403, "demand-refused", title, detail, route=route, **told[0], faults=told)


def no_network_offered(route: str, offers: Sequence[Offer], only: Sequence[str]) -> Reply:
    """The seller takes no network that the policy lets agents pay on."""
    wanted, allowed = sorted({one.network_as_sent for one in offers}), ", ".join(only)
    detail = (
        f"The seller takes {', '.join(wanted)[:500]}, and offers.only of the route allows {allowed[:500]}. "
        "Nothing was signed."
    )
    title = "The seller takes no network that the policy allows"
    return _problem(
        403, "no-network-offered", title, detail, route=route, found=wanted[:FAULTS_TOLD], expected=list(only)
    )


def _problem(
    status: int, kind: str, title: str, detail: str, *, retry_s: int | None = None, **more: object
) -> Reply:
    said = {"type": KIND + kind, "title": title, "status": status, "detail": detail, **more}
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    if retry_s is not None:
        headers.append((b"retry-after", b"%d" % retry_s))
    return whole_reply(status, headers, orjson.dumps(said))
