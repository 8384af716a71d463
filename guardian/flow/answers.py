"""What the caller of /settle is told, as bytes: pure, one function per kind of answer.

Always a complete body under HTTP 200 (measured: the SDKs turn anything else into free text and
lose reason and hash).
"""

from typing import Literal

import msgspec
import orjson

from guardian.settlement.preflight import Finding
from guardian.settlement.record import Settlement
from guardian.wire.payment import Payment
from guardian.wire.reply import (
    complete_settle_body,
    read_settle_reply,
    write_settle_failure,
    write_settle_success,
    write_verify_invalid,
)

DUPLICATE = "duplicate_settlement"
PENDING = "settlement_pending"
TAKEN = "This nonce is taken by a payment to another payee or of another amount; sign with a fresh one."


def success(record: Settlement, reply_body: bytes = b"") -> bytes:
    """The facilitator's own words where they fit the chain's, else ours."""
    transaction, network, payer = record.transaction or "", record.network_as_sent, record.payer
    if reply_body and _is_plain(reply_body, transaction):
        return reply_body
    said = read_settle_reply(200, reply_body).transaction.lower() if reply_body else ""
    if reply_body and said in ("", transaction.lower()):
        return complete_settle_body(reply_body, transaction=transaction, network=network, payer=payer)
    return write_settle_success(transaction=transaction, network=network, payer=payer)


class _Plain(msgspec.Struct):
    success: Literal[True]
    transaction: str
    network: str
    payer: str


_plain = msgspec.json.Decoder(_Plain)


def _is_plain(reply_body: bytes, transaction: str) -> bool:
    """Nearly every success names this transaction, its network and its payer, and passes as it is."""
    try:
        said = _plain.decode(reply_body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return bool(said.network and said.payer) and said.transaction.lower() == transaction.lower() != ""


def paid_by_another(record: Settlement, first: Settlement) -> bytes:
    """Success for a newly signed payload of a purchase that an earlier payment has paid (law 5)."""
    return write_settle_success(
        transaction=first.transaction or "", network=record.network_as_sent, payer=record.payer
    )


def duplicate(record: Settlement) -> bytes:
    """This payment has bought what it can buy (law 4)."""
    return _failure(record, DUPLICATE, over(record), record.transaction)


def taken(record: Settlement) -> bytes:
    """The authorization is on record for another payment, which pays for nothing else."""
    return _failure(record, DUPLICATE, TAKEN, None)


def over(record: Settlement) -> str:
    """Why this payment buys nothing more."""
    if record.refund_transaction:
        return f"This payment was refunded in {record.refund_transaction}."
    if record.closed_by:
        return "This payment was written off by the operator: ask for a refund."
    return "This authorization was already settled and delivered once."


def unproven(record: Settlement) -> bytes:
    """A payload whose signature nobody could prove gets nothing of an earlier payment."""
    return _failure(
        record,
        "invalid_exact_evm_payload_signature",
        "The signature over this payload is not the payer's.",
        None,
    )


def failure(record: Settlement) -> bytes:
    """A definitive failure, in the facilitator's own words."""
    return _failure(record, record.reason or "unexpected_settle_error", record.message, None)


def pending(record: Settlement, hint: str | None = None) -> bytes:
    """Not known yet. Only with a hash do SDKs send the same payload again."""
    known = hint or record.hint or record.transaction
    if record.reason and not record.watched:  # no chain to ask: the facilitator's own words
        return _failure(record, record.reason, record.message, known)
    status = f"The outcome is not known yet: do not pay again. Status: /payments/{record.id}"
    if known:
        return _failure(record, PENDING, status, known)
    return _failure(
        record, record.reason or "unexpected_settle_error", f"{record.message} {status}".strip(), None
    )


def refused_by_preflight(payment: Payment, finding: Finding) -> bytes:
    """Nothing was sent: what is wrong, and what to change."""
    body = write_settle_failure(
        reason=finding.reason,
        message=_sentence(finding),
        transaction="",
        network=payment.network_as_sent,
        payer=payment.payer,
    )
    return _with_finding(body, finding)


def invalid_by_preflight(payment: Payment, finding: Finding) -> bytes:
    """The same on /verify."""
    body = write_verify_invalid(reason=finding.reason, message=_sentence(finding), payer=payment.payer)
    return _with_finding(body, finding)


def _sentence(finding: Finding) -> str:
    return f"{finding.field}: found {finding.found}, expected {finding.expected}; {finding.cure}"


def _with_finding(body: bytes, finding: Finding) -> bytes:
    """Beside the sentence, which is for people, the same as keys for programs; SDKs pass over them."""
    about = {"field": finding.field, "found": finding.found, "expected": finding.expected}
    return orjson.dumps(orjson.loads(body) | about | {"cure": finding.cure})


def no_reply(payment: Payment, message: str) -> bytes:
    """Nobody answered a settle that leaves no record."""
    return write_settle_failure(
        reason="unexpected_settle_error",
        message=message,
        transaction="",
        network=payment.network_as_sent,
        payer=payment.payer,
    )


def _failure(record: Settlement, reason: str, message: str, transaction: str | None) -> bytes:
    return write_settle_failure(
        reason=reason,
        message=message,
        transaction=transaction or "",
        network=record.network_as_sent,
        payer=record.payer,
    )
