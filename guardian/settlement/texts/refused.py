"""Texts that refuse a payment or a request: nothing was sent for it. Pure data, read after `sent.py`.

Every pattern names the thing that is refused, and none of these things is what a node says of a
transaction under way.
"""

from guardian.settlement.texts.rule import Sign, text_rule

DOMAIN_CURE = (
    "extra.name and extra.version must be the token's EIP-712 domain: "
    '"USD Coin" version 2 on Base, "USDC" version 2 on Base Sepolia'
)
CLOCK_CURE = "the authorization's validity window is over or not open yet: check the clock, then sign again"
BALANCE_CURE = "the payer needs enough of the token on this network"
AMOUNT_CURE = "raise the price: hosted facilitators refuse less than $0.001 (1000 units of USDC)"

_REQUEST = (
    r"(?:payment ?payload|payment ?requirements|x402 ?version|payload|requirements|request body|"
    r"authorization|payment header)"
)
_PARTY = (
    r"(?:facilitator|fee payer|payer|sender|source|spender|authority|mint|asset|asa id|token|destination|"
    r"recipient|pay ?to|receiver|relayer|group|address|requirements|method|lease|scheme|chain|network|"
    r"domain|name|version|amount|signature|mint address|token account)"
)
_NOT_MATCHING = (
    r"(?:mismatch|must match|must not|does not match|did not match|do not match|doesn t match|"
    r"not match(?:ing)?|!==?)"
)
_OF_CHAIN = (
    r"(?:hash|nonce|sequence|receipt|block|event|logs?|status|state|root|result|response|transactions?|tx|"
    r"balance|transfer|payment|settlement|counter|deposit|checksum)\b"
)
_FIELD = (
    r"(?:payment ?payload|payment ?requirements|x402 ?version|authorization|signature|salt|extra|amount|"
    r"address|entry|hook|router|recipient|scheme)"
)

