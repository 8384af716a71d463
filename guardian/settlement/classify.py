"""Classification of every reply: what a facilitator's answer proves about the money. No I/O, no clock.

Unresolved is not failed (law 1): on settle everything that is not on a positive list is SETTLEMENT. The
positive lists are the reasons of `reasons.json`, the texts of `texts.py` and the statuses below, and a
sign that something was sent beats them all. On /verify nothing can have been sent, so a doubt is
TRANSIENT, and what nobody has listed is UNKNOWN.
"""

import orjson

from guardian.settlement.reasons import ERROR_TYPES, REASONS, Reason
from guardian.settlement.saying import Saying, Shape, named, read_saying, shown
from guardian.settlement.texts import ESTIMATION, Sign, TextRule, read_text
from guardian.settlement.verdict import Health, Operation, Outcome, Verdict
from guardian.wire.reply import read_settle_reply, read_verify_reply

__all__ = [
    "Health",
    "Operation",
    "Outcome",
    "Verdict",
    "classify_not_sent",
    "classify_reply",
    "classify_reply_lost",
]

ACCESS_STATUSES = frozenset({401, 403, 404, 405})
"""The facilitator's door is shut or not there: nothing was executed, and its operator must act."""

REQUEST_STATUSES = frozenset({413, 415})
"""The request was turned away unread; says nothing about the facilitator's health."""

PAGE_STATUSES = frozenset({400, 422})
"""Without JSON in the body these come from a server that did not take the request in."""

GATEWAY_STATUSES = frozenset({502, 503, 504})
"""Somebody in between speaks: only a listed reason in an x402 body is the facilitator's own word."""

SLOW_STATUSES = frozenset({408, 499, 504, 524, 598, 599})
"""A wait that ended: a slow chain is no broken facilitator."""

EDGE_PROFILES = frozenset({"payai"})
"""Facilitators whose edge answers 503 without JSON before the request reaches them (their own page)."""

BILLING_PROFILES = frozenset({"cdp"})
"""Facilitators that answer 402 for their own bill."""

MAX_WRAPPERS = 3

_ACCESS_CURE = (
    "the facilitator refuses access or does not serve this path: check URL, credentials and billing"
)


def classify_reply(
    operation: Operation,
    status: int,
    body: bytes,
    *,
    profile: str | None = None,
    tainted: bool = False,
    prior: bool = False,
) -> Verdict:
    """What a whole HTTP reply proves.

    profile: the facilitator's dialect where the operator named it. tainted: an earlier settle of this
    identity is in doubt, so only the chain can deny the payment (law 3). prior: an earlier settle was
    sent, so reasons that its landing would explain (balance, expiry, nonce) prove nothing.
    """
    if status == 200 and (success := _success(operation, body)):
        return success
    if operation is Operation.VERIFY:
        return _classify_verify(status, body, profile)
    verdict, after_prior = _classify_settle(status, body, profile, MAX_WRAPPERS)
    if verdict.outcome in (Outcome.SUCCESS, Outcome.SETTLEMENT):
        return verdict
    return _taint(verdict) if tainted or (prior and after_prior) else verdict


def classify_not_sent(operation: Operation, detail: str) -> Verdict:
    """The request provably never left: the same payload may go out again, also to another facilitator."""
    health = Health.NEUTRAL if "pool" in detail.lower() else Health.FAULTY  # a full pool is our own doing
    return Verdict(Outcome.TRANSIENT, "not_sent", "", shown(detail), health, failover=True)


def classify_reply_lost(operation: Operation, detail: str) -> Verdict:
    """The request may have been executed and no whole reply came."""
    waited = read_text(detail).name == "timeout"
    if operation is Operation.VERIFY:
        return Verdict(Outcome.TRANSIENT, "reply_lost", "", shown(detail), Health.FAULTY, failover=True)
    health = Health.NEUTRAL if waited else Health.FAULTY
    return Verdict(Outcome.SETTLEMENT, "reply_lost", "", shown(detail), health)


