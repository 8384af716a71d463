"""What a facilitator's free text says about the money: ordered patterns by meaning. Pure, no I/O.

Only the order and the patterns stand here and in `texts_sent.py` and `texts_refused.py`; what follows
from a sign is decided in `classify.py`. The order is the law: a sign that something was (or may have
been) sent beats everything else in the text, because the same words ("reverted", "rate limit",
"insufficient") are said before and after a broadcast. Patterns are matched on `plain()` text: lower case,
camelCase and snake_case split, no quotes. Every repetition is bounded, so that no text makes matching slow.
"""

import re
import unicodedata
from functools import lru_cache

from guardian.settlement.texts_general import (
    CHECK,
    FAILED_READ,
    FAMILY,
    FAMILY_REFUSAL,
    GENERAL,
    LATER,
    NAMES,
    PARSED,
    WRAPPING,
)
from guardian.settlement.texts_refused import CLOCK_CURE, REFUSED_RULES
from guardian.settlement.texts_rule import Sign, TextRule, any_of, text_rule
from guardian.settlement.texts_sent import CATCH_ALL_RULES, SENT_RULES, TIME_RULES

__all__ = [
    "CHECK",
    "ESTIMATION",
    "ESTIMATION_REFUSED",
    "MAX_TEXT",
    "Sign",
    "TextRule",
    "plain",
    "read_check",
    "read_text",
]

MAX_TEXT = 8_192
"""Characters looked at. The longest real texts (viem with all its arguments) are some 4,000; what is
longer is not judged and counts as doubt."""

LONG_TEXT = 80
"""Characters from which dots at the end mean that somebody cut the text; below, they are just dots."""

ESTIMATION = text_rule(
    "estimation",
    Sign.BEFORE,
    r"\b(?:unable|failed|failure|cannot|can t|could not|couldn t|error|fail(?:ed|s)?|when|while|during)\b"
    r".{0,30}\bestimat\w{1,6} (?:the )?(?:\w{1,12} )?gas\b",
    r"\b(?:gas estimat\w{1,6}|estimat\w{1,6} (?:the )?gas)\b(?:(?!pass|succe|ok\b|but\b|transact|"
    r"tx\b).){0,20}"
    r"\b(?:fail\w{0,3}|error|revert\w{0,2}|"
    r"unavailable)\b",
    r"\bgas required exceeds\b|\bunpredictable gas limit\b|\bestimate gas (?:execution error|arguments)\b",
    r"\baction ?= ?estimate ?gas\b|\beth estimate gas\b|\b(?:failed|failure|error|revert\w{0,2})\b[^|]{0,20}"
    r"\bgas estimat\w{1,6}\b(?! (?:passed|ok|succeeded|was|is)\b)",
    cure="the signature may be too fresh for the facilitator's node: repeat the same payload after a second",
)

ESTIMATION_REFUSED = text_rule(
    "estimation_refused",
    Sign.REFUSED,
    r"\b(?:invalid|bad|malformed) (?:\w{1,12} ){0,2}(?:signature|signer)\b|\bsignature (?:is )?(?:invalid|"
    r"mismatch|"
    r"expired|verification failed)\b|\bauthorization (?:is |has )?expired\b",
    payload=True,
    prior=True,
)
"""Looked for beside `ESTIMATION` only: the token's own refusal, which a repetition does not change."""

GAS_MONEY = text_rule(
    "gas_money",
    Sign.BEFORE,
    r"\binsufficient (?:funds|balance|eth|native(?: token)?|sol|lamports?) (?:for|to (?:pay|cover)) (?:the )?"
    r"(?:gas|intrinsic|(?:network |transaction )?fees?)\b|\binsufficient balance for transaction fee\b",
    r"\btotal cost \(gas\b|\b(?:upfront|cumulative) cost\b|\binsufficient (?:gas(?! refund)|lamports|"
    r"native balance)\b|"
    r"\b(?:facilitator|relayer|"
    r"fee payer|signer|hot wallet)\b.{0,30}\b(?:insufficient|not enough|low|out of|zero|empty)\b",
    r"\baa(?:21|31)\b|\bdidn ?t pay prefund\b|\bpaymaster deposit\b.{0,30}\btoo low\b|"
    r"\b(?:smart )?account does not have sufficient funds\b",
    failover=True,
    cure="the facilitator's own account has no money for gas: its operator must refill it",
)

