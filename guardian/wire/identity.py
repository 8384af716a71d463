"""What was signed, by scheme: which bytes make a payment the one it is. No I/O.

Identity is what the payer signed and the chain will accept once, never a body hash: bodies are
enriched between /verify and /settle. Where a scheme has no such thing, or is unknown, the canonical
JSON of `paymentPayload.payload` stands in (OPAQUE).
"""

import hashlib
from collections.abc import Callable
from enum import StrEnum

import msgspec
import orjson

from guardian.errors import BadPayment
from guardian.wire.fields import (
    Json,
    address_at,
    bytes32_at,
    found,
    is_address,
    object_at,
    refuse_misspelt,
    refuse_twins,
    uint_at,
    uint_of,
)
from guardian.wire.names import Address, Network, Nonce
from guardian.wire.solana import NotCanonical, signed_parts

PAYLOAD = "paymentPayload.payload."
MAX_SIGNATURE_CHARS = 64 * 1024
"""A smart wallet's signature carries its deployment: some kB of hex."""


_SHAPES = ("authorization", "permit2Authorization", "delegationManager")
_TELLING = frozenset((*_SHAPES, "transaction", "type", "signature"))
"""What tells one payload from another. Overlooked, the same authorization would be an opaque payment as well,
and a facilitator that remembers what it settled would let both buy."""

_NO_ADDRESS = Address("")
_NO_NONCE = Nonce("")


class Method(StrEnum):
    """How the money is moved, which decides what identifies a payment and what the chain can show."""

    EIP3009 = "eip3009"
    PERMIT2 = "permit2"
    SVM = "svm"
    BATCH = "batch"
    OPAQUE = "opaque"


class Signed(msgspec.Struct):
    """One authorization as its scheme writes it; see `Payment` for the fields."""

    method: Method
    key: str
    payer: Address = _NO_ADDRESS
    nonce: Nonce = _NO_NONCE
    valid_after: int | None = None
    valid_before: int | None = None
    signature: str = ""
    signature_hash: str = ""
    to: str = ""
    value: int | None = None


def read_signed(network: Network, scheme: str, asset: str, payload: Json) -> Signed:
    """The authorization inside a payload. asset: the one that the requirements name, EVM lower-cased."""
    reader = _READERS.get(scheme)
    if reader and not payload.keys() <= _TELLING:
        refuse_misspelt(payload, _TELLING, PAYLOAD[:-1])
    signed = reader(network, asset, payload) if reader else None
    return signed or _opaque(network, scheme, payload)


def is_evm(network: str) -> bool:
    """Whether a network is one of Ethereum's kind, by its CAIP-2 id."""
    return network.startswith("eip155:")


def _exact(network: Network, asset: str, payload: Json) -> Signed | None:
    if network.startswith("solana:"):
        return _svm(network, payload)
    shapes = [name for name in _SHAPES if name in payload]
    if len(shapes) > 1:
        raise BadPayment(PAYLOAD + shapes[1], f"a second authorization beside {shapes[0]}", "send one")
    if not shapes or not _may_be_evm(network, payload, shapes[0]):
        return None
    refuse_twins(payload, PAYLOAD[:-1])
    if shapes[0] == "authorization":
        return _eip3009(network, asset, payload)
    if shapes[0] == "permit2Authorization":
        return _permit2(network, asset, payload)
    return _opaque_delegation(network, payload)


def _may_be_evm(network: str, payload: Json, shape: str) -> bool:
    """An EVM network, or an unknown v1 name with an EVM payer: those keep their nonce as identity."""
    if is_evm(network):
        return True
    signed = payload[shape]
    return ":" not in network and type(signed) is dict and is_address(signed.get("from"))


