"""The verdict on each kind of evidence: its health, its failover, its alert. Pure.

Which evidence counts in a reply is decided in `classify.py`.
"""

from guardian.settlement.reasons import ERROR_TYPES, Reason
from guardian.settlement.texts.rule import Sign, TextRule
from guardian.settlement.verdict import Alert, Health, Operation, Outcome, Verdict


def broken(rule: str, reason: str, message: str) -> Verdict:
    """Not executed, because something at the facilitator is broken."""
    return later(rule, reason, message, Health.FAULTY)


def later(rule: str, reason: str, message: str, health: Health) -> Verdict:
    """Not executed, here and now: later, or elsewhere, it may be."""
    return Verdict(Outcome.TRANSIENT, rule, reason, message, health, retry_after_ok=True, failover=True)


def of_text(rule: TextRule, reason: str, message: str) -> Verdict:
    """What a text proves that says «before» or «refused»."""
    transient = rule.sign is Sign.BEFORE
    health = Health.FAULTY
    if rule.name in ("rate_limit", "quota", "not_now", "simulation"):
        health = Health.NEUTRAL
    elif rule.payload:
        health = Health.HEALTHY
    return Verdict(
        Outcome.TRANSIENT if transient else Outcome.PERMANENT,
        f"text_{rule.name}",
        reason,
        message,
        health,
        cure=rule.cure,
        retry_after_ok=transient,
        failover=rule.failover or (transient and not rule.payload),
        alert=Alert.LOG if rule.name in ("access", "gas_money") else Alert.OFF,
        prior=rule.prior,
    )


def of_reason(operation: Operation, listed: Reason, message: str) -> Verdict:
    """What a listed reason proves."""
    outcome = listed.outcome(operation)
    transient = outcome is Outcome.TRANSIENT
    return Verdict(
        outcome,
        "listed",
        listed.name,
        message,
        _listed_health(listed, outcome),
        cure=listed.cure,
        retry_after_ok=transient,
        failover=listed.failover or (transient and not listed.payload),
        prior=listed.prior,
    )


def of_error_type(operation: Operation, name: str, message: str) -> Verdict:
    """What one of the generic `ERROR_TYPES` proves."""
    error = ERROR_TYPES[name]
    outcome = error.settle if operation is Operation.SETTLE else error.verify
    refused = outcome is Outcome.PERMANENT and error.health is Health.FAULTY
    return Verdict(
        outcome,
        "error_type",
        name,
        message,
        error.health,
        retry_after_ok=outcome is Outcome.TRANSIENT,
        failover=refused or outcome is Outcome.TRANSIENT,
        alert=Alert.LOG if refused else Alert.OFF,
    )


def _listed_health(listed: Reason, outcome: Outcome) -> Health:
    """A wrong payload says nothing against the facilitator; a failed read or an empty gas tank does."""
    if outcome is Outcome.PERMANENT or listed.payload:
        return Health.HEALTHY
    if outcome is Outcome.TRANSIENT and not listed.prior and listed.name != "rate_limit_exceeded":
        return Health.FAULTY
    return Health.NEUTRAL
