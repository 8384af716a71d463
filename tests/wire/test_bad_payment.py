"""What is refused, and that nothing but BadPayment ever comes out."""

import base64
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_bodies import (
    NONCE,
    SIGNATURE,
    SOLANA,
    batch,
    eip3009,
    permit2,
    sent,
    solana_message,
    solana_transaction,
    svm,
    v1,
    v2,
)

from guardian.errors import BadPayment
from guardian.wire.fields import MAX_BODY_BYTES
from guardian.wire.payment import read_payment

REQ, AUTH = "paymentRequirements.", "paymentPayload.payload.authorization."


def refused(body: bytes) -> BadPayment:
    with pytest.raises(BadPayment) as caught:
        read_payment(body)
    bad = caught.value
    assert len(bad.found) <= 80
    assert bad.cure
    assert SIGNATURE not in str(bad)
    return bad


def put(body: dict[str, Any], path: str, value: object) -> bytes:
    *parents, last = path.split(".")
    place = body
    for name in parents:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return sent(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a":' * 2000 + b"1" + b"}" * 2000,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 300 + b"1" + b"}" * 300,
        b'{"a":"' + b"x" * MAX_BODY_BYTES + b'"}',
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_plain_json_object_is_refused(body: bytes):
    assert refused(body).field in ("body", "paymentPayload")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("paymentPayload", ...),
        ("paymentPayload", "e30="),
        ("paymentRequirements", ...),
        ("paymentRequirements", []),
        ("paymentPayload.payload", ...),
        ("paymentPayload.payload", "0x"),
        ("paymentPayload.payload.authorization", None),
        ("paymentPayload.payload.signature", 12),
        (REQ + "network", ...),
        (REQ + "network", 8453),
        (REQ + "network", "eip155:08453"),
        (REQ + "network", "EIP155:8453"),
        (REQ + "network", "eip155:8453 "),
        (REQ + "network", "eip155:8453/x"),
        (REQ + "network", ""),
        (REQ + "network", "x" * 1000),
        (REQ + "scheme", ...),
        (REQ + "scheme", {"a": 1}),
        (REQ + "amount", ...),
        (REQ + "amount", 1.5),
        (REQ + "amount", True),
        (REQ + "amount", -1),
        (REQ + "amount", "-1"),
        (REQ + "amount", "1_000"),
        (REQ + "amount", "1e3"),
        (REQ + "amount", "0x10"),
        (REQ + "amount", "٣"),
        (REQ + "amount", " 1"),
        (REQ + "amount", str(2**256)),
        (REQ + "amount", "9" * 5000),
        (REQ + "payTo", ...),
        (REQ + "payTo", "0x12"),
        (AUTH + "from", "857b06519E91e3A54538791bDbb0E22373e36b66"),
        (AUTH + "from", None),
        (AUTH + "to", 0),
        (AUTH + "value", ...),
        (AUTH + "validBefore", ...),
        (AUTH + "validBefore", 1.0),
        (AUTH + "validAfter", None),
        (AUTH + "nonce", NONCE[2:]),
        (AUTH + "nonce", NONCE + "00"),
        (AUTH + "nonce", 7),
    ],
)
def test_wrong_money_fields_are_named_with_their_dotted_path(path: str, value: object):
    assert refused(put(v2(), path, value)).field == path


@pytest.mark.parametrize("field", ["asset"])
def test_asset_must_be_an_address_where_a_nonce_belongs_to_it(field: str):
    body = v2()
    del body["paymentPayload"]["accepted"][field]
    assert refused(put(body, REQ + field, "USDC")).field == REQ + field


@pytest.mark.parametrize(
    ("key", "other"), [("network", "eip155:8453"), ("asset", "0x" + "11" * 20), ("scheme", "upto")]
)
def test_payload_and_requirements_must_not_contradict(key: str, other: str):
    assert (
        refused(put(v2(), f"paymentPayload.accepted.{key}", other)).field == f"paymentPayload.accepted.{key}"
    )


def test_v1_payload_on_another_network_is_refused():
    assert refused(put(v1(), "paymentPayload.network", "base")).field == "paymentPayload.network"


def test_two_names_of_one_network_do_not_contradict():
    read_payment(put(v2(), "paymentPayload.accepted.network", "base-sepolia"))


@pytest.mark.parametrize(
    "second", ['"nonce":"0x00"', '"nonce" : "0x00"', '"\\u006eonce":"0x00"', '"Nonce":"0x00"']
)
def test_second_nonce_in_any_spelling_is_refused(second: str):
    plain = sent(v2())
    for smuggled in (
        plain.replace(b'"authorization":{', b'"authorization":{' + second.encode() + b","),
        plain.replace(b'"nonce":', second.encode() + b',"nonce":'),
    ):
        assert "nonce" in refused(smuggled).field.lower()


@pytest.mark.parametrize("where", ["paymentPayload", "paymentRequirements"])
def test_second_payment_in_one_body_is_refused(where: str):
    body = sent(v2())
    assert refused(b'{"' + where.encode() + b'":{},' + body[1:]).field == where
    assert refused(b'{"' + where.upper().encode() + b'":{},' + body[1:]).field.endswith(where)


