"""The record of a payment as it begins, the same on both planes. Pure: no I/O, no clock."""

from collections.abc import Container

from guardian.settlement.record import Settlement
from guardian.wire.names import Network
from guardian.wire.payment import Method, Payment


def fresh(
    payment: Payment, body: bytes, *, owner: str, now: float, watched: bool, head: int, vouched: bool = False
) -> Settlement:
    """What is recorded before anything is sent. body: the request; the rest as `Settlement` has it."""
    return Settlement(
        key=payment.key,
        id=payment.id,
        x402_version=payment.x402_version,
        scheme=payment.scheme,
        method=payment.method,
        network=payment.network,
        network_as_sent=payment.network_as_sent,
        asset=payment.asset,
        payer=payment.payer,
        pay_to=payment.pay_to,
        amount=payment.amount,
        nonce=payment.nonce,
        resource=payment.resource,
        valid_before=payment.valid_before,
        signature_hash=payment.signature_hash,
        vouched=vouched,
        watched=watched,
        head=head,
        owner=owner,
        created_at=now,
        updated_at=now,
        body=body,
    )


def can_be_watched(payment: Payment, networks: Container[Network]) -> bool:
    """The chain can be asked about it: by a nonce that the token itself knows. What is signed for another
    contract (Circle Gateway) never shows its nonce to the token."""
    in_token = bool(payment.asset) and payment.domain_contract in ("", payment.asset)
    return payment.method is Method.EIP3009 and in_token and payment.network in networks
