"""Classification of every reply: what a facilitator's answer proves about the money. No I/O, no clock.

Unresolved is not failed (law 1): on settle everything that is not on a positive list is SETTLEMENT. The
positive lists are the reasons of `reasons.json`, the codes of `codes.py`, the texts of `texts/` and the
statuses below, and a sign that something was sent beats them all. On /verify nothing can have been sent,
so a doubt is TRANSIENT, words that refuse are PERMANENT, and what nobody has listed is UNKNOWN.

A doubt is `soft` where it comes only from not knowing the reply: a text, a reason or a page of a shut
door that nobody has listed. A rule of the policy may say what such a reply means. It may not where
something speaks for a broadcast or for a lost answer: a hash, a listed reason, a text of time or chain,
a 2xx without an answer, a status of waiting, a page in the place of a 5xx answer, no reply at all.
"""

import re

import orjson
from msgspec.structs import replace

from guardian.settlement.codes import read_code
from guardian.settlement.judged import broken, later, of_error_type, of_reason, of_text
from guardian.settlement.reasons import CATCH_ALLS, REASONS, Reason
from guardian.settlement.saying import Saying, Shape, named, read_saying, shown
from guardian.settlement.texts.before import ESTIMATION, ESTIMATION_REFUSED
from guardian.settlement.texts.general import CHECK
from guardian.settlement.texts.reading import (
    FIRST_STEPS,
    OF_PAYMENT,
    SET_UP,
    is_loaded,
    is_quiet,
    is_refusal,
    is_waited_for,
    read_check,
    read_now,
    read_simulated,
    read_text,
    tells_why,
)
from guardian.settlement.texts.rule import Sign, TextRule
from guardian.settlement.verdict import Alert, Health, Operation, Outcome, Verdict, by_class
from guardian.wire.reply import MAX_SEARCHED, read_settle_reply, read_verify_reply

