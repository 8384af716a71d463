"""Logs: one JSON line a record, and no secret in it by any way."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from guardian.logs import MAX_FIELD_CHARS, JsonFormatter, configure, redact

SIGNATURE = "0x" + "ab" * 65
HASH = "0x" + "cd" * 32
ADDRESS = "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"


class Lines:
    """What was logged, as parsed JSON."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def __call__(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    names = (
        "",
        "uvicorn",
        "uvicorn.error",
        "uvicorn.access",
        "httpx",
        "httpcore",
        "urllib3",
        "web3",
        "websockets",
    )
    before = [(log := logging.getLogger(n), log.level, log.handlers[:], log.propagate) for n in names]
    written = Lines()
    configure("info", written.stream)
    yield written
    for log, level, handlers, propagate in before:
        log.setLevel(level)
        log.handlers[:] = handlers
        log.propagate = propagate


def test_a_record_is_one_json_line(lines: Lines) -> None:
    logging.getLogger("guardian.flow").warning(
        "two\nlines for %s", "x", extra={"network": "eip155:8453", "n": 3}
    )
    (line,) = lines()
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "guardian.flow",
        "message": "two\nlines for x",
        "network": "eip155:8453",
        "n": 3,
    }


def test_the_level_cuts(lines: Lines) -> None:
    logging.getLogger("guardian").debug("no")
    assert lines() == []
    configure("debug", lines.stream)
    logging.getLogger("guardian").debug("yes")
    assert [line["message"] for line in lines()] == ["yes"]


def test_an_unknown_level_is_an_error() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure("loud")


def test_configuring_twice_writes_once(lines: Lines) -> None:
    configure("info", lines.stream)
    logging.getLogger("guardian").info("once")
    assert len(lines()) == 1


def test_uvicorn_speaks_json_too(lines: Lines) -> None:
    logging.getLogger("uvicorn").handlers.append(logging.StreamHandler(io.StringIO()))
    configure("info", lines.stream)
    logging.getLogger("uvicorn.error").info("Uvicorn running", extra={"color_message": "x"})
    logging.getLogger("uvicorn.access").info("GET /payments")
    (line,) = lines()
    assert (line["logger"], line["message"]) == ("uvicorn.error", "Uvicorn running")
    assert "color_message" not in line


def test_http_clients_do_not_log_each_request(lines: Lines) -> None:
    logging.getLogger("httpx").info("HTTP Request: POST http://h/settle")
    assert lines() == []


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"payload signature {SIGNATURE} refused", SIGNATURE[2:]),
        ("ab" * 65, "abab"),
        (f'{{"signature": "{"Zm9v" * 10}"}}', "Zm9v"),
        ('{\\"signature\\":\\"5Kb8kLf9zgWQnogidDA76Mz\\"}', "5Kb8"),
        ("Authorization: Bearer s3cret", "s3cret"),
        ("authorization=Basic dXNlcjpwdw==", "dXNl"),
        ("[(b'authorization', b'Bearer s3cret'), (b'accept', b'*/*')]", "s3cret"),
        ("{'Authorization': 'Bearer s3cret'}", "s3cret"),
        ("sent with Bearer abcdef0123456789", "abcdef"),
        ("X-API-Key: k1", "k1"),
        ("CDP_API_KEY=k1", "k1"),
        ("api_key: 'k1'", "k1"),
        ("private_key=" + HASH, HASH),
        ("PRIVATE_KEY: " + HASH, HASH),
        ("password=hunter2", "hunter2"),
        ("Cookie: session=abc", "abc"),
        ("payment-signature: eyJ4NDAyVmVyc2lvbiI6Mn0", "eyJ4"),
        ("X-PAYMENT: eyJ4NDAyVmVyc2lvbiI6Mn0", "eyJ4"),
        ("header " + "QUJDRA" * 40 + "==", "QUJD"),
        ("jwt eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2ln", "eyJ"),
        ("redis://:pw@cache:6379/0", "pw"),
        ("rediss+sentinel://user:hush-hush@a:26379,b:26379/main/0", "hush-hush"),
        ("redis+cluster://:hush-hush@a:7000", "hush-hush"),
        ("https://user:pw@rpc.example/", "pw"),
        ("GET https://rpc.example/?apikey=k1&x=2", "k1"),
        ("https://rpc.example/?access_token=k1", "k1"),
        ("https://base-mainnet.rpc.example/v2/aB3_dE6gH9jK2mN5pQ8sT1vW4yZ7", "aB3_"),
        ("wss://base.rpc.example/v3/0123456789abcdef0123456789abcdef/ws", "0123456789abcdef"),
    ],
)
def test_secrets_are_cut_from_text(text: str, secret: str) -> None:
    assert secret not in redact(text)
    assert "[redacted]" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        f"settled {HASH} of {ADDRESS}",
        f"eip155:8453/{ADDRESS}/{ADDRESS}/{HASH}",
        "pay_0123456789abcdef0123456789abcdef is pending",
        "invalid_exact_evm_payload_signature: the payer did not sign this",
        "http://127.0.0.1:18402/platform/v2/x402/settle",
        f"https://basescan.example/tx/{HASH}",
        "unexpected token: found }",
        "https://h.example/settle?network=eip155:8453&limit=10",
        'File "/usr/lib/python3.11/asyncio/base_events.py", line 650, in run_until_complete',
    ],
)
def test_what_an_operator_needs_stays(text: str) -> None:
    assert redact(text) == text


