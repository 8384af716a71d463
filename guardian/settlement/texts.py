"""What a facilitator's free text says about the money: ordered patterns by meaning. Pure, no I/O.

Only the order and the patterns stand here; what follows from a sign is decided in `classify.py`.
The order is the law: a sign that something was (or may have been) sent beats everything else in the
text, because the same words ("reverted", "rate limit", "insufficient") are said before and after a
broadcast. Patterns are matched on `plain()` text: lower case, camelCase and snake_case split, no quotes.
Every repetition is bounded, so that no text makes matching slow.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

MAX_TEXT = 16_384
"""Characters looked at. The longest real texts (viem with all its arguments) are some 4,000; what is
longer is not judged and counts as doubt."""


class Sign(StrEnum):
    """What a text shows, strongest first."""

    SENT = "sent"  # something was, or may have been, broadcast; or an earlier attempt landed
    TIME = "time"  # somebody stopped waiting, or a connection broke: nobody knows how far it got
    CATCH_ALL = "catch_all"  # "transaction failed": says nothing by itself
    BEFORE = "before"  # failed in a step that comes before the broadcast
    REFUSED = "refused"  # the payment or the request itself is not accepted
    NONE = "none"


@dataclass(frozen=True, slots=True)
class TextRule:
    """name: bounded, becomes the verdict's rule; payload: the payment is at fault, not the facilitator;
    prior: an earlier attempt of the same identity may be the cause."""

    name: str
    sign: Sign
    pattern: re.Pattern[str]
    payload: bool = False
    prior: bool = False
    failover: bool = False
    cure: str = ""


def _rule(
    name: str,
    sign: Sign,
    *patterns: str,
    payload: bool = False,
    prior: bool = False,
    failover: bool = False,
    cure: str = "",
) -> TextRule:
    return TextRule(name, sign, re.compile("|".join(patterns)), payload, prior, failover, cure)


_TX = r"(?:transactions?|txn?s?|user ?ops?|user operations?|bundles?)"

DOMAIN_CURE = (
    "extra.name and extra.version must be the token's EIP-712 domain: "
    '"USD Coin" version 2 on Base, "USDC" version 2 on Base Sepolia'
)
CLOCK_CURE = "the authorization's validity window is over or not open yet: check the clock, then sign again"
BALANCE_CURE = "the payer needs enough of the token on this network"
AMOUNT_CURE = "raise the price: hosted facilitators refuse less than $0.001 (1000 units of USDC)"

SENT_RULES = (
    _rule(
        "hash",
        Sign.SENT,
        r"\b(?:transactions?|txn?|user ?op|op) ?(?:hash|id)\b(?! (?:is )?(?:missing|required))",
        r"\bwith hash\b",
        r"\bhash 0x",
    ),
    _rule(
        "broadcast",
        Sign.SENT,
        r"broadcast",
        r"\bsend ?raw ?transaction\b",
        r"\b(?:re)?(?:send|sent|sending|submit|submits|submitted|submitting|submission|relay|relayed|"
        rf"relaying|publish|published|dispatch|dispatched)\b(?:(?!simulat).){{0,30}}\b{_TX}\b",
        rf"\b{_TX}\b(?:(?!simulat).){{0,30}}\b(?:sent|submitted|submission|relayed|published|"
        rf"dispatched|accepted|"
        r"included|processed|dropped|replaced|evicted|stuck|underpriced|not found|lost|unknown|"
        r"cancell?ed|expired)\b",
        r"\b(?:payment|settlement|transfer) (?:was |has been |is )?(?:already )?(?:sent|submitted|"
        r"relayed|processed|"
        r"executed|completed)\b",
        r"\b(?:failed|unable|could not|cannot|error|was|been|successfully|already) (?:to )?(?:submit|"
        r"submitted|"
        r"relay|relayed)\b",
    ),
    _rule(
        "confirmation",
        Sign.SENT,
        r"\b(?:un)?confirm(?:s|ed|ations?|ing)?\b",
        r"\breceipts?\b",
        r"\b(?:un)?(?:mined|mining)\b",
        r"\bmem ?pool\b|\btx ?pool\b",
        r"\bpending\b|\bin ?flight\b|\bin progress\b|\bstill processing\b",
        r"\b(?:un)?finali[sz]\w*\b|\binclusion\b",
        r"\bin (?:a |the )?block\b|\bblock height exceeded\b|\bblock ?hash (?:has )?expired\b",
        r"\bnot in the chain\b|\bon ?chain (?:fail|revert|error|status|result|execution|transaction|tx)\w*",
        r"\b(?:fail|revert|execut|settl|land)\w* on ?chain\b|\blanded\b",
    ),
    _rule(
        "reverted",
        Sign.SENT,
        r"\b(?:transaction|txn?)(?: execution)?(?: has| was|"
        r" is)?(?: been)? revert(?:ed)?\b.{0,40}\b(?:block|gas used)\b",
        r"\bstatus:? ?(?:0x0|0|reverted)\b|\bout of gas\b",
    ),
    _rule(
        "already",
        Sign.SENT,
        r"\balready (?:been )?(?:known|imported|exists?|in|processed|settled|submitted|sent|executed|used|"
        r"redeemed|spent|consumed|claimed|paid|completed|seen|bound|recorded|exist)\b",
        r"\bused or cancell?ed\b|\b(?:authorization|nonce|permit|signature|voucher)\b.{0,20}\b(?:is |"
        r"was |been )"
        r"(?:already )?(?:used|consumed|spent|invalidated|cancell?ed)\b",
        r"\bnonce\b.{0,20}\b(?:too (?:low|high)|expired|reused|used|gap|mismatch|conflict)\b",
        r"\binvalid ?nonce\b|\bbad nonce\b|\breplay(?:ed)?\b|\bduplicate\b|\bduplicated\b",
        r"\bunderpriced\b|\breplacement\b|\breplace (?:the )?(?:existing|pending)\b|\bfee too low\b",
    ),
    _rule(
        "doubt",
        Sign.SENT,
        r"\b(?:may|might|could) (?:already |still |yet )?(?:have|land|settle|succeed|complete|"
        r"be on ?chain)\b",
        r"\b(?:outcome|status|state|result|whether)\b.{0,20}\b(?:unknown|unclear|uncertain|ambiguous)\b",
        r"\bunknown (?:outcome|status|state|result)\b|\bunknown if\b|\bindeterminate\b|\bundetermined\b",
        r"\bdo not (?:retry|resubmit|resend|pay again)\b",
    ),
)

TIME_RULES = (
    _rule(
        "timeout",
        Sign.TIME,
        r"(?<!max )\btime(?:d|s)? ?outs?\b|\b(?:e|esocket|connect|read|write)timed ?out\b|"
        r"\btimedout\b|\betimeout\b",
        r"\btook too long\b|\btoo slow\b|\bgave up\b|\bgiving up\b|\bin time\b|\bwithin \d+ ?(?:ms|s|"
        r"sec|min)",
        r"\bdeadline ?(?:has |was |is )?(?:exceeded|elapsed|reached)\b|\bcontext deadline\b|\bexhausted\b",
        r"\bcontext cancell?ed\b|\b(?:request|operation|call|task|client|was|been) (?:was |"
        r"been )?(?:cancell?ed|"
        r"aborted)\b|\baborted\b|\babort(?: signal| error)\b|\binterrupted\b|\bshutting down\b|"
        r"\bclosed request\b",
    ),
    _rule(
        "connection",
        Sign.TIME,
        r"\beconn\w*|\bepipe\b|\benotfound\b|\behostunreach\b|\benetunreach\b|\beai again\b|\bund err\w*",
        r"\bsocket\b|\bbroken pipe\b|\bhang up\b|\bunexpected eof\b|\beof\b|\bpremature(?:ly)?\b|"
        r"\bdisconnect\w*",
        r"\bconnection\b.{0,30}\b(?:reset|closed|aborted|lost|terminated|dropped|refused|failed|"
        r"error|broken)\b",
        r"\bremote end closed\b|\bother side closed\b|\bstream (?:closed|reset|error)\b|\bno response\b",
        r"\bfetch failed\b|\bfailed to fetch\b(?! (?:the )?(?:gas|fee|balance|nonce|chain))|"
        r"\bnetwork ?error\b|\bmissing response\b|"
        r"\bmax retries exceeded\b",
        r"\bbad ?gateway\b|\bgateway ?time|\bservice ?unavailable\b|\binternal ?server ?error\b",
        r"\(5\d\d\)|\b(?:status|code|http)(?: code)?:? ?5\d\d\b|\b5\d\d (?:server )?error\b",
        r"\b(?:invalid|unexpected|malformed|empty|could not parse|"
        r"failed to parse) (?:json )?(?:rpc )?response\b",
    ),
)

CATCH_ALL_RULES = (
    _rule(
        "catch_all",
        Sign.CATCH_ALL,
        r"\b(?:transaction|txn?)(?: execution)?(?: has| was)? (?:failed|failure|reverted|rejected|error)\b",
        r"\b(?:failed|reverted) (?:transaction|txn?)\b|\bunexpected ?error\b|\binternal ?error\b",
    ),
)

ESTIMATION = _rule(
    "estimation",
    Sign.BEFORE,
    r"\b(?:unable|failed|failure|cannot|can t|could not|couldn t|error|fail(?:ed|s)?|when|while|"
    r"during)\b.{0,30}"
    r"\bestimat\w{1,6} (?:the )?(?:\w{1,12} )?gas\b",
    r"\b(?:gas estimat\w{1,6}|estimat\w{1,6} (?:the )?gas)\b.{0,20}\b(?:fail\w{0,3}|error|"
    r"revert\w{0,2}|unavailable)\b",
    r"\bgas required exceeds\b|\bunpredictable gas limit\b|\bestimate gas (?:execution error|arguments)\b",
    r"\baction ?= ?estimate ?gas\b|\beth estimate gas\b|\b(?:failed|failure|error|"
    r"revert\w{0,2})\b.{0,20}\bgas estimat",
    cure="the signature may be too fresh for the facilitator's node: repeat the same payload after a second",
)

BEFORE_RULES = (
    ESTIMATION,
    _rule(
        "gas_money",
        Sign.BEFORE,
        r"\binsufficient (?:funds|balance|eth|native(?: token)?|sol|lamports?) (?:for|to (?:pay|"
        r"cover)) (?:the )?"
        r"(?:gas|intrinsic|(?:network |transaction )?fees?)\b",
        r"\btotal cost \(gas\b|\binsufficient (?:gas|lamports)\b|\b(?:facilitator|relayer|fee payer|"
        r"signer|hot wallet)"
        r"\b.{0,30}\b(?:insufficient|not enough|low|out of)\b",
        failover=True,
        cure="the facilitator's own account has no money for gas: its operator must refill it",
    ),
    _rule(
        "simulation",
        Sign.BEFORE,
        r"\bsimulat\w{1,6}\b.{0,60}\b(?:fail\w{0,3}|error|revert\w{0,2})\b",
        r"\b(?:fail\w{0,3}|error|unable|could not)\b.{0,30}\bsimulat\w{1,6}\b",
        r"\bpre ?flight\b.{0,30}\bfail\w{0,3}\b",
        payload=True,
        prior=True,
    ),
    _rule(
        "too_early",
        Sign.BEFORE,
        r"\bnot yet valid\b|\btoo early\b|\bvalid after\b|\bnot valid yet\b",
        payload=True,
        cure=CLOCK_CURE,
    ),
    _rule(
        "rpc_read",
        Sign.BEFORE,
        r"\b(?:fail\w{0,3}|unable|could not|cannot|error)\b.{0,12}\b(?:get|getting|fetch|fetching|"
        r"read|reading|check|"
        r"checking|query|querying|retrieve|determine)\b.{0,30}\b(?:balance|nonce|gas price|fee data|"
        r"fees?|chain id|"
        r"allowance|decimals|bytecode|contract code|authorization state)\b",
        failover=True,
    ),
    _rule(
        "rate_limit",
        Sign.BEFORE,
        r"\brate ?limit\w{0,4}\b|\btoo many requests\b|\bthrottl\w{1,4}\b",
    ),
)

REFUSED_RULES = (
    _rule(
        "domain",
        Sign.REFUSED,
        r"\b(?:domain|token|eip ?712)\b.{0,20}\b(?:name|version|domain|"
        r"separator)\b.{0,30}\b(?:mismatch|wrong|invalid|"
        r"missing|does not match|required)\b",
        r"\b(?:missing|invalid|wrong)\b.{0,12}\b(?:eip ?712|domain (?:name|separator|version))\b",
        payload=True,
        cure=DOMAIN_CURE,
    ),
    _rule(
        "signature",
        Sign.REFUSED,
        r"\b(?:invalid|bad|malformed|wrong|missing|incorrect|unrecoverable)\b.{0,30}\b(?:signature|"
        r"signer)\b",
        r"\bsignatures?\b.{0,30}\b(?:invalid|mismatch|does not match|not valid|malformed|"
        r"verification fail\w{0,3}|"
        r"incorrect|missing|wrong|not from)\b",
        r"\bsigner\b.{0,20}\b(?:mismatch|does not match)\b|\brecovered\b.{0,60}\b(?:mismatch|"
        r"does not match|differs?)\b",
        payload=True,
        cure=DOMAIN_CURE,
    ),
    _rule(
        "expired",
        Sign.REFUSED,
        r"\b(?:authorization|authorisation|permit|payload|signature|voucher|quote|deadline|"
        r"valid before|valid until)"
        r"\b.{0,30}\b(?:expired|past|over|too (?:soon|close)|elapsed)\b",
        r"\bexpired (?:authorization|permit|payload|signature|voucher|quote|deadline)\b|\bvalid before\b",
        payload=True,
        prior=True,
        cure=CLOCK_CURE,
    ),
    _rule(
        "balance",
        Sign.REFUSED,
        r"\binsufficient (?:\w{1,12} ){0,3}(?:balance|funds|allowance)\b|\b(?:balance|allowance|"
        r"funds)\b.{0,12}"
        r"\b(?:too low|insufficient|below)\b",
        r"\bexceeds (?:the )?(?:\w{1,12} ){0,2}(?:balance|allowance)\b|\bunderfunded\b",
        r"\bnot enough (?:\w{1,12} ){0,2}(?:funds|balance|tokens|usdc)\b",
        payload=True,
        prior=True,
        cure=BALANCE_CURE,
    ),
    _rule(
        "recipient",
        Sign.REFUSED,
        r"\b(?:recipient|pay ?to|receiver|destination|payee)\b.{0,40}\b(?:mismatch|does not match|"
        r"wrong|invalid|"
        r"incorrect|differs?)\b",
        r"\b(?:wrong|invalid|incorrect|mismatched)\b.{0,12}\b(?:recipient|receiver|pay ?to|"
        r"destination|payee)\b",
        payload=True,
        cure="the authorization must pay the address in requirements.payTo",
    ),
    _rule(
        "amount",
        Sign.REFUSED,
        r"\b(?:amount|value)\b.{0,40}\b(?:mismatch|does not match|too (?:low|small|high)|below|less than|"
        r"(?:under|lower than))\b",
        r"\b(?:below|under|less than)\b.{0,20}\bminimum\b|\bminimum (?:payment )?amount\b",
        r"\b(?:invalid|wrong|incorrect) (?:payment )?(?:amount|value)\b",
        payload=True,
        cure=AMOUNT_CURE,
    ),
    _rule(
        "compliance",
        Sign.REFUSED,
        r"\bsanction\w{0,3}\b|\bkyt\b|\bcompliance\b|\bblack ?list\w{0,5}\b|\bblock ?list\w{0,3}\b|"
        r"\bdeny ?list\w{0,3}\b",
        r"\brisk detected\b|\baccount (?:is )?frozen\b",
        payload=True,
    ),
    _rule(
        "unsupported",
        Sign.REFUSED,
        r"\b(?:unsupported|unknown|invalid|wrong|unrecogni[sz]ed)\b.{0,20}\b(?:scheme|network|chain|"
        r"asset|token|"
        r"(?:x402 ?|protocol )?version|kind|payload type)\b",
        r"\b(?:scheme|network|chain|asset|token|x402 ?version|kind|"
        r"payload type)\b.{0,60}\b(?:not supported|unsupported|"
        r"not registered|not configured|mismatch|does not match)\b",
        r"\bno (?:facilitator|handler|mechanism|scheme)\b.{0,20}\b(?:registered|found|configured)\b",
        payload=True,
        failover=True,
    ),
    _rule(
        "payload",
        Sign.REFUSED,
        r"\b(?:invalid|malformed|missing|bad|failed to (?:parse|decode)|could not (?:parse|decode)|"
        r"unable to (?:parse|"
        r"decode)|required|invalid type|field required|input should be|"
        r"unrecogni[sz]ed keys)\b.{0,120}\b(?:payment ?"
        r"payload|payment ?requirements|x402 ?version|payload|requirements|request body|"
        r"authorization|payment header)\b",
        r"\b(?:payment ?payload|payment ?requirements|x402 ?version|request body|"
        r"authorization)\b.{0,120}\b(?:invalid|"
        r"malformed|missing|required|not valid|undefined|null|input should be)\b",
        r"\binvalid payment\b",
        payload=True,
    ),
    _rule(
        "access",
        Sign.REFUSED,
        r"\bunauthori[sz]ed\b|\bforbidden\b|\bapi key\b|\bauthentication\b|\bnot authenticated\b|"
        r"\bjwt\b|\baccess denied\b",
        r"\binvalid (?:api )?(?:token|credentials?)\b|\bpayment method\b|\bbilling\b|\bquota exceeded\b",
        failover=True,
        cure="the facilitator refuses access: check its credentials and its billing",
    ),
)

_RULES = (*SENT_RULES, *TIME_RULES, *CATCH_ALL_RULES, *BEFORE_RULES, *REFUSED_RULES)
_NONE = _rule("unlisted", Sign.NONE, r"(?!)")
_TOO_LONG = _rule("too_long", Sign.SENT, r"(?!)")

# A node's refusal of service can come at any step, also while waiting for the receipt.
_RPC = re.compile(
    r"\bfor url\b|\bhttp request failed\b|\brpc\b|\bclient error\b|https?:|\bprovider\b|\bjson ?rpc\b"
)
_ANY_STEP = frozenset({"rate_limit", "access", "unsupported", "payload"})

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATORS = re.compile(r"[\s_\-\"'`\\]+")


def plain(text: str) -> str:
    """The text in the form that the patterns are written for."""
    return _SEPARATORS.sub(" ", _CAMEL.sub(" ", text)).lower()


@lru_cache(maxsize=256)
def read_text(text: str) -> TextRule:
    """The first rule that the text matches, strongest sign first; sign NONE where there is none.

    Cached, because a facilitator in trouble says the same to everybody.
    """
    words = plain(text[:MAX_TEXT]).strip(" |")
    if not words:
        return _NONE
    if len(text) > MAX_TEXT:
        return _TOO_LONG
    found = next((rule for rule in _RULES if rule.pattern.search(words)), _NONE)
    if found.sign is Sign.CATCH_ALL and ESTIMATION.pattern.search(words):
        return ESTIMATION
    if found.name in _ANY_STEP and _RPC.search(words):
        return _NONE
    return found
