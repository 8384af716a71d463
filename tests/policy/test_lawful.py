"""What could lose or double money is refused when the policy is read, by the name of its law."""

from typing import Any

import pytest

from guardian.policy.lawful import Unlawful, refuse_unlawful, refuse_unlawful_profile
from guardian.policy.types import Misplaced
from guardian.settlement.reasons import REASONS
from guardian.settlement.verdict import Outcome
from tests.policy.rulebook import Rulebook, rulebook

LAW_1, LAW_3, LAW_6 = "law 1 (unresolved", "law 3 (only the chain", "law 6 (a settle is sent again only"
DOUBTFUL = ("settlement", "unknown")
CERTAIN = ("transient", "permanent")


def refusal(rules: Rulebook) -> Unlawful:
    with pytest.raises(Unlawful) as raised:
        refuse_unlawful(rules)
    return raised.value


def of_classify(class_: str = "transient", /, **keys: Any) -> Unlawful:
    when = {name: keys.pop(name) for name in list(keys) if name not in ("failover", "health")}
    return refusal(rulebook([{"when": when, "class": class_, **keys}]))


def of_act(when: dict[str, Any], **action: Any) -> Unlawful:
    return refusal(rulebook(act=[{"when": when, **action}]))


def lawful(*classify: dict[str, Any], **keys: Any) -> None:
    refuse_unlawful(rulebook(classify, **keys))


def test_a_policy_without_rules_is_lawful() -> None:
    lawful()


def test_a_refusal_names_law_rule_place_and_cure() -> None:
    fault = of_classify(transport="timeout")
    assert isinstance(fault, Misplaced)
    assert (fault.law, fault.at) == (1, ("classify", "rules", 0, "when", "transport"))
    assert all(words in str(fault) for words in (LAW_1, "rule c0", "timeout", "operation: verify"))


@pytest.mark.parametrize("class_", CERTAIN)
@pytest.mark.parametrize(
    "when",
    [
        {},
        {"operation": "settle"},
        {"facilitator": "main", "network": "eip155:*", "profile": "cdp"},
        {"history": "first"},
        {"transport": "reply"},
        {"transport": ["reply", "not_sent"]},
        {"body": "html"},
        {"body": "empty"},
        {"body": "json"},
    ],
)
def test_a_settle_is_not_certain_without_evidence_law_1(class_: str, when: dict[str, Any]) -> None:
    fault = of_classify(class_, **when)
    assert str(fault).startswith(LAW_1)
    assert fault.at == ("classify", "rules", 0, "when")


@pytest.mark.parametrize("transport", ["timeout", "lost", ["reply", "lost"]])
def test_a_lost_reply_is_not_certain_law_1(transport: Any) -> None:
    assert str(of_classify("permanent", transport=transport, text="vault is closed")).startswith(LAW_1)


def test_an_attempt_after_a_doubt_is_not_certain_law_3() -> None:
    fault = of_classify(history=["first", "in_doubt"], reason="vault_closed")
    assert str(fault).startswith(LAW_3)
    assert fault.at[-1] == "history"


@pytest.mark.parametrize(
    "status",
    ["500", "5xx", "502", "504", "503", "408", "499", "409", "425", "4xx", "200", "2xx", "302", "100"],
)
def test_a_status_alone_proves_nothing_law_1(status: str) -> None:
    assert str(of_classify(status=status)).startswith(LAW_1)
    assert str(of_classify(status=[404, status])).startswith(LAW_1)
    assert str(of_classify(status=status, body="json")).startswith(LAW_1)


@pytest.mark.parametrize("status", ["500", "502", "504", "408", "200", "5xx"])
@pytest.mark.parametrize("body", ["html", "empty", "not_json"])
def test_a_page_in_the_place_of_an_answer_proves_nothing_law_1(status: str, body: str) -> None:
    assert str(of_classify(status=status, body=body, facilitator="main")).startswith(LAW_1)


