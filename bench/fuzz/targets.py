"""What is fuzzed: one function for each parser of foreign bytes, and sound input to begin from.

A target takes any bytes, and raises only where the guardian would be wrong: AssertionError for a broken
promise, anything else for a crash. tests/fuzz runs them with hypothesis, run.py beside this with atheris.
"""

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from pydantic import TypeAdapter, ValidationError

from guardian.chain import evidence
from guardian.chain.endpoint import quantity, read_block
from guardian.chain.signature import Authorization, signed_by_payer
from guardian.chain.target import Target
from guardian.chain.wires import _replies
from guardian.errors import BadPayment, ChainUnavailable, NotSent, PolicyError
from guardian.facilitator.headers import below
from guardian.facilitator.retry import MAX_RETRY_AFTER_S, retry_after_s
from guardian.facilitator.supported import merge, read_supported
from guardian.logs import JsonFormatter, redact
from guardian.policy.judge import judge
from guardian.policy.load import parse_policy
from guardian.policy.model import Policy
from guardian.policy.rules import Heard, History
from guardian.policy.urls import FacilitatorUrl, RpcUrl, redact_url
from guardian.settings import read_settings
from guardian.settlement.verdict import Operation, Outcome
from guardian.store.redis_url import read_redis_url
from guardian.wire.demand import read_demand, with_accepts
from guardian.wire.encoded import encoded
from guardian.wire.names import Address, Nonce
from guardian.wire.payment import Method, Payment, read_payment
from guardian.wire.reply import complete_settle_body, read_settle_reply, read_verify_reply
from guardian.wire.sent import read_receipt, read_sent_payment

Fuzz = Callable[[bytes], None]

MAX_ERROR_CHARS: Final = 1000
MAX_KEY_CHARS: Final = 1000
LIMIT_S: Final = 2.0
"""No input of the sizes that are let in may take longer; real ones take microseconds."""

NETWORK, ASSET, PAYER, PAYEE = "eip155:8453", "0x" + "11" * 20, "0x" + "22" * 20, "0x" + "33" * 20
NONCE, TX = "0x" + "44" * 32, "0x" + "ab" * 32
SIGNATURE = "0x" + "55" * 64 + "1b"
CERTAIN = frozenset((Outcome.TRANSIENT, Outcome.PERMANENT))
POLICY = Policy.model_validate({"version": 1, "facilitators": [{"name": "a", "url": "http://a"}]})
TARGET = Target(
    key="k",
    asset=Address(ASSET),
    payer=Address(PAYER),
    pay_to=Address(PAYEE),
    amount=10_000,
    nonce=Nonce(NONCE),
    valid_before=2_000_000_000,
    hint=None,
    from_block_time=0.0,
)


def _fit_to_show(fault: Exception, secret: str = SIGNATURE[2:]) -> None:
    """One printable line, not long, without a secret."""
    said = str(fault)
    assert said.isprintable()
    assert len(said) <= MAX_ERROR_CHARS
    assert secret not in said


def payment(data: bytes) -> None:
    """A body of /settle: a payment, or BadPayment with short printable words and no signature."""
    try:
        found = read_payment(data)
    except BadPayment as fault:
        return _fit_to_show(fault)
    assert read_payment(data) == found
    assert 0 < len(found.key) <= MAX_KEY_CHARS
    assert found.id.startswith("pay_")
    assert len(found.id) == 36
    assert found.amount >= 0
    assert 0 < found.x402_version < 1000
    assert found.signature not in repr(found) or len(found.signature) < 67
    if found.method is Method.EIP3009 and found.network.removeprefix("eip155:").isdecimal():
        _recover(found)  # only networks that the policy names are watched, and those have a number


def _recover(found: Payment) -> None:
    """Whether the payer signed it, without a chain: never raises, and is not true for bytes of no key."""
    authorization = Authorization(
        chain_id=int(found.network.partition(":")[2]),
        asset=found.asset,
        domain_name=found.domain_name,
        domain_version=found.domain_version,
        payer=found.payer,
        to=Address(found.authorization_to),
        value=found.authorization_value or 0,
        valid_after=found.valid_after or 0,
        valid_before=found.valid_before or 0,
        nonce=found.nonce,
    )
    assert _now(signed_by_payer(authorization, found.signature)) is False


