import functools
import time
import warnings
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian.settlement.preflight import Check, Facts, Finding, findings
from guardian.settlement.reasons import REASONS
from guardian.settlement.verdict import Outcome
from guardian.wire.networks import ASSETS, SPL_DOLLARS, Domain, asset_info, dollar_decimals
from guardian.wire.payment import Payment, read_payment
from tests.wire import wire_bodies as bodies

NOW = 1_740_672_000.0  # the bodies' validBefore is 154 s later
USDC = Domain("USDC", "2")
AUTH = "paymentPayload.payload.authorization."
PERMIT = "paymentPayload.payload.permit2Authorization."
CENTS = bodies.permit2(permitted={"token": bodies.USDC, "amount": "999"})
ALL = Facts(
    now=NOW,
    table=USDC,
    contract=USDC,
    minimum=1000,
    shortest_validity_s=6.0,
    longest_validity_s=86400.0,
    longest_description=500,
    supported=True,
)


def paid(body: dict[str, Any]) -> Payment:
    return read_payment(orjson.dumps(body))


def facts(**changes: Any) -> Facts:
    known = {name: getattr(ALL, name) for name in Facts.__slots__}
    return Facts(**(known | changes))


def only(body: dict[str, Any], **changes: Any) -> Finding:
    (finding,) = findings(paid(body), facts(**changes))
    return finding


def extra(**terms: Any) -> dict[str, Any]:
    return bodies.v2(extra=terms)


def v1(payload: Any = None, **terms: Any) -> dict[str, Any]:
    body = bodies.v1()
    body["paymentPayload"]["payload"] = payload or bodies.eip3009()
    body["paymentRequirements"] |= terms
    return body


def described(text: Any) -> dict[str, Any]:
    body = bodies.v2()
    body["paymentPayload"]["resource"]["description"] = text
    return body


def deposit(valid_before: int) -> dict[str, Any]:
    auth = {"validAfter": "0", "validBefore": str(valid_before), "salt": bodies.NONCE}
    signed = {"amount": "1", "authorization": {"erc3009Authorization": auth}}
    return bodies.v2(bodies.batch("deposit", deposit=signed), scheme="batch-settlement")


def upto(**terms: Any) -> dict[str, Any]:
    return bodies.v2(bodies.permit2(), scheme="upto", **terms)


CLEAN: dict[str, Callable[[], dict[str, Any]]] = {
    "v2": bodies.v2,
    "v1": bodies.v1,
    "permit2": lambda: bodies.v2(bodies.permit2()),
    "permit2 has no domain of the token": lambda: bodies.v2(bodies.permit2(), extra={"name": "x"}),
    "extra is missing": lambda: bodies.v2(extra=None),
    "extra names no version": lambda: extra(name="USDC"),
    "extra names no name": lambda: extra(version="2"),
    "the version is a number": lambda: extra(name="USDC", version=2),
    "another contract checks the signature": lambda: extra(
        name="GatewayWalletBatched", version="1", verifyingContract="0x" + "07" * 20
    ),
    "the token checks the signature": lambda: extra(name="USDC", version="2", verifyingContract=bodies.USDC),
    "addresses in upper case": lambda: bodies.v2(asset="0x" + bodies.USDC[2:].upper()),
    "a wallet signs": lambda: bodies.v2(bodies.eip3009() | {"signature": "0x" + "ab" * 900 + "6492" * 16}),
    "nobody signs here": lambda: bodies.v2({"authorization": bodies.eip3009()["authorization"]}),
    "no validAfter": lambda: bodies.v2(
        {"authorization": {k: v for k, v in bodies.eip3009()["authorization"].items() if k != "validAfter"}}
    ),
    "more was signed than is asked": lambda: bodies.v2(bodies.eip3009(value="1000"), amount="1"),
    "upto settles nothing": lambda: upto(amount="0"),
    "upto settles less than was signed": lambda: upto(amount="1"),
    "a voucher of nothing": lambda: bodies.v2(bodies.batch("voucher"), scheme="batch-settlement", amount="0"),
    "a voucher of little": lambda: bodies.v2(bodies.batch("voucher"), scheme="batch-settlement", amount="1"),
    "a deposit that ends soon": lambda: deposit(int(NOW) + 1),
    "a deposit that ends late": lambda: deposit(10**12),
    "neither payer nor payee is known": lambda: bodies.v2({"a": 1}, scheme="new", network="new", payTo=None),
    "solana": lambda: bodies.svm(bodies.solana_transaction(bodies.solana_message())),
    "an unknown scheme": lambda: bodies.v2({"any": 1}, scheme="brand-new", network="tvm:-239", amount="x"),
    "an unknown payload of exact": lambda: bodies.v2({"any": 1}, network="tvm:-239", amount="1.5"),
    "a description as long as allowed": lambda: described("é" * 500),
    "a description that is no text": lambda: described(["x"] * 501),
}


