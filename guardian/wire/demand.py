"""A 402 of a resource server as a view over its bytes: what may be paid, and to whom. No I/O.

v1 demands in the body, v2 in the header PAYMENT-REQUIRED; a server may do both. Reading is tolerant of
what the guardian does not know; rewriting touches `accepts` and leaves the bytes of all else as they are.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import orjson

from guardian.errors import BadPayment
from guardian.wire.encoded import RawHeaders, decoded, encoded, header
from guardian.wire.fields import (
    MAX_BODY_BYTES,
    Json,
    account_of,
    found,
    parse_body,
    refuse_twins,
    text_of,
    uint_of,
)
from guardian.wire.names import Address, Network
from guardian.wire.networks import network_of

REQUIRED = b"payment-required"
MAX_OFFERS = 256
"""Sellers offer a handful: one for each network and scheme."""

MAX_ERROR_CHARS = 1000
AMOUNT_KEYS = ("amount", "maxAmountRequired")
"""As v2 and v1 say it: where both stand, a client reads that of its version."""

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32

_ABOUT_THE_BODY = frozenset(
    {
        *(b"content-length", b"content-encoding", b"content-md5", b"content-digest", b"repr-digest"),
        *(b"digest", b"etag"),
    }
)
"""What is no longer true of a body that was written anew."""

Spot = Literal["header", "body"]


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to pay, an element of `accepts`.

    spot, index: where it stands; network: CAIP-2 where the name is known, else as sent, "" without one;
    asset, pay_to: EVM lower-cased, "" without one; amount: atomic units, None where none can be read;
    domain_…, transfer_method: of `extra`, "" where it names none; terms: the whole element.
    """

    spot: Spot
    index: int
    x402_version: int
    scheme: str
    network: Network
    network_as_sent: str
    asset: Address
    pay_to: Address
    amount: int | None
    max_timeout_s: int | None
    domain_name: str
    domain_version: str
    domain_contract: Address
    transfer_method: str
    resource: str
    terms: Json = field(repr=False)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a resource server wants before it delivers.

    x402_version: 2 where the header demands, else 1; offers: those of the header, then those of the body;
    resource: the URL that is sold, "" where none is named; error: why it asks (again); headers, body: as
    received.
    """

    x402_version: int
    offers: tuple[Offer, ...]
    resource: str
    error: str
    headers: RawHeaders = field(repr=False)
    body: bytes = field(repr=False)


def read_demand(headers: RawHeaders, body: bytes) -> Demand | None:
    """The demand in a 402, None where there is none. headers: names in any case. Raises BadPayment
    (field, found, cure) and nothing else for one that cannot be read."""
    parts: list[tuple[Spot, Json]] = []
    value = header(headers, REQUIRED)
    if value:
        parts.append(("header", _demand_in(decoded(value, REQUIRED), "PAYMENT-REQUIRED")))
    if (inside := _body_demand(headers, body, strict=not parts)) is not None:
        parts.append(("body", inside))
    if not parts:
        return None
    first = parts[0][1]
    offers = tuple(offer for spot, part in parts for offer in _offers(spot, part))
    return Demand(
        x402_version=_version(parts[0][0], first),
        offers=offers,
        resource=_resource(first) or next((offer.resource for offer in offers if offer.resource), ""),
        error=_text(first.get("error")),
        headers=headers,
        body=body,
    )


def with_accepts(demand: Demand, order: Sequence[Offer]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of the demand with these of its offers, in this order, and no others.

    Every other value keeps its bytes. The very same headers and body where nothing changes.
    """
    headers, body = list(demand.headers), demand.body
    for spot in ("header", "body"):
        had = [offer for offer in demand.offers if offer.spot == spot]
        kept = [offer.index for offer in order if offer.spot == spot]
        if kept == [offer.index for offer in had]:
            continue
        if spot == "header":
            headers = _with_header(headers, kept)
        else:
            plain = _plain(headers, body)
            body = _reordered(plain if plain is not None else body, kept)
            headers = [line for line in headers if line[0].lower() not in _ABOUT_THE_BODY]
            headers.append((b"content-length", b"%d" % len(body)))
    return headers, body


def _with_header(headers: list[tuple[bytes, bytes]], kept: list[int]) -> list[tuple[bytes, bytes]]:
    def written(value: bytes) -> bytes:
        return encoded(_reordered(decoded(value.strip(b" \t"), REQUIRED), kept))

    return [(name, written(value)) if name.lower() == REQUIRED else (name, value) for name, value in headers]


