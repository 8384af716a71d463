"""Rules, profile, what is built in and what came before, laid over one another."""

import json
import timeit
from typing import Any

import pytest

from guardian.policy.judge import Judgement, Shadow, judge
from guardian.policy.rules import Alert, Heard, History, Transport
from guardian.settlement.classify import classify_reply
from guardian.settlement.verdict import Health, Operation, Outcome, Verdict
from tests.policy.rulebook import Rulebook, rulebook

SETTLE, VERIFY = Operation.SETTLE, Operation.VERIFY
HASH = "0x" + "ab" * 32
PAGE = b"<html><head><title>503 Service Temporarily Unavailable</title></head><body>nginx</body></html>"
EDGE = {"when": {"status": 503, "body": "not_json"}, "class": "transient", "failover": True}
BILL = {"when": {"status": 402}, "class": "permanent", "health": "faulty", "alert": "page"}


def refused(reason: str = "vault_closed", message: str = "", transaction: str = "") -> bytes:
    said = {"success": False, "errorReason": reason, "errorMessage": message, "transaction": transaction}
    return json.dumps(said).encode()


def settle(body: bytes = refused(), status: int = 200, **keys: Any) -> Heard:
    return Heard(operation=SETTLE, facilitator="main", status=status, body=body, **keys)


def verify(reason: str = "vault_closed") -> Heard:
    body = json.dumps({"isValid": False, "invalidReason": reason}).encode()
    return Heard(operation=VERIFY, facilitator="main", status=200, body=body)


def lost(transport: Transport, history: History = History.FIRST, operation: Operation = SETTLE) -> Heard:
    return Heard(operation, "main", transport=transport, history=history, detail="gone")


def verdict(rules: Rulebook, heard: Heard) -> Verdict:
    return judge(rules, heard).verdict


def vault(class_: str, **keys: Any) -> dict[str, Any]:
    return {"when": {"reason": "vault_closed"}, "class": class_, **keys}


def test_without_rules_the_built_in_verdict_stands() -> None:
    bodies = [refused(), refused("invalid_signature"), refused("", "nonce too low"), refused("x", "", HASH)]
    for body in [*bodies, b"", PAGE]:
        for status in (200, 402, 404, 429, 500, 503):
            built_in = classify_reply(SETTLE, status, body)
            assert judge(rulebook(), settle(body, status)) == Judgement(built_in)


def test_a_success_stays_a_success() -> None:
    body = json.dumps({"success": True, "transaction": HASH}).encode()
    rules = rulebook([{"class": "settlement"}], [{"alert": "page"}], default={"alert": "page"})
    for history in History:
        judged = judge(rules, settle(body, history=history))
        assert (judged.verdict.outcome, judged.verdict.alert) == (Outcome.SUCCESS, Alert.OFF)
        assert judged.shadows == ()


def test_a_rule_says_what_an_unknown_reply_means() -> None:
    rules = rulebook([vault("permanent", cure="Open it.", health="healthy", alert="log", failover=True)])
    found = verdict(rules, settle())
    assert (found.outcome, found.rule, found.reason) == (Outcome.PERMANENT, "c0", "vault_closed")
    assert (found.health, found.cure, found.alert) == (Health.HEALTHY, "Open it.", Alert.LOG)
    assert (found.retry, found.failover, found.watch, found.answer) == (False, True, False, "reason")


def test_what_a_rule_calls_transient_may_go_again_but_elsewhere_only_if_it_says_so() -> None:
    found = verdict(rulebook([vault("transient")]), settle())
    assert (found.retry, found.failover, found.watch, found.retry_after_ok) == (True, False, False, True)
    assert verdict(rulebook([vault("transient", failover=True)]), settle()).failover


def test_the_first_match_decides_and_the_policy_comes_before_the_profile() -> None:
    other = {"when": {"reason": "other"}, "class": "permanent"}
    rules = rulebook([other, vault("transient"), vault("permanent")], profile=[vault("permanent")])
    assert verdict(rules, settle()).rule == "c1"
    assert verdict(rulebook([other], profile=[vault("permanent")]), settle()).rule == "p0"


def test_a_profile_counts_only_for_its_own_facilitator() -> None:
    rules = rulebook(profile=[vault("permanent")])
    elsewhere = Heard(operation=SETTLE, facilitator="backup", status=200, body=refused())
    assert verdict(rules, elsewhere).outcome is Outcome.SETTLEMENT


def test_a_rule_may_ask_for_the_profile_of_the_facilitator() -> None:
    rule = vault("permanent", when={"profile": "shop", "reason": "vault_closed"})
    assert verdict(rulebook([rule]), settle()).rule == "c0"
    assert verdict(rulebook([rule], profile_name="cdp"), settle()).outcome is Outcome.SETTLEMENT


def test_a_rule_may_make_any_failure_doubtful() -> None:
    rules = rulebook([{"class": "settlement"}])
    for body, status in [(refused("invalid_signature"), 200), (b"", 404), (b"", 429), (refused(), 400)]:
        found = verdict(rules, settle(body, status))
        assert (found.outcome, found.watch, found.answer) == (Outcome.SETTLEMENT, True, "pending")
        assert (found.retry, found.failover) == (False, False)
    assert verdict(rules, lost(Transport.NOT_SENT)).outcome is Outcome.SETTLEMENT