@pytest.mark.parametrize("case", CLEAN)
def test_a_payment_that_would_succeed_has_no_findings(case: str):
    assert findings(paid(CLEAN[case]()), ALL) == []


def test_what_is_not_known_finds_nothing():
    broken = bodies.v2(
        bodies.eip3009(validBefore=str(2**256 - 1)), extra={"name": "x", "version": "9"}, amount="1"
    )
    broken["paymentPayload"]["resource"]["description"] = "x" * 10_000
    assert findings(paid(broken), Facts(now=NOW)) == []


@pytest.mark.parametrize("body", [bodies.v2, bodies.v1])
def test_a_wrong_name_is_found_with_its_cure(body: Callable[[], dict[str, Any]]):
    found = only(body(), contract=None, table=Domain("USD Coin", "2"))
    network = body()["paymentRequirements"]["network"]
    assert found == Finding(
        Check.TOKEN_DOMAIN,
        "paymentRequirements.extra.name",
        "'USDC'",
        "'USD Coin'",
        f'set extra.name to "USD Coin" for 0x036c…cf7e on {network} and let the payer sign again',
        "invalid_exact_evm_token_name_mismatch",
    )


def test_a_wrong_version_is_found():
    found = only(extra(name="USDC", version="1"))
    assert (found.field, found.found, found.expected) == ("paymentRequirements.extra.version", "'1'", "'2'")
    assert found.reason == "invalid_exact_evm_token_version_mismatch"


def test_name_and_version_are_found_each():
    fields = [found.field for found in findings(paid(extra(name="Gold", version="1")), ALL)]
    assert fields == ["paymentRequirements.extra.name", "paymentRequirements.extra.version"]


def test_the_contracts_word_beats_the_tables():
    gold = Domain("Gold", "1")
    assert findings(paid(bodies.v2()), facts(table=gold)) == []
    assert findings(paid(extra(name="Gold", version="1")), facts(contract=gold)) == []
    assert only(extra(name="USDC", version="1"), contract=gold).expected == "'Gold'"


def test_a_token_whose_domain_has_no_version_takes_every_one():
    assert findings(paid(extra(name="USDC", version="7")), facts(contract=Domain("USDC", None))) == []


def test_what_a_caller_wrote_comes_back_short_and_printable():
    found = only(extra(name="\u202e\n" + "x" * 200, version="2"))
    assert len(found.found) <= 80
    assert found.found.isprintable()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (bodies.v2(bodies.eip3009(value="999"), amount="999"), "paymentRequirements.amount"),
        (bodies.v2(CENTS, amount="999"), "paymentRequirements.amount"),
        (v1(bodies.eip3009(value="999"), maxAmountRequired="999"), "paymentRequirements.maxAmountRequired"),
    ],
)
def test_less_than_the_minimum_is_found_where_the_caller_sent_it(body: dict[str, Any], field: str):
    found = only(body)
    assert (found.check, found.field, found.reason) == (Check.MINIMUM_AMOUNT, field, "amount_too_low")
    assert (found.found, found.expected) == ("999 atomic ($0.000999)", "at least 1000 atomic ($0.001)")


def test_a_solana_payment_below_the_minimum_is_found():
    body = bodies.svm(bodies.solana_transaction(bodies.solana_message()))
    body["paymentRequirements"]["amount"] = "999"
    assert only(body).check is Check.MINIMUM_AMOUNT