def _eip3009(network: Network, asset: str, payload: Json) -> Signed:
    path = PAYLOAD + "authorization."
    auth = object_at(payload, "authorization", PAYLOAD)
    refuse_twins(auth, path[:-1])
    payer = address_at(auth, "from", path)
    nonce = bytes32_at(auth, "nonce", path)
    signature, signature_hash = _signature_in(payload, PAYLOAD)
    return Signed(
        method=Method.EIP3009,
        key=f"{network}/{asset}/{payer}/{nonce}",
        payer=payer,
        nonce=nonce,
        valid_after=uint_at(auth, "validAfter", path) if "validAfter" in auth else None,
        valid_before=uint_at(auth, "validBefore", path),
        signature=signature,
        signature_hash=signature_hash,
        to=address_at(auth, "to", path),
        value=uint_at(auth, "value", path),
    )


def _permit2(network: Network, asset: str, payload: Json) -> Signed:
    """Permit2 counts nonces per owner over all tokens, so the asset is no part of the key."""
    path = PAYLOAD + "permit2Authorization."
    auth = object_at(payload, "permit2Authorization", PAYLOAD)
    permitted = object_at(auth, "permitted", path)
    witness = object_at(auth, "witness", path)
    for part, name in ((auth, path), (permitted, path + "permitted."), (witness, path + "witness.")):
        refuse_twins(part, name[:-1])
    token = address_at(permitted, "token", path + "permitted.")
    if token != asset:
        raise BadPayment(path + "permitted.token", token, f"send the asset of paymentRequirements, {asset}")
    payer = address_at(auth, "from", path)
    nonce = str(uint_at(auth, "nonce", path))
    signature, signature_hash = _signature_in(payload, PAYLOAD)
    return Signed(
        method=Method.PERMIT2,
        key=f"{network}/permit2/{payer}/{nonce}",
        payer=payer,
        nonce=Nonce(nonce),
        valid_after=uint_of(witness.get("validAfter")),
        valid_before=uint_at(auth, "deadline", path),
        signature=signature,
        signature_hash=signature_hash,
        to=address_at(witness, "to", path + "witness."),
        value=uint_at(permitted, "amount", path + "permitted."),
    )


def _svm(network: Network, payload: Json) -> Signed | None:
    """The message is the identity; its signatures stand in for the signature."""
    transaction = payload.get("transaction")
    if type(transaction) is not str:
        return None
    try:
        parts = signed_parts(transaction)
    except NotCanonical:
        raise BadPayment(
            PAYLOAD + "transaction",
            f"a text of {len(transaction)} characters",
            "send the transaction in standard base64 with padding, and nothing after its end",
        ) from None
    if parts is None:
        return None
    message, whole = parts
    return Signed(
        method=Method.SVM,
        key=f"{network}/svm/{message}",
        nonce=Nonce(message),
        signature=transaction,
        signature_hash=whole,
    )


def _batch(network: Network, asset: str, payload: Json) -> Signed | None:
    """Identity by payload type. A sweep (`settle`) has none of its own and may rightly be repeated:
    its nonce stays empty."""
    kind = payload.get("type")
    if kind not in ("deposit", "voucher", "refund", "claim", "settle"):
        return None
    prefix = f"{network}/batch/{kind}"
    if kind == "claim":
        return _batch_claim(prefix, payload)
    if kind == "settle":
        return Signed(method=Method.BATCH, key=f"{prefix}/{_payload_hash(payload)}")
    voucher = object_at(payload, "voucher", PAYLOAD)
    config = object_at(payload, "channelConfig", PAYLOAD)
    for part, name in ((payload, ""), (voucher, ".voucher"), (config, ".channelConfig")):
        refuse_twins(part, PAYLOAD[:-1] + name)
    channel = bytes32_at(voucher, "channelId", PAYLOAD + "voucher.")
    ceiling = uint_at(voucher, "maxClaimableAmount", PAYLOAD + "voucher.")
    payer = address_at(config, "payer", PAYLOAD + "channelConfig.")
    signature, signature_hash = _signature_in(voucher, PAYLOAD + "voucher.")
    signed = Signed(Method.BATCH, "", payer, signature=signature, signature_hash=signature_hash)
    if kind == "deposit":
        nonce = _read_deposit(signed, payload)
    elif kind == "refund" and "refundNonce" in payload:
        nonce = f"refund:{uint_at(payload, 'refundNonce', PAYLOAD)}"
    else:
        nonce = f"upto:{ceiling}"
    signed.key = f"{prefix}/{channel}/{nonce}"
    signed.nonce = Nonce(nonce)
    return signed