def _reordered(text: bytes, kept: list[int]) -> bytes:
    parts = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    offers = msgspec.json.decode(parts["accepts"], type=list[msgspec.Raw])
    chosen = b"[" + b",".join(bytes(offers[index]) for index in kept) + b"]"
    lines = (
        orjson.dumps(name) + b":" + (chosen if name == "accepts" else bytes(value))
        for name, value in parts.items()
    )
    return b"{" + b",".join(lines) + b"}"


def _body_demand(headers: RawHeaders, body: bytes, *, strict: bool) -> Json | None:
    """The demand in the body. strict: nothing else demands, so what looks like one must be readable."""
    plain = _plain(headers, body)
    if not plain or b'"accepts"' not in plain or plain.lstrip()[:1] != b"{":
        return None  # {}, a paywall in HTML, or an API that means something else by 402
    try:
        return _demand_in(plain, "body")
    except BadPayment:
        if strict:
            raise
        return None


def _plain(headers: RawHeaders, body: bytes) -> bytes | None:
    """The body without its encoding; None for one that is not undone here or unfolds too far."""
    codings = [value.strip().lower() for name, value in headers if name.lower() == b"content-encoding"]
    if not codings or codings == [b"identity"]:
        return body
    if codings not in ([b"gzip"], [b"x-gzip"], [b"deflate"]):
        return None
    unfolding = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        plain = unfolding.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error:
        return None
    return plain if unfolding.eof and len(plain) <= MAX_BODY_BYTES else None


def _demand_in(text: bytes, place: str) -> Json:
    try:
        root = parse_body(text)
        refuse_twins(root, "")
        # Values keep their bytes when `accepts` is rewritten, so they must come apart.
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except BadPayment as fault:
        at = place if fault.field in ("", "body") else f"{place}.{fault.field}"
        raise BadPayment(at, fault.found, fault.cure) from fault
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise BadPayment(place, "JSON that parsers read differently", "send plain JSON in UTF-8") from exc
    accepts = root.get("accepts")
    if type(accepts) is not list:
        raise BadPayment(f"{place}.accepts", found(accepts), "send a list of payment requirements")
    if len(accepts) > MAX_OFFERS:
        raise BadPayment(f"{place}.accepts", f"{len(accepts)} offers", f"send at most {MAX_OFFERS}")
    for index, terms in enumerate(accepts):
        if type(terms) is not dict:
            raise BadPayment(f"{place}.accepts.{index}", found(terms), "send a JSON object")
        refuse_twins(terms, f"{place}.accepts.{index}")
    return root


def _offers(spot: Spot, root: Json) -> list[Offer]:
    version = _version(spot, root)
    return [_offer(spot, index, version, terms) for index, terms in enumerate(root["accepts"])]


def _offer(spot: Spot, index: int, version: int, terms: Json) -> Offer:
    sent = text_of(terms.get("network"))
    extra = terms.get("extra")
    domain: Json = extra if type(extra) is dict else {}
    first, second = AMOUNT_KEYS if version != 1 else AMOUNT_KEYS[::-1]
    amount = terms.get(first) if first in terms else terms.get(second)
    return Offer(
        spot=spot,
        index=index,
        x402_version=version,
        scheme=text_of(terms.get("scheme")),
        network=network_of(sent) or Network(sent),
        network_as_sent=sent,
        asset=account_of(terms.get("asset")),
        pay_to=account_of(terms.get("payTo")),
        amount=uint_of(amount),
        max_timeout_s=uint_of(terms.get("maxTimeoutSeconds")),
        domain_name=text_of(domain.get("name")),
        domain_version=text_of(domain.get("version")),
        domain_contract=account_of(domain.get("verifyingContract")),
        transfer_method=text_of(domain.get("assetTransferMethod")),
        resource=_text(terms.get("resource")),
        terms=terms,
    )


def _version(spot: Spot, root: Json) -> int:
    version = root.get("x402Version")
    if type(version) is int and 0 < version < 1000:
        return version
    return 2 if spot == "header" else 1


def _resource(root: Json) -> str:
    resource = root.get("resource")
    return _text(resource.get("url") if type(resource) is dict else resource)


def _text(value: object) -> str:
    """A text, cut where it is too long to be kept."""
    return value[:MAX_ERROR_CHARS] if type(value) is str else ""