@pytest.mark.parametrize(
    "heard",
    [
        settle(refused("vault_closed", "", HASH)),
        settle(refused("vault_closed", "the tx was submitted")),
        settle(refused("vault_closed", "context deadline exceeded")),
        settle(refused("vault_closed transaction_failed")),
        settle(refused("settlement_pending")),
        settle(json.dumps({"success": True, "errorReason": "vault_closed"}).encode()),
        settle(refused(), 504),
        settle(b"vault_closed", 502),
        settle(PAGE, 500),
        settle(b"", 200),
        lost(Transport.TIMEOUT),
        lost(Transport.LOST),
    ],
)
@pytest.mark.parametrize("outcome", ["transient", "permanent"])
def test_a_doubt_with_a_ground_is_not_overruled(heard: Heard, outcome: str) -> None:
    judged = judge(rulebook([{"class": outcome, "failover": True}]), heard)
    assert judged.verdict.outcome is Outcome.SETTLEMENT
    assert (judged.verdict.retry, judged.verdict.failover) == (False, False)
    assert judged.shadows == (Shadow("c0", "classify", "passed_over"),)


def test_a_rule_passed_over_leaves_the_word_to_the_next() -> None:
    rules = rulebook([{"class": "transient"}, {"class": "unknown", "alert": "page"}])
    found = verdict(rules, settle(refused("settlement_pending")))
    assert (found.outcome, found.rule, found.alert) == (Outcome.UNKNOWN, "c1", Alert.PAGE)
    assert (found.watch, found.answer) == (True, "pending")


def test_between_the_certain_classes_a_rule_may_choose() -> None:
    rules = rulebook([{"when": {"status": 404}, "class": "transient", "failover": True}])
    found = verdict(rules, settle(b"", 404))
    assert (found.outcome, found.retry, found.failover) == (Outcome.TRANSIENT, True, True)


def test_a_rule_cannot_take_back_what_came_before() -> None:
    rules = rulebook([vault("permanent")])
    found = verdict(rules, settle(history=History.IN_DOUBT))
    assert (found.outcome, found.rule, found.watch) == (Outcome.SETTLEMENT, "taint", True)
    assert verdict(rules, settle(history=History.REPEATED)).outcome is Outcome.PERMANENT


def test_what_was_not_sent_denies_no_earlier_attempt() -> None:
    assert verdict(rulebook(), lost(Transport.NOT_SENT)).outcome is Outcome.TRANSIENT
    found = verdict(rulebook(), lost(Transport.NOT_SENT, History.IN_DOUBT))
    assert (found.outcome, found.retry, found.failover) == (Outcome.SETTLEMENT, False, False)


def test_after_an_earlier_send_only_what_its_landing_cannot_explain_is_certain() -> None:
    for reason, outcome in (
        ("insufficient_funds", Outcome.SETTLEMENT),
        ("invalid_signature", Outcome.PERMANENT),
    ):
        assert verdict(rulebook(), settle(refused(reason))).outcome is Outcome.PERMANENT
        repeated = settle(refused(reason), history=History.REPEATED)
        assert verdict(rulebook(), repeated).outcome is outcome


def test_only_the_edge_of_a_profile_that_says_so_is_believed_on_503() -> None:
    for body in (PAGE, b"", b"no healthy upstream", b"503 Service Unavailable"):
        assert verdict(rulebook(), settle(body, 503)).outcome is Outcome.SETTLEMENT
        found = verdict(rulebook(profile=[EDGE]), settle(body, 503))
        assert (found.outcome, found.failover, found.health) == (
            Outcome.TRANSIENT,
            True,
            verdict(rulebook(), settle(body, 503)).health,
        )
    spoken = json.dumps({"error": "Service Unavailable"}).encode()
    assert verdict(rulebook(profile=[EDGE]), settle(spoken, 503)).outcome is Outcome.SETTLEMENT
    assert verdict(rulebook(profile=[EDGE]), settle(PAGE, 502)).outcome is Outcome.SETTLEMENT


def test_a_bill_of_the_facilitator_is_known_by_its_profile() -> None:
    body = json.dumps({"errorMessage": "Add a card."}).encode()
    assert verdict(rulebook(), settle(body, 402)).outcome is Outcome.SETTLEMENT
    found = verdict(rulebook(profile=[BILL]), settle(body, 402))
    assert (found.outcome, found.health, found.alert) == (Outcome.PERMANENT, Health.FAULTY, Alert.PAGE)


def test_a_shadow_rule_is_told_and_not_applied() -> None:
    rules = rulebook([vault("transient", mode="shadow"), vault("permanent")])
    judged = judge(rules, settle())
    assert (judged.verdict.outcome, judged.verdict.rule) == (Outcome.PERMANENT, "c1")
    assert judged.shadows == (Shadow("c0", "classify", "transient"),)
    assert judge(rules, settle(refused("other"))).shadows == ()