@pytest.mark.parametrize(
    ("payload", "terms"),
    [
        ({"Authorization": eip3009()["authorization"], "signature": SIGNATURE}, {}),
        ({"AUTHORIZATION": eip3009()["authorization"], "signature": SIGNATURE}, {"network": "base"}),
        ({"permit2authorization": permit2()["permit2Authorization"], "signature": SIGNATURE}, {}),
        ({"Transaction": "AAAA"}, {"network": SOLANA}),
        ({**batch("deposit"), "type": None, "Type": "deposit"}, {"scheme": "batch-settlement"}),
        ({"Type": "deposit"}, {"scheme": "batch-settlement"}),
    ],
)
def test_what_tells_one_payment_from_another_has_one_spelling(payload: dict[str, Any], terms: dict[str, Any]):
    assert "case" in refused(sent(v2(payload, **terms))).found


def test_repeated_keys_in_extensions_pass():
    body = sent(v2()).replace(b'"extensions":{}', b'"extensions":{"a":1,"a":2}')
    read_payment(body)


def test_a_quote_or_backslash_in_a_text_is_no_repeated_key():
    body = v2()
    body["paymentPayload"]["resource"]["description"] = 'say "nonce": \\ "nonce":'
    read_payment(sent(body))


def test_escaped_quotes_cannot_hide_a_repeated_key():
    """Four escaped quotes in a text weigh up the four quotes of the dropped pair."""
    smuggled = sent(v2()).replace(b'"nonce":', b'"nonce":"0x00","nonce":')
    hidden = smuggled.replace(b'"description":""', b'"description":"' + rb"\u0022" * 4 + b'"')
    assert hidden.count(b'"') == orjson.dumps(orjson.loads(hidden)).count(b'"')
    assert refused(hidden).field == AUTH + "nonce"


def test_many_repeated_keys_are_refused_quickly():
    assert refused(b"{" + b",".join(b'"k%d":1' % n for n in range(30_000)) + b',"k0":1}').field == "k0"


@pytest.mark.parametrize(
    "respelled",
    [
        lambda text: text + "\n",
        lambda text: "!" + text,
        lambda text: text[:8] + " " + text[8:],
        lambda text: text.rstrip("=") if text.endswith("=") else text + "=",
        lambda text: text.replace("+", "-").replace("/", "_"),
        lambda text: base64.b64encode(base64.b64decode(text) + b"\0").decode(),
    ],
)
def test_one_solana_message_has_one_spelling(respelled: Callable[[str], str]):
    message = solana_message(data=b"\xfb\xef\xbe\xff\xff\xff")
    body = svm(respelled(solana_transaction(message)))
    assert refused(sent(body)).field == "paymentPayload.payload.transaction"


def test_deposit_must_hold_exactly_one_authorization():
    body = v2(batch("deposit", deposit={"amount": "1", "authorization": {}}), scheme="batch-settlement")
    assert refused(sent(body)).field == "paymentPayload.payload.deposit.authorization"


def test_a_signature_in_the_wrong_place_is_not_shown():
    bad = refused(put(v2(), AUTH + "nonce", SIGNATURE))
    assert "abab" not in str(bad)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=90),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)
BODIES = [
    v2(),
    v1(),
    v2(permit2()),
    svm(solana_transaction(solana_message(version=0))),
    v2(batch("voucher"), scheme="batch-settlement"),
    v2(batch("refund", refundNonce="1"), scheme="batch-settlement"),
    v2(
        batch(
            "deposit",
            deposit={
                "amount": "7",
                "authorization": {"permit2Authorization": {"nonce": "1", "deadline": "9", "signature": "0x"}},
            },
        ),
        scheme="batch-settlement",
    ),
    v2({"delegationManager": "0x", "delegator": "0x"}),
    v2(eip3009(), network="xrpl-evm"),
]


def paths(value: object, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [before]
    return [before, *(path for key, item in value.items() for path in paths(item, (*before, key)))]


SPOTS = [(number, path) for number, body in enumerate(BODIES) for path in paths(body) if path]


def nothing_else_escapes(body: bytes) -> None:
    try:
        payment = read_payment(body)
    except BadPayment as refusal:
        bad = refusal
    else:
        assert payment.key
        hash(payment)
        return
    assert len(bad.found) <= 80
    assert len(bad.field) <= 160


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_bad_payment(body: bytes):
    nothing_else_escapes(body)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(SPOTS), JSON, st.sampled_from(["replace", "remove", "beside"]), st.text(max_size=12))
def test_spoilt_payments_raise_nothing_but_bad_payment(
    spot: tuple[int, tuple[str, ...]], value: object, how: str, name: str
):
    number, path = spot
    body = orjson.loads(orjson.dumps(BODIES[number]))
    place = body
    for key in path[:-1]:
        place = place[key]
    if how == "remove":
        del place[path[-1]]
    else:
        place[path[-1] if how == "replace" else name] = value
    nothing_else_escapes(orjson.dumps(body))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(BODIES), st.data())
def test_damaged_bytes_raise_nothing_but_bad_payment(body: dict[str, Any], data: st.DataObject):
    raw = bytearray(sent(body))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=8))
    nothing_else_escapes(bytes(raw))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_damaged_transactions_raise_nothing_but_bad_payment(junk: bytes, behind: bool):
    good = base64.b64decode(solana_transaction(solana_message(version=0)))
    raw = good[: len(good) // 2] + junk if behind else junk + good
    nothing_else_escapes(sent(svm(base64.b64encode(raw).decode())))
