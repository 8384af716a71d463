"""What travels between clients and resource servers, as the SDKs write it: demands, payments, receipts."""

import base64
import gzip
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from x402.http.utils import (
    decode_payment_required_header,
    encode_payment_required_header,
    encode_payment_response_header,
    encode_payment_signature_header,
)
from x402.schemas import PaymentPayload, PaymentRequired, PaymentRequirements, ResourceInfo, SettleResponse
from x402.schemas.v1 import PaymentPayloadV1, PaymentRequiredV1

from guardian.errors import BadPayment
from guardian.wire.demand import MAX_OFFERS, Demand, read_demand, with_accepts
from guardian.wire.sent import SentPayment, pays, read_receipt, read_sent_payment
from tests.wire.wire_bodies import NONCE, PAYEE, PAYER, USDC, eip3009, permit2, requirements

TX = "0x" + "ab" * 32
BASE_USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"


def b64(value: Any) -> bytes:
    return base64.b64encode(value if isinstance(value, bytes) else json.dumps(value).encode())


def v2_demand(*offers: dict[str, Any]) -> PaymentRequired:
    return PaymentRequired(
        error="Payment required",
        resource=ResourceInfo(url="https://shop/weather", description="weather"),
        accepts=[PaymentRequirements.model_validate(offer) for offer in offers or (requirements(),)],
        extensions={
            "payment-identifier": {"info": {"required": False}},
            "other": {"b": 1, "a": [1.50, None]},
        },
    )