def _batch_claim(prefix: str, payload: Json) -> Signed:
    digest = _payload_hash(payload)
    signature, signature_hash = _signature_in(payload, PAYLOAD, "claimAuthorizerSignature")
    return Signed(
        method=Method.BATCH,
        key=f"{prefix}/{digest}",
        nonce=Nonce(digest),
        signature=signature,
        signature_hash=signature_hash or digest,
    )


def _read_deposit(signed: Signed, payload: Json) -> str:
    """Fill in what a channel deposit signed; gives its nonce.

    With EIP-3009 the wire carries the salt; the chain's nonce is keccak(channelId, salt).
    """
    path = PAYLOAD + "deposit."
    deposit = object_at(payload, "deposit", PAYLOAD)
    auth = object_at(deposit, "authorization", path)
    for part, name in ((deposit, path), (auth, path + "authorization.")):
        refuse_twins(part, name[:-1])
    shapes = [name for name in ("erc3009Authorization", "permit2Authorization") if auth.get(name) is not None]
    if len(shapes) != 1:
        raise BadPayment(
            path + "authorization",
            f"{len(shapes)} authorizations",
            "send erc3009Authorization or permit2Authorization",
        )
    path += "authorization."
    inner = object_at(auth, shapes[0], path)
    path += shapes[0] + "."
    refuse_twins(inner, path[:-1])
    signed.value = uint_at(deposit, "amount", PAYLOAD + "deposit.")
    signed.signature, signed.signature_hash = _signature_in(inner, path)
    if shapes[0] == "permit2Authorization":
        signed.valid_before = uint_at(inner, "deadline", path)
        return f"permit2:{uint_at(inner, 'nonce', path)}"
    signed.valid_after = uint_of(inner.get("validAfter"))
    signed.valid_before = uint_at(inner, "validBefore", path)
    return f"salt:{bytes32_at(inner, 'salt', path)}"


def _opaque_delegation(network: Network, payload: Json) -> Signed:
    """ERC-7710 has no nonce: only a transfer that matches can be looked for."""
    signed = _opaque(network, "exact", payload)
    if is_address(payload.get("delegator")):
        signed.payer = Address(payload["delegator"].lower())
    return signed


def _opaque(network: Network, scheme: str, payload: Json) -> Signed:
    """Unknown schemes are never refused; integers over 64 bits count with a float's precision."""
    digest = _payload_hash(payload)
    signature = payload.get("signature")
    usable = type(signature) is str and 0 < len(signature) <= MAX_SIGNATURE_CHARS
    return Signed(
        method=Method.OPAQUE,
        key=f"{network}/{scheme}/sha256:{digest}",
        signature=str(signature) if usable else "",
        signature_hash=_hash_of(str(signature)) if usable else digest,
    )


def _payload_hash(payload: Json) -> str:
    return hashlib.sha256(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _signature_in(parent: Json, path: str, key: str = "signature") -> tuple[str, str]:
    """(signature, its hash); both "" where the wire leaves it out."""
    signature = parent.get(key)
    if signature is None or signature == "":
        return "", ""
    if type(signature) is not str or len(signature) > MAX_SIGNATURE_CHARS:
        what = f"{len(signature)} characters" if type(signature) is str else found(signature)
        raise BadPayment(path + key, what, f"send a text of at most {MAX_SIGNATURE_CHARS} characters")
    return signature, _hash_of(signature)


def _hash_of(signature: str) -> str:
    """sha256 of the signed bytes, so that the case of hex digits does not count; else of the text."""
    try:
        raw = bytes.fromhex(signature[2:]) if signature[:2] in ("0x", "0X") else signature.encode()
    except ValueError:
        raw = signature.encode()
    return hashlib.sha256(raw).hexdigest()


_READERS: dict[str, Callable[[Network, str, Json], Signed | None]] = {
    "exact": _exact,
    "upto": _exact,
    "batch-settlement": _batch,
}
