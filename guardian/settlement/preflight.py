"""What is wrong with a payment before anything is sent. No I/O, no clock: facts come in as arguments.

A finding is a fact, not a decision: the policy says whether it is passed over, warned of or refused.
Each check speaks only where the payment cannot succeed as it stands, or breaks a limit that was handed
in; where something is unknown (an asset, a domain that `extra` leaves out, an amount of a scheme that
nobody knows) it says nothing, because a payment that would succeed must not be refused.

Only authorizations of `exact` and Permit2 are looked into. Vouchers and deposits of channels, Solana
transactions and unknown schemes pass with the checks that need no knowledge of the scheme. Signatures
are not looked at, so that a wallet's (ERC-1271, ERC-6492) is as good here as a key's.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

import msgspec

from guardian.wire.fields import found as shown
from guardian.wire.networks import Domain, dollar_decimals
from guardian.wire.payment import Method, Payment

CLOCK_LEEWAY_S = 2
"""Clocks of payer, guardian and facilitator differ by this much without a fault, and the block that a
payment lands in is younger than the look at it."""

FAR_AHEAD_S = 10 * 365 * 86400
"""A validity beyond it has no number worth reading."""


class Check(StrEnum):
    """The checks, named as the policy names them."""

    TOKEN_DOMAIN = "token_domain"
    MINIMUM_AMOUNT = "minimum_amount"
    PAYER_IS_PAYEE = "payer_is_payee"
    VALIDITY = "validity"
    VALIDITY_TOO_LONG = "validity_too_long"
    DESCRIPTION = "description"
    PAYMENT_ID = "payment_id"
    UNSUPPORTED = "unsupported"


class Facts(msgspec.Struct, frozen=True):
    """What the checks measure a payment against; None: not known or not limited.

    now: Unix seconds. table, contract: the EIP-712 domain of the payment's asset, by the token table
    and by the contract itself. minimum: atomic units. supported: whether a facilitator offers this
    network with this scheme.
    """

    now: float
    table: Domain | None = None
    contract: Domain | None = None
    minimum: int | None = None
    shortest_validity_s: float = 0.0
    longest_validity_s: float | None = None
    longest_description: int | None = None
    needs_payment_id: bool = False
    supported: bool | None = None

    @property
    def domain(self) -> Domain | None:
        """The domain that counts: the contract's word goes before the table's."""
        return self.contract or self.table


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. field: dotted path in the body as sent; found, expected: short texts without secrets.

    cure: what to change, in one sentence. reason: the x402 reason that says the same to a caller.
    """

    check: Check
    field: str
    found: str
    expected: str
    cure: str
    reason: str


def findings(payment: Payment, facts: Facts) -> list[Finding]:
    """Everything that is wrong with a payment, in the order of `Check`; empty for most."""
    return [finding for check in _CHECKS for finding in check(payment, facts)]


_Findings = Iterable[Finding]


def _token_domain(payment: Payment, facts: Facts) -> _Findings:
    """Whoever verifies by `extra` and whoever asks the token then check different signatures.

    A domain that `extra` leaves out is filled in by some facilitators; one that names another contract
    is not the token's (Circle Gateway checks the signature in its own wallet contract).
    """
    if facts.domain is None or payment.method is not Method.EIP3009 or payment.scheme != "exact":
        return ()
    if payment.domain_contract not in ("", payment.asset):
        return ()
    differing = domain_differences(payment.domain_name, payment.domain_version, facts.domain)
    return [_domain_finding(payment, *difference) for difference in differing]


def domain_differences(name: str, version: str, expected: Domain) -> list[tuple[str, str, str]]:
    """What of a domain is not the token's, as (part, as sent, expected); what is left out is no fault."""
    wrong = []
    if name not in ("", expected.name):
        wrong.append(("name", name, expected.name))
    if expected.version is not None and version not in ("", expected.version):
        wrong.append(("version", version, expected.version))
    return wrong


