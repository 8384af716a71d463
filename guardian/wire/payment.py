"""A payment as a view over the body of /verify or /settle, x402 v1 and v2. No I/O.

Strict about what matters for money, tolerant of all else: the body itself is forwarded as received.
What identifies a payment by scheme lives in `identity`, how a field is read in `fields`.
"""

import hashlib

import msgspec

from guardian.errors import BadPayment
from guardian.wire.fields import (
    Json,
    account_of,
    address_at,
    found,
    object_at,
    parse_body,
    refuse_twins,
    text_at,
    text_of,
    uint_at,
    uint_of,
)
from guardian.wire.identity import Method, Signed, read_signed
from guardian.wire.names import Address, Network, Nonce, public_id
from guardian.wire.networks import network_of

__all__ = ["Method", "Payment", "read_payment"]

MAX_RESOURCE_CHARS = 2048
"""Longer resources are kept as their hash: they only have to be told apart."""

MAX_SECONDS = 2**53
"""Bound for `maxTimeoutSeconds`: what a float in seconds holds exactly."""


_REPEATED = frozenset({"scheme", "network", "asset"})
"""Of the requirements, what a payload may say of itself."""


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """One payment, read from a request.

    key: the identity, by method:
        EIP3009  network/asset/payer/nonce
        PERMIT2  network/permit2/payer/nonce
        SVM      network/svm/<sha256 of the message>
        BATCH    network/batch/<type>/<channel>/<nonce or cumulative amount>
        OPAQUE   network/scheme/sha256:<hash of the canonical payload>
    id: the key's public short form. network: CAIP-2 where the name is known, else as sent.
    amount: what the requirements ask (atomic units; a ceiling for `upto` at /verify).
    authorization_to, authorization_value: what was signed, which may differ from pay_to and amount.
    domain_contract: the contract that checks the signature, where `extra` names one (Circle Gateway).
    description_chars: the length of what is said about the resource, 0 without a description.
    nonce: "" says that the payload names nothing that makes it unique (opaque ones; a batch sweep).
    signature_hash: sha256 of the signature's bytes; for SVM of the whole transaction; "" without one.
    """

    key: str
    id: str
    x402_version: int
    scheme: str
    method: Method
    network: Network
    network_as_sent: str
    asset: Address
    payer: Address
    pay_to: Address
    amount: int
    nonce: Nonce
    resource: str
    valid_after: int | None
    valid_before: int | None
    max_timeout_s: int | None
    signature: str
    signature_hash: str
    domain_name: str
    domain_version: str
    domain_contract: Address
    description_chars: int
    bound_to: str
    payment_id: str
    authorization_to: str
    authorization_value: int | None

    def __repr__(self) -> str:
        """Without the signature, which is as good as money until it is used."""
        return f"Payment({self.id}, {self.key})"


def read_payment(body: bytes) -> Payment:
    """The payment in a request body. Raises BadPayment (field, found, cure) and nothing else.

    Keys that stand twice, or in two spellings that differ in case, are refused where they could make
    the facilitator settle another payment than the one read here; in extensions they pass.
    """
    root = parse_body(body)
    wrapper = object_at(root, "paymentPayload", "")
    terms = object_at(root, "paymentRequirements", "")
    payload = object_at(wrapper, "payload", "paymentPayload.")
    for part, path in ((root, "body"), (wrapper, "paymentPayload"), (terms, "paymentRequirements")):
        refuse_twins(part, path)
    repeated = _repeated(terms, wrapper)
    scheme = _scheme(terms, repeated)
    network, as_sent = _network(terms, repeated)
    asset = _asset(terms, repeated)
    signed = read_signed(network, scheme, asset, payload)
    return _payment(
        root, wrapper, terms, signed, scheme=scheme, network=network, as_sent=as_sent, asset=asset
    )


def _payment(
    root: Json,
    wrapper: Json,
    terms: Json,
    signed: Signed,
    *,
    scheme: str,
    network: Network,
    as_sent: str,
    asset: Address,
) -> Payment:
    if strict := signed.method in (Method.EIP3009, Method.PERMIT2):
        address_at(terms, "asset", "paymentRequirements.")
    extra, version = terms.get("extra"), _version(root, wrapper, terms)
    domain: Json = extra if type(extra) is dict else {}
    return Payment(
        key=signed.key,
        id=public_id(signed.key),
        x402_version=version,
        scheme=scheme,
        method=signed.method,
        network=network,
        network_as_sent=as_sent,
        asset=asset,
        payer=signed.payer,
        pay_to=_pay_to(terms, strict=strict),
        amount=_amount(terms, version, strict=strict),
        nonce=signed.nonce,
        resource=_resource(wrapper, terms),
        valid_after=signed.valid_after,
        valid_before=signed.valid_before,
        max_timeout_s=_seconds(terms.get("maxTimeoutSeconds")),
        signature=signed.signature,
        signature_hash=signed.signature_hash,
        domain_name=text_of(domain.get("name")),
        domain_version=text_of(domain.get("version")),
        domain_contract=account_of(domain.get("verifyingContract")),
        description_chars=_description_chars(wrapper, terms),
        bound_to=_bound_to(wrapper, domain),
        payment_id=_payment_id(wrapper),
        authorization_to=signed.to,
        authorization_value=signed.value,
    )