def test_a_page_of_503_proves_nothing_of_an_unnamed_facilitator_law_1() -> None:
    fault = of_classify(status=503, body="not_json")
    assert str(fault).startswith(LAW_1)
    assert "name the facilitator" in str(fault)


@pytest.mark.parametrize(
    "reason",
    sorted(name for name in REASONS if REASONS[name].settle not in (Outcome.TRANSIENT, Outcome.PERMANENT)),
)
def test_a_reason_of_after_a_broadcast_is_not_certain_law_1(reason: str) -> None:
    fault = of_classify(reason=["vault_closed", reason])
    assert str(fault).startswith(LAW_1)
    assert reason in str(fault)
    assert str(of_classify(text=reason)).startswith(LAW_1)


def test_an_unlisted_reason_that_tells_of_a_broadcast_is_not_certain_law_1() -> None:
    for reason in ("payment_pending", "tx_submitted", "upstream_timeout", "nonce_too_low"):
        assert str(of_classify(reason=reason)).startswith(LAW_1)


@pytest.mark.parametrize("error_type", ["internal_server_error", "timed_out", "service_unavailable"])
def test_a_generic_error_type_of_doubt_is_not_certain_law_1(error_type: str) -> None:
    assert str(of_classify(reason=error_type)).startswith(LAW_1)


@pytest.mark.parametrize(
    "text",
    [
        "execution reverted",
        "EXEC*REVERT",
        "fail",
        "error",
        "timeout",
        "timed out",
        "receipt",
        "was submitted",
        "nonce too low",
        "already known",
        "broadcast",
        "transaction*not found",
        "too many requests",
        "internal server error",
        "vault*transaction was sent",
        "may have been settled",
        "failed:",
        ": transaction",
        "error -",
        "nonce provided",
        "is lower",
        "already initiated",
        "not yet",
        "account sequence",
        "cannot connect",
        "submitted",
        "goaway",
    ],
)
def test_words_of_after_a_broadcast_are_not_certain_law_1(text: str) -> None:
    fault = of_classify(text=["vault is closed", text])
    assert str(fault).startswith(LAW_1)
    assert fault.at == ("classify", "rules", 0, "when", "text")


@pytest.mark.parametrize("class_", DOUBTFUL)
@pytest.mark.parametrize("operation", ["settle", "verify"])
def test_a_classify_rule_does_not_fail_over_a_doubt_law_6(class_: str, operation: str) -> None:
    fault = of_classify(class_, reason="vault_closed", operation=operation, failover=True)
    assert str(fault).startswith(LAW_6)
    assert fault.at[-1] == "failover"


def test_a_classify_rule_does_not_count_a_slow_settle_against_the_facilitator() -> None:
    fault = of_classify("settlement", health="faulty")
    assert "slow chain" in str(fault)
    lawful({"when": {"status": 500}, "class": "settlement", "health": "faulty"})
    lawful({"when": {"transport": "lost"}, "class": "settlement", "health": "faulty"})


@pytest.mark.parametrize(
    "rule",
    [
        {"when": {"reason": "vault_closed"}, "class": "transient", "failover": True},
        {"when": {"text": "the vault is closed"}, "class": "permanent"},
        {"when": {"status": 500, "text": "relayer out of funds"}, "class": "transient"},
        {"when": {"status": [402, 404, 451]}, "class": "permanent"},
        {"when": {"status": 503, "body": "not_json", "facilitator": "main"}, "class": "transient"},
        {"when": {"status": 503, "body": "html", "profile": "payai"}, "class": "transient"},
        {"when": {"transport": "not_sent"}, "class": "permanent"},
        {"when": {"operation": "verify"}, "class": "transient"},
        {"when": {"operation": "verify", "transport": ["timeout", "lost"]}, "class": "permanent"},
        {"when": {}, "class": "settlement"},
        {"when": {"history": "in_doubt"}, "class": "unknown"},
    ],
)
def test_what_proves_non_execution_or_adds_doubt_is_lawful(rule: dict[str, Any]) -> None:
    lawful(rule)


