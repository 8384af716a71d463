"""Nothing falls through: every reason, every status, and any bytes at all."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian.settlement.classify import Operation, Outcome, classify_reply
from guardian.settlement.reasons import REASONS
from guardian.settlement.texts.reading import read_text
from guardian.settlement.texts.rule import Sign

CERTAIN = {Outcome.TRANSIENT, Outcome.PERMANENT}
PROOF_STATUSES = {401, 403, 404, 405, 413, 415, 429}
BODIES = [
    b"",
    b"<!DOCTYPE html><html><body>oops</body></html>",
    b'{"success":',
    b"[1,2]",
    b'{"hello":"world"}',
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("name", sorted(REASONS))
def test_every_listed_reason_has_the_class_of_its_row(operation: Operation, name: str) -> None:
    key, flag = ("errorReason", "success") if operation is Operation.SETTLE else ("invalidReason", "isValid")
    for status in (200, 400, 500):
        body = json.dumps({flag: False, key: name, "transaction": "", "network": "base"}).encode()
        verdict = classify_reply(operation, status, body)
        assert (verdict.outcome, verdict.reason) == (REASONS[name].outcome(operation), name)


def test_no_reason_that_follows_a_broadcast_is_certain_on_settle() -> None:
    for reason in REASONS.values():
        if reason.broadcast in ("yes", "maybe"):
            assert reason.settle is Outcome.SETTLEMENT


@pytest.mark.parametrize("status", range(100, 600))
def test_every_status_without_words_is_settlement_unless_it_proves_non_execution(status: int) -> None:
    for body in BODIES:
        outcome = classify_reply(Operation.SETTLE, status, body).outcome
        turned_away = status in (400, 422) and (not body or body.startswith(b"<"))
        assert (outcome in CERTAIN) == (status in PROOF_STATUSES or turned_away)
        assert outcome in CERTAIN or outcome is Outcome.SETTLEMENT
        assert classify_reply(Operation.VERIFY, status, body).outcome is not Outcome.SUCCESS
        assert classify_reply(Operation.SETTLE, status, body, tainted=True).outcome is Outcome.SETTLEMENT


@settings(max_examples=300, deadline=None)
@given(status=st.integers(100, 599), body=st.binary(max_size=400), operation=st.sampled_from(Operation))
def test_no_bytes_make_it_fail(status: int, body: bytes, operation: Operation) -> None:
    classify_reply(operation, status, body)


@settings(max_examples=300, deadline=None)
@given(status=st.integers(100, 599), body=JSON, operation=st.sampled_from(Operation))
def test_no_json_makes_it_fail(status: int, body: object, operation: Operation) -> None:
    classify_reply(operation, status, json.dumps(body).encode())


@settings(max_examples=400, deadline=None)
@given(text=st.text(max_size=200), status=st.sampled_from([200, 402, 409, 410, 412, 418, 500, 501]))
def test_unlisted_text_is_never_certain_on_settle(text: str, status: int) -> None:
    body = json.dumps({"success": False, "errorReason": text}).encode()
    verdict = classify_reply(Operation.SETTLE, status, body)
    if read_text(text).sign not in (Sign.BEFORE, Sign.REFUSED) and verdict.rule != "listed":
        assert verdict.outcome is Outcome.SETTLEMENT


@pytest.mark.parametrize("depth", [10, 1000, 200_000])
def test_a_body_nested_without_end_is_settlement(depth: int) -> None:
    body = b'{"a":' * depth + b"1" + b"}" * depth
    assert classify_reply(Operation.SETTLE, 200, body).outcome is Outcome.SETTLEMENT
