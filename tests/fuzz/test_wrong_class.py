"""A settle reply that shows a hash or a success is never taken for a failure, however the rest is garbled."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bench.fuzz.targets import STATUSES, TX, doubtful

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]
HASH, YES = f'"transaction":"{TX}"'.encode(), b'"success":true'
CERTAIN = [
    *(
        b"invalid_exact_evm_payload_signature",
        b"insufficient_funds",
        b"invalid_payload",
        b"unsupported_scheme",
    ),
    *(b"rate limit exceeded", b"unable to estimate gas", b"not authorized", b"missing paymentPayload"),
]
"""What would be certain by itself: transient or permanent."""

AROUND = [
    (b'{"success":false,"errorReason":"%b",', b',"network":"base"}'),
    (b'{"error":"%b",', b"}"),
    (b'{"detail":[{"msg":"%b"}],"data":{', b"}}"),
    (b"<html><h1>429</h1>%b ", b"</html>"),
    (b"%b ", b""),
]
TOKENS = [
    *(b'"', b"{", b"}", b"[", b"]", b":", b",", b"\\", b"null", b"false", b"\n", b"<p>", b"(500): ", b"429"),
    *(b'"errorReason":"invalid_payload"', b'"error":"', b'"detail":"', b'"transaction":""', b"\x00", b"\xff"),
]
CHANGES = st.lists(
    st.tuples(
        st.booleans(), st.floats(0, 1), st.integers(0, 8), st.sampled_from(TOKENS) | st.binary(max_size=3)
    ),
    max_size=5,
)
ALL = sorted({*STATUSES, 401, 403, 405, 413, 415})


def _garbled(
    before: bytes, after: bytes, changes: list[tuple[bool, float, int, bytes]]
) -> tuple[bytes, bytes]:
    for in_front, at, cut, piece in changes:
        part = before if in_front else after
        index = int(at * len(part))
        part = part[:index] + piece + part[index + cut :]
        before, after = (part, after) if in_front else (before, part)
    return before, after


@settings(max_examples=600, suppress_health_check=QUIET, deadline=None)
@given(st.sampled_from(AROUND), st.sampled_from(CERTAIN), st.sampled_from(ALL), CHANGES)
@example(AROUND[0], CERTAIN[0], 400, [])
def test_a_garbled_reply_with_a_hash_stays_in_doubt(
    around: tuple[bytes, bytes], reason: bytes, status: int, changes: list[tuple[bool, float, int, bytes]]
) -> None:
    before, after = _garbled(around[0].replace(b"%b", reason), around[1], changes)
    doubtful(status, before + HASH + after)


@settings(max_examples=600, suppress_health_check=QUIET, deadline=None)
@given(st.sampled_from(AROUND[1:]), st.sampled_from(CERTAIN), st.sampled_from(ALL), CHANGES)
@example(AROUND[1], CERTAIN[0], 403, [(True, 0.0, 1, b"")])
def test_a_garbled_reply_with_a_success_stays_in_doubt(
    around: tuple[bytes, bytes], reason: bytes, status: int, changes: list[tuple[bool, float, int, bytes]]
) -> None:
    before, after = _garbled(around[0].replace(b"%b", reason), around[1], changes)
    body = before + YES + after
    if _says_no_itself(body):
        return  # a whole reply with a no of its own: what is quoted inside it is not its word
    doubtful(status, body)


def _says_no_itself(body: bytes) -> bool:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("success") is False


@pytest.mark.parametrize("status", ALL)
@pytest.mark.parametrize("cut", range(5, 60, 5))
def test_a_success_that_is_cut_off_anywhere_behind_its_yes_stays_in_doubt(status: int, cut: int) -> None:
    whole = b'{"success":true,"transaction":"' + TX.encode() + b'","network":"base","payer":"0x"}'
    doubtful(status, whole[: len(b'{"success":true') + cut])