@pytest.mark.parametrize(
    "when",
    [
        {},
        {"operation": "settle"},
        {"class": "settlement"},
        {"class": ["transient", "unknown"]},
        {"operation": ["verify", "settle"], "status": 404},
        {"class": "settlement", "operation": "settle", "reason": "vault_closed"},
    ],
)
@pytest.mark.parametrize(
    ("key", "value", "law"),
    [
        ("retry", True, LAW_6),
        ("failover", True, LAW_6),
        ("watch", False, LAW_3),
        ("answer", "reason", LAW_3),
    ],
)
def test_an_action_does_nothing_that_a_doubt_forbids(
    when: dict[str, Any], key: str, value: object, law: str
) -> None:
    fault = of_act(when, **{key: value})
    assert str(fault).startswith(law)
    assert fault.at == ("act", "rules", 0, key)
    assert "rule a0" in str(fault)
    lawful(act=[{"when": {**when, "operation": "verify"}, key: value}])
    lawful(act=[{"when": {**when, "class": ["transient", "permanent"]}, key: value}])


@pytest.mark.parametrize(
    ("key", "value", "law"),
    [
        ("retry", True, LAW_6),
        ("failover", True, LAW_6),
        ("watch", False, LAW_3),
        ("answer", "reason", LAW_3),
    ],
)
def test_the_default_action_does_nothing_that_a_doubt_forbids(key: str, value: object, law: str) -> None:
    fault = refusal(rulebook(default={key: value}))
    assert str(fault).startswith(law)
    assert fault.at == ("act", "default", key)


def test_a_slow_settle_is_not_counted_against_the_facilitator() -> None:
    for when in ({}, {"class": "settlement"}, {"transport": ["timeout", "lost"]}):
        assert "slow chain" in str(of_act(when, circuit="faulty"))
    assert "slow chain" in str(refusal(rulebook(default={"circuit": "faulty"})))
    lawful(act=[{"when": {"class": "settlement", "transport": ["reply", "lost"]}, "circuit": "faulty"}])
    lawful(act=[{"when": {"class": "settlement", "status": "5xx"}, "circuit": "faulty"}])
    lawful(act=[{"when": {"operation": "verify"}, "circuit": "faulty"}])


def test_an_action_that_asks_for_less_is_lawful() -> None:
    less = {"retry": False, "failover": False, "watch": True, "answer": "pending", "alert": "page"}
    lawful(act=[less], default=less)


def test_a_rule_over_successes_alone_is_refused_because_it_would_never_be_looked_at() -> None:
    assert "success" in str(of_act({"class": "success"}, alert="page"))
    lawful(act=[{"when": {"class": ["success", "permanent"]}, "alert": "page"}])


def test_a_shadow_rule_is_held_to_the_same_laws() -> None:
    assert str(refusal(rulebook([{"when": {}, "class": "transient", "mode": "shadow"}]))).startswith(LAW_1)
    assert str(of_act({}, retry=True, mode="shadow")).startswith(LAW_6)


def test_a_profile_knows_its_own_edge_and_is_held_to_everything_else() -> None:
    edge = {"when": {"status": 503, "body": "not_json"}, "class": "transient"}
    refuse_unlawful_profile(rulebook(profile=[edge]).profile)
    with pytest.raises(Unlawful, match=r"law 1 .unresolved") as raised:
        refuse_unlawful_profile(
            rulebook(profile=[edge, {"when": {"status": 500}, "class": "transient"}]).profile
        )
    assert raised.value.at == ("classify", 1, "when", "status")


def test_an_unlawful_profile_is_refused_where_the_policy_names_it() -> None:
    fault = refusal(rulebook(profile=[{"when": {}, "class": "permanent"}]))
    assert (fault.at, fault.law) == (("facilitators", 0, "profile"), 1)
    assert "'shop'" in str(fault)
    assert LAW_1 in str(fault)