REFUSED_RULES = (
    text_rule(
        "domain",
        Sign.REFUSED,
        r"\bno eip ?712 domain\b|\beip ?(?:712|2612|3009) (?:verification|validation) failed\b",
        r"\b(?:domain|token|eip ?712)\b.{0,20}\b(?:name|version|domain|separator)\b.{0,30}\b(?:mismatch|"
        r"wrong|invalid|missing|does not match|required)\b",
        r"\b(?:missing|invalid|wrong)\b.{0,12}\b(?:eip ?712|typed data|domain (?:name|separator|version))\b",
        payload=True,
        cure=DOMAIN_CURE,
    ),
    text_rule(
        "signature",
        Sign.REFUSED,
        r"\b(?:invalid|bad|malformed|wrong|missing|incorrect|unrecoverable|"
        r"non canonical)\b.{0,30}\b(?:signatures?|signer)\b",
        r"\bsignatures?\b.{0,30}\b(?:invalid|mismatch|does not match|not valid|malformed|incorrect|missing|"
        r"wrong|not from|required|(?:verification|check|validation) fail\w{0,3})\b",
        r"\bsignature (?:could not|couldn t|cannot|can t) be (?:verified|validated|recovered|parsed|"
        r"decoded)\b",
        r"\bdid not pass signature\b|\bsigner is not\b|"
        r"\b(?:could not|couldn t|unable to|failed to) recover\b|\brecovery failed\b|\baa(?:24|34)\b|"
        r"\bsignature error\b",
        r"\bsigner\b.{0,20}\b(?:mismatch|does not match)\b|"
        r"\brecovered\b.{0,60}(?:\b(?:mismatch|does not match|differs?)\b|!==?)",
        payload=True,
        cure=DOMAIN_CURE,
    ),
    text_rule(
        "expired",
        Sign.REFUSED,
        r"\b(?:authorization|authorisation|permit ?2?|payload|signature|voucher|quote|deadline|delegation|"
        r"delegate action|session key|challenge|valid before|valid until|payment|proof|invoice|mandate|"
        r"window|grant|offer|terms|intent|credential|approval)\b[^:|]{0,30}\b(?:expired|past|over|"
        r"too (?:soon|close|short)|elapsed|passed|(?:not|n t|t) far enough)\b|"
        r"\bexpires? (?:in less than|within|too soon)\b|\bvalidity (?:window |period )?too \w{4,5}\b",
        r"\bexpired (?:authorization|permit|payload|signature|voucher|quote|deadline)\b|\bvalid before\b|"
        r"(?:^|\| )expired(?= ?\||$)",
        payload=True,
        prior=True,
        cure=CLOCK_CURE,
    ),
    text_rule(
        "balance",
        Sign.REFUSED,
        r"\binsufficient (?:\w{1,12} ){0,3}(?:balance|funds|allowance)\b(?! for (?:rent|transfer))|"
        r"\b(?:balance|allowance|funds)\b.{0,12}\b(?:too low|insufficient|below|not enough)\b",
        r"\bexceeds (?:the )?(?:\w{1,12} ){0,2}(?:balance|allowance)\b|(?<!op )\bunderfunded\b|"
        r"\bdoes not have enough\b|\blow balance\b|\ballowance (?:is )?required\b|\bhas not approved\b",
        r"\bnot enough (?:\w{1,12} ){0,2}(?:funds|balance|tokens|usdc)\b|"
        r"\binsufficient (?:authorization|usdc|usdt|eurc|tokens?)\b",
        r"\b(?:account|ata|wallet|token|asset|trustline)\b.{0,20}\b(?:does not exist|not initialized)\b",
        payload=True,
        prior=True,
        cure=BALANCE_CURE,
    ),
    text_rule(
        "recipient",
        Sign.REFUSED,
        r"\b(?:recipient|pay ?to|receiver|destination|payee)\b.{0,40}\b(?:mismatch|does not match|"
        r"must match|wrong|invalid|incorrect|differs?)\b",
        r"\b(?:wrong|invalid|incorrect|mismatched|incompatible|unsupported)\b.{0,12}\b(?:recipient|"
        r"receivers?|pay ?to|destination|payee)\b",
        r"\b(?:to|from) (?:a |the )?wrong address\b|\bnot addressed to\b|\bself (?:transfer|payment)\b",
        payload=True,
        cure="the authorization must pay the address in requirements.payTo",
    ),
    text_rule(
        "amount",
        Sign.REFUSED,
        r"\b(?:under|over)(?:payment|paid|pay)\b",
        r"\b(?:amount|value)\b.{0,40}\b(?:mismatch|does not match|too (?:low|small|high)|below|less than|"
        r"under|lower than)\b",
        r"\b(?:below|under|less than)\b.{0,20}\bminimum\b|\bminimum (?:payment )?amount\b|"
        r"\bmin(?:imum)? amount not met\b",
        r"\b(?:invalid|wrong|incorrect|insufficient) (?:payment |fee |authorized )?(?:amount|value)\b",
        r"\b(?:mandate|spend(?:ing)?|(?:agent|session|payer|user|client|wallet) budget|payment|"
        r"amount) (?:(?:limit|cap|budget) )?(?:would be )?exceeded\b",
        r"\bminimum (?:payment|price) (?:is|of)\b|\binvalid settlement amount\b",
        r"\bexceeds (?:the )?(?:client )?(?:authorized|permitted|approved) (?:amount|value|maximum)\b|"
        r"\bexceeds (?:the )?(?:client )?authorized\b|"
        r"\b(?:amount|value|fee|price)\b.{0,40}\bexceeds?\b.{0,12}\b(?:max|maximum|limit|cap)\b",
        payload=True,
        cure=AMOUNT_CURE,
    ),
    text_rule(
        "compliance",
        Sign.REFUSED,
        r"\bsanction\w{0,3}\b|\bkyt\b|\bcompliance\b|\bofac\b|\bblack ?list\w{0,5}\b|\bblock ?list\w{0,3}\b|"
        r"\bdeny ?list\w{0,3}\b",
        r"\bky[bc]\b|\brisk detected\b|\baccount (?:is )?frozen\b|\bblocked address\b|"
        r"\baddress (?:is )?blocked\b",
        payload=True,
    ),
    # Kora and x402-rs of a transaction that they do not sign.
    text_rule(
        "allowed",
        Sign.REFUSED,
        r"\bnot in (?:the )?allowed (?:\w{1,12} )?list\b",
        payload=True,
    ),
    text_rule(
        "not_configured",
        Sign.REFUSED,
        r"\bsettlement(?<!\w settlement) (?:is )?(?:disabled|not enabled)\b|"
        r"\bnot (?:properly |correctly |fully )?configured\b|\bconfig(?:uration)? not found\b|"
        r"\b(?:scheme|network|chain|token|asset|endpoint|wallet|signer|relayer|fee payer|client|facilitator|"
        r"escrow|service|private key|rpc url)\b.{0,30}\b(?:disabled|not configured|not enabled|not deployed|"
        r"not set|required for)\b",
        r"\bno (?:rpc url|client|signer|relayer|wallet|private key|fee payer)\b.{0,12}\b(?:configured|"
        r"available|registered)\b|"
        r"\bno (?:configuration|provider|adapter) (?:found |registered |available )?for (?:the |this |v1 |"
        r"v2 )?(?:chain|network|asset|scheme)\b(?! events?\b)",
        r"\b(?:merchant|seller|account|payee|product|subscription|plan|tenant)\b.{0,20}\b(?:not registered|"
        r"not approved|disabled|suspended|inactive)\b|\bunknown merchant",
        r"\bno (?:g?rpc|rest) (?:endpoint|url|client) (?:for|configured)\b|"
        r"\bno (?:\w{1,12} ){1,4}(?:configured|available) for (?:network|chain|asset|token)\b|"
        r"\bno signer (?:for|can)\b|\b(?:subscription|trial|plan|licen[sc]e) (?:has )?expired\b|"
        r"\b(?:private key|secret key|mnemonic|seed phrase)\b.{0,12}\b(?:required|missing|undefined|not set|"
        r"not provided|must be set)\b|\b(?:failed|unable) to decrypt\b.{0,20}\bwallet\b|"
        r"\bnot available on this\b|\bfacilitator does not (?:provide|support|serve)\b",
        failover=True,
        cure="the facilitator is not set up for this payment: its operator must act",
    ),
    text_rule(
        "unsupported",
        Sign.REFUSED,
        r"\b(?:unsupported|unknown|invalid|wrong|unrecogni[sz]ed|incompatible)\b.{0,20}\b(?:scheme|network|"
        r"chain|asset|token|(?:x402 ?|protocol )?version|kind|payload type|"
        r"namespace)\b(?! (?:error|response))",
        r"\b(?:scheme|network|chain|asset|token|x402 ?version|kind|payload type|"
        r"version)\b.{0,60}\b(?:not supported|unsupported|not registered|not the registered|mismatch|"
        r"does not match)\b",
        r"\bno (?:\w{1,12} ){0,2}(?:facilitator|handler|mechanism|scheme)\b.{0,20}\b(?:registered|found|"
        r"configured)\b|"
        r"\bno (?:facilitator|handler|mechanism) for (?:the |this )?(?:network|asset|scheme)\b|"
        r"\bonly\b.{0,40}\b(?:is|are) supported\b|\b(?:is|are) not supported\b|\bnot (?:yet )?implemented\b|"
        r"\bno (?:\w{1,12} ){0,2}(?:path|route|handler|method|option|adapter|mechanism) (?:matched|"
        r"matches)\b|\bunsupported (?:\w{1,12} )?(?:type|permit|wallet|currency|mint|extension|credential)\b",
        r"\b(?:network|chain|contract|token|asset|facilitator|wallet|service)\b.{0,30}\b(?:(?:does|may) not|"
        r"doesn t) support\b|\bno contract code at\b|"
        r"\bnot in\b.{0,30}\b(?:white ?list|allow ?list|token list|registry)\b|"
        r"\bnot (?:white|allow) ?listed\b|\bnot found in\b.{0,20}\b(?:registry|requirements)\b",
        payload=True,
        failover=True,
    ),
    # That the request itself did not come as far as the money.
    text_rule(
        "request",
        Sign.REFUSED,
        r"\bnot found in (?:the )?(?:payment )?(?:payload|request|header|body)\b",
        r"\b(?:validation|verification) failed before (?:signing|(?:batch )?enqueue)\b",
        r"\bmissing (?:required )?(?:payment ?(?:payload|requirements|header)|x402 ?version)\b",
        payload=True,
    ),
    text_rule(
        "payload",
        Sign.REFUSED,
        r"\b(?:invalid|malformed|missing|bad|failed to (?:parse|decode)|could not (?:parse|decode)|"
        r"unable to (?:parse|decode)|required|invalid type|field required|input should be|"
        r"unrecogni[sz]ed keys)\b"
        rf".{{0,120}}\b{_REQUEST}\b",
        rf"\b{_REQUEST}\b.{{0,120}}\b(?:invalid|malformed|missing|required|not valid|undefined|null|"
        r"input should be)\b",
        r"\binvalid payment\b|\bmalformed (?:\w{1,12} ){0,2}request\b|"
        r"(?:^|\| )(?:error:? )?invalid (?:settlement |payment |verification )?(?:request|body)(?: body|"
        r" format| payload| data)?(?=[.]| ?\||$|:(?![^|]{0,40}\b(?:(?<!zod )(?<!validation )error|exception|"
        r"failed|failure|revert\w{0,2}|bridg\w{1,3})\b))|\bfield is required\b|\btampered\b|\bundecodable\b|"
        r"\b(?:request|schema|payload|input|body) validation (?:failed|error)\b",
        # Of what was asked, not of what a node answered.
        r"\b(?:failed|unable|could not|couldn t|cannot|error) (?:to )?(?:(?:rlp|hex|base64|bcs|"
        r"xdr) )?(?:decod|deseriali[sz]|pars|unmarshal)\w{0,4}\b(?!.{0,60}\b(?:response|result|event|logs?|"
        r"status|meta)\b).{0,60}\b(?:transaction|payload|payment|header|request|json body|requirements)\b",
        r"\b(?:calldata|payload|request|header) (?:decod\w{1,3}|pars\w{1,3}) (?:failed|error)\b|"
        r"\bdid not match any variant\b.{0,60}\b(?:payload|requirements|request)\b|"
        r"\b(?:could not|couldn t|unable to|failed to) validate (?:the )?(?:request|x402|payload)\b|"
        r"\b(?:header|payload|body|authorization|signature) (?:could not|couldn t|cannot|"
        r"can t) be (?:decoded|parsed|read)\b|\berror parsing the body\b|"
        r"\bfailed to read (?:the )?request body\b",
        r"\bno (?:transaction|payload|authorization|signature|payment|permit) in (?:the )?(?:payload|"
        r"request|header|body)\b|\btransaction (?:does not contain|contains no|missing fee payer)\b|"
        r"\btx has no\b",
        r"\bmissing required (?:\w{1,20} ){0,3}(?:fields?|parameter)\b|"
        r"\bmissing or invalid (?!parameters)\w|\bmissing (?:credentials|transaction in|fee payer|extra)\b",
        payload=True,
    ),
    text_rule(
        "shape",
        Sign.REFUSED,
        rf"\bmissing (?:the )?{_PARTY}\b|\b{_PARTY} (?:field )?(?:is |are )?(?:required|missing)\b|"
        rf"\b{_PARTY} (?:is |are )?not (?:allowed|accepted|permitted)\b",
        r"\bno (?:\w{1,8} ){0,3}transfer instructions?\b|"
        r"\bnot an? (?:\w{1,8} )?transfer(?: instruction)?(?= ?\||$)|(?:^|\| )missing parameters(?= ?\||$)|"
        r"\bempty (?:payload|body|request|signature)\b|\b(?:payload|body|request|signature) (?:is )?empty\b|"
        r"\b(?:request|body|payload)\b.{0,12}\btoo large\b|\b(?:unknown|no such) (?:endpoint|route|path)\b",
        r"\b(?:invalid|malformed) (?:json body|base64)\b|\binvalid nonce (?:format|length)\b|"
        r"\bnonce length\b",
        r"\b(?:invalid|wrong|missing) (?:fee payer|compute)\b|\btoo many instructions\b|"
        r"\bcompute unit (?:price|limit) too\b|\bnot signed by\b|\btoo few instructions\b|"
        r"\b(?:blocked|forbidden|unknown optional) (?:program|instruction)\b|"
        r"\bno (?:\w{1,16} ){0,3}instructions? found(?= ?\||$)|"
        r"\bfee payer (?:found |is |must not be )?(?:transferring|included in)\b|"
        r"\bunknown (?:\w{1,16} ){0,2}signer\b|\binsufficient signatures\b",
        r"\btransaction (?:targets|signed by) [^|]{1,80}, expected\b|"
        r"\btransaction call ?data (?:is )?(?:too short|too long|does not|invalid|empty|malformed|"
        r"missing)\b|\bexpected (?:exactly|at least|at most|between) [^|]{1,20}\binstructions?\b|"
        r"\binstruction has (?:insufficient|too few|too many|no) accounts\b|"
        r"\binstruction data too (?:short|long)\b",
        rf"\b{_PARTY}\b(?! (?:balance|nonce|status|state|receipt)\b).{{0,20}}(?<!\w){_NOT_MATCHING}(?!\w)|"
        rf"\b(?!{_OF_CHAIN})\w{{1,20}} mismatch\b",
        rf"\b{_PARTY}\b.{{0,20}}\b(?:is )?(?:invalid|incorrect|empty|zero|malformed|not (?:a )?valid)\b|"
        rf"\b{_PARTY}\b.{{0,40}}\bexpected\b.{{1,80}}\b(?:got|received|found|actual)\b",
        rf"\b{_FIELD}\b.{{0,60}}\bmust (?:be|match|have|not|contain|invoke|equal|include)\b",
        r"\b(?:transaction|tx) ?hash is required\b|"
        r"\b(?:invalid|malformed|missing|empty|unsupported) (?:\w{1,12} )?transaction (?:base64|encoding|"
        r"format|structure|version|xdr|envelope|bytes)\b|"
        r"\btransaction (?:is )?missing (?:the )?required (?:signatures?|instructions?|memo)\b",
        r"\bnonce must be (?:a |an )?(?:valid )?(?:32|bytes ?32|hex)|"
        r"\btransaction must (?:be (?:sponsored|signed|versioned)|contain|include)\b",
        r"\b(?:disallowed|unexpected) (?:\w{1,12} ){0,2}(?:program|instructions?|function|"
        r"sub invocations?)\b",
        r"\b(?:invalid|wrong|incompatible) (?:\w{1,16} ){0,2}(?:mint|spender|router|address|group id|"
        r"envelope|function|pubkey|salt|scheme)\b",
        r"\b(?:accounts?|program|hook|payee|payer|asset|partial payment|"
        r"cross currency payment)\b.{0,30}\bnot (?:permitted|allowed|accepted)\b|"
        r"\bcannot (?:include|contain|be (?:the |a )?(?:payer|source|authority|zero|empty|recipient|"
        r"negative))\b",
        r"\brefus(?:e|es|ed|ing) to settle\b|\bno transfer meets\b|"
        r"\b(?:delegation|session key|wallet|token account|access key|escrow account|payment channel|"
        r"mandate|quote|(?<!user )agent|token mint) (?:is )?not found\b",
        payload=True,
    ),
    text_rule(
        "access",
        Sign.REFUSED,
        r"\bunauthori[sz]ed\b|\bforbidden\b|\bapi key\b|\bauthentication\b|\bnot authenticated\b|\bjwt\b|"
        r"\baccess denied\b|\bnot have permission\b|\bpermission (?:denied|required)\b",
        r"\binvalid (?:api )?(?:token|credentials?)\b(?! response)|\bpayment method\b|\bbilling\b|"
        r"\byour plan\b",
        failover=True,
        cure="the facilitator refuses access: check its credentials and its billing",
    ),
)