GAS_LIMIT = text_rule(
    "gas_limit",
    Sign.BEFORE,
    r"\bintrinsic gas too low\b|\bexceeds (?:the )?block gas limit\b|\bexceeds the configured cap\b",
    r"\bamount of gas\b.{0,20}\bprovided for the transaction (?:exceeds|is too low)\b|"
    r"\bestimated gas\b.{0,24}\bexceeds\b",
    failover=True,
)

FEE_CAP = text_rule(
    "fee_cap",
    Sign.BEFORE,
    r"\bmax fee per gas less than block base fee\b|\b(?:max fee per gas|fee cap)\b.{0,60}\b(?:cannot be|is|"
    r"less|lower) "
    r"(?:lower |less |below )?(?:than )?(?:the )?(?:current )?(?:block )?base ?fee\b",
)

SIMULATION = text_rule(
    "simulation",
    Sign.BEFORE,
    r"\bsimulat\w{1,6}\b(?! (?:passed|ok|succeeded)).{0,60}\b(?:fail\w{0,3}|error|revert\w{0,2})\b",
    r"\b(?:fail\w{0,3}|error|unable|could not|revert\w{0,2})\b.{0,30}\bsimulat\w{1,6}\b(?! (?:passed|ok|"
    r"succeeded))",
    r"\b(?:empty|missing|no \w{1,20} in) simulation result\b|\bsimulation result (?:is )?(?:empty|"
    r"missing|undefined)\b",
    r"\b(?:pre ?flight|dry ?run)\b.{0,30}\bfail\w{0,3}\b|\baa(?:13|23|33|40)\b",
    payload=True,
    prior=True,
)

# The facilitator counts its own traffic before it takes a payment on; a node does so at any step.
_OWN_TRAFFIC = (
    r"(?:^|\| )(?:error: )?(?:your |the )?(?:(?:payer|sender|wallet|merchant|tenant|seller|client|"
    r"customer|user|"
    r"ip|facilitator|settle|settlements?|payments?|verify|sponsor(?:ship)?|free|tier|plan|global|daily|"
    r"weekly|"
    r"hourly|monthly|per) ){1,4}"
)
_TRY_LATER = (
    r"(?:please )?(?:try|retry|wait|slow down|back off|upgrade)(?: again)?(?: (?:later|"
    r"in \d{1,6} ?\w{1,8}|shortly|"
    r"soon|in a (?:moment|minute|few \w{1,8})|your plan))?"
)