def _success(operation: Operation, body: bytes) -> Verdict | None:
    """The fast path: a plain yes. Anything odd about it goes the long way."""
    try:
        said = orjson.loads(body)
    except ValueError:
        return None
    if type(said) is not dict:
        return None
    if operation is Operation.VERIFY:
        yes = said.get("isValid") is True and not said.get("invalidReason")
        return Verdict(Outcome.SUCCESS, "success", "", "", Health.HEALTHY) if yes else None
    transaction = said.get("transaction")
    if (
        said.get("success") is not True
        or said.get("errorReason")
        or type(transaction) not in (str, type(None))
    ):
        return None
    found = named(transaction or "")
    found = found.lower() if found.startswith(("0x", "0X")) else found
    return Verdict(Outcome.SUCCESS, "success", "", "", Health.HEALTHY, found)


def _classify_settle(status: int, body: bytes, profile: str | None, wrappers: int) -> tuple[Verdict, bool]:
    """The verdict, and whether an earlier attempt that landed would explain it."""
    said = read_saying(Operation.SETTLE, body)
    if said.wrapped and wrappers:
        return _classify_settle(*said.wrapped, profile, wrappers - 1)
    reply = read_settle_reply(status, body)
    transaction = named(reply.transaction) or said.transaction
    listed = REASONS.get(said.listed)
    rule = read_text(said.text)
    reason, message = said.listed or shown(reply.reason), shown(reply.message)

    def doubt(name: str, health: Health = Health.NEUTRAL) -> tuple[Verdict, bool]:
        return Verdict(Outcome.SETTLEMENT, name, reason, message, health, transaction), False

    if reply.success is True:
        return doubt("contradiction", Health.FAULTY)
    if status < 200 or 200 < status < 400:
        return doubt("unexpected_status")
    if transaction:
        return doubt("hash")
    if status == 200 and reply.success is None:
        return doubt("no_settle_body", Health.FAULTY)
    if listed:
        return _settle_listed(listed, rule, message)
    if rule.sign in (Sign.SENT, Sign.TIME):
        return doubt(f"text_{rule.name}")
    if refused := _refused_by_status(status, said, profile, reason, message):
        return refused, False
    if said.shape is not Shape.HTML and status not in GATEWAY_STATUSES and _is_definitive(rule):
        return _text_verdict(rule, reason, message), rule.prior
    if said.error_type:
        error = ERROR_TYPES[said.error_type]
        return Verdict(error.settle, "error_type", said.error_type, message, error.health), False
    if status >= 500 and status not in SLOW_STATUSES:
        return doubt(f"status_{status // 100}xx", Health.FAULTY)
    return doubt("unlisted")


def _settle_listed(listed: Reason, rule: TextRule, message: str) -> tuple[Verdict, bool]:
    """A listed reason, unless the text beside it tells of something later or earlier."""
    estimated = rule is ESTIMATION and listed.broadcast == "maybe"
    late = rule.sign is Sign.SENT or (rule.sign is Sign.TIME and not listed.read)
    if listed.settle is Outcome.SETTLEMENT and estimated:
        return _text_verdict(ESTIMATION, listed.name, message), False
    if late and listed.settle is not Outcome.SETTLEMENT:
        return Verdict(Outcome.SETTLEMENT, f"text_{rule.name}", listed.name, message, Health.NEUTRAL), False
    return _listed_verdict(Operation.SETTLE, listed, message), listed.prior


