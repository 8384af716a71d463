"""Texts of a step that failed before the broadcast, or that says "not now": nothing was sent. Pure data.

Read after `sent.py`. The rules with names of their own are also looked for by `reading.py` where a
wrapper stands in front, or a status says the same.
"""

from guardian.settlement.texts.refused import BALANCE_CURE, CLOCK_CURE
from guardian.settlement.texts.rule import Sign, text_rule

ESTIMATION = text_rule(
    "estimation",
    Sign.BEFORE,
    r"\b(?:unable|failed|failure|cannot|can t|could not|couldn t|error|fail(?:ed|s)?|when|while|"
    r"during)\b.{0,30}\bestimat\w{1,6} (?:the )?(?:\w{1,12} )?gas\b",
    r"\b(?:gas estimat\w{1,6}|estimat\w{1,6} (?:the )?gas)\b(?:(?!pass|succe|ok\b|but\b|transact|"
    r"tx\b).){0,20}\b(?:fail\w{0,3}|error|revert\w{0,2}|unavailable)\b",
    r"\bgas required exceeds\b|\bunpredictable gas limit\b|\bestimate gas (?:execution error|arguments)\b",
    # geth's number for a revert in eth_call and eth_estimateGas; nothing in a block has one.
    r"\berror code 3: execution reverted\b|\bcode: 3, message: execution reverted\b",
    r"\baction ?= ?estimate ?gas\b|\beth estimate gas\b|"
    r"\b(?:failed|failure|error|revert\w{0,2})\b[^|]{0,20}\bgas estimat\w{1,6}\b(?! (?:passed|ok|succeeded|"
    r"was|is)\b)",
    cure="the signature may be too fresh for the facilitator's node: repeat the same payload after a second",
)

ESTIMATION_REFUSED = text_rule(
    "estimation_refused",
    Sign.REFUSED,
    r"\b(?:invalid|bad|malformed) (?:\w{1,12} ){0,2}(?:signature|signer)\b|"
    r"\bsignature (?:is )?(?:invalid|mismatch|expired|verification failed)\b|"
    r"\bauthorization (?:is |has )?expired\b|\bamount exceeds balance\b",
    payload=True,
    prior=True,
)
"""Looked for beside `ESTIMATION` only: the token's own refusal, which a repetition does not change."""

GAS_MONEY = text_rule(
    "gas_money",
    Sign.BEFORE,
    r"\binsufficient (?:funds|balance|eth|native(?: token)?|sol|lamports?) (?:for|"
    r"to (?:pay|cover)) (?:the )?(?:gas|intrinsic|(?:network |transaction )?fees?)\b|"
    r"\binsufficient balance for transaction fee\b",
    r"\btotal cost \(gas\b|\b(?:upfront|cumulative) cost\b|"
    r"\binsufficient (?:gas(?! refund)|lamports|native balance)\b|"
    r"\binsufficient (?:\w{1,12} ){0,2}(?:balance|funds) (?:in|of|on) (?:the )?(?:delegation|facilitator|"
    r"relayer|sponsor|fee payer|operator)\b|"
    r"\b(?:facilitator|relayer|fee payer|signer|hot wallet)\b.{0,30}\b(?:insufficient|not enough|low|"
    r"out of (?:gas|funds|money|eth|balance)|zero|empty)\b",
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
    r"\bmax fee per gas less than block base fee\b|"
    r"\b(?:max fee per gas|fee cap)\b.{0,60}\b(?:cannot be|is|less|lower) (?:lower |less |"
    r"below )?(?:than )?(?:the )?(?:current )?(?:block )?base ?fee\b",
    r"\bgas price (?:is )?too high\b.{0,40}\bexceeds (?:the )?max(?:imum)?\b",
)

FEE_READ = text_rule(
    "fee_read",
    Sign.BEFORE,
    # viem of a question that a node turned away
    r"\bhttp request failed\. status: 4\d\d url: [^ ]{1,300} request body: \{ ?method ?: ?"
    r"eth (?:max priority fee per gas|gas price|fee history)\b",
    # what is built on go-ethereum
    r"(?:^|\||:) *(?:failed|unable) to (?:get|fetch|suggest|retrieve|query) (?:the )?(?:suggested |current )?"
    r"(?:gas price|gas tip(?: cap)?|gas fee cap|fee history|base fee|network id|chain id)(?=:| ?\||$)",
)
"""A transaction's price and its chain are asked for before it is signed: whatever became of the question."""

UNREACHED = text_rule(
    "unreached",
    Sign.BEFORE,
    r"(?:\bfailed to (?:send|submit|broadcast) (?:the |a )?(?:raw |signed )?(?:transaction|tx) ?: |"
    # with nothing in front: who has sent it connects again to see what became of it
    r"(?:^|\|) *(?:error: )?(?:failed to connect to (?:the )?(?:rpc|node|network) ?: ){1,2})"
    r"(?:post [^ ]{1,200} ?: )?"
    r"dial tcp[^|:]{0,60}(?::\d{1,5})?: (?:connect: (?:connection refused|no route to host|"
    r"network is unreachable)|lookup [^|]{1,120}: no such host)(?= ?\||$)",
)
"""Go of the call itself that would have sent it, or came before: no connection stood on which it could go."""