def _domain_finding(payment: Payment, part: str, sent: str, expected: str) -> Finding:
    return Finding(
        Check.TOKEN_DOMAIN,
        f"paymentRequirements.extra.{part}",
        shown(sent),
        repr(expected),
        f'set extra.{part} to "{expected}" for {short(payment.asset)} on {payment.network_as_sent}'
        " and let the payer sign again",
        f"invalid_exact_evm_token_{part}_mismatch",
    )


def _minimum_amount(payment: Payment, facts: Facts) -> _Findings:
    """Only `exact` moves what the requirements ask: `upto` and channels may rightly settle 0.

    Where more was signed than is asked, that is what moves. 0 stands for an amount that could not be
    read wherever the scheme's payload is not known.
    """
    if facts.minimum is None or payment.scheme != "exact":
        return ()
    amount = max(payment.amount, payment.authorization_value or 0)
    if amount >= facts.minimum or (amount == 0 and not _is_evm(payment)):
        return ()
    key = "maxAmountRequired" if payment.x402_version == 1 else "amount"
    least = units(facts.minimum, payment.network, payment.asset)
    return (
        Finding(
            Check.MINIMUM_AMOUNT,
            f"paymentRequirements.{key}",
            units(amount, payment.network, payment.asset),
            f"at least {least}",
            f"raise the price to at least {least}",
            "amount_too_low",
        ),
    )


def _payer_is_payee(payment: Payment, facts: Facts) -> _Findings:
    if payment.payer != payment.pay_to or not payment.payer:
        return ()
    return (
        Finding(
            Check.PAYER_IS_PAYEE,
            "paymentRequirements.payTo",
            shown(payment.pay_to),
            "an account other than the payer's",
            "set payTo to the seller's account, or pay from another account",
            "self_send_not_allowed",
        ),
    )


def _validity(payment: Payment, facts: Facts) -> _Findings:
    """Whole seconds, as facilitators and blocks count them; a second's fraction refuses nothing."""
    before, after = payment.valid_before, payment.valid_after
    if before is None or not _is_evm(payment):
        return ()
    now = int(facts.now)
    if before - now < max(facts.shortest_validity_s, 1):
        return (_too_near(payment, before, now, facts.shortest_validity_s),)
    if after is not None and after > now + CLOCK_LEEWAY_S:
        return (_too_early(payment, after, now),)
    return ()


def _too_near(payment: Payment, before: int, now: int, shortest_s: float) -> Finding:
    field, reason, _ = _BEFORE[payment.method]
    least = max(shortest_s, 1)
    name = field.rpartition(".")[2]
    cure = f"let the payer sign again with {name} at least {least:g} s ahead, and check the payer's clock"
    if payment.max_timeout_s is not None and payment.max_timeout_s < least:
        cure = f"raise maxTimeoutSeconds to at least {least:g}: it is what clients sign {name} by"
    return Finding(
        Check.VALIDITY, field, _moment(before, now), f"at least {least:g} s ahead of {now}", cure, reason
    )


def _too_early(payment: Payment, after: int, now: int) -> Finding:
    field, reason = _AFTER[payment.method]
    return Finding(
        Check.VALIDITY,
        field,
        _moment(after, now),
        f"at most {now}",
        "check the payer's clock; the same payload becomes valid later",
        reason,
    )


def _validity_too_long(payment: Payment, facts: Facts) -> _Findings:
    """What is valid for days can still be settled by anybody when seller and payer have given it up."""
    before, longest_s, now = payment.valid_before, facts.longest_validity_s, int(facts.now)
    if before is None or longest_s is None or before - now <= longest_s or not _is_evm(payment):
        return ()
    field, _, reason = _BEFORE[payment.method]
    return (
        Finding(
            Check.VALIDITY_TOO_LONG,
            field,
            _moment(before, now),
            f"at most {longest_s:g} s ahead of {now}",
            f"let the payer sign for at most {longest_s:g} s; clients sign for maxTimeoutSeconds",
            reason,
        ),
    )