def _repeated(terms: Json, wrapper: Json) -> list[tuple[str, Json]]:
    """Where the payload itself says what it is for, unless it says just what the requirements say: v2 in
    `accepted`, v1 beside the payload."""
    repeated: list[tuple[str, Json]] = []
    accepted = wrapper.get("accepted")
    if type(accepted) is dict and accepted != terms:
        refuse_twins(accepted, "paymentPayload.accepted")
        repeated.append(("paymentPayload.accepted.", accepted))
    if not _REPEATED.isdisjoint(wrapper):
        repeated.append(("paymentPayload.", wrapper))
    return repeated


def _scheme(terms: Json, repeated: list[tuple[str, Json]]) -> str:
    scheme = text_at(terms, "scheme", "paymentRequirements.", "name the scheme, e.g. exact")
    for place, said in repeated:
        other = said.get("scheme")
        if other is not None and other != scheme:
            raise BadPayment(place + "scheme", found(other), "name the scheme of paymentRequirements.scheme")
    return scheme


def _network(terms: Json, repeated: list[tuple[str, Json]]) -> tuple[Network, str]:
    """(network, as sent) of the requirements; refused where the payload names another one."""
    path = "paymentRequirements.network"
    cure = "name the network as CAIP-2 (eip155:8453) or by its v1 name (base)"
    sent = text_at(terms, "network", "paymentRequirements.", cure)
    network = network_of(sent)
    if network is None:
        raise BadPayment(path, found(sent), cure)
    for place, said in repeated:
        other = said.get("network")
        if other is not None and (type(other) is not str or network_of(other) != network):
            raise BadPayment(place + "network", found(other), f"name the network of {path}, {sent}")
    return network, sent


def _asset(terms: Json, repeated: list[tuple[str, Json]]) -> Address:
    asset = account_of(terms.get("asset"))
    for place, said in repeated:
        other = said.get("asset")
        if other is not None and account_of(other) != asset:
            raise BadPayment(place + "asset", found(other), "name the asset of paymentRequirements.asset")
    return asset


def _pay_to(terms: Json, *, strict: bool) -> Address:
    return address_at(terms, "payTo", "paymentRequirements.") if strict else account_of(terms.get("payTo"))


def _amount(terms: Json, version: int, *, strict: bool) -> int:
    """v2 says `amount`, v1 `maxAmountRequired`, and of both that of its version counts; 0 where a scheme that
    we do not know names none."""
    keys = ("maxAmountRequired", "amount") if version == 1 else ("amount", "maxAmountRequired")
    key = next((key for key in keys if key in terms), "amount")
    if strict:
        return uint_at(terms, key, "paymentRequirements.")
    return uint_of(terms.get(key)) or 0


def _version(root: Json, wrapper: Json, terms: Json) -> int:
    for part, path in ((root, ""), (wrapper, "paymentPayload.")):
        if (sent := part.get("x402Version")) is None:
            continue
        version = uint_of(sent)
        if version is None or not 0 < version < 1000:
            raise BadPayment(f"{path}x402Version", found(sent), "send the protocol's version, 1 or 2")
        return version
    return 1 if "maxAmountRequired" in terms else 2


def _resource(wrapper: Json, terms: Json) -> str:
    """The URL that is paid for: v2 in the payload, v1 in the requirements; "" where none is named."""
    resource = wrapper.get("resource") or terms.get("resource")
    if type(resource) is dict:
        resource = resource.get("url")
    if type(resource) is not str:
        return ""
    if len(resource) > MAX_RESOURCE_CHARS:
        return "sha256:" + hashlib.sha256(resource.encode()).hexdigest()
    return resource


def _description_chars(wrapper: Json, terms: Json) -> int:
    """v2 describes the resource in the payload, v1 in the requirements."""
    resource = wrapper.get("resource")
    described = resource if type(resource) is dict else terms
    description = described.get("description")
    return len(description) if type(description) is str else 0


def _bound_to(wrapper: Json, extra: Json) -> str:
    """The one account that can settle this: Solana's fee payer, or the facilitator an upto witness names."""
    if type(payer := extra.get("feePayer")) is str:
        return payer
    found: object = wrapper["payload"]
    for key in ("permit2Authorization", "witness", "facilitator"):
        found = found.get(key) if type(found) is dict else None
    return found if type(found) is str else ""


def _payment_id(wrapper: Json) -> str:
    """The id that the extension payment-identifier carries; it is not signed, and no identity."""
    found: object = wrapper.get("extensions")
    for key in ("payment-identifier", "info", "id"):
        found = found.get(key) if type(found) is dict else None
    return found if type(found) is str else ""


def _seconds(value: object) -> int | None:
    seconds = uint_of(value)
    return seconds if seconds is not None and seconds <= MAX_SECONDS else None