def _now(work: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("it waits")


STATUSES = (200, 200, 200, 202, 400, 402, 404, 408, 409, 422, 429, 500, 502, 503, 504)


def settle_reply(data: bytes) -> None:
    """A reply of /settle, its status from the first byte: bounded words, and no class beyond the evidence."""
    status, body = STATUSES[data[0] % len(STATUSES)] if data else 500, data[1:]
    said = read_settle_reply(status, body)
    assert max(len(said.reason), len(said.message)) <= 1000
    for history in History:
        heard = Heard(Operation.SETTLE, facilitator="a", status=status, body=body, history=history)
        verdict = judge(POLICY, heard).verdict
        assert len(verdict.rule) <= 200
        assert verdict.rule.isprintable()
        assert max(len(verdict.reason), len(verdict.message)) <= 2000
        if history is History.IN_DOUBT:
            assert verdict.outcome not in CERTAIN
        if verdict.outcome not in CERTAIN and verdict.outcome is not Outcome.SUCCESS:
            assert not verdict.retry
            assert not verdict.failover
            assert verdict.watch
    completed = json.loads(complete_settle_body(body, transaction=TX, network=NETWORK, payer=PAYER))
    assert completed["success"] is True


def doubtful(status: int, body: bytes) -> None:
    """A reply of /settle that speaks of a success or a broadcast is never taken for a failure."""
    for history in History:
        heard = Heard(Operation.SETTLE, facilitator="a", status=status, body=body, history=history)
        outcome = judge(POLICY, heard).verdict.outcome
        assert outcome not in CERTAIN, (status, outcome, body)


def verify_reply(data: bytes) -> None:
    """A reply of /verify."""
    status, body = STATUSES[data[0] % len(STATUSES)] if data else 500, data[1:]
    read_verify_reply(status, body)
    verdict = judge(POLICY, Heard(Operation.VERIFY, facilitator="a", status=status, body=body)).verdict
    if verdict.outcome is Outcome.SUCCESS:
        assert status == 200
        assert b"alid" in body or b"\\u" in body


def supported(data: bytes) -> None:
    """A reply of /supported, alone and beside another one."""
    answer = read_supported(200, data)
    if answer is None:
        return
    other = read_supported(200, SEEDS["supported"][0])
    assert other is not None
    json.loads(merge([answer, other]))
    json.loads(merge([other, answer]))
    alive = answer.where(lambda network: network != NETWORK)
    assert not any(network == NETWORK for _, _, network in alive.kinds)
    answer.serves(NETWORK, "exact", 2)


def retry_after(data: bytes) -> None:
    """A Retry-After header."""
    found = retry_after_s([(b"Retry-After", data)], 1_760_000_000.0)
    assert found is None or (math.isfinite(found) and 0 <= found <= MAX_RETRY_AFTER_S)


_URLS = TypeAdapter(FacilitatorUrl), TypeAdapter(RpcUrl)


def urls(data: bytes) -> None:
    """A URL of the policy, and a caller's path below it."""
    text = data.decode("utf-8", "replace")
    for kind in _URLS:
        try:
            kind.validate_python(text)
        except ValidationError:
            continue
        assert urlsplit(text).hostname
    shown = redact_url(text)
    assert "@" not in shown
    try:
        joined = below("http://facilitator:8080/base", text)
    except NotSent:
        return
    assert joined.startswith("http://facilitator:8080/base")
    assert urlsplit(joined).netloc == "facilitator:8080"


def rpc_reply(data: bytes) -> None:
    """What a node answers, whole and as each of the things it is asked for."""
    with contextlib.suppress(ChainUnavailable):
        _replies([1, 2], 200, {}, data)
    try:
        value = orjson.loads(data)
    except ValueError:
        return
    for read in (quantity, read_block, evidence.read_log, evidence.read_receipt, evidence.read_flag):
        try:
            read(value)  # type: ignore[operator]
        except ChainUnavailable:
            continue
    evidence.spenders(value if isinstance(value, list) else [value], {NONCE[2:]: "k"})


def receipt(data: bytes) -> None:
    """A receipt as evidence: what counts as paid has the payer, the payee, the amount and the nonce in it."""
    try:
        value = orjson.loads(data)
    except ValueError:
        return
    try:
        found = evidence.read_receipt(value)
        if found is None:
            return
        use, detail = evidence.judge(found, TARGET)
    except ChainUnavailable:
        return
    assert len(detail) <= 400
    if use is evidence.Use.PAID:
        words = {word for log in found.logs if log.address == ASSET for word in log.words}
        wanted = {evidence.word(one) for one in (PAYER, PAYEE, NONCE)}
        assert wanted <= words
        assert any(_is_amount(word) for word in words)
        assert found.succeeded


def _is_amount(word: str) -> bool:
    try:
        return int(word, 16) == TARGET.amount
    except ValueError:
        return False


def policy(data: bytes) -> None:
    """A policy file: a policy, or PolicyError on one line."""
    try:
        parse_policy(data.decode("utf-8", "replace"), "p.yaml")
    except PolicyError as fault:
        _fit_to_show(fault)


def demand(data: bytes) -> None:
    """A 402 of a resource server, in its body and in its header."""
    for headers, body in (
        ([], data),
        ([(b"payment-required", data)], b""),
        (_wrapped(b"payment-required", data), b""),
    ):
        try:
            found = read_demand(headers, body)
        except BadPayment as fault:
            _fit_to_show(fault)
            continue
        if found is not None:
            with_accepts(found, found.offers[:1])


def sent_payment(data: bytes) -> None:
    """Payment headers of a client, and what a server says of the settlement."""
    for name in (b"payment-signature", b"x-payment", b"payment-response"):
        for headers in ([(name, data)], _wrapped(name, data)):
            for read in (read_sent_payment, read_receipt):
                try:
                    read(headers)  # type: ignore[operator]
                except BadPayment as fault:
                    _fit_to_show(fault)


def _wrapped(name: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, encoded(data))]