def _classify_verify(status: int, body: bytes, profile: str | None) -> Verdict:
    said = read_saying(Operation.VERIFY, body)
    if said.wrapped:
        status, body = said.wrapped
        said = read_saying(Operation.VERIFY, body)
    reply = read_verify_reply(status, body)
    listed = REASONS.get(said.listed)
    reason, message = said.listed or shown(reply.reason), shown(reply.message)
    if reply.is_valid is True:
        return Verdict(Outcome.UNKNOWN, "contradiction", reason, message, Health.FAULTY)
    if listed and (status != 200 or reply.is_valid is False):
        return _listed_verdict(Operation.VERIFY, listed, message)
    if refused := _refused_by_status(status, said, profile, reason, message):
        return refused
    rule = read_text(said.text)
    if status >= 500 and (status in GATEWAY_STATUSES or not _is_definitive(rule)):
        return _broken(f"status_{status // 100}xx", reason, message)
    if status == 200 and reply.is_valid is None:
        return Verdict(Outcome.UNKNOWN, "no_verify_body", reason, message, Health.FAULTY)
    if rule.sign is Sign.TIME or status in SLOW_STATUSES:
        return _broken(f"text_{rule.name}", reason, message)
    if rule.name == "already":
        return Verdict(Outcome.PERMANENT, "text_already", reason, message, Health.HEALTHY)
    if said.shape is not Shape.HTML and _is_definitive(rule):
        return _text_verdict(rule, reason, message)
    if said.error_type:
        error = ERROR_TYPES[said.error_type]
        return Verdict(error.verify, "error_type", said.error_type, message, error.health)
    return Verdict(Outcome.UNKNOWN, "unlisted", reason, message, Health.NEUTRAL)


def _refused_by_status(
    status: int, said: Saying, profile: str | None, reason: str, message: str
) -> Verdict | None:
    """The statuses that prove that nothing was executed; the same on /verify and /settle."""
    no_json = said.shape in (Shape.EMPTY, Shape.HTML) or _is_status_phrase(said.text)
    if status == 429:
        return Verdict(Outcome.TRANSIENT, "status_429", reason, message, Health.NEUTRAL, retry_after_ok=True)
    if status == 503 and profile in EDGE_PROFILES and said.shape is not Shape.OBJECT:
        return Verdict(
            Outcome.TRANSIENT, "edge_503", reason, message, Health.FAULTY, retry_after_ok=True, failover=True
        )
    bill = status == 402 and (profile in BILLING_PROFILES or said.error_type == "payment_method_required")
    if status in ACCESS_STATUSES or bill:
        rule = "status_402" if bill else "status_access"
        return Verdict(
            Outcome.PERMANENT, rule, reason, message, Health.FAULTY, cure=_ACCESS_CURE, failover=True
        )
    if status in REQUEST_STATUSES or (status in PAGE_STATUSES and no_json):
        return Verdict(Outcome.PERMANENT, "status_request", reason, message, Health.NEUTRAL)
    return None


def _is_status_phrase(text: str) -> bool:
    return text.strip().rstrip(".").lower() in ("bad request", "400 bad request", "unprocessable entity")


def _is_definitive(rule: TextRule) -> bool:
    return rule.sign in (Sign.BEFORE, Sign.REFUSED)


def _broken(rule: str, reason: str, message: str) -> Verdict:
    return Verdict(
        Outcome.TRANSIENT, rule, reason, message, Health.FAULTY, retry_after_ok=True, failover=True
    )


def _taint(verdict: Verdict) -> Verdict:
    return Verdict(
        Outcome.SETTLEMENT, "taint", verdict.reason, verdict.message, verdict.health, verdict.transaction
    )


def _text_verdict(rule: TextRule, reason: str, message: str) -> Verdict:
    transient = rule.sign is Sign.BEFORE
    health = Health.FAULTY
    if rule.name in ("rate_limit", "simulation"):
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
        failover=rule.failover,
    )


def _listed_verdict(operation: Operation, listed: Reason, message: str) -> Verdict:
    outcome = listed.outcome(operation)
    return Verdict(
        outcome,
        "listed",
        listed.name,
        message,
        _listed_health(listed, outcome),
        cure=listed.cure,
        retry_after_ok=outcome is Outcome.TRANSIENT,
        failover=listed.failover,
    )


def _listed_health(listed: Reason, outcome: Outcome) -> Health:
    """A wrong payload says nothing against the facilitator; a failed read or an empty gas tank does."""
    if outcome is Outcome.PERMANENT or listed.payload:
        return Health.HEALTHY
    if outcome is Outcome.TRANSIENT and not listed.prior and listed.name != "rate_limit_exceeded":
        return Health.FAULTY
    return Health.NEUTRAL