def test_the_minimum_of_an_unknown_token_is_told_in_its_units():
    token = "0x" + "12" * 20
    assert only(bodies.v2(bodies.eip3009(value="5"), asset=token, amount="5")).found == "5 atomic"


def test_a_payer_that_pays_itself_is_found_in_any_case():
    found = only(bodies.v2(payTo=bodies.PAYER.lower()))
    assert (found.check, found.field) == (Check.PAYER_IS_PAYEE, "paymentRequirements.payTo")
    assert found.reason == "self_send_not_allowed"


@pytest.mark.parametrize(
    ("left_s", "shortest_s", "is_found"),
    [(6, 6.0, False), (5, 6.0, True), (1, 0.0, False), (0, 0.0, True), (-100, 0.0, True), (-100, 6.0, True)],
)
def test_the_validity_is_counted_in_whole_seconds(left_s: int, shortest_s: float, is_found: bool):
    body = bodies.v2(bodies.eip3009(validBefore=str(int(NOW) + left_s)))
    found = findings(paid(body), facts(now=NOW + 0.9, shortest_validity_s=shortest_s))
    assert [(f.check, f.field, f.reason) for f in found] == (
        [(Check.VALIDITY, AUTH + "validBefore", "invalid_exact_evm_payload_authorization_valid_before")]
        if is_found
        else []
    )


def test_an_expired_permit_is_found_by_its_own_names():
    found = only(bodies.v2(bodies.permit2(deadline="1740671000")))
    assert (found.field, found.reason) == (PERMIT + "deadline", "permit2_deadline_expired")
    assert found.found == "1740671000, 1000 s ago"
    assert "deadline" in found.cure


def test_a_validity_that_the_seller_made_too_short_is_the_sellers_to_cure():
    body = bodies.v2(bodies.eip3009(validBefore=str(int(NOW) + 3)), maxTimeoutSeconds=3)
    assert only(body).cure.startswith("raise maxTimeoutSeconds to at least 6")


@pytest.mark.parametrize(
    ("payload", "field", "reason"),
    [
        (bodies.eip3009, "validAfter", "invalid_exact_evm_payload_authorization_valid_after"),
        (bodies.permit2, "witness.validAfter", "permit2_not_yet_valid"),
    ],
)
def test_a_payment_that_is_not_yet_valid_is_found(payload: Callable[..., Any], field: str, reason: str):
    def after(ahead_s: int) -> dict[str, Any]:
        at = str(int(NOW) + ahead_s)
        if payload is bodies.eip3009:
            return bodies.v2(payload(validAfter=at))
        return bodies.v2(payload(witness={"to": bodies.PAYEE, "validAfter": at}))

    assert findings(paid(after(2)), ALL) == []
    found = only(after(30))
    assert (found.field.removeprefix(AUTH).removeprefix(PERMIT), found.reason) == (field, reason)
    assert REASONS[reason].settle is Outcome.TRANSIENT


@pytest.mark.parametrize(("ahead_s", "is_found"), [(86400, False), (86401, True), (10**70, True)])
def test_a_validity_beyond_the_longest_is_found(ahead_s: int, is_found: bool):
    body = bodies.v2(bodies.eip3009(validBefore=str(int(NOW) + ahead_s)))
    found = findings(paid(body), ALL)
    assert [f.check for f in found] == ([Check.VALIDITY_TOO_LONG] if is_found else [])


def test_a_long_description_is_found_where_each_version_has_it():
    second = only(described("x" * 501))
    assert (second.check, second.field) == (Check.DESCRIPTION, "paymentPayload.resource.description")
    assert second.found == "501 characters"
    assert only(v1(description="x" * 501)).field == "paymentRequirements.description"


def test_what_nobody_offers_is_found_for_every_scheme():
    assert only(bodies.v2(), supported=False).field == "paymentRequirements.network"
    assert only(bodies.v1(), supported=False).found == "'base-sepolia'"
    unknown = bodies.v2({"any": 1}, scheme="brand-new", network="tvm:-239")
    assert only(unknown, supported=False).field == "paymentRequirements.scheme"
    assert findings(paid(unknown), facts(supported=None)) == []