def test_the_rest_of_a_url_stays_readable() -> None:
    found = redact("calling https://user:pw@rpc.example:8443/v2/aB3_dE6gH9jK2mN5pQ8s?apikey=k1&x=2 failed")
    assert found == "calling https://[redacted]@rpc.example:8443/v2/[redacted]?apikey=[redacted]&x=2 failed"


def test_secrets_are_cut_from_exceptions_and_their_causes(lines: Lines) -> None:
    def fail() -> None:
        try:
            raise ValueError(f"bad {SIGNATURE}")
        except ValueError as exc:
            raise RuntimeError("Authorization: Bearer s3cret") from exc

    try:
        fail()
    except RuntimeError:
        logging.getLogger("guardian").exception("failed")
    (line,) = lines()
    assert "RuntimeError" in line["exception"]
    assert "in fail" in line["exception"]
    assert "s3cret" not in json.dumps(line)
    assert "abab" not in json.dumps(line)


def test_secrets_are_cut_from_extra_fields_at_any_depth(lines: Lines) -> None:
    logging.getLogger("guardian").info(
        "x",
        extra={
            "authorization": "abc1",
            "headers": {"X-Api-Key": "abc2", "accept": "json"},
            "raw": [(b"a", f"{SIGNATURE}".encode())],
            "signature": "abc3",
        },
    )
    (line,) = lines()
    assert line["headers"] == {"X-Api-Key": "[redacted]", "accept": "json"}
    assert line["raw"] == [["a", "[redacted]"]]
    assert not [s for s in ("abc1", "abc2", "abc3", "abab") if s in json.dumps(line)]


def test_an_extra_field_cannot_replace_the_message(lines: Lines) -> None:
    logging.getLogger("guardian").info("true", extra={"level": "forged", "time": "forged"})
    (line,) = lines()
    assert (line["message"], line["level"]) == ("true", "info")
    assert line["time"] != "forged"


def test_wrong_arguments_and_broken_objects_do_not_lose_the_line() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(SIGNATURE)

    def line(msg: str, args: tuple[object, ...] = (), **extra: object) -> dict[str, Any]:
        record = logging.makeLogRecord({"msg": msg, "args": args, **extra})
        parsed: dict[str, Any] = json.loads(JsonFormatter().format(record))
        return parsed

    assert line("%d settlements", ("many",))["message"].startswith("%d settlements <TypeError")
    assert line("%s", (Broken(),))["message"].startswith("%s <RuntimeError")
    odd = line("x", thing=Broken(), ratio=float("nan"), odd="\ud800")
    assert (odd["thing"], odd["ratio"]) == ("<Broken: RuntimeError>", "nan")


def test_a_hostile_message_is_short_and_cheap() -> None:
    for piece in ("a", "0", "http://", "authorization", '"', "eyJ", "https://a/" + "1" * 50, "-_", "token="):
        assert len(redact(piece * (200_000 // len(piece)))) <= MAX_FIELD_CHARS + 1
