"""What leaves a text in doubt although it refuses: somebody else speaks, or more was said. Pure data."""

import re

from guardian.settlement.texts.rule import any_of

# A node's refusal of service can come at any step, also while waiting for the receipt.
NODE = any_of(
    r"\bfor url\b|\bhttp request failed\b|\brpc\b|\bclient error\b|https?:|\bnoauth\b|\bgateway\b|"
    r"\bwrongpass\b|\bprovider\b(?! (?:id|registration|participant)\b)|\bjson ?rpc\b|\brate ?limit|"
    r"\bcompute units\b|\bcapacity\b|\bquota\b|\bper second\b|\brequest (?:count|rate|limit)\b|"
    r"\btoo many (?:requests|connections)\b|\bresponse\b|\bthrottl|(?<!transfer )\bmethod\b|"
    r"\beth (?:get|send|call|block|chain|fee|max)"
)
GAS_PRICE = any_of(
    r"\btip\b|\bgas ?price\b|\bbase ?fee\b|\bmax ?fee\b|\bgas ?tip\b|"
    r"\bpriority fee\b(?! \d{1,20} exceeds (?:the )?max)|\bnetwork minimum\b|\bto relay\b"
)
# A crash: nobody knows how far it got, whatever its words.
CRASH = any_of(
    r"\bpanic\b|\bruntime error\b|\bnil pointer\b|\btype ?error\b|\bcannot read propert|\btraceback\b|"
    r"\bjump destination\b|\bopcode\b|\bto unpack\b|\bbytes like object\b|\binvalid literal\b|\btime data\b|"
    r"\breduce of empty\b|\bnot a constructor\b|\bindex out of\b|\bunwrap\b|\bcodec can t decode\b|"
    r"\babsolute urls?\b|\bhttp\(s\)|\b(?:integer|bigint|smallint|numeric) out of range\b|"
    r"\bout of range for type\b|\binteger or out of range\b|\bthe value of \w{1,24} is out of range\b|"
    r"\binvalid (?:typed array|string) length\b|\binvalid code point\b|\boperand\b|\bnone ?type\b|"
    r"\bpath \w{1,24} is required\b|\bunexpected token\b|"
    r"\binvalid (?:array length|time value|count value|bigint)\b"
)
# What is said of money that has moved, or of work behind the settlement.
AFTERMATH = any_of(
    r"\b(?:mismatch|found|differs?|match) on ?chain\b|"
    r"\b(?:amount|value|recipient|payee|asset) (?:on|in|from) (?:the )?chain\b|"
    r"\bthe chain (?:is|says|has|shows|reports)\b|\b(?:transfer|payment|funds) received\b|"
    r"\bafter (?:the )?deposit|"
    r"\b(?:settlement|transaction) (?:amount|value) (?:mismatch|differs?|does not match|is wrong)\b|"
    r"\b(?:moved|released|claimed|captured|rolled back|rollback|callback|webhook|notif\w+|worker|job|"
    r"slippage|amount out|output amount|partial(?:ly)? fill\w*|"
    r"incomplete(?! (?:payment )?(?:requirements?|payload|request|header|authorization))|replaced by|"
    r"unchanged|did not change|not received|was paid|paid the|was made|(?<!be )sent to|"
    r"from (?:a |the )?block|effects?)\b|\bpost settle|\b(?:to|for|while) track(?:ing)?\b|\btracking\b|"
    r"\bhooks? (?:reverted|failed|error)|\bpay ?outs?\b|"
    r"\bcontract function (?:distribut\w{0,4}|split|sweep|release|forward)\b|"
    r"\b(?:refund|charge|capture|claim|deposit|batch|payment execution|transfer(?: from)?) (?:failed|error|"
    r"reverted)\b|(?<!contract function )(?<!simulated )\bexecution (?:failed|error)\b|\bpayment reverted\b|"
    r"(?:^|\| )reverted:|\breturned (?:an? )?(?:wrong|invalid|unexpected|different|network|amount|payer)\b"
)

# All that x402-rs told for long of any call to a contract that failed, the sending one too.
BARE = re.compile(
    r"(?:\w[\w ]{0,40} \| )?[^a-z]{0,9}(?:(?:error|"
    r"message)[^a-z]{1,9}){0,2}invalid request[^a-z]{0,9}(?:ref: \w{1,16}\))?"
)

CUT = re.compile(r"(?:\.\.\.|[\[(]truncated[\])])(?= ?\||$)")
# Letters of scripts that no pattern knows: such a text can say anything beside its English words.
FOREIGN = re.compile(r"[\u0370-\u1cff\u2c00-\u2dff\u3040-\ua95f\uaa00-\ud7ff\uf900-\ufaff]")

# Behind a word for the settling itself a few bare words may say what was found in any step of it.
SETTLING = re.compile(
    r"(?:^|\| |: )(?:\w{1,16} ){0,2}settle(?:ment)? (?:failed|failure|"
    r"error) ?: ?(?:\w+(?: |(?=[.!]?(?: ?\||$)))){1,5}[.!]?(?: ?\||$)"
)