__all__ = [
    "Health",
    "Operation",
    "Outcome",
    "Verdict",
    "classify_not_sent",
    "classify_reply",
    "classify_reply_lost",
    "innermost",
    "taint",
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

SHUT_DOOR = 503
"""The one 5xx that an edge gives before a request reaches anybody; any other page in the place of a 5xx
answer may stand for an answer that was lost."""

NOT_NOW_STATUSES = frozenset({409, 423, 429, SHUT_DOOR})
"""By these, with an object of its own, a facilitator says that it is busy, paused or out of money."""

MAX_WRAPPERS = 3

_BILL = re.compile(r"\bvalid payment method is required\b", re.IGNORECASE)
"""CDP of an account beyond its free tier."""

_CHECKED = re.compile(
    r"(?:^|\| *)verification failed: |"
    r"\bthe contract function \W{0,3}(?:(?:transfer|receive)WithAuthorization|permit\w{0,40}|settle\w{0,40})"
    r"\W{0,3} reverted with the following reason:",
    re.IGNORECASE,
)
"""What a settle says that verifies before it sends anything ("settlement verification" comes after); and viem
of the payment's call that a node tried out: of a transaction in a block it has the receipt and no reason. Of
another call (a split of the fees, say) it may say so when the payment was made."""

_SAYS_SUCCESS = re.compile(rb"""success["'\\]*\s*[:=]\s*true""", re.IGNORECASE)
"""A yes in what is no whole reply: cut off, garbled, or inside something else."""

# Words of the guess "this speaks of a node or of a call to one", which can fail at any step.
_NODE = re.compile(r"rpc|https?:|\bprovider\b|client error|http request failed|\bfor url\b", re.IGNORECASE)
_ROUTE = re.compile(r"\bnot found\b|\broute|\bendpoint|\bcannot post\b|\bpath\b|\burl\b", re.IGNORECASE)
_UNAVAILABLE = frozenset(
    {"service unavailable", "503 service unavailable", "service temporarily unavailable"}
)
_BAD_REQUEST = frozenset({"bad request", "400 bad request", "unprocessable entity"})

_ACCESS_CURE = (
    "the facilitator refuses access or does not serve this path: check URL, credentials and billing"
)


def classify_reply(
    operation: Operation, status: int, body: bytes, *, tainted: bool = False, prior: bool = False
) -> Verdict:
    """What a whole HTTP reply proves.

    tainted: an earlier settle of this identity is in doubt, so only the chain can deny the payment
    (law 3). prior: an earlier settle was sent, so reasons that its landing would explain (balance,
    expiry, nonce) prove nothing.
    """
    if status == 200 and (success := _success(operation, body)):
        return success
    status, body, said = innermost(operation, status, body)
    judged = _classify_verify if operation is Operation.VERIFY else _classify_settle
    return taint(operation, by_class(operation, judged(status, body, said)), tainted=tainted, prior=prior)


def classify_not_sent(operation: Operation, detail: str) -> Verdict:
    """The request provably never left: the same payload may go out again, also to another facilitator."""
    health = Health.NEUTRAL if "pool" in detail.lower() else Health.FAULTY  # a full pool is our own doing
    verdict = Verdict(Outcome.TRANSIENT, "not_sent", "", shown(detail), health, failover=True)
    return by_class(operation, verdict)


def classify_reply_lost(operation: Operation, detail: str, *, waited: bool = False) -> Verdict:
    """The request may have been executed and no whole reply came. waited: the time for it ran out."""
    if operation is Operation.VERIFY:
        verdict = Verdict(Outcome.TRANSIENT, "reply_lost", "", shown(detail), Health.FAULTY, failover=True)
        return by_class(operation, verdict)
    waited = waited or read_text(detail).name == "timeout"
    health = Health.NEUTRAL if waited else Health.FAULTY
    return by_class(operation, Verdict(Outcome.SETTLEMENT, "reply_lost", "", shown(detail), health))


def taint(operation: Operation, verdict: Verdict, *, tainted: bool, prior: bool) -> Verdict:
    """What is left of a verdict after earlier settles of the same identity (law 3); see classify_reply."""
    if operation is Operation.VERIFY or verdict.outcome in (Outcome.SUCCESS, Outcome.SETTLEMENT):
        return verdict
    if not (tainted or (prior and verdict.prior)):
        return verdict
    in_doubt = replace(verdict, outcome=Outcome.SETTLEMENT, rule="taint", cure="", prior=False)
    return by_class(operation, in_doubt)


def innermost(operation: Operation, status: int, body: bytes) -> tuple[int, bytes, Saying]:
    """The reply itself, or the one that it quotes: the facilitator's own word, not that of an SDK."""
    said = read_saying(operation, body)
    for _ in range(MAX_WRAPPERS if operation is Operation.SETTLE else 1):
        if said.wrapped is None:
            break
        status, body = said.wrapped
        said = read_saying(operation, body)
    return status, body, said


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


def _classify_settle(status: int, body: bytes, said: Saying) -> Verdict:
    reply = read_settle_reply(status, body)
    transaction = named(reply.transaction) or said.transaction
    listed = REASONS.get(said.listed)
    rule = read_text(said.text)
    reason, message = said.listed or shown(reply.reason), shown(reply.message)

    def doubt(name: str, health: Health = Health.NEUTRAL, soft: bool = False) -> Verdict:
        return Verdict(Outcome.SETTLEMENT, name, reason, message, health, transaction, soft=soft)

    if reply.success is True or (reply.success is None and _SAYS_SUCCESS.search(body, 0, MAX_SEARCHED)):
        return replace(doubt("contradiction", Health.FAULTY), alert=Alert.LOG)
    if status < 200 or 200 < status < 400:
        return doubt("unexpected_status")
    if transaction:
        return doubt("hash")
    if status == 200 and not reply.denied:
        return doubt("no_settle_body", Health.FAULTY)
    if listed and not (status == 429 and listed.name in CATCH_ALLS and rule.sign is Sign.NONE):
        return _settle_listed(listed, rule, said.text, message)
    soft = _knows_nothing(status, said, rule)
    if rule.sign in (Sign.SENT, Sign.TIME):
        return doubt(f"text_{rule.name}", soft=soft)
    in_vain = status == 404 and reply.denied and not _ROUTE.search(said.text)  # looked for: no shut door
    if not in_vain and (refused := _refused_by_status(status, said, reason, message)):
        return refused
    if (found := _own_word(status, said, rule)) is not None:
        return of_text(found, reason, message)
    if said.error_type:
        return of_error_type(Operation.SETTLE, said.error_type, message)
    if status >= 500 and status not in SLOW_STATUSES:
        return doubt(f"status_{status // 100}xx", Health.FAULTY, soft)
    return doubt("unlisted", soft=soft)


def _own_word(status: int, said: Saying, rule: TextRule) -> TextRule | None:
    """What the facilitator itself says that it refuses, or does not take on now."""
    own = said.shape is Shape.OBJECT
    now = own and status in NOT_NOW_STATUSES
    coded = said.code and (own or status < 500) and is_quiet(said.text)
    found = read_code(said.code) if coded else None
    found = found or (read_now(said.text) if now else None)
    if found and (status not in GATEWAY_STATUSES or (now and found.sign is Sign.BEFORE)):
        return found
    thrown = status in GATEWAY_STATUSES or (status >= 500 and rule is CHECK)  # at any step
    return None if said.shape is Shape.HTML or thrown or not _is_definitive(rule) else rule


def _knows_nothing(status: int, said: Saying, rule: TextRule) -> bool:
    """Whether nothing in a reply without a listed reason speaks for a broadcast or a lost answer."""
    if status in SLOW_STATUSES or said.error_type:
        return False
    page = said.shape in (Shape.EMPTY, Shape.HTML)
    if not page and not said.text.strip(" |") and not said.code:
        return False  # cut off, or no error report at all
    if status == SHUT_DOOR:
        if _is_one_of(_UNAVAILABLE, said.text):
            return True
    elif status >= 500 and (page or (status in GATEWAY_STATUSES and said.shape is not Shape.OBJECT)):
        return False
    silent = rule.sign is Sign.NONE or _is_definitive(rule)
    return silent and not _NODE.search(said.text)


def _settle_listed(listed: Reason, rule: TextRule, text: str, message: str) -> Verdict:
    """A listed reason, unless the text beside it tells of something later or earlier."""
    estimated = rule in (ESTIMATION, ESTIMATION_REFUSED) and listed.broadcast == "maybe"
    late = rule.sign is Sign.SENT or (rule.sign is Sign.TIME and not listed.read)
    if listed.settle is Outcome.PERMANENT:  # of a payment that is refused, no transaction can have failed
        late = late or rule.sign is Sign.CATCH_ALL
    if listed.settle is Outcome.SETTLEMENT and estimated:
        return of_text(rule, listed.name, message)
    if late and listed.settle is not Outcome.SETTLEMENT:
        return Verdict(Outcome.SETTLEMENT, f"text_{rule.name}", listed.name, message, Health.NEUTRAL)
    if more := _says_more(listed, rule, text):
        return of_text(more, listed.name, message)
    return of_reason(Operation.SETTLE, listed, message)


def _says_more(listed: Reason, rule: TextRule, text: str) -> TextRule | None:
    """What the text says where the reason only says that a step failed: at which, or why."""
    if listed.name in CATCH_ALLS:
        why = rule.name in SET_UP and tells_why(text)
        why = why or (rule.sign is Sign.REFUSED and rule.payload and _CHECKED.search(text) is not None)
        return rule if why or rule.name in FIRST_STEPS else None
    if "simulation" in listed.name:
        return read_simulated(text) or (rule if rule.sign is Sign.REFUSED else None)
    return rule if listed.name == "verification_failed" and rule.sign is Sign.REFUSED else None


def _classify_verify(status: int, body: bytes, said: Saying) -> Verdict:
    reply = read_verify_reply(status, body)
    listed = REASONS.get(said.listed)
    reason, message = said.listed or shown(reply.reason), shown(reply.message)

    def unknown(rule: str, health: Health, soft: bool = True) -> Verdict:
        return Verdict(Outcome.UNKNOWN, rule, reason, message, health, soft=soft)

    if reply.is_valid is True:
        return unknown("contradiction", Health.FAULTY, soft=False)
    rule = read_check(said.text)
    if listed and (status != 200 or reply.denied):
        if more := _says_more(listed, rule, said.text):
            return of_text(more, listed.name, message)
        if listed.verify is Outcome.UNKNOWN and is_loaded(said.text):
            return broken("text_load", listed.name, message)
        return of_reason(Operation.VERIFY, listed, message)
    if refused := _refused_by_status(status, said, reason, message):
        return refused
    own = said.shape is Shape.OBJECT and rule.name in OF_PAYMENT
    if status >= 500 and not (own or (_is_definitive(rule) and status not in GATEWAY_STATUSES)):
        return broken(f"status_{status // 100}xx", reason, message)
    if status == 200 and not reply.denied:
        return unknown("no_verify_body", Health.FAULTY)
    if rule.sign is Sign.TIME or status in SLOW_STATUSES:
        return broken(f"text_{rule.name}", reason, message)
    if rule.name == "already":
        return Verdict(Outcome.PERMANENT, "text_already", reason, message, Health.HEALTHY)
    if said.shape is not Shape.HTML and _is_definitive(rule):
        return of_text(rule, reason, message)
    if said.error_type:
        return of_error_type(Operation.VERIFY, said.error_type, message)
    if code := read_code(said.code):
        return of_text(code, reason, message)
    if is_loaded(said.text):
        return broken("text_load", reason, message)
    if reply.denied and is_waited_for(said.text):
        return later("text_confirmation", reason, message, Health.NEUTRAL)
    if reply.denied and is_refusal(said.text):
        return Verdict(Outcome.PERMANENT, "refused", reason, message, Health.HEALTHY)
    return unknown("unlisted", Health.NEUTRAL)


def _refused_by_status(status: int, said: Saying, reason: str, message: str) -> Verdict | None:
    """The statuses that prove that nothing was executed; the same on /verify and /settle."""
    no_json = said.shape in (Shape.EMPTY, Shape.HTML, Shape.VALIDATION) or _is_one_of(_BAD_REQUEST, said.text)
    if status == 429:
        return later("status_429", reason, message, Health.NEUTRAL)
    bill = status == 402 and (said.error_type == "payment_method_required" or _BILL.search(said.text))
    if status in ACCESS_STATUSES or bill:
        return Verdict(
            Outcome.PERMANENT,
            "status_402" if bill else "status_access",
            reason,
            message,
            Health.FAULTY,
            cure=_ACCESS_CURE,
            failover=True,
            alert=Alert.LOG,
        )
    if status in REQUEST_STATUSES or (status in PAGE_STATUSES and no_json):
        return Verdict(Outcome.PERMANENT, "status_request", reason, message, Health.NEUTRAL)
    return None


def _is_one_of(phrases: frozenset[str], text: str) -> bool:
    """The name of a status, and nothing else."""
    return text.strip().rstrip(".").lower() in phrases


def _is_definitive(rule: TextRule) -> bool:
    return rule.sign in (Sign.BEFORE, Sign.REFUSED)
