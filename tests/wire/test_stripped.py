"""What is left of a settle body for evidence: what was signed, and nothing that could be spent."""

import hashlib
import json
from typing import Any

import pytest

from guardian.wire.stripped import MARK, read_stripped, stripped

SIGNATURE = "0x" + "5a" * 65
SIGNED = {"from": "0x" + "1" * 40, "to": "0x" + "2" * 40, "value": "10000", "nonce": "0x" + "3" * 64}


def body(payload: Any, **root: Any) -> bytes:
    whole = {"paymentPayload": {"x402Version": 2, "payload": payload}, "paymentRequirements": {"a": "b"}}
    return json.dumps(whole | root).encode()


def test_the_signed_fields_stay_and_the_signature_is_a_hash() -> None:
    sent = body({"signature": SIGNATURE, "authorization": SIGNED})
    found = read_stripped(stripped(sent))
    assert found["authorization"] == {"authorization": SIGNED}
    assert found["withheld"] == {"signature": hashlib.sha256(SIGNATURE.encode()).hexdigest()}
    assert found["body"] == {"sha256": hashlib.sha256(sent).hexdigest(), "bytes": len(sent)}
    assert found["requirements"] == {"a": "b"}


@pytest.mark.parametrize(
    "payload",
    [
        {"transaction": SIGNATURE},
        {"authorization": SIGNED | {"signature": SIGNATURE}},
        {"permit2Authorization": {"permitted": {"more": SIGNATURE}}},
        {"voucher": {"signature": SIGNATURE}},
        {"authorization": [SIGNATURE]},
        {"authorization": SIGNATURE},
        [SIGNATURE],
    ],
)
def test_nothing_that_was_signed_with_gets_through(payload: Any) -> None:
    assert b"5a5a5a" not in stripped(body(payload))


def test_stripping_again_changes_nothing_and_no_caller_can_claim_to_have_done_it() -> None:
    once = stripped(body({"signature": SIGNATURE, "authorization": SIGNED}))
    assert stripped(once) == once
    assert json.loads(once.removeprefix(MARK))["body"]
    pretends = body({"signature": SIGNATURE}, body={"sha256": "0", "bytes": 1})
    assert SIGNATURE.encode() not in stripped(pretends)
    assert read_stripped(pretends)["body"]["bytes"] == len(pretends)


@pytest.mark.parametrize("sent", [b"", b"\x00as sent", b"[]", b'{"paymentPayload":1}', b"\xff"])
def test_what_cannot_be_read_leaves_nothing(sent: bytes) -> None:
    assert (stripped(sent), read_stripped(sent)) == (b"", {})