def test_a_shadow_rule_that_would_break_the_law_says_so() -> None:
    rules = rulebook([{"class": "transient", "mode": "shadow"}])
    judged = judge(rules, lost(Transport.TIMEOUT))
    assert judged.shadows == (Shadow("c0", "classify", "passed_over"),)


def test_the_default_decides_what_nothing_recognises_on_verify() -> None:
    assert verdict(rulebook(), verify()).outcome is Outcome.UNKNOWN
    found = verdict(rulebook(verify="transient"), verify())
    assert (found.outcome, found.rule, found.retry, found.failover) == (
        Outcome.TRANSIENT,
        "default",
        True,
        True,
    )
    assert verdict(rulebook(verify="permanent"), verify("invalid_signature")).rule == "listed"
    ruled = rulebook([{"class": "unknown"}], verify="permanent")
    assert verdict(ruled, verify()).outcome is Outcome.UNKNOWN


def test_a_verify_settles_nothing() -> None:
    found = verdict(rulebook([{"class": "settlement"}]), verify())
    assert (found.outcome, found.watch, found.answer) == (Outcome.UNKNOWN, False, "reason")


def test_on_verify_a_rule_may_relax_anything() -> None:
    rules = rulebook([{"when": {"operation": "verify"}, "class": "permanent"}])
    assert verdict(rules, verify()).outcome is Outcome.PERMANENT
    assert verdict(rules, lost(Transport.TIMEOUT, operation=VERIFY)).outcome is Outcome.PERMANENT


def test_an_act_rule_says_what_is_done_and_leaves_the_rest_to_the_class() -> None:
    act = {
        "when": {"class": "transient", "status": 429},
        "failover": False,
        "circuit": "faulty",
        "alert": "log",
    }
    judged = judge(rulebook(act=[act]), settle(b"", 429))
    found = judged.verdict
    assert (judged.action, found.rule, found.outcome) == ("a0", "status_429", Outcome.TRANSIENT)
    assert (found.failover, found.health, found.alert, found.retry) == (
        False,
        Health.FAULTY,
        Alert.LOG,
        True,
    )
    assert judge(rulebook(act=[act]), settle(b"", 404)).action == ""


def test_the_first_act_rule_decides_and_the_default_only_where_none_matches() -> None:
    rules = rulebook(
        act=[{"when": {"class": "permanent"}, "alert": "log"}, {"when": {"status": 404}, "retry": True}],
        default={"alert": "page"},
    )
    closed = judge(rules, settle(b"", 404))
    assert (closed.action, closed.verdict.alert, closed.verdict.retry) == ("a0", Alert.LOG, False)
    doubt = judge(rules, settle())
    assert (doubt.action, doubt.verdict.alert) == ("default", Alert.PAGE)


def test_an_act_rule_sees_the_class_that_the_rules_gave() -> None:
    rules = rulebook([vault("permanent")], [{"when": {"class": "permanent"}, "alert": "page"}])
    assert verdict(rules, settle()).alert is Alert.PAGE
    assert verdict(rules, settle(history=History.IN_DOUBT)).alert is Alert.OFF


def test_a_shadow_act_rule_is_told_and_not_applied() -> None:
    rules = rulebook(act=[{"mode": "shadow", "alert": "page", "failover": False}, {"alert": "log"}])
    judged = judge(rules, settle(b"", 429))
    assert (judged.verdict.alert, judged.verdict.failover, judged.action) == (Alert.LOG, True, "a1")
    assert judged.shadows == (Shadow("a0", "act", "failover=false alert=page"),)


@pytest.mark.parametrize(
    "heard", [settle(), settle(refused("settlement_pending")), lost(Transport.TIMEOUT), lost(Transport.LOST)]
)
def test_no_action_touches_what_a_doubt_needs(heard: Heard) -> None:
    action = {"retry": True, "failover": True, "watch": False, "answer": "reason", "circuit": "faulty"}
    for rules in (rulebook(act=[action]), rulebook(default=action)):
        found = verdict(rules, heard)
        assert (found.retry, found.failover, found.watch, found.answer) == (False, False, True, "pending")


def test_a_settle_that_takes_too_long_never_counts_against_the_facilitator() -> None:
    rules = rulebook([{"class": "unknown", "health": "faulty"}], [{"circuit": "faulty"}])
    assert verdict(rules, lost(Transport.TIMEOUT)).health is Health.NEUTRAL
    assert verdict(rules, lost(Transport.LOST)).health is Health.FAULTY


def test_what_is_watched_is_not_sent_again() -> None:
    rules = rulebook(act=[{"when": {"class": "transient"}, "watch": True, "retry": True}])
    found = verdict(rules, settle(b"", 429))
    assert (found.watch, found.retry, found.failover) == (True, False, False)


def test_a_judged_success_costs_little_more_than_a_classified_one() -> None:
    body = json.dumps({"success": True, "transaction": HASH, "network": "eip155:8453"}).encode()
    rules = rulebook([vault("transient")] * 50, [{"alert": "log"}] * 50, profile=[EDGE] * 50)
    heard = settle(body)
    judged = min(timeit.repeat(lambda: judge(rules, heard), number=1000, repeat=20))
    assert judged / 1000 < 12e-6