_LOGGED_IN = tuple(
    f"{scheme}://u:hunter2hunter2@h" for scheme in ("redis", "rediss+cluster", "redis+sentinel")
)


def settings(data: bytes) -> None:
    """Flags and variables of the command line, and store URLs."""
    text = data.decode("utf-8", "replace")
    for environ in (
        {"GUARDIAN_LISTEN": text},
        {"GUARDIAN_OPS_LISTEN": text},
        {"GUARDIAN_STORE": text},
        {"GUARDIAN_LOG_LEVEL": text},
    ):
        try:
            read_settings({"GUARDIAN_POLICY": "p.yaml"} | environ)
        except PolicyError:
            continue
    try:
        address = read_redis_url(text)
    except PolicyError as fault:
        # Elsewhere nothing tells a password from a host.
        return _fit_to_show(fault, "hunter2" if text.startswith(_LOGGED_IN) else SIGNATURE)
    assert len(address.password) < 4 or address.password not in repr(address)


_FORMATTER = JsonFormatter()


def log_line(data: bytes) -> None:
    """Anything in a log line: one line of ASCII JSON, bounded, that steers no terminal."""
    text = data.decode("utf-8", "replace")
    record = logging.LogRecord("guardian", 30, "", 0, text, (), None)
    record.__dict__.update(found=text, nested={text[:50]: [text]}, raw=data)
    line = _FORMATTER.format(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["level"] == "warning"
    assert len(line) <= 400_000
    redact(text)


def timed(target: Fuzz, data: bytes) -> None:
    """A target, within its time."""
    begun = time.perf_counter()
    target(data)
    took = time.perf_counter() - begun
    assert took < LIMIT_S, f"{took:.1f} s for {len(data)} bytes"


def _log(topic: str, words: list[str], data: str, index: int) -> dict[str, Any]:
    topics = [topic, *(("0x" + evidence.word(word)) for word in words)]
    return {"address": ASSET, "topics": topics, "data": data, "transactionHash": TX, "logIndex": hex(index)}


_RECEIPT = {
    "transactionHash": TX,
    "blockNumber": "0x10",
    "status": "0x1",
    "logs": [
        _log(evidence.AUTHORIZATION_USED, [PAYER, NONCE], "0x", 0),
        _log(evidence.TRANSFER, [PAYER, PAYEE], "0x" + evidence.word(hex(10_000)), 1),
    ],
}
_TERMS = {
    "scheme": "exact",
    "network": NETWORK,
    "amount": "10000",
    "asset": ASSET,
    "payTo": PAYEE,
    "maxTimeoutSeconds": 60,
    "extra": {"name": "USD Coin", "version": "2"},
}
_AUTHORIZATION = {
    "from": PAYER,
    "to": PAYEE,
    "value": "10000",
    "validAfter": "0",
    "validBefore": "2000000000",
    "nonce": NONCE,
}
_PAYLOAD = {
    "x402Version": 2,
    "resource": {"url": "https://shop.example/x"},
    "accepted": _TERMS,
    "payload": {"signature": SIGNATURE, "authorization": _AUTHORIZATION},
}
_PERMIT2 = {
    "signature": SIGNATURE,
    "permit2Authorization": {
        "from": PAYER,
        "permitted": {"token": ASSET, "amount": "10000"},
        "spender": PAYEE,
        "nonce": "77",
        "deadline": "2000000000",
        "witness": {"to": PAYEE, "validAfter": "0"},
    },
}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _body(payload: object, **terms: object) -> bytes:
    wanted = {**_TERMS, **terms}
    wrapper = {**_PAYLOAD, "accepted": wanted, "payload": payload}
    return _json({"x402Version": 2, "paymentPayload": wrapper, "paymentRequirements": wanted})


_V1 = {
    "x402Version": 1,
    "paymentPayload": {
        "x402Version": 1,
        "scheme": "exact",
        "network": "base",
        "payload": _PAYLOAD["payload"],
    },
    "paymentRequirements": {
        **_TERMS,
        "network": "base",
        "maxAmountRequired": "10000",
        "resource": "https://s/x",
    },
}
_FAILED = {
    "success": False,
    "errorReason": "invalid_exact_evm_payload_signature",
    "transaction": "",
    "payer": PAYER,
}
_BROADCAST = {
    "success": False,
    "errorReason": "unexpected_settle_error",
    "transaction": TX,
    "network": NETWORK,
}
_SETTLED = {"success": True, "transaction": TX, "network": NETWORK, "payer": PAYER}

SEEDS: dict[str, list[bytes]] = {
    "payment": [
        _body(_PAYLOAD["payload"]),
        _body(_PERMIT2, scheme="upto"),
        _body({"transaction": "AQ" + "A" * 200}, network="solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"),
        _json(_V1),
    ],
    "settle_reply": [
        b"\0" + _json(_SETTLED),
        b"\0" + _json(_FAILED),
        b"\x0b" + _json({"error": "transaction failed: context deadline exceeded", "detail": [{"msg": TX}]}),
        b"\x0c<html><body><h1>502 Bad Gateway</h1></body></html>",
        b"\x0b" + _json({"error": 'facilitator settle failed (500): {"success":false,"errorReason":"x"}'}),
    ],
    "verify_reply": [
        b"\0" + _json({"isValid": True, "payer": PAYER}),
        b"\0" + _json({"isValid": False, "invalidReason": "insufficient_funds", "payer": PAYER}),
        b"\x0b" + _json({"error": "internal"}),
    ],
    "supported": [
        _json(
            {
                "kinds": [
                    {"x402Version": 2, "scheme": "exact", "network": NETWORK, "extra": {"feePayer": "abc"}},
                    {"x402Version": 1, "scheme": "exact", "network": "base"},
                    {"x402Version": 2, "scheme": "upto", "network": "eip155:*"},
                ],
                "extensions": ["bazaar"],
                "signers": {"eip155:*": [PAYER]},
            }
        ),
        _json({"kinds": []}),
    ],
    "retry_after": [b"5", b"Wed, 21 Oct 2026 07:28:00 GMT", b"1.5", b"-1", b"1e400", b"nan"],
    "urls": [
        b"https://api.example.com/platform/v2/x402",
        b"http://user:pw@[::1]:8080/a?b=c#d",
        b"wss://rpc.example/v2/key",
        b"/discovery/%2e%2e/x",
        b"//evil.example/x",
    ],
    "rpc_reply": [
        _json(
            [{"jsonrpc": "2.0", "id": 1, "result": "0x10"}, {"jsonrpc": "2.0", "id": 2, "error": {"code": 1}}]
        ),
        _json({"number": "0x10", "hash": TX, "timestamp": "0x65"}),
        _json(_RECEIPT),
        _json(_RECEIPT["logs"][0]),
        _json("0x" + "0" * 63 + "1"),
        _json([{"hash": TX, "input": "0xe3ee160e" + "0" * 320 + "44" * 32 + "0" * 128}]),
    ],
    "receipt": [
        _json(_RECEIPT),
        _json({**_RECEIPT, "logs": [*_RECEIPT["logs"], *_RECEIPT["logs"]]}),
        _json({**_RECEIPT, "status": "0x0"}),
    ],
    "policy": [
        b"version: 1\nfacilitators:\n  - name: main\n    url: http://h\nsettle:\n  hold: 25s\n",
        b"version: 1\nfacilitators: [{name: a, url: http://a}]\ncallers: {require: key, "
        b"keys: [{name: b, key: {env: C}}], pace: 50 per s, trusted_proxies: [10.0.0.0/8], max_open: 5}\n",
    ],
    "demand": [
        _json({"x402Version": 2, "accepts": [_TERMS], "resource": {"url": "https://s/x"}, "error": "pay"})
    ],
    "sent_payment": [_json(_PAYLOAD), _json(_V1["paymentPayload"]), _json(_SETTLED)],
    "settings": [
        b"127.0.0.1:8402",
        b"[::1]:80",
        b"sqlite:///a.db",
        b"redis+sentinel://u:hunter2hunter2@h:1,i:2/s/0?wait=1&timeout=2s",
    ],
    "log_line": [
        b"authorization: Bearer abc.def signature=0x" + b"55" * 65 + b" https://u:p@h/x?key=1",
        b"line\r\nnext \x1b[2J\x00",
    ],
}
"""Sound input, by target."""

TARGETS: dict[str, Fuzz] = {
    function.__name__: function
    for function in (
        *(payment, settle_reply, verify_reply, supported, retry_after, urls, rpc_reply, receipt),
        *(policy, demand, sent_payment, settings, log_line),
    )
}

WORST: dict[str, list[bytes]] = {
    "payment": [
        b"[" * 400_000,
        b'{"a":' * 80_000,
        _body({"signature": "0x" + "5" * 400_000, "authorization": _AUTHORIZATION}),
        _body({**_PAYLOAD["payload"], **{f"k{number}": number for number in range(20_000)}}),
        _body(_PAYLOAD["payload"], amount="9" * 400_000),
        _body({"\\" * 1000 + str(number): {} for number in range(200)}),
    ],
    "settle_reply": [
        b"\x0c" + b"<" * 1_000_000,
        b"\x0c" + b"<script>" * 120_000,
        b"\x0c" + b"0x" * 500_000,
        b"\x0c" + b"a_" * 500_000,
        b"\x0c" + b"function (" * 100_000,
        b"\x0c" + b"((500): {" * 100_000,
        b"\x0b" + _json({"error": "settle failed (500): {" * 40_000}),
        b"\0" + b'{"error":' * 50_000,
        b"\0" + _json({"success": False, "errorReason": "a" * 900_000}),
        b"\0" + _json({"success": False, "errorMessage": "nonce " * 100_000 + TX}),
    ],
    "verify_reply": [b"\x0c" + b"<" * 1_000_000, b"\0" + b'{"a":' * 100_000],
    "supported": [
        _json(
            {"kinds": [{"x402Version": 2, "scheme": str(n), "network": "eip155:*"} for n in range(10_000)]}
        ),
        b'{"kinds":[' + b"[" * 500 + b"]" * 500 + b"]}",
        b'{"kinds":[' + b"[" * 100_000,
        _json(
            {"kinds": [{"x402Version": 10**18, "scheme": "a", "network": NETWORK}], "signers": {"a": [[]]}}
        ),
    ],
    "retry_after": [b"9" * 100_000, b"Wed, " * 10_000],
    "urls": [b"http://" + b"[" * 10_000, b"a" * 1_000_000, b"%25" * 300_000, b"/.." * 100_000],
    "rpc_reply": [
        b"[" * 100_000,
        b'"0x' + b"f" * 1_000_000 + b'"',
        _json([{"input": "0x" + "4" * 999_999, "hash": TX}]),
    ],
    "receipt": [_json({**_RECEIPT, "logs": _RECEIPT["logs"] * 2_000})],
    "policy": [
        b"&a [" * 2_000,
        b"version: 1\n" + b"a: &a [x,x]\n" + b"".join(b"b%d: &b%d [*a,*a]\n" % (n, n) for n in range(200)),
        b"{" * 100_000,
        b"version: " + b"1" * 100_000,
    ],
    "demand": [b'{"accepts":[' + b"{}," * 100_000 + b"{}]}", b"[" * 100_000],
    "sent_payment": [b"A" * 500_000, b"=" * 500_000],
    "settings": [b":" * 100_000, b"redis://" + b"@" * 100_000, b"redis+cluster://" + b"a:1," * 10_000],
    "log_line": [
        b"a" * 1_000_000,
        b"eyJ" * 300_000,
        b"http://" * 100_000,
        b"signature " * 60_000,
        b"secret_" * 90_000,
        b"authorization: " * 50_000,
        b"/" * 500_000,
        b"https://h/" + b"a1-" * 300_000,
        b'"' * 500_000,
        b"\\" * 500_000,
        b"0x" + b"a" * 900_000,
    ],
}
"""Input made to take long, at the sizes that are let in: by target."""