BEFORE_RULES = (
    ESTIMATION,
    GAS_MONEY,
    GAS_LIMIT,
    FEE_CAP,
    SIMULATION,
    # Without a simulation round it, this is how a transaction in a block is said to have failed.
    text_rule(
        "program",
        Sign.CATCH_ALL,
        r"\berror processing instruction\b|\binstruction ?error\b|\bcustom program error\b",
    ),
    text_rule(
        "too_early",
        Sign.BEFORE,
        r"\bnot yet valid\b|\btoo early\b|(?<!missing )(?<!invalid )(?<!malformed )\bvalid after\b"
        r"(?!,| (?:must|should|field|required|missing|is (?:required|missing|invalid|not)|"
        r"and valid before)\b)|"
        r"\bnot valid yet\b|\bnot active yet\b|"
        r"\bnot yet active\b",
        payload=True,
        cure=CLOCK_CURE,
    ),
    text_rule(
        "rpc_read",
        Sign.BEFORE,
        r"\b(?:fail\w{0,3}|unable|could not|cannot|error)\b.{0,12}\b(?:get|getting|fetch|fetching|read|"
        r"reading|check|checking|query|querying|retrieve|determine|suggest)\b.{0,30}\b(?:balance|nonce|"
        r"gas (?:price|tip)|fee data|fees?|chain id|allowance|decimals|bytecode|contract (?:code|"
        r"parameters)|(?:block header|(?:latest|recent) blockhash)|"
        r"authorization (?:state|status)|access key)\b",
        r"\b(?:balance|access key|allowance|token account|storage) (?:check|lookup|read|query) failed\b",
        failover=True,
    ),
    # Of one transaction, the payment's: one that replaces or cancels another is signed after a broadcast.
    text_rule(
        "signing",
        Sign.BEFORE,
        r"\b(?:failed|unable|could not|couldn t|cannot|can t|can not) (?:to )?(?:partially )?sign "
        r"(?:the |a )?(?:settlement |settle |payment |transfer |fee payer |sponsored |"
        r"raw )?(?:transaction|tx)\b"
        r"(?! (?:again|\d))",
        r"\btransaction signing failed\b",
        failover=True,
    ),
    # Only a whole sentence of its own: a node says it too, at any step, but with more words round it.
    text_rule(
        "rate_limit",
        Sign.BEFORE,
        r"(?:^|\| )(?:error: |\w{0,12} ?exception: |facilitator |you are being )?(?:429:? )?(?:api )?"
        r"(?:rate ?limit(?:ed)?(?: (?:is |was )?(?:exceeded|reached))?|too many requests(?: from this ip)?|"
        r"requests? (?:was |were )?throttled)"
        r"(?:[:.] (?:max(?:imum)? )?\d{1,7} (?:requests? )?per [^|"
        r"]{1,24})?(?:[.,:;!-] ?(?:please )?(?:slow down|try|retry|wait|"
        r"back off)\b[^|]{0,40})?[.!]?(?= ?\||$)",
        rf"{_OWN_TRAFFIC}rate limited(?= ?\||$)",
        rf"{_OWN_TRAFFIC}(?:quota|rate limit|(?:(?<=daily )|(?<=hourly )|(?<=weekly )|(?<=monthly )|"
        r"(?<=tier ))(?:\w{1,12} )?limit) (?:is |was |has been )?(?:exceeded|reached|used up)"
        rf"(?:[.,:;!-]? ?{_TRY_LATER})?[.!]?(?= ?\||$)",
        r"(?:^|\| )(?:error: )?(?:the )?(?:facilitator|service|system|we are) (?:is )?(?:currently |"
        rf"temporarily |too )?(?:overloaded|busy|at capacity)[.,:;!-]? ?{_TRY_LATER}[.!]?(?= ?\||$)",
        r"(?:^|\| )(?:error: )?(?:the )?(?:facilitator|settlement|settle|request) queue (?:is )?full"
        rf"(?:[.,:;!-]? ?{_TRY_LATER})?[.!]?(?= ?\||$)",
    ),
)

_TELLING = (*SENT_RULES, *TIME_RULES)
_RULES = (*_TELLING, *CATCH_ALL_RULES, *BEFORE_RULES, *REFUSED_RULES, GENERAL, CHECK)
_READ = next(rule for rule in BEFORE_RULES if rule.name == "rpc_read")
_NONE = text_rule("unlisted", Sign.NONE, r"(?!)")
_TOO_LONG = text_rule("too_long", Sign.SENT, r"(?!)")

# "Failed to send" is no sign of a broadcast where the step before it is named as the cause.
_NOT_SENT = re.compile(
    r"\b(?:failed|failure|unable|could not|cannot|error) (?:to )?(?:send|sending|submit|submitting|broadcast|"
    r"broadcasting) (?:the |a )?(?:raw )?(?:transaction|tx) ?:|\bsend transaction error:|"
    r"\bcatch the send transaction error and call get logs\b|\b(?:broadcast|submission|submit|send) failed ?:"
)
_FAILED = re.compile(r"\b(?:transaction|tx|txn) failed ?:")
_CAUSES = (ESTIMATION, GAS_MONEY, FEE_CAP, SIMULATION)

# What denies a broadcast outright tells of none; the rest of the text must say by itself what happened.
# Nor does the address of a manual.
_DENIED = re.compile(
    r"https?://(?:errors\.pydantic\.dev|tools\.ietf\.org|datatracker\.ietf\.org)[^ |]{0,120}|"
    r"\bnothing (?:was|has been) (?:submitted|sent|broadcast)(?: and no funds (?:were |"
    r"have )?moved)?(?=[.;!|]|$)"
)

