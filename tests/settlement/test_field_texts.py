"""What real facilitators, their libraries, nodes and gateways say, labelled by hand before it was classified.

`field_texts.json` holds one reply a line: operation, status, body (a string is sent as it stands), the
label (was anything possibly broadcast when this is the answer?), the source's address and date.
"""

import json
import timeit
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardian.settlement.classify import Operation, Outcome, classify_reply
from guardian.settlement.reasons import REASONS
from guardian.settlement.saying import read_saying
from guardian.settlement.texts.reading import MAX_TEXT, read_text
from guardian.settlement.texts.rule import Sign

Row = dict[str, Any]
ROWS: list[Row] = json.loads((Path(__file__).parent / "field_texts.json").read_text(encoding="utf-8"))
IN_DOUBT = ("settlement", "unknown")
DOUBTFUL = (Outcome.SETTLEMENT, Outcome.UNKNOWN)
FREE_STATUSES = (200, 202, 400, 402, 408, 409, 412, 418, 422, 500, 501, 502, 503, 504, 520, 524, 599)
"""Statuses that do not prove by themselves that nothing was executed."""
PROOF_STATUSES = (401, 403, 404, 405, 413, 415, 429)


def said_by(row: Row) -> bytes:
    body = row["body"]
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def outcome_of(row: Row) -> Outcome:
    return classify_reply(Operation(row["operation"]), row["status"], said_by(row)).outcome


def agrees(row: Row) -> bool:
    outcome = outcome_of(row)
    both_in_doubt = row["label"] in IN_DOUBT and outcome in DOUBTFUL
    return outcome.value == row["label"] or (row["operation"] == "settle" and both_in_doubt)


def words_of(body: object) -> str:
    """The text of a reply, as somebody would quote it."""
    if isinstance(body, dict):
        if isinstance(body.get("code"), int):
            return ""  # a node's answer: the number says so, not the words
        keys = ["errorReason", "errorMessage", "error", "message", "detail", "details", "reason"]
        keys += ["errorReasonDetails", "invalidReasonDetails"]
        return ": ".join(filter(None, (words_of(body.get(key)) for key in keys)))
    return body if isinstance(body, str) and not body.startswith("<") else ""


DOUBTED = [row for row in ROWS if row["operation"] == "settle" and row["label"] in IN_DOUBT]
# Behind a gateway's status a text may be in doubt for the status alone.
BY_WORDS = [row for row in DOUBTED if row["label"] == "settlement" or row["status"] not in (502, 503, 504)]
DOUBTED_TEXTS = sorted({text for row in BY_WORDS if (text := words_of(row["body"]))})
TELLING_TEXTS = [text for text in DOUBTED_TEXTS if read_text(text).sign in (Sign.SENT, Sign.TIME)]
UNNAMED_TEXTS = [text for text in DOUBTED_TEXTS if not read_saying(Operation.SETTLE, text.encode()).listed]


def replies(text: str) -> list[tuple[int, bytes]]:
    bodies: list[tuple[int, object]] = [
        (200, {"success": False, "errorReason": text, "transaction": "", "network": "eip155:8453"}),
        (400, {"success": False, "errorReason": "some_error", "errorMessage": text}),
        (500, {"error": text}),
        (500, {"detail": [{"msg": text}]}),
        (500, {"error": {"code": -32000, "message": text}}),
        (502, {"error": "settle", "debug": {"cause": [text]}}),
    ]
    return [(status, json.dumps(body).encode()) for status, body in bodies]


def certain_of(text: str) -> list[tuple[int, bytes]]:
    """The dialects in which a text of doubt is taken for certain: there must be none."""
    return [
        (status, body)
        for status, body in replies(text)
        if classify_reply(Operation.SETTLE, status, body).outcome not in DOUBTFUL
    ]


def test_there_are_many_texts_and_each_has_a_source() -> None:
    assert len(ROWS) >= 3_000
    assert all(row["source"].startswith("https://") for row in ROWS)
    assert len(DOUBTED_TEXTS) >= 150
    assert len(TELLING_TEXTS) >= 100


def test_no_text_that_may_follow_a_broadcast_is_taken_for_certain() -> None:
    assert [row for row in DOUBTED if outcome_of(row) not in DOUBTFUL] == []


@pytest.mark.parametrize("operation", ["settle", "verify"])
def test_nine_in_ten_agree_with_a_human(operation: str) -> None:
    rows = [row for row in ROWS if row["operation"] == operation]
    wrong = [row for row in rows if not agrees(row)]
    assert len(wrong) <= len(rows) / 10, wrong


@pytest.mark.parametrize("status", FREE_STATUSES)
def test_a_text_of_doubt_stays_in_doubt_under_every_status_that_proves_nothing(status: int) -> None:
    for row in BY_WORDS:
        verdict = classify_reply(Operation.SETTLE, status, said_by(row))
        page = status in (400, 422) and (not row["body"] or str(row["body"]).startswith("<"))
        assert page or verdict.outcome in DOUBTFUL, row


@pytest.mark.parametrize("status", PROOF_STATUSES)
def test_a_sign_of_a_broadcast_beats_a_status_that_refuses(status: int) -> None:
    for text in TELLING_TEXTS:
        body = json.dumps({"error": text}).encode()
        assert classify_reply(Operation.SETTLE, status, body).outcome in DOUBTFUL, text


@pytest.mark.parametrize(
    "wrapping",
    [
        "Error: {}",
        "Settlement failed: {}",
        "settle failed ({})",
        "{} (ref: 7f3a)",
        "{}\n    at settle (index.js:1:2)",
    ],
)
def test_words_round_a_text_of_doubt_do_not_make_it_certain(wrapping: str) -> None:
    for text in DOUBTED_TEXTS:
        assert certain_of(wrapping.format(text)) == [], text


