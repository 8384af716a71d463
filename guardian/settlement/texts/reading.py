"""What a facilitator's free text says about the money: ordered patterns by meaning. Pure, no I/O.

Here stand the order and the reading, the patterns in `sent.py`, `before.py`, `refused.py`, `general.py` and
`unsure.py`; what follows from a sign is decided in `classify.py`. The order is the law: a sign that something
was (or may have been) sent beats everything else in the text, because the same words ("reverted", "rate
limit", "insufficient") are said before and after a broadcast. Patterns are matched on `plain()` text: lower
case, camelCase and snake_case split, no quotes. Every repetition is bounded, so that no text makes matching
slow.
"""

import re
import unicodedata
from functools import lru_cache

from guardian.settlement.texts.before import (
    BEFORE_RULES,
    ESTIMATION,
    ESTIMATION_REFUSED,
    FEE_CAP,
    FEE_READ,
    GAS_MONEY,
    NOT_NOW,
    SIMULATION,
    SIMULATION_REFUSED,
    UNREACHED,
)
from guardian.settlement.texts.dialect import (
    DECLARATION,
    FAILED,
    LONG_HEX,
    NOT_SENT,
    TOKENS_SHORT,
    without_dialect,
)
from guardian.settlement.texts.general import (
    CHECK,
    FAILED_READ,
    FAMILY,
    FAMILY_REFUSAL,
    GENERAL,
    LATER,
    LOADED,
    NAMES,
    NO_REASON,
    PARSED,
    REFUSING,
    WAITED_FOR,
    WRAPPING,
)
from guardian.settlement.texts.refused import REFUSED_RULES
from guardian.settlement.texts.rule import Sign, TextRule, text_rule
from guardian.settlement.texts.sent import CATCH_ALL_RULES, SENT_RULES, TIME_RULES
from guardian.settlement.texts.unsure import AFTERMATH, BARE, CRASH, CUT, FOREIGN, GAS_PRICE, NODE, SETTLING

MAX_TEXT = 6_144
"""Characters looked at. The longest real texts (viem with all its arguments) are some 4,000; what is
longer is not judged and counts as doubt."""

BARE_WORDS = 5
"""Words that behind a reason for anything may say what was found in any step."""

LONG_TEXT = 80
"""Characters from which dots at the end mean that somebody cut the text; below, they are just dots."""

# Rules of steps before the broadcast that no contract and no chain says of a payment under way; and those
# that may be said of more than the payment, where a word of a later step stands beside them.
FIRST_STEPS = frozenset(
    {
        "gas_money",
        "gas_limit",
        "fee_cap",
        "fee_read",
        "signing",
        "simulation",
        "simulation_refused",
        "request",
        "unreached",
    }
)
SET_UP = frozenset({"not_configured", "unsupported"})

# On /verify, what only a facilitator that read the payment can say, whatever its status.
OF_PAYMENT = frozenset({"domain", "signature", "expired", "balance", "recipient", "amount", "compliance"})

_TELLING = (*SENT_RULES, *TIME_RULES)
_RULES = (*_TELLING, *CATCH_ALL_RULES, *BEFORE_RULES, *REFUSED_RULES, GENERAL, CHECK)
_READ = next(rule for rule in BEFORE_RULES if rule.name == "rpc_read")
_NONE = text_rule("unlisted", Sign.NONE, r"(?!)")
_TOO_LONG = text_rule("too_long", Sign.SENT, r"(?!)")

_SIMULATED = tuple(rule for rule in REFUSED_RULES if rule.name in ("balance", "expired", "allowed"))
_CAUSES = (ESTIMATION, GAS_MONEY, FEE_CAP, FEE_READ, SIMULATION)

_ANY_STEP = frozenset({"access", "unsupported", "request", "payload", "shape", "general", "check"})

# What explains a code speaks of the settlement that it did not begin, and of gas that is not there.
_OF_CODES = re.compile(r"\bsettle(?:ments?)?\b|\bgas\b|\b(?:temporarily|currently) unavailable\b")
_OF_WAITING = re.compile(
    rf"{_OF_CODES.pattern}|\bbusy\b|\bretry(?:able)?\b(?= ?(?:later|in|\||$))|\bqueue\b|\bdepth: \d"
)
_WENT_WRONG = re.compile(r"\b(?:fail|error|exception|replac|drop|evict|unconf)")