def _description(payment: Payment, facts: Facts) -> _Findings:
    longest = facts.longest_description
    if longest is None or payment.description_chars <= longest:
        return ()
    first = payment.x402_version == 1
    return (
        Finding(
            Check.DESCRIPTION,
            f"{'paymentRequirements' if first else 'paymentPayload.resource'}.description",
            f"{payment.description_chars} characters",
            f"at most {longest} characters",
            f"shorten the description of the resource to {longest} characters",
            "invalid_payment_requirements" if first else "invalid_payload",
        ),
    )


def _payment_id(payment: Payment, facts: Facts) -> _Findings:
    """A facilitator that tells repeats apart by this id alone may charge a repeat without one again."""
    if not facts.needs_payment_id or payment.payment_id:
        return ()
    return (
        Finding(
            Check.PAYMENT_ID,
            "paymentPayload.extensions.payment-identifier.info.id",
            "none",
            "an id of 16 to 128 letters, digits, - or _",
            "declare the extension payment-identifier in the 402, so that clients send one",
            "invalid_payload",
        ),
    )


def _unsupported(payment: Payment, facts: Facts) -> _Findings:
    """Every facilitator has `exact`: where that is not offered it is the network that is missing."""
    if facts.supported is not False:
        return ()
    part = "network" if payment.scheme == "exact" else "scheme"
    return (
        Finding(
            Check.UNSUPPORTED,
            f"paymentRequirements.{part}",
            shown(payment.network_as_sent if part == "network" else payment.scheme),
            "a network and scheme that /supported lists",
            f"add a facilitator that offers {shown(payment.scheme)} on {shown(payment.network_as_sent)}"
            " to the policy, or ask for a payment that /supported lists",
            f"unsupported_{part}",
        ),
    )


_CHECKS: tuple[Callable[[Payment, Facts], _Findings], ...] = (
    _token_domain,
    _minimum_amount,
    _payer_is_payee,
    _validity,
    _validity_too_long,
    _description,
    _payment_id,
    _unsupported,
)

_PAYLOAD = "paymentPayload.payload."
_BEFORE = {
    Method.EIP3009: (
        _PAYLOAD + "authorization.validBefore",
        "invalid_exact_evm_payload_authorization_valid_before",
        "invalid_exact_evm_payload_authorization_valid_before",
    ),
    Method.PERMIT2: (
        _PAYLOAD + "permit2Authorization.deadline",
        "permit2_deadline_expired",
        "invalid_exact_evm_permit2_payload_deadline",
    ),
}
"""By method: the field that ends the validity, the reason where it is too near and where too far."""

_AFTER = {
    Method.EIP3009: (
        _PAYLOAD + "authorization.validAfter",
        "invalid_exact_evm_payload_authorization_valid_after",
    ),
    Method.PERMIT2: (_PAYLOAD + "permit2Authorization.witness.validAfter", "permit2_not_yet_valid"),
}


def _is_evm(payment: Payment) -> bool:
    """An authorization whose fields were read strictly."""
    return payment.method is Method.EIP3009 or payment.method is Method.PERMIT2


def short(address: str) -> str:
    """An address as a sentence names it."""
    return f"{address[:6]}…{address[-4:]}" if len(address) > 12 else address


def units(amount: int, network: str, asset: str) -> str:
    """Atomic units, with the dollars that they are worth where the token is known."""
    decimals = dollar_decimals(network, asset)
    if decimals is None or amount >= 10**27:
        return f"{amount} atomic"
    return f"{amount} atomic (${Decimal(amount).scaleb(-decimals).normalize():f})"


def _moment(at: int, now: int) -> str:
    """A Unix time and how far it is off."""
    away = at - now
    if away > FAR_AHEAD_S:
        return f"{shown(at)}, more than ten years ahead"
    return f"{at}, {away} s ahead" if away > 0 else f"{at}, {-away} s ago"
