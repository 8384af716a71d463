"""No policy that is accepted breaks a law: random rules over random replies, judged by what was put in.

The oracle knows nothing of texts, reasons or rules of the guardian: each reply is built together with the
signs of doubt that it carries, and those alone decide what must hold.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from guardian.policy.judge import judge
from guardian.policy.lawful import Unlawful, refuse_unlawful
from guardian.policy.rules import Heard, History, Transport
from guardian.settlement.verdict import Health, Operation, Outcome, Verdict
from tests.policy.rulebook import Rulebook, rulebook

HASH = "0x9f2c5a1be07d4c63a8f10e5d7b92c4a6e3f80d1b5c7a9e2f4d6b8a0c1e3f5d79"
SOLANA = "5VERv8NMvzbJMEkV8xnrLkEaWRtSz9CosKDYjCJjBRnbJLgp8uirBgmQpjKhoR4tjF3ZpRzrFmBV6UjKdiSZkQUW"

BROADCAST = (
    "nonce too low: next nonce 12, tx nonce 11",
    "replacement transaction underpriced",
    "already known",
    "execution reverted: FiatTokenV2: authorization is used or canceled",
    "timeout exceeded when waiting for receipt",
    "Transaction with hash: '0xab' not found.",
    "Transaction was not confirmed in 30.00 seconds. It is unknown if it succeeded or failed.",
    'transaction execution reverted (action="sendTransaction", receipt={}, code=CALL_EXCEPTION)',
    "Transaction reverted on-chain",
    "tx dropped from mempool",
    "failed to send transaction",
    "could not get receipt",
    "insufficient funds; transaction already submitted",
    "invalid signature; but the transaction was broadcast",
    "receipt status is 0x0",
    "This transaction has already been processed",
    "TransactionReceiptNotFoundError: Transaction receipt could not be found.",
    "Transaction HexBytes('0xab') is not in the chain after 120 seconds",
    "the payment may have been settled",
)
WAITED = (
    "context deadline exceeded",
    "The request took too long to respond.",
    "read ECONNRESET",
    "socket hang up",
    "The operation was aborted",
    "i/o timeout",
    "write: broken pipe",
    "Read timed out. (read timeout=10)",
    "fetch failed",
)
REASONS_OF_DOUBT = (
    "settlement_pending",
    "transaction_failed",
    "invalid_exact_evm_transaction_failed",
    "unexpected_settle_error",
    "duplicate_settlement",
    "settle_exact_svm_transaction_confirmation_timed_out",
    "settle_exact_node_failure",
    "invalid_transaction_state",
    "outcome_unknown",
    "unknown_error",
)
HARMLESS = (
    "the vault is closed today",
    "invalid signature",
    "insufficient balance",
    "relayer is out of gas money",
    "rate limit exceeded",
    "account frozen by compliance",
    "unsupported network",
    "something odd",
    "",
)
REASONS_OF_REFUSAL = ("insufficient_funds", "invalid_signature", "vault_closed", "kyc_needed", "rate_limited")
STATUSES = (200, 200, 202, 302, 400, 401, 402, 403, 404, 408, 409, 422, 429, 451, 500, 502, 503, 504, 524)
PAGE = "<html><head><title>503 Service Temporarily Unavailable</title></head><body>nginx {}</body></html>"


@dataclass(frozen=True)
class Attempt:
    """An attempt and the grounds that were put into it for doubting that nothing moved."""

    heard: Heard
    grounds: tuple[str, ...]


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, tuple[str, ...]]:
    grounds: list[str] = []
    texts = [draw(st.sampled_from(HARMLESS))]
    reason = draw(st.sampled_from(REASONS_OF_REFUSAL))
    transaction = ""
    for ground in draw(st.lists(st.sampled_from(("broadcast", "waited", "reason", "hash")), max_size=2)):
        grounds.append(ground)
        match ground:
            case "broadcast":
                texts.insert(draw(st.integers(0, len(texts))), draw(st.sampled_from(BROADCAST)))
            case "waited":
                texts.insert(draw(st.integers(0, len(texts))), draw(st.sampled_from(WAITED)))
            case "reason":
                reason = draw(st.sampled_from(REASONS_OF_DOUBT))
            case _:
                transaction = draw(st.sampled_from((HASH, SOLANA)))
    text = draw(st.sampled_from((": ", "; ", ". "))).join(texts)
    said = {"success": False, "errorReason": reason, "errorMessage": text, "transaction": transaction}
    match draw(st.integers(0, 6)):
        case 0:
            body = {
                "error": {"code": -32000, "message": f"{reason}: {text}", "data": {"txHash": transaction}}
            }
        case 1:
            body = {"errorReason": f"Facilitator settle failed (500): {json.dumps(said)}", "success": False}
        case 2:
            return f"{reason}: {text} {transaction}".encode(), tuple(grounds)
        case 3:
            shown = [ground for ground in grounds if ground == "hash"]  # a page shows no more than a hash
            return PAGE.format(transaction if shown else "").encode(), tuple(shown)
        case 4:
            return b"", ()
        case _:
            body = said
    return json.dumps(body).encode(), tuple(grounds)


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    transport = draw(st.sampled_from((Transport.REPLY, Transport.REPLY, Transport.REPLY, *Transport)))
    history = draw(st.sampled_from((History.FIRST, History.FIRST, *History)))
    body, grounds = draw(bodies()) if transport is Transport.REPLY else (b"", ())
    if transport in (Transport.TIMEOUT, Transport.LOST):
        grounds = (*grounds, str(transport))
    if history is History.IN_DOUBT:
        grounds = (*grounds, "in_doubt")
    heard = Heard(
        operation=Operation.SETTLE,
        facilitator="main",
        network="eip155:8453",
        status=draw(st.sampled_from(STATUSES)) if transport is Transport.REPLY else 0,
        body=body,
        transport=transport,
        history=history,
        detail="" if transport is Transport.REPLY else draw(st.sampled_from((*WAITED, "refused", "gone"))),
    )
    return Attempt(heard, grounds)


@st.composite
def words(draw: st.DrawFn) -> str:
    """What a person might take out of a text that they saw."""
    text = draw(
        st.sampled_from((*BROADCAST, *WAITED, *HARMLESS[:-1], *REASONS_OF_DOUBT, *REASONS_OF_REFUSAL))
    )
    start = draw(st.integers(0, len(text) - 4))
    end = draw(st.integers(start + 4, len(text)))
    cut = text[start:end]
    if draw(st.booleans()) and len(cut) > 9:
        cut = f"{cut[:4]}*{cut[-4:]}"
    return cut


def some(values: Any) -> st.SearchStrategy[Any]:
    return st.lists(values, min_size=1, max_size=2)


EVIDENCE = st.one_of(
    st.fixed_dictionaries({"reason": some(st.sampled_from((*REASONS_OF_REFUSAL, *REASONS_OF_DOUBT)))}),
    st.fixed_dictionaries({"text": some(words())}),
    st.fixed_dictionaries(
        {"status": some(st.sampled_from((*map(str, STATUSES), "2xx", "4xx", "5xx")))},
        optional={"body": st.sampled_from(("empty", "html", "json", "not_json"))},
    ),
    st.fixed_dictionaries({"transport": some(st.sampled_from(tuple(map(str, Transport))))}),
    st.just({}),
)
CONTEXT = st.sampled_from(
    (
        {},
        {"operation": "settle"},
        {"facilitator": "main"},
        {"history": ["first", "repeated"]},
        {"history": ["first", "in_doubt"]},
        {"operation": ["settle", "verify"], "network": "eip155:*"},
    )
)
WHEN = st.tuples(EVIDENCE, CONTEXT).map(lambda drawn: {**drawn[0], **drawn[1]})
FLAG = st.booleans()
CLASSIFY = st.fixed_dictionaries(
    {
        "when": WHEN,
        "class": st.sampled_from(("transient", "transient", "permanent", "settlement", "unknown")),
    },
    optional={"failover": FLAG, "health": st.sampled_from(tuple(map(str, Health)))},
)
ACTION = {
    "retry": FLAG,
    "failover": FLAG,
    "watch": FLAG,
    "answer": st.sampled_from(("reason", "pending")),
    "circuit": st.sampled_from(tuple(map(str, Health))),
}
CLASSES = some(st.sampled_from(("transient", "permanent", "settlement", "unknown", "success")))
ACT = st.tuples(WHEN, st.none() | CLASSES, st.fixed_dictionaries({}, optional=ACTION)).map(
    lambda drawn: {"when": {**drawn[0], **({"class": drawn[1]} if drawn[1] else {})}, **drawn[2]}
)


def accepted(**sections: Any) -> bool:
    """Whether such a policy can be loaded."""
    with suppress(Unlawful, ValidationError):
        refuse_unlawful(rulebook(**sections))
        return True
    return False


@st.composite
def policies(draw: st.DrawFn) -> Rulebook:
    """Random rules, less those that are refused."""
    return rulebook(
        [rule for rule in draw(st.lists(CLASSIFY, max_size=6)) if accepted(classify=[rule])],
        [rule for rule in draw(st.lists(ACT, max_size=4)) if accepted(act=[rule])],
        default=next(lawful_defaults(draw(st.fixed_dictionaries({}, optional=ACTION)))),
        profile=[rule for rule in draw(st.lists(CLASSIFY, max_size=3)) if accepted(profile=[rule])],
    )


def lawful_defaults(drawn: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if accepted(default=drawn):
        yield drawn
    yield {name: value for name, value in drawn.items() if accepted(default={name: value})}


def broken_law(verdict: Verdict, attempt: Attempt) -> str:
    """Which law a verdict on a failed settle breaks; empty when none."""
    in_doubt = verdict.outcome in (Outcome.SETTLEMENT, Outcome.UNKNOWN)
    if attempt.grounds and not in_doubt:
        return f"law 1: certain in spite of {', '.join(attempt.grounds)}"
    if in_doubt and (verdict.retry or verdict.failover):
        return "law 6: a doubt is sent again"
    if in_doubt and (not verdict.watch or verdict.answer != "pending"):
        return "law 3: a doubt is answered without the chain"
    if attempt.heard.transport is Transport.TIMEOUT and verdict.health is Health.FAULTY:
        return "a slow chain counts against the facilitator"
    return ""


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rules=policies(), drawn=st.lists(attempts(), min_size=1, max_size=6))
def test_no_accepted_policy_breaks_a_law(rules: Rulebook, drawn: list[Attempt]) -> None:
    refuse_unlawful(rules)
    for attempt in drawn:
        verdict = judge(rules, attempt.heard).verdict
        assert broken_law(verdict, attempt) == "", f"{attempt.heard} -> {verdict}"
        by_rule = verdict.rule[1:].isdigit()
        event(f"{verdict.outcome} by {'a rule' if by_rule else 'what is built in'}")


@pytest.mark.parametrize("text", [*BROADCAST, *WAITED, *REASONS_OF_DOUBT])
def test_no_word_of_a_text_of_doubt_makes_it_certain(text: str) -> None:
    """Also where the loader would have refused the rule: the runtime holds the law by itself."""
    rules = rulebook(
        [{"when": {"text": text}, "class": "transient", "failover": True}], default={"retry": True}
    )
    for body in ({"success": False, "errorReason": text}, {"error": text}):
        for status in (200, 400, 500, 503):
            heard = Heard(Operation.SETTLE, "main", status=status, body=json.dumps(body).encode())
            assert broken_law(judge(rules, heard).verdict, Attempt(heard, ("text",))) == ""


@settings(max_examples=100, deadline=None)
@given(attempt=attempts())
def test_without_rules_no_law_is_broken(attempt: Attempt) -> None:
    assert broken_law(judge(rulebook(), attempt.heard).verdict, attempt) == ""
