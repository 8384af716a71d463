"""What is recorded of a payment on the agent plane: which purchase it is for, and what presents it again.

Pure: no I/O, no clock. A purchase is named by the request (route, caller, method, URL, body), and by the
client's Idempotency-Key where it gives one; payer, payee, asset and amount are the record's own.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from guardian.flow.fresh import fresh
from guardian.flow.paid import PaidExchange, RawHeaders
from guardian.flow.sealing import Sealing
from guardian.settlement.record import AGENT, Settlement
from guardian.upstream.reply import Reply, whole_reply
from guardian.wire.demand import Offer
from guardian.wire.names import public_id
from guardian.wire.payment import Payment
from guardian.wire.sent import PAYMENT_HEADERS, SentPayment

MAX_BODY_KEPT: Final = 64 * 1024
"""Of the request; a longer one is only named by its hash. Whoever asks again brings it along."""

MAX_GOODS_KEPT: Final = 1024 * 1024
"""Of a reply whose caller has gone: it waits in the record for the next one. A longer one is asked for
again."""

MAX_URL_CHARS: Final = 2048

_CREDENTIALS = frozenset({b"authorization", b"cookie", b"x-api-key", b"api-key", b"x-auth-token"})


class Goods(msgspec.Struct, frozen=True):
    """A reply that came when nobody was there to take it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def reply(self) -> Reply:
        """As the upstream gave it."""
        bare = (b"transfer-encoding", b"trailer")
        return whole_reply(self.status, [line for line in self.headers if line[0] not in bare], self.body)


class Kept(msgspec.Struct, frozen=True):
    """What has to be presented again: the signed header, and the request's body for whoever looks into
    it later. goods: what it bought, while nobody has taken it; terms: what the seller asked for, as JSON,
    where the header does not repeat it (v1)."""

    header: bytes
    value: bytes
    body: bytes = b""
    goods: Goods | None = None
    terms: bytes = b""


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Kept)


def sealed(kept: Kept, key: str, sealing: Sealing) -> bytes:
    """For `body` of the record with this key."""
    return sealing.seal(_encoder.encode(kept), key)


def opened(record: Settlement, sealing: Sealing) -> Kept | None:
    """What a record keeps; None where it keeps nothing, or nothing that we can read."""
    text = sealing.open(record.body, record.key) if record.body else None
    try:
        return _decoder.decode(text) if text is not None else None
    except msgspec.MsgspecError:
        return None


def v1_terms(record: Settlement, sealing: Sealing) -> bytes:
    """What a seller had asked for where its payment does not repeat it, as JSON; b"" for nothing. Of what we
    cannot open, because it is sealed with a key that is not ours, the record itself tells as much as tells
    the payment from another."""
    if (kept := opened(record, sealing)) is not None:
        return kept.terms
    if record.x402_version != 1 or not record.body or not record.asset:
        return b""
    said = {"scheme": record.scheme, "network": record.network_as_sent, "asset": record.asset}
    amounts = {"payTo": record.pay_to, "maxAmountRequired": str(record.amount)}
    return msgspec.json.encode(said | amounts)


def presenting(headers: RawHeaders, kept: Kept) -> list[tuple[bytes, bytes]]:
    """A caller's headers with the kept payment in place of its own, if it sent one."""
    return [*(line for line in headers if line[0] not in PAYMENT_HEADERS), (kept.header, kept.value)]


def purchase_of(exchange: PaidExchange) -> str:
    """The name of what is being bought; the same for the unpaid request and all that pay for it."""
    given = [value for name, value in exchange.headers if name == b"idempotency-key"]
    parts = (exchange.route, exchange.caller, exchange.method, exchange.url, _hash(exchange.body))
    return ("key:" if given else "req:") + _digest([*(part.encode() for part in parts), *given])


def payment_id_of(exchange: PaidExchange, payment: Payment) -> str:
    """The name by the extension payment-identifier, "" without one."""
    if not payment.payment_id:
        return ""
    parts = (exchange.route, exchange.caller, payment.payer, payment.payment_id)
    return "id:" + _digest(part.encode() for part in parts)


def spend_of(exchange: PaidExchange, payment: Payment) -> str:
    """The name of all that a spending rule can look at: another payment with the same nonce has another one,
    also where it carries the same signature."""
    facts = (payment.network, payment.asset, payment.payer, payment.pay_to, payment.authorization_to)
    amounts = (str(payment.amount), str(payment.authorization_value), payment.method, payment.scheme)
    return _digest(part.encode() for part in (exchange.route, exchange.caller, *facts, *amounts))


def asker_of(exchange: PaidExchange) -> str:
    """What tells one buyer from another before either has signed: what it shows the upstream. "" for
    nothing."""
    shown = [b"%b:%b" % line for line in exchange.headers if line[0] in _CREDENTIALS]
    return _digest(shown) if shown else ""


def recorded(
    sent: SentPayment,
    exchange: PaidExchange,
    sealing: Sealing,
    *,
    now: float,
    owner: str,
    watched: bool,
    head: int = 0,
) -> Settlement:
    """A new record, before anything is sent."""
    payment = sent.payment
    key = f"{AGENT}/{payment.key}"
    body = exchange.body if len(exchange.body) <= MAX_BODY_KEPT else b""
    kept = sealed(Kept(sent.header, sent.value, body, terms=sent.terms), key, sealing)
    return msgspec.structs.replace(
        fresh(payment, kept, owner=owner, now=now, watched=watched, head=head),
        key=key,
        id=public_id(key),
        resource=exchange.url[:MAX_URL_CHARS],
        plane=AGENT,
        route=exchange.route,
        verb=exchange.method,
        purchase=purchase_of(exchange),
        payment_id=payment_id_of(exchange, payment),
        asker=asker_of(exchange),
        request_hash=hashlib.sha256(exchange.body).hexdigest(),
        spend=spend_of(exchange, payment),
    )


def is_for(record: Settlement, other: Settlement) -> bool:
    """Whether a recorded payment would pay for what another one is signed for."""
    if record.payer != other.payer or record.key == other.key:
        return False
    if record.payment_id and record.payment_id == other.payment_id:
        return True
    if record.purchase != other.purchase:
        return False
    named = record.purchase.startswith("key:")
    facts = ("network", "asset", "pay_to", "amount")
    return named or all(getattr(record, fact) == getattr(other, fact) for fact in facts)


def fits(record: Settlement, offers: Sequence[Offer]) -> bool:
    """Whether a recorded payment is one of those that a seller asks for."""
    return any(
        offer.network == record.network
        and offer.asset == record.asset
        and offer.pay_to == record.pay_to
        and offer.amount == record.amount
        for offer in offers
    )


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest() if body else ""


def _digest(parts: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(b"%d:" % len(part) + part)
    return whole.hexdigest()[:32]