def test_every_reason_is_listed_and_proves_that_nothing_moved():
    worst = [
        bodies.v2(bodies.eip3009(validBefore="1"), extra={"name": "x", "version": "9"}, payTo=bodies.PAYER),
        bodies.v2(bodies.eip3009(validAfter="1740672100")),
        bodies.v2(bodies.eip3009(validBefore=str(10**20), value="1"), amount="1"),
        bodies.v2(bodies.permit2(deadline="1")),
        bodies.v2(bodies.permit2(deadline=str(10**20))),
        bodies.v2(bodies.permit2(witness={"to": bodies.PAYEE, "validAfter": "1740672100"})),
        described("x" * 501),
        v1(description="x" * 501),
        upto(),
    ]
    found = [f for body in worst for f in findings(paid(body), facts(supported=False, needs_payment_id=True))]
    assert {f.check for f in found} == set(Check)
    for finding in found:
        reason = REASONS[finding.reason]
        assert Outcome.SETTLEMENT not in (reason.verify, reason.settle), finding.reason
        assert reason.broadcast in ("no", "prior?"), finding.reason


@functools.cache
def sdk() -> Any:
    """Seller and payer of the SDK: (requirements of a price) and (signed payload of requirements)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schemas = pytest.importorskip("x402.schemas")
        client = pytest.importorskip("x402.mechanisms.evm.exact.client")
        server = pytest.importorskip("x402.mechanisms.evm.exact.server")
    account = pytest.importorskip("eth_account").Account.from_key("0x" + "11" * 32)
    return schemas, client.ExactEvmScheme(account), server.ExactEvmScheme()


# A package of the SDK raises the limit when the first payment is signed, which is not ours to judge.
@pytest.mark.filterwarnings("ignore:The recursion limit will not be reset")
@settings(max_examples=60, deadline=None)
@given(
    key=st.sampled_from(sorted(ASSETS)),
    amount=st.integers(1000, 10**24),
    timeout_s=st.integers(30, 3600),
    upper=st.booleans(),
)
def test_a_payment_built_by_the_sdk_has_no_findings(
    key: tuple[str, str], amount: int, timeout_s: int, upper: bool
):
    schemas, payer, seller = sdk()
    network, asset = key
    terms = schemas.PaymentRequirements(
        scheme="exact", network=network, amount=str(amount), pay_to=bodies.PAYEE,
        asset="0x" + asset[2:].upper() if upper else asset, max_timeout_seconds=timeout_s,
    )  # fmt: skip
    kind = schemas.SupportedKind(x402_version=2, scheme="exact", network=network)
    terms = seller.enhance_payment_requirements(terms, kind, [])
    payload = schemas.PaymentPayload(payload=payer.create_payment_payload(terms), accepted=terms)
    body = {
        "x402Version": 2,
        "paymentPayload": payload.model_dump(by_alias=True, exclude_none=True),
        "paymentRequirements": terms.model_dump(by_alias=True, exclude_none=True),
    }
    payment = paid(body)
    listed = asset_info(payment.network, payment.asset)
    assert listed is not None
    assert dollar_decimals(payment.network, payment.asset) == listed.decimals
    known = facts(now=time.time(), table=listed.domain, contract=listed.domain)
    assert findings(payment, known) == []
    wrong = facts(now=time.time(), table=Domain("Gold", "9"), contract=None)
    assert bool(findings(payment, wrong)) == (listed.method == "eip3009")


def test_dollar_tokens_of_solana_count_six_decimals_and_mints_keep_their_case():
    assert {dollar_decimals(*key) for key in SPL_DOLLARS} == {6}
    network, mint = sorted(SPL_DOLLARS)[0]
    assert dollar_decimals(network, mint.lower()) is None
    assert dollar_decimals("eip155:8453", "0x" + "12" * 20) is None


def test_a_payment_without_an_id_is_found_where_the_facilitator_needs_one() -> None:
    body = bodies.v2()
    assert only(body, needs_payment_id=True).check is Check.PAYMENT_ID
    body["paymentPayload"]["extensions"] = {"payment-identifier": {"info": {"id": "order-0123456789"}}}
    assert findings(paid(body), facts(needs_payment_id=True)) == []