@pytest.mark.parametrize("certain", ["invalid signature", "insufficient balance", "rate limit exceeded"])
def test_a_sign_of_a_broadcast_beats_a_refusal_before_and_behind_it(certain: str) -> None:
    for text in TELLING_TEXTS:
        assert certain_of(f"{certain}: {text}") == [], text
        assert certain_of(f"{text}: {certain}") == [], text


@pytest.mark.parametrize(
    "text",
    [
        "Settlement verification failed: Recipient mismatch: expected A, got B",
        "Transfer amount mismatch: expected 1000, got 950",
        "Payment amount mismatch in transaction logs",
        "settled amount does not match",
        "Settlement reverted: ERC20: transfer amount exceeds balance",
        "Bundle reverted: insufficient balance",
        "transaction not successful: insufficient funds",
        "Permit executed; transferFrom failed: insufficient allowance",
        "approve succeeded, settle failed: insufficient balance",
        "submit failed: balance too low",
        "insufficient funds; retrying with higher gas",
        "Insufficient balance (attempt 2)",
        "failed after 3 retries: invalid signature",
        "Max retries reached: insufficient funds",
        "Token account not found after transfer",
        "authorization invalid (used)",
        "request with the same idempotency key has invalid payload",
        "rate limited by the node while polling",
        "daily request count exceeded, request rate limited",
        "fee below network minimum",
        "Nonce must be 5 but was 4",
        "Error processing Instruction 2: insufficient funds",
    ],
)
def test_words_of_refusal_that_may_follow_a_broadcast_are_in_doubt(text: str) -> None:
    assert certain_of(text) == []


def test_quoting_a_text_of_doubt_does_not_make_it_certain() -> None:
    for text in DOUBTED_TEXTS:
        assert certain_of(json.dumps({"error": text})) == [], text
        assert certain_of(json.dumps(json.dumps({"message": text}))) == [], text


def test_a_page_that_tells_of_a_broadcast_is_in_doubt() -> None:
    for status in (*FREE_STATUSES, *PROOF_STATUSES):
        page = b"<html><body><h1>Sorry</h1><p>The payment's transaction was broadcast.</p></body></html>"
        assert classify_reply(Operation.SETTLE, status, page).outcome in DOUBTFUL
    for text in DOUBTED_TEXTS:
        page = f"<html><body><p>{text}</p></body></html>".encode()
        for status in (200, 402, 409, 500, 502, 504):
            assert classify_reply(Operation.SETTLE, status, page).outcome in DOUBTFUL, text


@pytest.mark.parametrize("spell", [str.upper, str.lower, str.title, str.swapcase, str.capitalize])
def test_no_spelling_makes_a_text_of_doubt_certain(spell: Any) -> None:
    for text in DOUBTED_TEXTS:
        assert certain_of(spell(text)) == [], text


@settings(max_examples=400, deadline=None)
@given(
    row=st.sampled_from(BY_WORDS), share=st.floats(0, 1), status=st.sampled_from((200, 400, 409, 500, 503))
)
def test_a_body_cut_off_anywhere_is_in_doubt(row: Row, share: float, status: int) -> None:
    body = said_by(row)
    cut = body[: int(len(body) * share)]
    if cut and not cut.startswith(b"<") and not isinstance(row["body"], str):
        assert classify_reply(Operation.SETTLE, status, cut).outcome in DOUBTFUL


@settings(max_examples=400, deadline=None)
@example(
    text="failed to send transaction: Transaction simulation failed: This transaction has already"
    " been processed",
    share=0.75,
    mark="…",
)
@given(
    text=st.sampled_from(UNNAMED_TEXTS),
    share=st.floats(0, 1),
    mark=st.sampled_from(["…", "...", "[truncated]"]),
)
def test_a_long_text_that_was_cut_is_not_certain(text: str, share: float, mark: str) -> None:
    said = "x402 facilitator of example.org could not do what it was asked for, and said this: "
    assert certain_of(said + text[: int(len(text) * share)] + mark) == []


@pytest.mark.parametrize(
    "addition", ["交易已提交", "транзакция отправлена", "取引は送信されました", "거래가 전송되었습니다"]
)
def test_a_text_that_cannot_be_read_throughout_is_not_certain(addition: str) -> None:
    assert certain_of(f"insufficient balance; {addition}") == []


@pytest.mark.parametrize(
    "text", ["invalid signature: trans\u200baction was broad\u200bcast", "ｂroadcast; bad signature"]
)
def test_letters_that_only_look_different_hide_no_sign(text: str) -> None:
    assert certain_of(text) == []


HOSTILE = [
    *(
        "a",
        "0x",
        " ",
        "A",
        "invalid ",
        "amount ",
        "a_",
        "aA",
        "(500): {",
        "<",
        "<a ",
        "<b>tx</b>",
        '{"a":',
        "[",
    ),
    *(
        '"',
        "\\",
        "function: a(",
        "...",
        "failed to send ",
        "settle_",
        "失",
        "\u200b",
        "code=",
        "transaction ",
    ),
    " ".join(REASONS) + " ",
]


@pytest.mark.parametrize("part", HOSTILE)
def test_no_text_is_slow_to_read(part: str) -> None:
    size = 256 * 1024
    whole = part * (size // len(part.encode()))
    for body in (
        whole.encode(),
        json.dumps({"error": whole}).encode(),
        json.dumps({"error": whole[: MAX_TEXT - 100]}).encode(),
    ):

        def read(body: bytes = body) -> None:
            read_text.cache_clear()
            classify_reply(Operation.SETTLE, 500, body)

        assert min(timeit.repeat(read, timer=process_time, number=1, repeat=5)) < 0.05