# A node's refusal of service can come at any step, also while waiting for the receipt.
_NODE = any_of(
    r"\bfor url\b|\bhttp request failed\b|\brpc\b|\bclient error\b|https?:|"
    r"\bnoauth\b|\bwrongpass\b|\bprovider\b(?! (?:id|registration|participant)\b)|\bjson ?rpc\b|"
    r"\brate ?limit|\bcompute units\b|\bcapacity\b|\bquota\b|\bper second\b|\brequest (?:count|rate|limit)\b|"
    r"\btoo many (?:requests|connections)\b|\bresponse\b|\bthrottl|(?<!transfer )\bmethod\b|\beth (?:get|"
    r"send|call|block|chain|fee|max)"
)
_GAS_PRICE = any_of(
    r"\btip\b|\bgas ?price\b|\bbase ?fee\b|\bmax ?fee\b|\bgas ?tip\b|"
    r"\bpriority fee\b(?! \d{1,20} exceeds (?:the )?max)|\bnetwork minimum\b|"
    r"\bto relay\b"
)
# A crash: nobody knows how far it got, whatever its words.
_CRASH = any_of(
    r"\bpanic\b|\bruntime error\b|\bnil pointer\b|\btype ?error\b|\bcannot read propert|\btraceback\b|"
    r"\bjump destination\b|\bopcode\b|\bto unpack\b|\bbytes like object\b|\binvalid literal\b|"
    r"\btime data\b|\breduce of empty\b|\bnot a constructor\b|\bindex out of\b|\bunwrap\b|"
    r"\bcodec can t decode\b|\babsolute urls?\b|\bhttp\(s\)|\b(?:integer|bigint|smallint|"
    r"numeric) out of range\b|\bout of range for type\b|\binteger or out of range\b|"
    r"\bthe value of \w{1,24} is out of range\b|\binvalid (?:typed array|string) length\b|"
    r"\binvalid code point\b|\boperand\b|\bnone ?type\b|\bpath \w{1,24} is required\b|"
    r"\bunexpected token\b|"
    r"\binvalid (?:array length|time value|count value|bigint)\b"
)
# What is said of money that has moved, or of work behind the settlement.
_AFTERMATH = any_of(
    r"\b(?:mismatch|found|differs?|match) on ?chain\b|\b(?:amount|value|recipient|payee|asset) (?:on|in|"
    r"from) "
    r"(?:the )?chain\b|\bthe chain (?:is|says|has|shows|reports)\b|\b(?:transfer|payment|funds) received\b|"
    r"\bafter (?:the )?deposit|"
    r"\b(?:settlement|transaction) (?:amount|value) (?:mismatch|differs?|does not match|is wrong)\b|"
    r"\b(?:moved|released|claimed|captured|rolled back|rollback|callback|webhook|worker|job|slippage|"
    r"amount out|"
    r"output amount|partial(?:ly)? fill\w*|incomplete(?! (?:payment )?(?:requirements?|payload|request|"
    r"header|authorization))|replaced by|unchanged|did not change|not received|"
    r"was paid|"
    r"paid the|was made|(?<!be )sent to|from (?:a |the )?block|effects?)\b|\bpost settle|"
    r"\b(?:to|for|while) track(?:ing)?\b|\btracking\b|\bhooks? (?:reverted|failed|error)|"
    r"\b(?:refund|charge|capture|claim|deposit|batch|payment execution|transfer(?: from)?) (?:failed|error|"
    r"reverted)\b|"
    r"(?<!contract function )(?<!simulated )\bexecution (?:failed|error)\b|\bpayment reverted\b|(?:^|"
    r"\| )reverted:|"
    r"\breturned (?:an? )?(?:wrong|invalid|unexpected|different|network|amount|payer)\b"
)
_ANY_STEP = frozenset({"access", "unsupported", "payload", "shape", "general", "check"})

