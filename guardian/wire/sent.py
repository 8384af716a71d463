"""The payment and the receipt in headers between a client and a resource server, v1 and v2. No I/O.

The payment is read by `payment`, so that it has one identity on both planes. A v2 header carries the
terms it accepts. A v1 header carries none: they come from the demand, where it is known, else from what
was signed, and then the asset is unknown, because EIP-3009 does not name it in what is sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import orjson

from guardian.errors import BadPayment
from guardian.wire.demand import Offer
from guardian.wire.encoded import RawHeaders, decoded, header, shown
from guardian.wire.fields import Json, object_at, parse_body, refuse_twins, text_of
from guardian.wire.names import Address, public_id
from guardian.wire.networks import network_of
from guardian.wire.payment import Payment, read_payment
from guardian.wire.reply import SettleReply, read_settle_reply

PAYMENT_HEADERS = (b"payment-signature", b"x-payment")
RECEIPT_HEADERS = (b"payment-response", b"x-payment-response")

_UNKNOWN_ASSET = "0x" + "0" * 40


@dataclass(frozen=True, slots=True)
class SentPayment:
    """A payment as a client sent it. header: its name in lower case; value: as received; payment: with an
    empty asset where nobody said which (see the module); terms: those of the offer that it answers, as JSON,
    where they do not stand in the header."""

    header: bytes
    value: bytes = field(repr=False)
    payment: Payment
    terms: bytes = b""


def pays(headers: RawHeaders) -> bool:
    """Whether a request carries a payment, readable or not."""
    return any(_plain(name) in PAYMENT_HEADERS for name, _ in headers)


def read_sent_payment(headers: RawHeaders, offers: Sequence[Offer] = ()) -> SentPayment | None:
    """The payment in a request, None where there is none. offers: of the demand that it answers, if known.

    Raises BadPayment (field, found, cure) and nothing else; also for a v1 and a v2 header at once, of
    which each server would take the one that it knows.
    """
    sent = [(name, value) for name in PAYMENT_HEADERS if (value := header(headers, name)) is not None]
    for name, _ in headers:  # CGI and WSGI take `_` for `-`, so that their sellers would read it
        if b"_" in name and _plain(name) in PAYMENT_HEADERS:
            raise BadPayment(shown(name), "a payment under another name", f"send {shown(_plain(name))}")
    if not sent:
        return None
    if len(sent) > 1:
        raise BadPayment(shown(sent[1][0]), f"a payment beside {shown(sent[0][0])}", "send one payment")
    (name, value), *_ = sent
    return SentPayment(name, value, *_payment(name, value, offers))


def read_receipt(headers: RawHeaders) -> SettleReply | None:
    """What the resource server says about the settlement, None where it says nothing. Any JSON is read,
    as far as it goes; raises BadPayment for what is none."""
    for name in RECEIPT_HEADERS:
        value = header(headers, name)
        if value:
            text = decoded(value, name)
            try:
                orjson.loads(text)
            except ValueError as exc:
                raise BadPayment(shown(name), "no JSON", "send JSON in standard base64") from exc
            return read_settle_reply(200, text)
    return None


def _plain(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-")


def _payment(name: bytes, value: bytes, offers: Sequence[Offer]) -> tuple[Payment, bytes]:
    try:
        return _read(decoded(value, name), name, offers)
    except BadPayment as fault:
        if fault.field == shown(name):
            raise
        at = fault.field.removeprefix("paymentPayload").removeprefix(".")
        whole = at in ("", "body")
        raise BadPayment(shown(name) if whole else f"{shown(name)}.{at}", fault.found, fault.cure) from fault


def _read(text: bytes, name: bytes, offers: Sequence[Offer]) -> tuple[Payment, bytes]:
    wrapper = parse_body(text)
    refuse_twins(wrapper, "")
    payload = object_at(wrapper, "payload", "")
    if "accepted" in wrapper and not _may_be_v1(wrapper, name):
        return _read_with(wrapper, object_at(wrapper, "accepted", "")), b""
    own = _own_terms(wrapper, payload)
    if (offer := _matching(own, offers)) is not None:
        return _read_with(wrapper, offer.terms), orjson.dumps(offer.terms)
    payment = _read_with(wrapper, own)
    if payment.asset != _UNKNOWN_ASSET:
        return payment, b""
    key = payment.key.replace(f"/{_UNKNOWN_ASSET}/", "//", 1)
    return msgspec.structs.replace(payment, asset=Address(""), key=key, id=public_id(key)), b""


def _may_be_v1(wrapper: Json, name: bytes) -> bool:
    """A v1 seller takes it, and reads nothing of what it accepts: that may say anything."""
    whole = "scheme" in wrapper and "network" in wrapper
    return wrapper.get("x402Version") == 1 or (name == b"x-payment" and whole)


def _read_with(wrapper: Json, terms: Json) -> Payment:
    version = wrapper.get("x402Version")
    root: Json = {"paymentPayload": wrapper, "paymentRequirements": terms}
    try:
        return read_payment(orjson.dumps({**root, "x402Version": version} if version is not None else root))
    except TypeError as exc:  # nested deeper than can be written
        raise BadPayment("body", "nesting that is too deep", "send the payment alone") from exc


def _own_terms(wrapper: Json, payload: Json) -> Json:
    """Terms from what was signed: payee and amount are those of the authorization."""
    terms: Json = {name: wrapper[name] for name in ("scheme", "network") if name in wrapper}
    signed = payload.get("authorization")
    if type(signed) is dict:
        said = {"asset": _UNKNOWN_ASSET, "payTo": signed.get("to"), "maxAmountRequired": signed.get("value")}
        return terms | said
    signed = payload.get("permit2Authorization")
    permitted, witness = (
        (signed.get("permitted"), signed.get("witness")) if type(signed) is dict else (None, None)
    )
    if type(permitted) is dict and type(witness) is dict:
        said = {"asset": permitted.get("token"), "payTo": witness.get("to")}
        return terms | said | {"maxAmountRequired": permitted.get("amount")}
    return terms


def _matching(own: Json, offers: Sequence[Offer]) -> Offer | None:
    """The offer that these terms fulfil; None where several assets would do."""
    sent = text_of(own.get("network"))
    pay_to, amount = text_of(own.get("payTo")).lower(), str(own.get("maxAmountRequired"))
    asset = text_of(own.get("asset")).lower()
    fitting = [
        offer
        for offer in offers
        if offer.scheme == own.get("scheme")
        and offer.network == network_of(sent)
        and (not pay_to or (offer.pay_to == pay_to and str(offer.amount) == amount))
        and asset in ("", _UNKNOWN_ASSET, offer.asset)
    ]
    return fitting[0] if len({offer.asset for offer in fitting}) == 1 else None