def v2_headers(*offers: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    value = encode_payment_required_header(v2_demand(*offers)).encode()
    return [(b"content-type", b"application/json"), (b"PAYMENT-REQUIRED", value)]


def v1_offer(**changes: Any) -> dict[str, Any]:
    return {
        "scheme": "exact",
        "network": "base-sepolia",
        "maxAmountRequired": "10000",
        "resource": "https://shop/weather",
        "description": "weather",
        "mimeType": "application/json",
        "outputSchema": None,
        "payTo": PAYEE,
        "maxTimeoutSeconds": 60,
        "asset": USDC,
        "extra": {"name": "USDC", "version": "2"},
        **changes,
    }


def v1_body(*offers: dict[str, Any]) -> bytes:
    accepts = list(offers or (v1_offer(),))
    return json.dumps(
        {"x402Version": 1, "error": "X-PAYMENT header is required", "accepts": accepts}
    ).encode()


def read(headers: Any = (), body: bytes = b"") -> Demand:
    demand = read_demand(headers, body)
    assert demand is not None
    return demand


class TestDemand:
    def test_v2_is_read_from_the_header_that_the_sdk_writes(self) -> None:
        demand = read(v2_headers(), b"{}")
        (offer,) = demand.offers
        assert (demand.x402_version, demand.resource, demand.error) == (
            2,
            "https://shop/weather",
            "Payment required",
        )
        assert (offer.scheme, offer.network, offer.amount) == ("exact", "eip155:84532", 10_000)
        assert (offer.asset, offer.pay_to) == (USDC.lower(), PAYEE.lower())
        assert (offer.domain_name, offer.domain_version, offer.max_timeout_s) == ("USDC", "2", 300)

    def test_v1_is_read_from_the_body_and_its_network_name_is_known(self) -> None:
        demand = read((), v1_body())
        (offer,) = demand.offers
        assert (demand.x402_version, demand.resource) == (1, "https://shop/weather")
        assert (offer.network, offer.network_as_sent) == ("eip155:84532", "base-sepolia")
        assert (offer.amount, offer.max_timeout_s) == (10_000, 60)

    @pytest.mark.parametrize("coding", [b"gzip", b"x-gzip", b"GZIP"])
    def test_a_compressed_v1_body_is_read_too(self, coding: bytes) -> None:
        assert read([(b"content-encoding", coding)], gzip.compress(v1_body())).offers

    def test_a_server_may_demand_in_both_ways_at_once(self) -> None:
        demand = read(v2_headers(), v1_body())
        assert [(offer.spot, offer.x402_version) for offer in demand.offers] == [("header", 2), ("body", 1)]

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{}",
            b"[]",
            b"Payment Required",
            b"<html><p>Pay with your wallet",
            b'{"error": "quota exceeded"}',
            b"\xff\xfe",
        ],
    )
    def test_another_402_is_no_demand(self, body: bytes) -> None:
        assert read_demand((), body) is None

    def test_an_encoding_that_is_not_undone_here_is_no_demand(self) -> None:
        assert read_demand([(b"content-encoding", b"br")], v1_body()) is None

    def test_a_body_that_unfolds_too_far_is_no_demand(self) -> None:
        bomb = gzip.compress(b'{"accepts":' + b" " * 40_000_000)
        assert read_demand([(b"content-encoding", b"gzip")], bomb) is None

    def test_what_is_not_known_passes(self) -> None:
        odd = {"scheme": "streamed", "network": "mars:1", "amount": "a lot", "payTo": {"at": "x"}, "extra": 7}
        (offer,) = read((), v1_body(odd)).offers
        assert (offer.scheme, offer.network, offer.amount, offer.pay_to) == ("streamed", "mars:1", None, "")
        assert offer.terms == odd

    @pytest.mark.parametrize(
        ("text", "field"),
        [
            (b'{"accepts": 7}', ".accepts"),
            (b'{"accepts": [7]}', ".accepts.0"),
            (b'{"accepts": [], "accepts": []}', ".accepts"),
            (b'{"accepts": [{"payTo": "a", "payTo": "b"}]}', ".accepts.payTo"),
            (b'{"accepts": [{"payTo": "a", "payto": "b"}]}', ".accepts.0.payto"),
            (b'{"accepts": [' + b"{}," * MAX_OFFERS + b"{}]}", ".accepts"),
            (b'{"accepts": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", ""),
            (b'{"accepts": [NaN]}', ""),
        ],
    )
    def test_a_demand_that_cannot_be_read_names_its_field(self, text: bytes, field: str) -> None:
        with pytest.raises(BadPayment) as body:
            read_demand((), text)
        with pytest.raises(BadPayment) as header:
            read_demand([(b"payment-required", b64(text))], b"")
        assert (body.value.field, header.value.field) == ("body" + field, "PAYMENT-REQUIRED" + field)

    @pytest.mark.parametrize("value", [b"%%%", b"e30", b"e3 0=", b"A", b"e30=e30=", b"-_-_", b64([1])])
    def test_a_header_that_is_no_base64_of_an_object_is_refused(self, value: bytes) -> None:
        with pytest.raises(BadPayment, match=r"^PAYMENT-REQUIRED"):
            read_demand([(b"payment-required", value)], b"")

    def test_two_headers_of_the_name_are_refused(self) -> None:
        with pytest.raises(BadPayment, match="send the header once"):
            read_demand(v2_headers() * 2, b"")


class TestRewriting:
    OFFERS = (
        requirements(),
        requirements(network="eip155:8453", asset=BASE_USDC, extra={"name": "USD Coin", "x": 1.50}),
        requirements(scheme="upto"),
    )

    def test_v2_offers_are_put_in_another_order(self) -> None:
        demand = read(v2_headers(*self.OFFERS), b"{}")
        first, second, third = demand.offers
        headers, body = with_accepts(demand, [second, third, first])
        assert body == b"{}"
        assert headers[0] == (b"content-type", b"application/json")
        said = decode_payment_required_header(dict(headers)[b"PAYMENT-REQUIRED"].decode())
        had = v2_demand(*self.OFFERS)
        assert said.accepts == [had.accepts[1], had.accepts[2], had.accepts[0]]
        assert said.model_copy(update={"accepts": []}) == had.model_copy(update={"accepts": []})

    def test_v1_offers_are_left_out(self) -> None:
        body = v1_body(v1_offer(), v1_offer(network="base", asset=BASE_USDC), v1_offer(network="peaq"))
        demand = read([(b"content-length", b"%d" % len(body)), (b"ETag", b'"a"'), (b"x-a", b"1")], body)
        headers, rewritten = with_accepts(demand, [demand.offers[1]])
        assert headers == [(b"x-a", b"1"), (b"content-length", b"%d" % len(rewritten))]
        said = PaymentRequiredV1.model_validate_json(rewritten)
        assert [offer.network for offer in said.accepts] == ["base"]
        assert said.error == "X-PAYMENT header is required"

    def test_every_other_value_keeps_its_bytes(self) -> None:
        kept = (
            b'"z" : 1.500e0',
            b'"big":123456789012345678901234567890',
            b'"t":"\\u00e9\\/"',
            b'"n":{"b":1,"a":2}',
        )
        text = b'{ "x402Version":1, %b,%b, "accepts":[ {"a" : 1.0},{"b":  2} ],%b , %b}' % kept
        demand = read((), text)
        _, body = with_accepts(demand, list(reversed(demand.offers)))
        assert b'"accepts":[{"b":  2},{"a" : 1.0}]' in body
        for value in (b"1.500e0", b"123456789012345678901234567890", b'"\\u00e9\\/"', b'{"b":1,"a":2}'):
            assert value in body

    def test_nothing_changes_where_the_order_is_the_same(self) -> None:
        headers, body = v2_headers(*self.OFFERS), v1_body()
        demand = read(headers, body)
        assert with_accepts(demand, demand.offers) == (headers, body)

    def test_a_compressed_body_is_written_plain(self) -> None:
        folded = gzip.compress(v1_body(v1_offer(), v1_offer(network="base")))
        demand = read([(b"content-encoding", b"gzip"), (b"content-length", b"%d" % len(folded))], folded)
        headers, body = with_accepts(demand, demand.offers[1:])
        assert headers == [(b"content-length", b"%d" % len(body))]
        assert len(orjson.loads(body)["accepts"]) == 1

    def test_header_and_body_are_rewritten_each_by_its_own_offers(self) -> None:
        demand = read(
            v2_headers(requirements(), requirements(network="eip155:8453")),
            v1_body(v1_offer(), v1_offer(network="base")),
        )
        wanted = [offer for offer in demand.offers if offer.network == "eip155:8453"]
        headers, body = with_accepts(demand, wanted)
        again = read(headers, body)
        assert [(offer.spot, offer.network) for offer in again.offers] == [
            ("header", "eip155:8453"),
            ("body", "eip155:8453"),
        ]


def v2_payment(payload: dict[str, Any] | None = None, **changes: Any) -> bytes:
    return encode_payment_signature_header(
        PaymentPayload(
            payload=payload or eip3009(),
            accepted=PaymentRequirements.model_validate(requirements(**changes)),
            resource=ResourceInfo(url="https://shop/weather"),
            extensions={"payment-identifier": {"info": {"id": "pay-12345678901234567"}}},
        )
    ).encode()


def v1_payment(payload: dict[str, Any] | None = None, network: str = "base-sepolia") -> bytes:
    said = PaymentPayloadV1(scheme="exact", network=network, payload=payload or eip3009())
    return encode_payment_signature_header(said).encode()


def sent(*headers: tuple[bytes, bytes], offers: Any = ()) -> SentPayment:
    found = read_sent_payment(headers, offers)
    assert found is not None
    return found


class TestSentPayment:
    def test_v2_has_the_identity_that_the_facilitator_plane_gives_it(self) -> None:
        payment = sent((b"PAYMENT-SIGNATURE", v2_payment())).payment
        assert payment.key == f"eip155:84532/{USDC.lower()}/{PAYER.lower()}/{NONCE.lower()}"
        assert (payment.payer, payment.pay_to, payment.amount) == (PAYER.lower(), PAYEE.lower(), 10_000)
        assert (payment.valid_before, payment.max_timeout_s) == (1740672154, 300)
        assert (payment.resource, payment.payment_id) == ("https://shop/weather", "pay-12345678901234567")
        assert payment.x402_version == 2

    def test_v1_takes_payee_and_amount_from_what_was_signed(self) -> None:
        found = sent((b"x-payment", v1_payment(eip3009(value="777"))))
        payment = found.payment
        assert (payment.network, payment.network_as_sent) == ("eip155:84532", "base-sepolia")
        assert (payment.pay_to, payment.amount, payment.x402_version) == (PAYEE.lower(), 777, 1)
        assert payment.asset == ""
        assert payment.key == f"eip155:84532//{PAYER.lower()}/{NONCE.lower()}"
        assert found.header == b"x-payment"

    def test_v1_takes_its_asset_from_the_demand_that_it_fulfils(self) -> None:
        offers = read((), v1_body(v1_offer(network="base", asset=BASE_USDC), v1_offer())).offers
        payment = sent((b"x-payment", v1_payment()), offers=offers).payment
        assert payment.key == sent((b"payment-signature", v2_payment())).payment.key
        assert (payment.asset, payment.domain_name, payment.max_timeout_s) == (USDC.lower(), "USDC", 60)
        assert payment.resource == "https://shop/weather"

    @pytest.mark.parametrize(
        "offers",
        [
            (v1_offer(), v1_offer(asset=BASE_USDC)),
            (v1_offer(maxAmountRequired="10001"),),
            (v1_offer(payTo=PAYER),),
            (v1_offer(scheme="upto"),),
            (v1_offer(network="base"),),
        ],
    )
    def test_v1_asset_stays_unknown_where_the_demand_leaves_a_doubt(self, offers: Any) -> None:
        known = read((), v1_body(*offers)).offers
        assert sent((b"x-payment", v1_payment()), offers=known).payment.asset == ""

    def test_v1_permit2_names_its_asset_itself(self) -> None:
        payment = sent((b"x-payment", v1_payment(permit2()))).payment
        assert (payment.asset, payment.amount, payment.pay_to) == (USDC.lower(), 20_000, PAYEE.lower())

    def test_an_unknown_scheme_is_a_payment_too(self) -> None:
        said = {"x402Version": 1, "scheme": "streamed", "network": "mars", "payload": {"a": 1}}
        assert sent((b"x-payment", b64(said))).payment.key.startswith("mars/streamed/sha256:")

    def test_the_signature_is_not_shown(self) -> None:
        found = sent((b"payment-signature", v2_payment()))
        assert "abab" not in repr(found)
        assert found.value.decode() not in repr(found)

    def test_no_header_is_no_payment(self) -> None:
        assert read_sent_payment([(b"accept", b"*/*")]) is None
        assert not pays([(b"accept", b"*/*")])
        assert pays([(b"X-Payment", b"junk")])
        assert pays([(b"X_Payment", b"junk")]), "as CGI reads it"

    @pytest.mark.parametrize("version", [1, 2])
    def test_terms_that_no_v1_seller_reads_say_nothing_of_the_asset(self, version: int) -> None:
        v1 = json.loads(base64.b64decode(v1_payment()))
        lie = v1 | {"x402Version": version, "accepted": v1_offer(asset=BASE_USDC)}
        with pytest.raises(BadPayment):
            sent((b"x-payment", b64(lie)))
        offers = read((), v1_body(v1_offer())).offers
        with pytest.raises(BadPayment):
            sent((b"x-payment", b64(lie)), offers=offers)
        true = lie | {"accepted": v1_offer()}
        assert sent((b"x-payment", b64(true)), offers=offers).payment.asset == USDC.lower()

    @pytest.mark.parametrize(
        "headers",
        [
            [(b"x-payment", v1_payment()), (b"x-payment", v1_payment())],
            [(b"x-payment", v1_payment()), (b"payment-signature", v2_payment())],
            [(b"x_payment", v1_payment())],
            [(b"x-payment", v1_payment()), (b"PAYMENT_signature", v2_payment())],
        ],
    )
    def test_two_payments_in_one_request_are_refused(self, headers: Any) -> None:
        with pytest.raises(BadPayment):
            read_sent_payment(headers)

    @pytest.mark.parametrize(
        ("value", "field"),
        [
            (b"", "PAYMENT-SIGNATURE"),
            (b"@", "PAYMENT-SIGNATURE"),
            (v2_payment()[:-4] + b"-_-_", "PAYMENT-SIGNATURE"),
            (b64([]), "PAYMENT-SIGNATURE"),
            (b64({"payload": 7}), "PAYMENT-SIGNATURE.payload"),
            (b64({"payload": {}, "accepted": 7}), "PAYMENT-SIGNATURE.accepted"),
            (v2_payment(eip3009(nonce="0x12")), "PAYMENT-SIGNATURE.payload.authorization.nonce"),
            (b64(b'{"payload": {"a": 1, "a": 2}}'), "PAYMENT-SIGNATURE.payload.a"),
            (b64(b'{"payload": {}, "Payload": {}}'), "PAYMENT-SIGNATURE.Payload"),
        ],
    )
    def test_an_unreadable_payment_names_its_field(self, value: bytes, field: str) -> None:
        with pytest.raises(BadPayment) as fault:
            read_sent_payment([(b"payment-signature", value)])
        assert fault.value.field == field


class TestReceipt:
    def test_the_receipt_that_the_sdk_writes_is_read(self) -> None:
        said = SettleResponse(success=True, transaction=TX, network="eip155:84532", payer=PAYER)
        receipt = read_receipt([(b"PAYMENT-RESPONSE", encode_payment_response_header(said).encode())])
        assert receipt is not None
        assert (receipt.success, receipt.transaction, receipt.payer) == (True, TX, PAYER)

    def test_a_failure_keeps_its_reason(self) -> None:
        said = {"success": False, "errorReason": "settlement_pending", "transaction": TX, "network": "base"}
        receipt = read_receipt([(b"x-payment-response", b64(said))])
        assert receipt is not None
        assert (receipt.success, receipt.reason, receipt.transaction) == (False, "settlement_pending", TX)

    def test_no_header_is_no_receipt(self) -> None:
        assert read_receipt([]) is None

    @pytest.mark.parametrize("value", [b"%", b64(b"not json")])
    def test_what_is_no_json_is_refused_by_name(self, value: bytes) -> None:
        with pytest.raises(BadPayment, match=r"^PAYMENT-RESPONSE"):
            read_receipt([(b"payment-response", value)])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["accepts", "payload", "authorization", "network", "scheme", "extra", "x"]), inner
        )
    ),
    max_leaves=12,
)
_TEXT = _JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)


@settings(max_examples=150, deadline=None)
@given(text=_TEXT, encoded=st.booleans())
def test_whatever_comes_is_read_or_refused_and_nothing_else(text: bytes, encoded: bool) -> None:
    value = b64(text) if encoded else text
    for name in (b"payment-required", b"payment-signature", b"x-payment", b"payment-response"):
        for reader in (lambda lines: read_demand(lines, text), read_sent_payment, read_receipt):
            try:
                found = reader([(name, value)])
            except BadPayment:
                continue
            if isinstance(found, Demand):
                headers, body = with_accepts(found, found.offers[::-1])
                assert len(read(headers, body).offers) == len(found.offers)