_ENCODING = r"\1 encoding"
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATORS = re.compile(r"[\s_\-\"'`\\\u2018\u2019]+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
# The name of a step that may come after the broadcast: the words in it refuse nothing.
_STEP = re.compile(r"(?<![A-Za-z0-9_])settle(?:ment|d)?_\w+", re.IGNORECASE)
_DECLARATION = re.compile(r"\bfunction:? [\w ]{1,80}\([^()]{0,600}\)")  # names every parameter: validAfter …
_CUT = re.compile(r"(?:\.\.\.|[\[(]truncated[\])])(?= ?\||$)")
# Letters of scripts that no pattern knows: such a text can say anything beside its English words.
_FOREIGN = re.compile(r"[\u0370-\u1cff\u2c00-\u2dff\u3040-\ua95f\uaa00-\ud7ff\uf900-\ufaff]")


def plain(text: str) -> str:
    """The text in the form that the patterns are written for."""
    return _flat(_CAMEL.sub(" ", text))


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
    words = PARSED.sub(_ENCODING, _DENIED.sub(" ", _DECLARATION.sub(" ", plain(text))))
    found = _first(words)
    if found.sign in (Sign.SENT, Sign.TIME):
        caused = _NOT_SENT.sub(" ", words)
        cause = _first(caused) if caused != words else found
        return _estimated(cause, words) if cause in _CAUSES and not _is_cut(words) else found
    unsplit = PARSED.sub(_ENCODING, _DENIED.sub(" ", _flat(text)))  # odd spelling splits words that are one
    if unsplit != words and (sent := _first(unsplit, _TELLING)) is not _NONE:
        return sent
    if unsplit != words and _first(unsplit, CATCH_ALL_RULES) is not _NONE and _cause(unsplit) not in _CAUSES:
        return _NONE
    if found.sign is Sign.CATCH_ALL and not _is_cut(words) and (cause := _cause(words)) in _CAUSES:
        return _estimated(cause, words)
    if found.sign in (Sign.BEFORE, Sign.REFUSED):  # by more than what every reason of a scheme begins with
        named = _STEP.sub(" ", text) if found.sign is Sign.REFUSED else text
        stripped = FAMILY.sub(" ", PARSED.sub(_ENCODING, _DECLARATION.sub(" ", plain(named))))
        found = _first(stripped) if stripped != words else found
    if found is _NONE and "invalid " in words and FAMILY_REFUSAL.pattern.search(words):
        found = FAMILY_REFUSAL
    unsure = _is_unsure(found, words) or (unsplit != words and _is_unsure(found, unsplit))
    return _NONE if unsure else _estimated(found, words)


def _cause(words: str) -> TextRule:
    """The step before the broadcast that a text names behind "transaction failed:"."""
    if ESTIMATION.pattern.search(words):
        return ESTIMATION
    return _first(_FAILED.sub(" ", words))


def _estimated(found: TextRule, words: str) -> TextRule:
    """The token's own refusal, if a failed estimation quotes one."""
    refused = found is ESTIMATION and ESTIMATION_REFUSED.pattern.search(words)
    return ESTIMATION_REFUSED if refused else found


def read_check(text: str) -> TextRule:
    """What a text says where nothing can have been sent: validation language beside any other word."""
    rule = read_text(text)
    if rule.sign not in (Sign.NONE, Sign.CATCH_ALL) or len(text) > MAX_TEXT:
        return rule
    words = plain(text)
    if _CRASH.search(words) or _FOREIGN.search(words):
        return rule
    if FAILED_READ.search(words):
        return _READ
    if _NODE.search(words):
        return rule
    return next((general for general in (GENERAL, CHECK) if general.pattern.search(words)), rule)


def _first(words: str, rules: tuple[TextRule, ...] = _RULES) -> TextRule:
    return next((rule for rule in rules if rule.pattern.search(words)), _NONE)


def _is_cut(words: str) -> bool:
    """Somebody cut it: what is missing may say more than what is there."""
    return len(words) >= LONG_TEXT and _CUT.search(words) is not None


def _is_unsure(found: TextRule, words: str) -> bool:
    """Whether more was said than can be read, or by somebody else than the facilitator."""
    if found.sign not in (Sign.BEFORE, Sign.REFUSED):
        return False
    aftermath = found.sign is Sign.REFUSED and _AFTERMATH.search(words)
    of_gas = found.sign is Sign.REFUSED and _GAS_PRICE.search(words)  # a transaction's price, not the payment
    of_node = (found.name in _ANY_STEP and _NODE.search(words)) or (
        found.name == "rate_limit" and "rpc error" in words  # said with a code of JSON-RPC, at any step
    )
    general = found.name in (GENERAL.name, CHECK.name)
    said = WRAPPING.sub(" ", words) if found.name == GENERAL.name else words
    later = general and LATER.search(NAMES.sub(" ", said))
    return bool(
        later
        or aftermath
        or of_gas
        or of_node
        or _is_cut(words)
        or _CRASH.search(words)
        or _FOREIGN.search(words)
    )