SIMULATION = text_rule(
    "simulation",
    Sign.BEFORE,
    r"\bsimulat\w{1,6}\b(?! (?:passed|ok|succeeded)).{0,60}\b(?:fail\w{0,3}|error|revert\w{0,2})\b",
    r"\b(?:fail\w{0,3}|error|unable|could not|revert\w{0,2})\b.{0,30}\bsimulat\w{1,6}\b(?! (?:passed|ok|"
    r"succeeded))",
    r"\b(?:empty|missing|no \w{1,20} in) simulation result\b|"
    r"\bsimulation result (?:is )?(?:empty|missing|undefined)\b",
    r"\b(?:pre ?flight|dry ?run)\b.{0,30}\bfail\w{0,3}\b|\baa(?:13|23|33|40)\b",
    payload=True,
    prior=True,
)

NOT_NOW = text_rule(
    "not_now",
    Sign.BEFORE,
    r"\b(?:signer|wallet|relayer|facilitator|worker|lane) is (?:busy|settling|handling|"
    r"serving) (?:with )?another (?:payment|settlement|request)\b",
    r"\bqueue (?:for [\w ]{1,60})?is full\b.{0,40}\b(?:retry|try again) (?:later|shortly|soon|in)\b",
    r"\b(?:service|facilitator|settlement service) (?:is )?(?:currently |temporarily |too )?(?:overloaded|"
    r"busy|at capacity)\b.{0,60}\b(?:retry|try again) (?:later|shortly|soon|in)\b",
    r"\b(?:service|facilitator|settlements?|settling|payments) (?:is |are )?(?:currently |"
    r"temporarily )?(?:paused|halted|suspended|under maintenance|in maintenance|draining)\b",
    r"\bcircuit (?:breaker )?(?:is )?open\b",
    r"\bsettlement can be (?:retried|repeated) with the same (?:request|payload)\b",
)
"""Looked for only beside a status that says the same: elsewhere a node may have said it, at any step."""

SIMULATION_REFUSED = text_rule(
    "simulation_refused",
    Sign.REFUSED,
    r"\bsimulation failed: tokens short\b",
    r"\bsimulat\w{1,6} (?:failed|error)\b[^|]{0,80}\binsufficient (?:funds|(?:token |usdc )?balance|"
    r"allowance)\b(?! (?:for|to (?:pay|cover)) )",
    payload=True,
    prior=True,
    cure=BALANCE_CURE,
)
"""Looked for beside `SIMULATION` only: the token program's error for too few tokens, which without a
program's log, or a reason that names the simulation, may be another program's."""

# The facilitator counts its own traffic before it takes a payment on; a node does so at any step.
_OWN_TRAFFIC = (
    r"(?:^|\| )(?:error: )?(?:your |the )?(?:(?:payer|sender|wallet|merchant|tenant|seller|client|customer|"
    r"user|ip|facilitator|settle|settlements?|payments?|verify|sponsor(?:ship)?|free|tier|plan|global|daily|"
    r"weekly|hourly|monthly|per) ){1,4}"
)
_TRY_LATER = (
    r"(?:please )?(?:try|retry|wait|slow down|back off|upgrade)(?: again)?(?: (?:later|in \d{1,6} ?\w{1,8}|"
    r"shortly|soon|in a (?:moment|minute|few \w{1,8})|your plan))?"
)

BEFORE_RULES = (
    ESTIMATION,
    GAS_MONEY,
    GAS_LIMIT,
    FEE_CAP,
    FEE_READ,
    UNREACHED,
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
        r"\bnot yet valid\b|\btoo early\b|"
        r"(?<!missing )(?<!invalid )(?<!malformed )\bvalid after\b(?!,|"
        r" (?:must|should|field|required|missing|is (?:required|missing|invalid|not)|and valid before)\b)|"
        r"\bnot valid yet\b|\bnot active yet\b|\bnot yet active\b",
        payload=True,
        cure=CLOCK_CURE,
    ),
    text_rule(
        "rpc_read",
        Sign.BEFORE,
        r"\b(?:fail\w{0,3}|unable|could not|cannot|error)\b.{0,12}\b(?:get|getting|fetch|fetching|read|"
        r"reading|check|checking|query|querying|retrieve|determine|suggest)\b.{0,30}\b(?:balance|nonce|"
        r"gas (?:price|tip)|fee data|fees?|chain id|allowance|decimals|bytecode|"
        r"contract (?:code|parameters)|(?:block header|(?:latest|recent) blockhash)|"
        r"authorization (?:state|status)|access key)\b",
        r"\b(?:balance|access key|allowance|token account|storage) (?:check|lookup|read|query) failed\b",
        failover=True,
    ),
    # Of one transaction, the payment's: one that replaces or cancels another is signed after a broadcast.
    text_rule(
        "signing",
        Sign.BEFORE,
        r"\b(?:failed|unable|could not|couldn t|cannot|can t|can not) (?:to )?(?:partially )?sign (?:the |"
        r"a )?(?:settlement |settle |payment |transfer |fee payer |sponsored |raw )?(?:transaction|"
        r"tx)\b(?! (?:again|\d))",
        r"\btransaction signing failed\b",
        failover=True,
    ),
    # Only a whole sentence of its own: a node says it too, at any step, but with more words round it.
    text_rule(
        "rate_limit",
        Sign.BEFORE,
        r"(?:^|\| )(?:error: |\w{0,12} ?exception: |facilitator |"
        r"you are being )?(?:429:? )?(?:api )?(?:rate ?limit(?:ed)?(?: (?:is |was )?(?:exceeded|reached))?|"
        r"too many requests(?: from this ip)?|"
        r"requests? (?:was |were )?throttled)(?:[:.] (?:max(?:imum)? )?\d{1,7} (?:requests? )?per "
        r"[^|]{1,24})?(?:[.,:;!-] ?(?:please )?(?:slow down|try|retry|wait|"
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