_BARE = frozenset({"access", "request", "shape", "general", "check"})

_ENCODING = r"\1 encoding"
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATORS = re.compile(r"[\s_\-\"'`\\\u2018\u2019]+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
# The name of a step that may come after the broadcast: the words in it refuse nothing.
_STEP = re.compile(r"(?<![A-Za-z0-9_])settle(?:ment|d)?_\w+", re.IGNORECASE)


def plain(text: str) -> str:
    """The text in the form that the patterns are written for."""
    return _flat(_CAMEL.sub(" ", LONG_HEX.sub("0xid", text)))


def _flat(text: str) -> str:
    return _SEPARATORS.sub(" ", text).lower().strip(" |")


@lru_cache(maxsize=256)
def read_text(text: str) -> TextRule:
    """The first rule that the text matches, strongest sign first; sign NONE where there is none.

    Cached, because a facilitator in trouble says the same to everybody.
    """
    if len(text) > MAX_TEXT:
        return _TOO_LONG if text.strip(" |") else _NONE
    if not text.isascii():
        text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    text = LONG_HEX.sub("0xid", text)  # so that the words round an address are near to each other
    words = PARSED.sub(_ENCODING, without_dialect(DECLARATION.sub(" ", plain(text))))
    found = _first(words)
    if found.sign in (Sign.SENT, Sign.TIME):
        if (step := _before_sending(found, words)) and not _is_cut(words):
            return step
        caused = NOT_SENT.sub(" ", words)
        cause = _first(FAILED.sub(" ", caused)) if caused != words else found
        return _estimated(cause, words) if cause in _CAUSES and not _is_cut(words) else found
    unsplit = PARSED.sub(_ENCODING, without_dialect(_flat(text)))  # odd spelling splits words that are one
    if unsplit != words and (sent := _first(unsplit, _TELLING)) is not _NONE:
        return sent
    if unsplit != words and _first(unsplit, CATCH_ALL_RULES) is not _NONE and _cause(unsplit) not in _CAUSES:
        return _NONE
    if found.sign is Sign.CATCH_ALL and not _is_cut(words) and (cause := _cause(words)) in _CAUSES:
        return _estimated(cause, words)
    if found.sign in (Sign.BEFORE, Sign.REFUSED):  # by more than what every reason of a scheme begins with
        named = _STEP.sub(" ", text) if found.sign is Sign.REFUSED else text
        stripped = FAMILY.sub(" ", PARSED.sub(_ENCODING, without_dialect(DECLARATION.sub(" ", plain(named)))))
        found = _first(stripped) if stripped != words else found
    if found is _NONE and "invalid " in words and FAMILY_REFUSAL.pattern.search(words):
        found = FAMILY_REFUSAL
    unsure = _is_unsure(found, words) or (unsplit != words and _is_unsure(found, unsplit))
    return _NONE if unsure else _estimated(found, words)


def _before_sending(found: TextRule, words: str) -> TextRule | None:
    """A call that a connection was lost to, or never had, where it is known that nothing had gone out."""
    if found.sign is Sign.TIME and (asked := FEE_READ.pattern.search(words)):
        others = words[asked.end() :].partition("|")[2]  # up to there stands what became of the question
        beside = f"{words[: asked.start()]} | {others}"
        return FEE_READ if _first(beside, TIME_RULES) is _NONE else None
    rest = UNREACHED.pattern.sub(" ", words)
    silent = rest != words and _first(NOT_SENT.sub(" ", rest), _TELLING) is _NONE
    return UNREACHED if silent else None


def _cause(words: str) -> TextRule:
    """The step before the broadcast that a text names behind "transaction failed:"."""
    if ESTIMATION.pattern.search(words):
        return ESTIMATION
    return _first(FAILED.sub(" ", words))


def _estimated(found: TextRule, words: str) -> TextRule:
    """The token's own refusal, if a failed estimation or simulation quotes one."""
    if found is SIMULATION:
        return SIMULATION_REFUSED if SIMULATION_REFUSED.pattern.search(words) else found
    refused = found is ESTIMATION and ESTIMATION_REFUSED.pattern.search(words)
    return ESTIMATION_REFUSED if refused else found


def read_check(text: str) -> TextRule:
    """What a text says where nothing can have been sent: validation language beside any other word."""
    rule = read_text(text)
    if len(text) > MAX_TEXT:
        return rule
    words = plain(text)
    if rule.name == "doubt" and FAILED_READ.search(words):
        return _READ
    if rule.sign not in (Sign.NONE, Sign.CATCH_ALL):
        return rule
    if CRASH.search(words) or FOREIGN.search(words):
        return rule
    if FAILED_READ.search(words):
        return _READ
    if NODE.search(words):
        return rule
    return next((general for general in (GENERAL, CHECK) if general.pattern.search(words)), rule)


def read_now(text: str) -> TextRule | None:
    """`NOT_NOW`, if the text says that and no more than that; asked only where the status says so too."""
    words = plain(text)
    rule = read_text(text)
    silent = rule.sign is Sign.NONE or rule.name == "rate_limit"  # which is the facilitator's own traffic
    if not silent or not NOT_NOW.pattern.search(words) or _is_cut(words):
        return None
    rest = _OF_WAITING.sub(" ", NOT_NOW.pattern.sub(" ", words))
    return None if _says_later(rest) or _WENT_WRONG.search(rest) else NOT_NOW


def read_simulated(text: str) -> TextRule | None:
    """Why a simulation failed, where that is what no later one changes."""
    words = plain(text)
    if TOKENS_SHORT.search(words):
        return SIMULATION_REFUSED
    gas = GAS_MONEY.pattern.search(words)
    return None if gas else next((why for why in _SIMULATED if why.pattern.search(words)), None)


def is_loaded(text: str) -> bool:
    """On /verify: whether somebody was busy, or a call to a node failed without the contract's word."""
    words = plain(text)
    return bool(LOADED.search(words)) and "revert" not in words


def is_waited_for(text: str) -> bool:
    """On /verify: whether a payment that was sent before has too few blocks yet."""
    return WAITED_FOR.search(plain(text)) is not None


def is_refusal(text: str) -> bool:
    """On /verify, in an explicit no: whether the reason refuses, and is not the report of an error."""
    words = plain(text)
    return bool(REFUSING.search(words)) and not (
        NO_REASON.search(words) or CRASH.search(words) or FOREIGN.search(words)
    )


def is_quiet(text: str) -> bool:
    """Whether what stands beside a code leaves the code its meaning: no sign, no node, no later step."""
    rule = read_text(text)
    if rule.sign is not Sign.NONE:
        return rule.sign in (Sign.BEFORE, Sign.REFUSED)
    return not _says_later(_OF_CODES.sub(" ", without_dialect(plain(text))))


def tells_why(text: str) -> bool:
    """Whether a text that refuses says more than a few bare words, and none of them of a later step."""
    words = plain(text)
    return len(words.split()) > BARE_WORDS and not _says_later(NAMES.sub(" ", words))


def _says_later(words: str) -> bool:
    return any(sign.search(words) for sign in (LATER, NODE, CRASH, FOREIGN))


def _first(words: str, rules: tuple[TextRule, ...] = _RULES) -> TextRule:
    return next((rule for rule in rules if rule.pattern.search(words)), _NONE)


def _is_cut(words: str) -> bool:
    """Somebody cut it: what is missing may say more than what is there."""
    return len(words) >= LONG_TEXT and CUT.search(words) is not None


def _is_unsure(found: TextRule, words: str) -> bool:
    """Whether more was said than can be read, or by somebody else than the facilitator."""
    if found.sign not in (Sign.BEFORE, Sign.REFUSED):
        return False
    if BARE.fullmatch(words):
        return True
    aftermath = found.sign is Sign.REFUSED and AFTERMATH.search(words)
    of_gas = found.sign is Sign.REFUSED and GAS_PRICE.search(words)  # a transaction's price, not the payment
    of_node = (found.name in _ANY_STEP and NODE.search(words)) or (
        found.name == "rate_limit" and "rpc error" in words  # said with a code of JSON-RPC, at any step
    )
    general = found.name in (GENERAL.name, CHECK.name)
    said = WRAPPING.sub(" ", words) if found.name == GENERAL.name else words
    settling = found.name in _BARE and SETTLING.search(words)
    later = general and LATER.search(NAMES.sub(" ", said))
    return bool(
        later
        or settling
        or aftermath
        or of_gas
        or of_node
        or _is_cut(words)
        or CRASH.search(words)
        or FOREIGN.search(words)
    )
